"""Layers equal values that are computed by hand, or by loops in float64."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import heads, nn
from adapler_jax.types import MASK_BIAS
from tests import plain_bert as encoder
from tests.encoders.random_bert import EMBEDDINGS, KEY, LAYER
from tests.tiny import CONFIG, NUM_CLASSES


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_layer_norm_by_hand():
    params = {"scale": jnp.array([2.0, 10.0]), "bias": jnp.array([0.5, -1.0])}
    np.testing.assert_allclose(
        encoder.layer_norm(params, jnp.array([[1.0, 5.0], [7.0, 7.0]]), 0.0 + 1e-12),
        [[-1.0 * 2.0 + 0.5, 1.0 * 10.0 - 1.0], [0.5, -1.0]],
        atol=1e-6,
    )


def test_epsilon_stands_under_the_root():
    params = encoder.init_norm((2,))
    np.testing.assert_allclose(
        encoder.layer_norm(params, jnp.array([[-1.0, 1.0]]), 3.0), [[-0.5, 0.5]]
    )


def test_linear_by_hand():
    params = {
        "kernel": jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]),
        "bias": jnp.array([0.5, 0.0, -0.5]),
    }
    np.testing.assert_array_equal(
        encoder.linear(params, jnp.array([[1.0, -1.0]])), [[-8.5, -18.0, -27.5]]
    )


@pytest.mark.long
def test_bfloat16_linear_and_its_gradients_are_float32_within_rounding():
    key_kernel, attention_bias, key_x, key_cotangent = jax.random.split(jax.random.key(3), 4)
    params = {
        "kernel": jax.random.normal(key_kernel, (8, 5)),
        "bias": jax.random.normal(attention_bias, (5,)),
    }
    x_BLD, cotangent_BLF = (
        jax.random.normal(key_x, (3, 4, 8)),
        jax.random.normal(key_cotangent, (3, 4, 5)),
    )

    def gradients(dtype):
        value, pull = jax.vjp(
            lambda params, x_BLD: encoder.linear(params, x_BLD, dtype), params, x_BLD
        )
        return value, *pull(cotangent_BLF)

    found, expected = gradients(jnp.bfloat16), gradients(jnp.float32)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    chex.assert_trees_all_close(found, expected, rtol=0.02, atol=0.1)
    assert float(jnp.max(jnp.abs(found[0] - expected[0]))) > 0.0


def test_weight_gradients_of_cpus_are_those_of_all_devices():
    x_MI = jax.random.normal(jax.random.key(4), (7, 3)).astype(jnp.bfloat16)
    cotangent_MO = jax.random.normal(jax.random.key(5), (7, 2)).astype(jnp.bfloat16)
    found, expected = (f(x_MI, cotangent_MO) for f in (nn._weight_grads_on_cpu, nn._weight_grads))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_key_bias_by_hand():
    found = encoder.attention_bias(jnp.array([[True, False]]))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[0.0, MASK_BIAS]])
    assert np.exp(np.float32(MASK_BIAS)) == 0.0


def test_mixed_values_by_hand():
    """One head of size 4: a query of 1 meets each key with its own first entry, logits ln 1, ln 2,
    ln 3, and the values
    are unit vectors, so that what comes out are the probabilities."""
    query_LK = jnp.zeros((3, 4)).at[:, 0].set(1.0)
    key_SK = jnp.zeros((3, 4)).at[:, 0].set(jnp.log(jnp.array([1.0, 2.0, 3.0])))
    parts = query_LK[None], key_SK[None], jnp.eye(3, 4)[None]
    for bias, expected in [
        ([0.0, 0.0, 0.0], [1 / 6, 2 / 6, 3 / 6]),
        ([0.0, 0.0, MASK_BIAS], [1 / 3, 2 / 3, 0.0]),
        ([0.0, math.log(0.5), 0.0], [1 / 5, 1 / 5, 3 / 5]),
    ]:
        found, _ = encoder.scaled_dot_product_attention(*parts, jnp.array([bias]), num_heads=1)
        np.testing.assert_allclose(found[0, :, :3], [expected] * 3, rtol=1e-6, atol=0)


def attend_by_loops(layer, config, hidden_LD, bias_L):
    """One head, one query at a time, in float64."""
    layer, hidden_LD = float64(layer), np.asarray(hidden_LD, np.float64)
    project = {
        name: hidden_LD @ layer[name]["kernel"] + layer[name]["bias"]
        for name in ("query", "key", "value")
    }
    mixed_LD = np.zeros_like(hidden_LD)
    for head in range(config.num_heads):
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        for query in range(len(hidden_LD)):
            logit_S = [project["query"][query, part] @ key for key in project["key"][:, part]]
            weight_S = np.exp(np.array(logit_S) / math.sqrt(config.head_dim) + bias_L)
            mixed_LD[query, part] = (weight_S / weight_S.sum()) @ project["value"][:, part]
    summed_LD = (
        hidden_LD
        + mixed_LD @ layer["attention_output"]["kernel"]
        + layer["attention_output"]["bias"]
    )
    return norm_by_hand(layer["attention_norm"], summed_LD)


def norm_by_hand(params, x_LD):
    scaled = (x_LD - x_LD.mean(-1, keepdims=True)) / x_LD.std(-1, keepdims=True)
    return scaled * params["scale"] + params["bias"]


def randomised(tree, seed=0):
    """Norms and biases too, which start at ones and zeros."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree)


