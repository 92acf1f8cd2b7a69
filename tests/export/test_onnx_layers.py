"""Layers of a graph give the numbers of the library's layers, and integers are near them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import nn
from adapler_jax.encoders import bert
from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.export.onnx.attention import attention
from adapler_jax.export.onnx.bert import BERT, attention_output, embed, feed_forward
from adapler_jax.export.onnx.layers import (
    LOWEST,
    Layer,
    activate,
    norm,
)
from adapler_jax.export.onnx.ranges import Ranges
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


HIDDEN_TD = random_array(sum(LENGTHS), D, seed=5)


def assert_near(found, expected, *, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


# Activations, norms and embeddings


@pytest.mark.parametrize("name", sorted(nn.ACTIVATIONS))
def test_activations_equal_the_ones_of_the_library(name):
    x_TF = np.linspace(-12.0, 12.0, 481, dtype=np.float32)[:, None]
    (found_TF,) = run_graph(
        lambda graph: [activate(graph, name, "x_TF")], {"x_TF": x_TF}, {"y_TF": np.float32}
    )
    assert_near(found_TF, nn.ACTIVATIONS[name](jnp.asarray(x_TF)))
    assert LOWEST[name] <= found_TF.min() < LOWEST[name] + 0.04


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
        layer = Layer(0, layer_params(), CONFIG)
        texts = lay_out(graph, "valid_BR")
        options = {"position_T": None, "first_only": first_only, "needs": needs}
        found = attention(graph, BERT, layer, "x_TD", texts, **options)
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
        layer = Layer(0, layer_params(), config)
        middle_TD = attention_output(graph, layer, "x_TD", "a_TD")
        return [middle_TD, feed_forward(graph, layer, middle_TD)]

    feeds = {"x_TD": HIDDEN_TD, "a_TD": attended_TD}
    middle_TD, found_TD = run_graph(build, feeds, {"m_TD": np.float32, "y_TD": np.float32})
    layer = jax.tree.map(jnp.asarray, layer_params())
    expected_TD = bert.attention_output(layer, config, *map(jnp.asarray, feeds.values()))
    assert_near(middle_TD, expected_TD)
    assert_near(found_TD, bert.feed_forward(layer, config, expected_TD))


def test_integers_of_a_layer_stand_large_columns():
    hidden_TD = HIDDEN_TD.copy()
    hidden_TD[:, 3] *= 50.0
    layer = jax.tree.map(jnp.asarray, layer_params())
    expected_TD = bert.feed_forward(layer, CONFIG, jnp.asarray(hidden_TD))

    def error(ranges):
        """The mean error of the feed-forward half in integers."""

        def build(graph):
            return [feed_forward(graph, Layer(0, layer_params(), CONFIG, ranges), "x_TD")]

        options = {"uses_contrib": True, "weight_bits": 8}
        (found_TD,) = run_graph(build, {"x_TD": hidden_TD}, {"y_TD": np.float32}, **options)
        return np.abs(found_TD - expected_TD).mean()

    range_D = np.abs(hidden_TD).max(axis=0)
    assert error(Ranges(range_D, range_D, 9.0)) < error(None) / 2


@pytest.mark.parametrize(
    ("column", "ratio", "number"), [(1.0, 1.0, 0), (50.0, 1.0, 1), (1.0, 9.0, 2)]
)
def test_a_layer_has_more_nodes_only_for_large_columns_and_tokens(column, ratio, number):
    range_D = np.where(np.arange(D) == 3, column, 1.0)

    def build(graph):
        ranges = Ranges(range_D, range_D, ratio)
        return [feed_forward(graph, Layer(0, layer_params(), CONFIG, ranges), "x_TD")]

    options = {"uses_contrib": True, "weight_bits": 8}
    model = make_model(build, {"x_TD": np.float32}, {"y_TD": np.float32}, **options)
    assert operators_of(model).count("Mul") + operators_of(model).count("Div") == number
