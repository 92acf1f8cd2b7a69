"""Layers of a graph give the numbers of the library's layers, and integers are near them.

Letters besides the key of `types.py`:

    I entries of a linear map's input
    O entries of a linear map's output
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import nn
from adapler_jax.encoders import bert
from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.export.onnx.layers import (
    Layer,
    activate,
    attention,
    attention_output,
    embed,
    feed_forward,
    linear,
    norm,
    quantize,
)
from adapler_jax.export.onnx.texts import lay_out
from adapler_jax.types import ATTENTION_NEEDS
from tests.export.onnx_graphs import make_model, open_graph, operators_of, run_graph
from tests.tiny import CONFIG

LENGTHS = (5, 1, 7, 3)
VALID_BR = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
D, F = CONFIG.hidden_dim, CONFIG.ffn_dim


def random_array(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def with_noise(params):
    """The parameters with random numbers added: fresh biases are 0, and fresh scales 1."""
    leaves, structure = jax.tree.flatten(params)
    noisy = [
        np.asarray(leaf) + random_array(*leaf.shape, seed=seed, scale=0.2)
        for seed, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, noisy)


@functools.cache
def encoder_params():
    return with_noise(bert.init_encoder(jax.random.key(1), CONFIG))


def layer_params():
    """The parameters of one layer."""
    return jax.tree.map(lambda leaf: leaf[2], encoder_params()["layers"])


def dense_params():
    return {"kernel": random_array(D, F, seed=3), "bias": random_array(F, seed=4)}


HIDDEN_TD = random_array(sum(LENGTHS), D, seed=5)


def assert_near(found, expected, *, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


# Linear maps


def run_linear(x_TI, **options):
    """The product of the states and its operators."""
    exact = options.pop("exact", False)

    def build(graph):
        return [linear(graph, "dense", dense_params(), "x_TI", exact=exact)]

    model = make_model(build, {"x_TI": np.float32}, {"y_TO": np.float32}, **options)
    return open_graph(model).run(None, {"x_TI": x_TI})[0], operators_of(model)


def test_linear_equals_a_product():
    found_TO, _ = run_linear(HIDDEN_TD)
    dense = dense_params()
    assert_near(found_TO, HIDDEN_TD @ dense["kernel"] + dense["bias"])


def test_a_quantized_product_is_within_its_rounding():
    # Seven bits, since pairs of products of eight overflow on older processors.
    bits = 7
    found_TO, operators = run_linear(HIDDEN_TD, uses_contrib=True, weight_bits=bits)
    assert "DynamicQuantizeMatMul" in operators and "MatMul" not in operators
    kernel_IO, bias_O = dense_params().values()
    scale_O = np.abs(kernel_IO).max(axis=0) / 63
    step = (HIDDEN_TD.max() - HIDDEN_TD.min()) / 255  # of the states, whose zero is rounded too
    error_TO = np.abs(found_TO - (HIDDEN_TD @ kernel_IO + bias_O))
    bound_TO = (
        np.abs(HIDDEN_TD).sum(axis=1, keepdims=True) * scale_O / 2
        + step * np.abs(kernel_IO).sum(axis=0)
        + step * scale_O * D / 2
    )
    assert np.all(error_TO <= bound_TO) and 1e-4 < error_TO.mean() < 0.05


def test_exact_products_are_never_quantized():
    found_TO, operators = run_linear(HIDDEN_TD, uses_contrib=True, weight_bits=7, exact=True)
    assert operators == ["MatMul", "Add", "Identity"]
    np.testing.assert_array_equal(found_TO, run_linear(HIDDEN_TD)[0])


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(("bits", "highest"), [(7, 63), (8, 127)])
def test_quantized_kernels_are_within_half_a_step(bits, highest, sign):
    kernel_IO = random_array(200, 3, seed=bits) * np.float32([1.0, 1e-4, 30.0])
    kernel_IO[5] = sign * 1.25 * np.abs(kernel_IO).max(axis=0)
    quantized_IO, scale_O = quantize(kernel_IO, bits)
    assert quantized_IO.dtype == np.int8 and scale_O.dtype == np.float32
    np.testing.assert_allclose(scale_O, np.abs(kernel_IO).max(axis=0) / highest, rtol=1e-6)
    error_IO = np.abs(quantized_IO * scale_O - kernel_IO)
    assert np.all(error_IO <= 0.5001 * scale_O)
    assert quantized_IO[5].tolist() == [sign * highest] * 3
    assert np.abs(quantized_IO.astype(int)).max() == highest


def test_outputs_without_weights_have_finite_scales():
    quantized_IO, scale_O = quantize(np.float32([[0.0, 1e-30], [0.0, 0.0], [0.0, -1e-30]]), 8)
    assert not quantized_IO.any() and np.all(np.isfinite(scale_O)) and np.all(scale_O > 0.0)


# Activations, norms and embeddings


@pytest.mark.parametrize("name", sorted(nn.ACTIVATIONS))
def test_activations_equal_the_ones_of_the_library(name):
    x_TF = np.linspace(-12.0, 12.0, 481, dtype=np.float32)[:, None]
    (found_TF,) = run_graph(
        lambda graph: [activate(graph, name, "x_TF")], {"x_TF": x_TF}, {"y_TF": np.float32}
    )
    assert_near(found_TF, nn.ACTIVATIONS[name](jnp.asarray(x_TF)))


@pytest.mark.parametrize("epsilon", [1e-12, 0.5])
def test_norms_equal_the_ones_of_the_library(epsilon):
    params = {"scale": random_array(D, seed=6), "bias": random_array(D, seed=7)}
    x_TD = 3.0 + HIDDEN_TD

    def build(graph):
        return [norm(graph, "norm", params, "x_TD", epsilon=epsilon)]

    (found_TD,) = run_graph(build, {"x_TD": x_TD}, {"y_TD": np.float32})
    assert_near(found_TD, nn.layer_norm(params, jnp.asarray(x_TD), epsilon))


@pytest.mark.parametrize("has_segments", [True, False])
def test_embeddings_equal_the_ones_of_bert(has_segments):
    params = encoder_params()["embeddings"]
    token_T, position_T = np.array([[7, 0, 49, 7, 3], [0, 1, 2, 15, 0]])
    segment_T = np.array([1, 0, 1, 1, 0]) if has_segments else np.zeros(5, int)
    feeds = {"token_T": token_T, "position_T": position_T}
    feeds |= {"segment_T": segment_T} if has_segments else {}

    def build(graph):
        values = {name: name for name in ("token_T", "position_T")}
        segment = "segment_T" if has_segments else None
        return [embed(graph, params, CONFIG, segment_T=segment, **values)]

    (found_TD,) = run_graph(build, feeds, {"y_TD": np.float32})
    ids = (jnp.asarray(ids_T, jnp.int32) for ids_T in (token_T, segment_T, position_T))
    assert_near(found_TD, bert.embed(jax.tree.map(jnp.asarray, params), CONFIG, *ids))


# Attention


@functools.cache
def expected_attention():
    """Attended states [B, R, D] and the features of the keys, by the library."""
    layer = jax.tree.map(jnp.asarray, layer_params())
    # The numbers in the padding do not matter.
    hidden_BRD = np.full((*VALID_BR.shape, D), 9.0, np.float32)
    hidden_BRD[VALID_BR] = HIDDEN_TD
    qkv = jnp.split(bert.query_key_value(layer, CONFIG, jnp.asarray(hidden_BRD)), 3, axis=-1)
    attended_BRD, received = scaled_dot_product_attention(
        *qkv,
        key_bias(jnp.asarray(VALID_BR)),
        num_heads=CONFIG.num_heads,
        query_mask_BL=jnp.asarray(VALID_BR),
        needs=ATTENTION_NEEDS,
    )
    features = {need: np.asarray(getattr(received, f"{need}_X")) for need in ATTENTION_NEEDS}
    return np.asarray(attended_BRD), features


def run_attention(*, needs=frozenset(), first_only=False, **options):
    """The results of one layer's attention and the operators."""
    outputs = {"attended_TD": np.float32} | {f"{need}_BR": np.float32 for need in sorted(needs)}

    def build(graph):
        layer = Layer("layer", layer_params(), CONFIG)
        texts = lay_out(graph, "valid_BR")
        found = attention(graph, layer, "x_TD", texts, first_only=first_only, needs=needs)
        return [found.attended_TD, *(found.received[need] for need in sorted(needs))]

    model = make_model(build, {"x_TD": np.float32, "valid_BR": np.bool_}, outputs, **options)
    feeds = {"x_TD": HIDDEN_TD, "valid_BR": VALID_BR}
    return open_graph(model).run(None, feeds), operators_of(model)


