"""All drivers compute one ELECTRA, and one MPNet, with and without dropped tokens."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.encoders import encoder_of
from adapler_jax.evaluation.attribution import attention_scores, layer_saliency
from adapler_jax.export.jax_export import export_model
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.engine import Engine, make_engine, prepare_inference_params
from adapler_jax.pruning import PRUNERS, keep_all, make_pruner
from adapler_jax.training.methods.distill import cut_layers
from adapler_jax.training.policy import importance_scores
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.encoders.made_families import MADE, make_batch
from tests.encoders.made_modernbert import random_params

LENGTHS = (12, 7, 3, 1, 9, 12, 2, 5)
BUCKETS = (4, 8, 12)
FAMILIES = [family for family in MADE if " " not in family]
METHODS = ("keep_all", "adapler", "attention", "ltp", "powerbert", "trbert", "vocabulary")
LEAVES = {
    "adapler": {"threshold_N": jnp.full((4,), 0.8)},
    "attention": {"share_J": jnp.array([0.8, 0.7, 0.7, 0.6])},
    "ltp": {"score_threshold_N": jnp.array([0.02, 0.05, 0.08, 0.1])},
    "powerbert": {"retention_N": jnp.array([9.0, 6.0, 6.0, 2.0])},
    "vocabulary": {"share_J": jnp.array([0.6])},
}


@functools.cache
def params_of(family, name):
    """Random parameters with which the method drops tokens."""
    config = MADE[family].config
    params = random_params(config, CLASSIFICATION, pruner=make_pruner(name, config))
    pruner = params["pruner"] | LEAVES.get(name, {})
    if name == "trbert":
        pruner = jax.tree.map(lambda leaf: 5.0 * leaf, pruner)
    if name == "vocabulary":
        saliency_JV = jax.random.uniform(jax.random.key(3), pruner["saliency_JV"].shape)
        pruner["saliency_JV"] = saliency_JV
    return params | {"pruner": pruner}


def run(family, name, driver, **options):
    """Logits and trace of a driver, with layers as it runs them fastest."""
    params, config = params_of(family, name), MADE[family].config
    if driver != "masked":
        params = prepare_inference_params(params, config)
    if driver == "packed":
        options |= {"tiles": (4, 8), "block_tokens": 20}
    pruner = make_pruner(name, config)
    engine = make_engine(config, pruner, buckets=BUCKETS, driver=driver, **options)
    return engine(params, make_batch(family, LENGTHS))


def test_every_method_of_the_library_runs_here():
    assert set(METHODS) == set(PRUNERS)


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_all_drivers_agree(family, name):
    expected_BC, expected = run(family, name, "masked", return_exit_hidden=True)
    for driver in ("bucketed", "packed"):
        found_BC, found = run(family, name, driver, return_exit_hidden=True)
        np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
        np.testing.assert_allclose(
            found.exit_hidden_BLD, expected.exit_hidden_BLD, atol=2e-5, rtol=0
        )
        if name != "keep_all":
            np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    if name != "keep_all":
        assert np.sum(expected.count_NB[-1]) < sum(LENGTHS)


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_for_cls_alone_gives_equal_logits(family, name, driver):
    expected_BC, expected = run(family, name, "masked")
    found_BC, found = run(family, name, driver)
    np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
    if name != "keep_all":
        np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_pruner_the_passes_are_the_plain_encoder(family):
    batch, params = make_batch(family, LENGTHS), params_of(family, "keep_all")
    config = MADE[family].config
    dense_BC, _ = dense.forward(params, config, batch)
    masked_BC, _ = run(family, "keep_all", "masked")
    soft_BC, _ = full_width.forward(params, config, keep_all(), batch, slope=jnp.float32(1.0))
    for found_BC in (masked_BC, soft_BC):
        np.testing.assert_allclose(found_BC, dense_BC, atol=1e-5, rtol=0)


@pytest.mark.long
@pytest.mark.parametrize("family", MADE)
def test_training_reaches_every_leaf_of_the_encoder(family):
    batch = jax.tree.map(jnp.asarray, make_batch(family, LENGTHS))
    config = MADE[family].config

    def loss(params):
        logits_BC, trace = full_width.forward(
            params,
            config,
            make_pruner("adapler", config),
            batch,
            slope=jnp.float32(10.0),
            key=jax.random.key(0),
        )
        return jnp.mean(logits_BC**2) + jnp.mean(trace.count_NB)

    gradient = jax.jit(jax.grad(loss))(params_of(family, "adapler"))
    tiny.assert_all_finite(gradient)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient["encoder"]))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_explanations_and_importance_run_the_layers_of_the_encoder(family):
    params, batch = params_of(family, "keep_all"), make_batch(family, LENGTHS)
    config = MADE[family].config
    expected_BC, _ = full_width.forward(params, config, keep_all(), batch, slope=None)
    scores = attention_scores(params, config, batch)
    np.testing.assert_allclose(jnp.sum(scores.cls_NBL, axis=-1), 1.0, atol=1e-5)
    _, saliency_BC = layer_saliency(params, config, batch)
    _, importance_BC = importance_scores(params, config, batch, layers=(1, 2), dtype=jnp.float32)
    for found_BC in (saliency_BC, importance_BC):
        np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_some_layers_is_the_encoder_with_these_layers(family):
    params, config = params_of(family, "keep_all"), MADE[family].config
    found, student = cut_layers(params, config, (0, 2))
    assert student.num_layers == 2 and encoder_of(student) is encoder_of(config)
    logits_BC, _ = dense.forward(found, student, make_batch(family, LENGTHS))
    assert np.all(np.isfinite(logits_BC))


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_exported_programs_of_jax_give_the_same_answers(family, tmp_path):
    folder = save_model(
        tmp_path / "model",
        params_of(family, "adapler"),
        MADE[family].config,
        pruner_name="adapler",
        class_names=("a", "b", "c"),
        max_length=12,
        tokenizer=build_tokenizer(),
    )
    texts = ["a good film . not bad", "bad", "not a good film"]
    expected = Classifier.load(folder, driver="masked").predict_probs(texts)
    export_model(folder, buckets=BUCKETS)
    for driver in ("bucketed", "packed"):
        options = {"buckets": BUCKETS, "driver": driver, "programs": True}
        found = Classifier.load(folder, **options)
        assert not isinstance(found.run, Engine)
        np.testing.assert_allclose(found.predict_probs(texts), expected, atol=1e-5)
