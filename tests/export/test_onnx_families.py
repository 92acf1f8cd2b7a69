"""An ONNX file of an ELECTRA or an MPNet gives the library's logits and drops the same tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.openvino import export_openvino
from adapler_jax.heads import (
    CLASSIFICATION,
    MULTI_LABEL,
    SPAN,
    TOKEN_CLASSIFICATION,
    embedding,
    with_pooling,
)
from adapler_jax.io.extras import import_engine
from adapler_jax.pruning import make_pruner
from adapler_jax.weights.save import load_model, save_model
from tests.encoders.made_families import MADE, make_batch
from tests.encoders.made_modernbert import random_params
from tests.export.onnx_models import LEAVES, METHODS, calibrate, feeds_of, open_session, run_engine
from tests.marks import mostly_long

LENGTHS = (16, 9, 1, 2, 14)
LEAVES = LEAVES | {"adapler": {"threshold_N": [0.8] * 4}}
HEADS = {
    "tags": TOKEN_CLASSIFICATION,
    "answers": SPAN,
    "vectors": embedding(pooling="mean", normalizes=False),
    "labels": MULTI_LABEL,
    "mean": with_pooling(CLASSIFICATION, "mean"),
}
CASES = ("family", "method", "uses_contrib")


def save_family(directory, family, method, *, head=CLASSIFICATION, **options):
    """Save a random model whose method drops tokens in every layer."""
    config = MADE[family].config
    pruner = make_pruner(method, config)
    params = random_params(config, head, pruner=pruner)
    leaves = {name: jnp.array(values) for name, values in LEAVES.get(method, {}).items()}
    if method == "vocabulary":
        leaves["saliency_JV"] = jax.random.uniform(jax.random.key(3), (1, config.vocab_size))
    params["pruner"] = params["pruner"] | leaves
    if method == "trbert":
        params["pruner"] = jax.tree.map(lambda leaf: 5.0 * leaf, params["pruner"])
    return save_model(directory, params, config, pruner_name=method, head=head, **options)


def feeds_for(family, batch):
    """The inputs of a file, which has segments where the family has them."""
    feeds = feeds_of(batch)
    if MADE[family].config.num_segments == 1:
        del feeds["token_type_ids"]
    return feeds


def check_file(directory, family, batch, **options):
    """Compare a file with the masked driver; return the kept layers."""
    session = open_session(build_model(load_model(directory), **options).SerializeToString())
    *logits, kept_BL = session.run(None, feeds_for(family, batch))
    expected, expected_BL = run_engine(directory, batch)
    found = logits[0] if len(logits) == 1 else np.stack(logits, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    return kept_BL


@pytest.mark.parametrize(
    CASES, mostly_long(MADE, METHODS, (True, False), quick=[("electra", "adapler", True)])
)
def test_a_file_equals_the_reference(tmp_path, family, method, uses_contrib):
    directory = save_family(tmp_path / "model", family, method)
    batch = make_batch(family, LENGTHS)
    kept_BL = check_file(directory, family, batch, uses_contrib=uses_contrib)
    if method != "keep_all":
        assert kept_BL.sum() < 4 * sum(LENGTHS)


@pytest.mark.long
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("family", MADE)
def test_files_of_other_heads_equal_the_reference(tmp_path, family, name):
    head = HEADS[name]
    names = ("a", "b", "c") if head.has_classes else ()
    options = {"head": head, "class_names": names}
    directory = save_family(tmp_path / "model", family, "adapler", **options)
    kept_BL = check_file(directory, family, make_batch(family, LENGTHS))
    assert kept_BL.sum() < 4 * sum(LENGTHS)


@pytest.mark.long
@pytest.mark.parametrize("family", MADE)
def test_every_text_has_its_own_budget(tmp_path, family):
    directory = save_family(tmp_path / "model", family, "adapler")
    calibration = calibrate(directory, (1.2, 0.8, 0.0))
    budget_B = np.array([0.3, 0.45, 1.0, np.nan], np.float32)
    batch = make_batch(family, (12,) * 4).replace(budget_B=budget_B)
    session = open_session(build_model(load_model(directory)).SerializeToString())
    found_BC, kept_BL = session.run(None, feeds_for(family, batch) | {"budget": budget_B})
    expected_BC, expected_BL = run_engine(directory, batch, calibration=calibration)
    np.testing.assert_allclose(found_BC, expected_BC, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    assert kept_BL[0].sum() < kept_BL[2].sum() == 12 * 4


@pytest.mark.parametrize("family", MADE)
def test_standard_operators_pass_the_checker(tmp_path, family):
    saved = load_model(save_family(tmp_path / "model", family, "adapler"))
    model = build_model(saved, uses_contrib=False)
    onnx.checker.check_model(model, full_check=True)
    assert {found.domain for found in model.opset_import} == {""}


@pytest.mark.parametrize("family", mostly_long(MADE, quick=["electra"]))
def test_integers_change_few_numbers(tmp_path, family):
    saved = load_model(save_family(tmp_path / "model", family, "keep_all"))
    batch = make_batch(family, LENGTHS)
    exact_BC, found_BC = (
        open_session(build_model(saved, weight_bits=bits).SerializeToString()).run(
            ["logits"], feeds_for(family, batch)
        )[0]
        for bits in (None, 8)
    )
    assert 0 < np.max(np.abs(found_BC - exact_BC)) < 0.1 * np.max(np.abs(exact_BC))


@pytest.mark.compare
@pytest.mark.parametrize("family", MADE)
def test_a_file_for_openvino_equals_the_reference(tmp_path, family):
    directory = save_family(tmp_path / "model", family, "adapler")
    batch = make_batch(family, LENGTHS)
    core = import_engine("openvino").Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    model = core.compile_model(export_openvino(directory), "CPU", settings)
    found = model(feeds_for(family, batch))
    expected_BC, expected_BL = run_engine(directory, batch)
    np.testing.assert_allclose(found["logits"], expected_BC, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found["kept"], expected_BL)
