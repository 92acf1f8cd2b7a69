"""Long texts attend some queries at a time, with the results of all at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.encoders import attention
from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.types import (
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    OTHERS_ATTENTION,
    VALUE_ATTENTION,
)

B, S, D = 2, 11, 8
LENGTHS = (11, 6)


def attend(num_queries, **options):
    """Return the attention of the first queries, and its gradient."""
    keys = jax.random.split(jax.random.key(0), 3)
    query_BLD, key_BSD, value_BSD = (jax.random.normal(key, (B, S, D)) for key in keys)
    valid_BS = jnp.array(np.arange(S) < np.array(LENGTHS)[:, None])

    def run(query_BLD):
        found = scaled_dot_product_attention(
            query_BLD,
            key_BSD,
            value_BSD,
            key_bias(valid_BS),
            num_heads=2,
            query_mask_BL=valid_BS[:, :num_queries],
            **options,
        )
        return jnp.sum(jnp.sin(found[0])), found

    (_, found), gradient = jax.value_and_grad(run, has_aux=True)(query_BLD[:, :num_queries])
    return found, gradient


@pytest.mark.parametrize("num_queries", [4, 9, 11])
@pytest.mark.parametrize(
    "needs", [set(), {CLS_ATTENTION, COLUMN_ATTENTION, VALUE_ATTENTION}, {OTHERS_ATTENTION}]
)
def test_parts_have_the_results_of_all_queries(monkeypatch, num_queries, needs):
    expected = attend(num_queries, needs=frozenset(needs))
    monkeypatch.setattr(attention, "LONG_ON_CPUS", 3)
    monkeypatch.setattr(attention, "QUERIES_AT_A_TIME", 4)
    found = attend(num_queries, needs=frozenset(needs))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-6), found, expected)


def test_no_array_has_all_pairs_of_a_long_text():
    """Weights take no memory here: shapes alone are compiled."""
    x_BLD = jax.ShapeDtypeStruct((1, 8192, 64), jnp.float32)
    bias_BS = jax.ShapeDtypeStruct((1, 8192), jnp.float32)

    def run(query_BLD, key_BSD, value_BSD, bias_BS):
        return scaled_dot_product_attention(query_BLD, key_BSD, value_BSD, bias_BS, num_heads=1)[0]

    memory = jax.jit(run).lower(x_BLD, x_BLD, x_BLD, bias_BS).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 8192 * 8192 * 4 / 4


def test_the_buckets_hold_the_longest_texts():
    assert bucket_sizes(DEFAULT_BUCKETS, 8192)[-2:] == (6144, 8192)