@pytest.mark.parametrize("first_only", [False, True])
@pytest.mark.parametrize("uses_contrib", [False, True])
def test_attention_of_ragged_texts_equals_the_drivers(uses_contrib, first_only):
    (attended_XD,), operators = run_attention(uses_contrib=uses_contrib, first_only=first_only)
    attended_BRD, _ = expected_attention()
    assert_near(attended_XD, attended_BRD[:, 0] if first_only else attended_BRD[VALID_BR])
    assert ("MultiHeadAttention" in operators) == uses_contrib
    assert ("Softmax" in operators) != uses_contrib


@pytest.mark.parametrize("uses_contrib", [False, True])
@pytest.mark.parametrize("needs", [*({need} for need in sorted(ATTENTION_NEEDS)), ATTENTION_NEEDS])
def test_attention_received_equals_the_drivers(needs, uses_contrib):
    found, operators = run_attention(needs=frozenset(needs), uses_contrib=uses_contrib)
    attended_BRD, features = expected_attention()
    assert_near(found[0], attended_BRD[VALID_BR])
    for need, received_BR in zip(sorted(needs), found[1:], strict=True):
        assert_near(received_BR[VALID_BR], features[need][VALID_BR])
    assert "MultiHeadAttention" not in operators


def test_an_unknown_need_is_named():
    with pytest.raises(ValueError, match="unknown need 'state'"):
        run_attention(needs=frozenset({"state"}))


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_halves_of_a_layer_equal_the_ones_of_bert(activation):
    config = dataclasses.replace(CONFIG, activation=activation, norm_epsilon=0.01)
    attended_TD = random_array(*HIDDEN_TD.shape, seed=8)

    def build(graph):
        layer = Layer("layer", layer_params(), config)
        middle_TD = attention_output(graph, layer, "x_TD", "a_TD")
        return [middle_TD, feed_forward(graph, layer, middle_TD)]

    feeds = {"x_TD": HIDDEN_TD, "a_TD": attended_TD}
    middle_TD, found_TD = run_graph(build, feeds, {"m_TD": np.float32, "y_TD": np.float32})
    layer = jax.tree.map(jnp.asarray, layer_params())
    expected_TD = bert.attention_output(layer, config, *map(jnp.asarray, feeds.values()))
    assert_near(middle_TD, expected_TD)
    assert_near(found_TD, bert.feed_forward(layer, config, expected_TD))
