"""An ONNX file of a ModernBERT gives the logits of the library and drops the same tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from adapler_jax.encoders.base import embed_batch
from adapler_jax.encoders.modernbert import MODERNBERT, frequencies, rotate
from adapler_jax.export.onnx import modernbert
from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.layers import Layer
from adapler_jax.export.onnx.openvino import export_openvino
from adapler_jax.export.onnx.ranges import NUM_TEXTS, SEED, state_ranges
from adapler_jax.heads import (
    CLASSIFICATION,
    MULTI_LABEL,
    SPAN,
    TOKEN_CLASSIFICATION,
    embedding,
    with_pooling,
)
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.io.extras import import_engine
from adapler_jax.nn import layer_norm
from adapler_jax.pruning import make_pruner, pruner_of_saved
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.encoders.made_modernbert import CONFIG, random_params
from tests.export.onnx_graphs import run_graph
from tests.export.onnx_models import (
    LEAVES,
    METHODS,
    calibrate,
    feeds_of,
    open_session,
    run_engine,
)
from tests.marks import mostly_long

LENGTHS = (16, 9, 1, 2, 14)
LEAVES = LEAVES | {"adapler": {"threshold_N": [0.8] * CONFIG.num_layers}}
HEADS = {
    "tags": (TOKEN_CLASSIFICATION, None),
    "answers": (SPAN, None),
    "vectors": (embedding(pooling="mean", normalizes=False), None),
    "labels": (MULTI_LABEL, "mean"),
}
CASES = ("method", "pooling", "uses_contrib")


def save_modernbert(directory, method, pooling="cls", *, head=CLASSIFICATION, **options):
    """Save a random ModernBERT whose method drops tokens in every layer."""
    pruner = make_pruner(method, CONFIG)
    head = with_pooling(head, pooling) if pooling else head
    params = random_params(CONFIG, head, pruner=pruner)
    leaves = {name: jnp.array(values) for name, values in LEAVES.get(method, {}).items()}
    if method == "vocabulary":
        leaves["saliency_JV"] = jax.random.uniform(jax.random.key(3), (1, CONFIG.vocab_size))
    params["pruner"] = params["pruner"] | leaves
    if method == "trbert":
        params["pruner"] = jax.tree.map(lambda leaf: 5.0 * leaf, params["pruner"])
    return save_model(directory, params, CONFIG, pruner_name=method, head=head, **options)


def make_batch(lengths=LENGTHS, num_slots=16):
    """Ragged texts, in one segment."""
    batch = tiny.make_batch(lengths, num_slots=num_slots)
    return batch.replace(segment_BL=np.zeros_like(batch.segment_BL))


def run_file(saved, batch, **options):
    """Logits and kept layers of an exported file."""
    session = open_session(build_model(saved, **options).SerializeToString())
    feeds = feeds_of(batch)
    del feeds["token_type_ids"]
    return session.run(["logits", "kept"], feeds)


@pytest.mark.parametrize(
    CASES,
    mostly_long(
        METHODS,
        ("cls", "mean"),
        (True, False),
        quick=[("adapler", "mean", True), ("powerbert", "cls", False)],
    ),
)
def test_a_file_equals_the_reference(tmp_path, method, pooling, uses_contrib):
    directory = save_modernbert(tmp_path / "model", method, pooling)
    found_BC, kept_BL = run_file(load_model(directory), make_batch(), uses_contrib=uses_contrib)
    expected_BC, expected_BL = run_engine(directory, make_batch())
    np.testing.assert_allclose(found_BC, expected_BC, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    if method != "keep_all":
        assert kept_BL.sum() < CONFIG.num_layers * sum(LENGTHS)


@pytest.mark.long
def test_a_file_equals_the_packed_driver(tmp_path):
    saved = load_model(save_modernbert(tmp_path / "model", "attention", "mean"))
    found_BC, _ = run_file(saved, make_batch())
    engine = make_engine(
        saved.config, pruner_of_saved(saved), driver="packed", head=saved.head, buckets=(16,)
    )
    params = prepare_inference_params(saved.params, saved.config)
    expected_BC, _ = engine(params, make_batch())
    np.testing.assert_allclose(found_BC, expected_BC, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_files_of_other_heads_equal_the_reference(tmp_path, name):
    head, pooling = HEADS[name]
    names = ("a", "b", "c") if head.has_classes else ()
    directory = save_modernbert(
        tmp_path / "model", "adapler", pooling, head=head, class_names=names
    )
    session = open_session(build_model(load_model(directory)).SerializeToString())
    feeds = feeds_of(make_batch())
    del feeds["token_type_ids"]
    *logits, kept_BL = session.run(None, feeds)
    expected, expected_BL = run_engine(directory, make_batch())
    found = logits[0] if len(logits) == 1 else np.stack(logits, axis=-1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    assert kept_BL.sum() < CONFIG.num_layers * sum(LENGTHS)


@pytest.mark.parametrize("uses_contrib", [True, False])
def test_batch_mates_and_padding_do_not_matter(tmp_path, uses_contrib):
    saved = load_model(save_modernbert(tmp_path / "model", "adapler"))
    session = open_session(build_model(saved, uses_contrib=uses_contrib).SerializeToString())
    feeds = feeds_of(make_batch())
    del feeds["token_type_ids"]
    logits_BC, kept_BL = session.run(None, feeds)
    for row, length in enumerate(LENGTHS):
        alone = {name: array[row : row + 1, :length] for name, array in feeds.items()}
        logits_1C, kept_1L = session.run(None, alone)
        np.testing.assert_allclose(logits_BC[row], logits_1C[0], rtol=0, atol=1e-4)
        np.testing.assert_array_equal(kept_BL[row, :length], kept_1L[0])


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_text_without_tokens_gets_zero_logits(tmp_path, pooling):
    saved = load_model(save_modernbert(tmp_path / "model", "powerbert", pooling))
    batch = make_batch((7, 0), num_slots=8)
    logits_BC, kept_BL = run_file(saved, batch)
    assert logits_BC[0].any() and not logits_BC[1].any() and not kept_BL[1].any()


def test_every_text_has_its_own_budget(tmp_path):
    directory = save_modernbert(tmp_path / "model", "adapler")
    calibration = calibrate(directory, (1.2, 0.8, 0.0))
    budget_B = np.array([0.3, 0.45, 1.0, np.nan], np.float32)
    batch = make_batch((12,) * 4, num_slots=12).replace(budget_B=budget_B)
    session = open_session(build_model(load_model(directory)).SerializeToString())
    feeds = feeds_of(batch) | {"budget": budget_B}
    del feeds["token_type_ids"]
    found_BC, kept_BL = session.run(["logits", "kept"], feeds)
    expected_BC, expected_BL = run_engine(directory, batch, calibration=calibration)
    np.testing.assert_allclose(found_BC, expected_BC, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(kept_BL, expected_BL)
    assert kept_BL[0].sum() < kept_BL[2].sum() == 12 * CONFIG.num_layers


def test_standard_operators_pass_the_checker(tmp_path):
    saved = load_model(save_modernbert(tmp_path / "model", "adapler", "mean"))
    model = build_model(saved, uses_contrib=False)
    onnx.checker.check_model(model, full_check=True)
    assert {found.domain for found in model.opset_import} == {""}


def test_integers_change_few_numbers(tmp_path):
    saved = load_model(save_modernbert(tmp_path / "model", "keep_all"))
    operators = [node.op_type for node in build_model(saved, weight_bits=8).graph.node]
    assert operators.count("DynamicQuantizeMatMul") == 4 * CONFIG.num_layers + 1
    exact_BC, _ = run_file(saved, make_batch())
    found_BC, _ = run_file(saved, make_batch(), weight_bits=8)
    assert 0 < np.max(np.abs(found_BC - exact_BC)) < 0.1 * np.max(np.abs(exact_BC))


@pytest.mark.parametrize("index", [0, 1])
def test_vectors_turn_by_the_angles_of_their_layer(index):
    rng = np.random.default_rng(0)
    x_TD = rng.normal(size=(3, CONFIG.hidden_dim)).astype(np.float32)
    position_T = np.array([0, 3, 300])
    config = dataclasses.replace(CONFIG, num_positions=301)

    def build(graph):
        return [modernbert.rotate(graph, Layer(index, {}, config), "x_TD", "position_T")]

    feeds = {"x_TD": x_TD, "position_T": position_T}
    (found_TD,) = run_graph(build, feeds, {"y_TD": np.float32})
    frequency_Z = frequencies(CONFIG, jnp.int32(index))
    expected_TD = rotate(jnp.asarray(x_TD), jnp.asarray(position_T), frequency_Z, CONFIG)
    np.testing.assert_allclose(found_TD, expected_TD, atol=1e-5)
    np.testing.assert_allclose(found_TD[0], x_TD[0], atol=1e-6)


def test_ranges_are_of_the_inputs_of_the_linear_maps():
    encoder = random_params(CONFIG, CLASSIFICATION)["encoder"]
    found = state_ranges(modernbert.linear_inputs, encoder, CONFIG)
    layer = jax.tree.map(lambda leaf: leaf[0], encoder["layers"])
    first_BLD = embed_batch(MODERNBERT, encoder, CONFIG, *random_tokens())
    inputs = modernbert.linear_inputs(layer, CONFIG, first_BLD, first_BLD, index=jnp.int32(0))
    np.testing.assert_allclose(found.attention[0], jnp.max(jnp.abs(first_BLD), (0, 1)), rtol=1e-5)
    normed_BLD = layer_norm(layer["ffn_norm"], first_BLD, CONFIG.norm_epsilon)
    np.testing.assert_allclose(inputs.feed_forward_BLD, normed_BLD, rtol=1e-6)
    # The second map takes the gated entries to the state after the half.
    after_BLD = first_BLD + inputs.inner_BLF @ layer["ffn_out"]["kernel"]
    expected_BLD = MODERNBERT.feed_forward(layer, CONFIG, first_BLD)
    np.testing.assert_allclose(after_BLD, expected_BLD, atol=1e-5)


def random_tokens():
    """Tokens and segments of the texts of `state_ranges`."""
    shape = NUM_TEXTS, CONFIG.num_positions
    token_BL = np.random.default_rng(SEED).integers(CONFIG.vocab_size, size=shape)
    return jnp.asarray(token_BL, jnp.int32), jnp.zeros(shape, jnp.int32)


@pytest.mark.compare
def test_bfloat16_of_openvino_knows_far_positions(tmp_path):
    core = import_engine("openvino").Core()
    options = CONFIG.family_options._replace(window=64)
    config = dataclasses.replace(CONFIG, num_positions=1024, family_options=options)
    head, names = TOKEN_CLASSIFICATION, ("a", "b", "c")
    params = random_params(config, head)
    path = export_openvino(
        save_model(tmp_path / "model", params, config, head=head, class_names=names)
    )
    token_BL = np.random.default_rng(0).integers(5, config.vocab_size, (1, 1000))
    feeds = {"input_ids": token_BL, "attention_mask": np.ones_like(token_BL)}
    exact_BLC, rounded_BLC = (
        core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": hint})(feeds)["logits"]
        for hint in ("f32", "bf16")
    )
    highest = np.abs(exact_BLC).max()
    np.testing.assert_allclose(rounded_BLC, exact_BLC, rtol=0, atol=0.05 * highest)
