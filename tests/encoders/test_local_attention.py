"""Blocks give what all pairs give, with original positions, and hold no pairs of a long text."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.encoders import encoder_of, local_attention
from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.encoders.base import attend
from adapler_jax.encoders.local_attention import (
    LocalLayers,
    block_attention,
    is_local,
    uses_blocks,
    window_bias,
)
from adapler_jax.encoders.modernbert_config import read_fields
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.engine import DRIVERS, make_engine, prepare_inference_params
from adapler_jax.pruning import adapler, powerbert
from adapler_jax.types import ATTENTION_NEEDS, Batch
from tests.encoders.made_modernbert import RAW, random_params
from tests.marks import mostly_long

LOCAL = LocalLayers((1, 2), 4)
LONG = read_fields(RAW | {"max_position_embeddings": 90})
PRUNERS = {"adapler": adapler(LONG), "powerbert": powerbert(LONG)}
LEAVES = {
    "adapler": {"threshold_N": jnp.full((4,), 0.8)},
    "powerbert": {"retention_N": jnp.array([70.0, 50.0, 30.0, 20.0])},
}
HEADS, WIDTH = 2, 8


def made_tokens(lengths, num_slots, seed=0):
    """Queries, keys, values, mask and positions of texts out of which tokens were dropped."""
    rng = np.random.default_rng(seed)
    shape = len(lengths), num_slots, WIDTH
    query_BLD, key_BLD, value_BLD = rng.normal(size=(3, *shape)).astype(np.float32)
    valid_BL = np.arange(num_slots) < np.array(lengths)[:, None]
    position_BL = np.cumsum(rng.integers(1, 4, size=shape[:2]), axis=1).astype(np.int32)
    return query_BLD, key_BLD, value_BLD, valid_BL, position_BL


@pytest.mark.parametrize("num_slots", mostly_long([17, 20, 33], quick=[17]))
def test_blocks_give_what_all_pairs_give(num_slots):
    *tokens, valid_BL, position_BL = made_tokens((num_slots, 1, 9), num_slots)
    options = {"num_heads": HEADS, "query_mask_BL": valid_BL, "needs": ATTENTION_NEEDS}
    tokens = *tokens, key_bias(valid_BL)
    expected_BLD, expected = scaled_dot_product_attention(
        *tokens, window_bias(LOCAL, position_BL, position_BL), **options
    )
    found_BLD, found = block_attention(LOCAL, *tokens, position_BL=position_BL, **options)
    text_BL1 = valid_BL[..., None]
    np.testing.assert_allclose(
        np.where(text_BL1, found_BLD, 0), np.where(text_BL1, expected_BLD, 0), atol=1e-6
    )
    for name in ("column", "others", "cls", "value"):
        found_BL, expected_BL = (getattr(x, f"{name}_attention_X") for x in (found, expected))
        np.testing.assert_allclose(
            np.where(valid_BL, found_BL, 0), np.where(valid_BL, expected_BL, 0), atol=1e-6
        )


def test_a_layer_is_local_by_its_number_traced_or_not():
    traced = jax.jit(functools.partial(is_local, LOCAL))
    for index in range(4):
        assert is_local(LOCAL, np.int32(index)) == bool(traced(index)) == (index in (1, 2))


def test_short_texts_attend_as_a_whole():
    assert [uses_blocks(LOCAL, length) for length in (1, 16, 17)] == [False, False, True]


def arrays_of(jaxpr):
    """The shapes of all results of a program, inner programs included."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from arrays_of(inner)


@pytest.mark.parametrize(("index", "has_pairs"), [(0, True), (1, False)])
def test_a_local_layer_of_a_long_text_has_no_array_of_all_pairs(index, has_pairs):
    length = 2048
    config = read_fields(RAW | {"max_position_embeddings": length, "local_attention": 128})
    encoder = encoder_of(config)
    params = jax.eval_shape(lambda: encoder.init(jax.random.key(0), config))
    layer = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), params)

    def run(layer, hidden_BLD, bias_BL):
        """The attention half of one layer."""
        position_BL = jnp.arange(length, dtype=jnp.int32)[None]
        return attend(
            encoder,
            layer,
            config,
            hidden_BLD,
            bias_BL,
            index=np.int32(index),
            position_BL=position_BL,
            needs=ATTENTION_NEEDS,
            query_mask_BL=bias_BL == 0,
        )

    program = jax.make_jaxpr(run)(
        layer["layers"],
        jax.ShapeDtypeStruct((1, length, config.hidden_dim), jnp.float32),
        jax.ShapeDtypeStruct((1, length), jnp.float32),
    )
    found = any(sum(size >= length for size in shape) > 1 for shape in arrays_of(program.jaxpr))
    assert found == has_pairs


def test_the_memory_of_a_local_layer_grows_with_the_text():
    local = LocalLayers((0,), 64)

    def memory(length):
        """Bytes of the inner arrays of a layer."""
        tokens = [jax.ShapeDtypeStruct((1, length, WIDTH), jnp.float32)] * 3
        run = functools.partial(block_attention, local, num_heads=HEADS)
        bias, position = (jax.ShapeDtypeStruct((1, length), x) for x in (jnp.float32, jnp.int32))
        return jax.jit(run).lower(*tokens, bias, position_BL=position).compile().memory_analysis()

    short, long = (memory(length).temp_size_in_bytes for length in (2048, 8192))
    assert long < 4.5 * short
    assert long < 8192 * 8192  # a quarter of one head's pairs in float32


@pytest.mark.long
@pytest.mark.parametrize("driver", ["masked", "bucketed", "packed"])
@pytest.mark.parametrize("name", PRUNERS)
def test_long_texts_lose_the_tokens_that_they_lose_with_all_pairs(name, driver, monkeypatch):
    pruner = PRUNERS[name]
    params = random_params(LONG, CLASSIFICATION, pruner=pruner)
    params["pruner"] = params["pruner"] | LEAVES[name]
    token_BL = np.random.default_rng(0).integers(1, 50, (4, LONG.num_positions), dtype=np.int32)
    valid_BL = np.arange(LONG.num_positions) < np.array([[90], [17], [1], [60]])
    zero_B = np.zeros(4, np.int32)
    batch = Batch(token_BL, np.zeros_like(token_BL), valid_BL, zero_B, zero_B)

    options = {"buckets": (16, 48, 90), "return_exit_hidden": True}
    prepared = params if driver == "masked" else prepare_inference_params(params, LONG)
    found_BC, found = make_engine(LONG, pruner, driver=driver, **options)(prepared, batch)
    monkeypatch.setattr(local_attention, "uses_blocks", lambda local, length: False)
    reference = DRIVERS["masked"]
    expected_BC, expected = reference(params, LONG, pruner, batch, return_exit_hidden=True)
    np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
    np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    np.testing.assert_allclose(found.exit_hidden_BLD, expected.exit_hidden_BLD, atol=2e-5, rtol=0)
    count_N = np.asarray(found.count_NB)[:, 0]
    assert 90 > count_N[1] > 4 * LONG.family_options.window