def test_attend_equals_loops_over_heads_and_queries():
    layer = randomised(LAYER)
    hidden_BLD = jax.random.normal(KEY, (1, 3, CONFIG.hidden_dim))
    bias_BL = jnp.array([[0.0, -0.7, MASK_BIAS]])
    found = jax.jit(encoder.attend, static_argnums=1)(layer, CONFIG, hidden_BLD, bias_BL)
    expected = attend_by_loops(layer, CONFIG, hidden_BLD[0], np.array([0.0, -0.7, -np.inf]))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-5)


def test_masked_keys_are_never_read():
    hidden_BLD = jax.random.normal(KEY, (1, 3, CONFIG.hidden_dim))
    bias_BL = encoder.attention_bias(jnp.array([[True, True, False]]))
    changed_BLD = hidden_BLD.at[0, 2].add(100.0)
    found, expected = (
        encoder.attend(LAYER, CONFIG, x, bias_BL)[0, :2] for x in (changed_BLD, hidden_BLD)
    )
    np.testing.assert_array_equal(found, expected)


def test_embed_by_hand():
    params = randomised(EMBEDDINGS)
    found = encoder.embed(params, CONFIG, jnp.array([[4, 9, 4]]), jnp.array([[0, 1, 1]]))
    table = float64(params)
    summed_LD = (
        table["token"][[4, 9, 4]] + table["position"][[0, 1, 2]] + table["segment"][[0, 1, 1]]
    )
    np.testing.assert_allclose(found[0], norm_by_hand(table["norm"], summed_LD), rtol=0, atol=1e-5)


SQRT_2_PI = math.sqrt(2 / math.pi)
FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + math.tanh(SQRT_2_PI * (x + 0.044715 * x**3))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + math.tanh(SQRT_2_PI * (x + 0.044715 * x**3))),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


def test_every_activation_has_a_formula_here():
    assert set(FORMULAS) == set(encoder.ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_equals_its_formula(name):
    xs = [-4.0, -1.0, -0.1, 0.0, 0.3, 1.0, 2.5]
    found = encoder.ACTIVATIONS[name](jnp.array(xs))
    np.testing.assert_allclose(found, [FORMULAS[name](x) for x in xs], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_feed_forward_uses_the_activation_of_the_config(name):
    layer = randomised(LAYER)
    hidden_BLD = jax.random.normal(KEY, (1, 2, CONFIG.hidden_dim))
    config = dataclasses.replace(CONFIG, activation=name)
    found = jax.jit(encoder.feed_forward, static_argnums=1)(layer, config, hidden_BLD)
    by_hand, hidden_LD = float64(layer), np.asarray(hidden_BLD[0], np.float64)
    inner_LF = np.vectorize(FORMULAS[name])(
        hidden_LD @ by_hand["ffn_in"]["kernel"] + by_hand["ffn_in"]["bias"]
    )
    summed_LD = hidden_LD + inner_LF @ by_hand["ffn_out"]["kernel"] + by_hand["ffn_out"]["bias"]
    np.testing.assert_allclose(
        found[0], norm_by_hand(by_hand["ffn_norm"], summed_LD), rtol=0, atol=2e-5
    )


def test_classify_by_hand():
    head = randomised(heads.init_classifier(KEY, CONFIG, NUM_CLASSES))
    cls_BD = jax.random.normal(KEY, (2, CONFIG.hidden_dim))
    by_hand = float64(head)
    pooled_BD = np.tanh(
        np.asarray(cls_BD, np.float64) @ by_hand["pooler"]["kernel"] + by_hand["pooler"]["bias"]
    )
    expected = pooled_BD @ by_hand["classifier"]["kernel"] + by_hand["classifier"]["bias"]
    np.testing.assert_allclose(heads.classify(head, CONFIG, cls_BD), expected, rtol=0, atol=2e-5)


def test_split_heads_gives_each_head_neighbouring_entries():
    x_BLD = jnp.arange(2 * 3 * 4).reshape(2, 3, 4)
    found = encoder.split_heads(x_BLD, 2)
    assert found.shape == (2, 2, 3, 2)
    np.testing.assert_array_equal(found[1, 1, 2], x_BLD[1, 2, 2:])
