"""The packed driver computes every row once, in tiles, groups and two threads."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.inference.drivers import ragged_ops as flat
from adapler_jax.inference.drivers.packed_attention import MAX_GROUP, attention_group_sizes
from adapler_jax.inference.engine import make_engine, run_program
from adapler_jax.types import Batch
from tests.inference.drivers.engines import (
    CONFIG,
    NUM_SLOTS,
    PRUNER,
    assert_same,
    engine,
    make_batch,
    params_of,
)
from tests.marks import mostly_long


@pytest.mark.parametrize("num_rows", mostly_long([15, 16, 17], quick=[15]))
def test_two_threads_give_the_answers_of_one(num_rows):
    params, batch = (
        params_of("adapler"),
        make_batch(np.random.default_rng(1).integers(1, 25, num_rows)),
    )
    run = engine("adapler", "packed", return_exit_hidden=True)
    found, expected = run(params, batch), run.program(num_rows, NUM_SLOTS)(params, batch)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    assert_same(found, expected)
    np.testing.assert_allclose(
        found[1].exit_hidden_BLD, expected[1].exit_hidden_BLD, atol=1e-5, rtol=0
    )


def test_both_threads_run_the_program_of_the_whole_batch():
    asked = []

    def program(*shape):
        asked.append(shape)
        return engine("adapler", "packed").program(*shape)

    run_program("packed", program, params_of("adapler"), make_batch([5] * 17))
    assert asked == [(17, NUM_SLOTS)]


@pytest.mark.parametrize("num_rows", mostly_long([1, 9, 10], quick=[9]))
def test_long_texts_attend_in_groups_and_alone(num_rows):
    """Longer than MIN_UNGROUPED, in several blocks; groups hold up to 4 of them."""
    length = 128
    assert attention_group_sizes(length, max_group=MAX_GROUP) == (4, 1)
    config = dataclasses.replace(CONFIG, num_positions=length)
    params = params_of("adapler")
    table_PD = (
        np.random.default_rng(0).normal(0.0, 0.02, (length, config.hidden_dim)).astype(np.float32)
    )
    embeddings = params["encoder"]["embeddings"] | {"position": table_PD}
    params = params | {"encoder": params["encoder"] | {"embeddings": embeddings}}
    rng = np.random.default_rng(1)
    valid_BL = np.arange(length) < rng.choice([1, 40, 65, 97, 127, 128], (num_rows, 1))
    token_BL = np.where(valid_BL, rng.integers(1, config.vocab_size, valid_BL.shape), 0).astype(
        np.int32
    )
    batch = Batch(token_BL, np.zeros_like(token_BL), valid_BL, *np.zeros((2, num_rows), np.int32))
    found, expected = (
        make_engine(config, PRUNER, driver=driver, block_tokens=300)(params, batch)
        for driver in ("packed", "masked")
    )
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("num_tokens", "num_rows"),
    [
        (0, 0),
        (1, 4),
        (4, 4),
        (5, 8),
        (12, 12),
        (13, 16),
        (16, 16),
        (17, 20),
        (28, 28),
        (29, 32),
        (33, 36),
    ],
)
def test_tiles_cover_every_row_once_and_are_nearly_full(num_tokens, num_rows):
    def step(size, first, counts):
        return flat.put_rows(counts, flat.rows_of(counts, first, size) + 1, first)

    counts = np.asarray(
        flat.scan_tiles(step, jnp.zeros(64, jnp.int32), jnp.int32(num_tokens), tiles=(16, 4))
    )
    assert np.all(counts[:num_tokens] == 1) and np.all(counts <= 1)
    assert counts.sum() == num_rows


def test_packed_tokens_are_the_kept_ones_in_order():
    keep_BL = jnp.array([[True, False, True], [False, False, False], [True, True, False]])
    found = flat.gather_kept(jnp.arange(10, 19).reshape(3, 3), keep_BL, 12)
    assert found.shape == (12,) and found[:4].tolist() == [10, 12, 16, 17]
    np.testing.assert_array_equal(flat.packed_index(keep_BL)[keep_BL], [0, 1, 2, 3])


@pytest.mark.parametrize("options", [{"tiles": (0,)}, {"tiles": ()}, {"block_tokens": 0}])
def test_tiles_and_blocks_without_rows_are_refused(options):
    with pytest.raises(ValueError, match="expected positive numbers of rows"):
        make_engine(CONFIG, PRUNER, driver="packed", **options)
