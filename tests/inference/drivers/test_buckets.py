"""Buckets do not change the answer; they decide how much is compiled and executed."""

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.inference.drivers.buckets import check_buckets, entry_buckets, executed_lengths
from adapler_jax.inference.engine import make_engine
from benchmarks.compilations import compilations
from tests.inference.drivers.engines import (
    CONFIG,
    FAST,
    PRUNER,
    PRUNERS,
    assert_same,
    engine,
    make_batch,
    params_of,
)


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 23, 24])
def test_fast_drivers_equal_the_oracle_at_every_bucket_edge(length, driver):
    """Nothing is dropped, so every layer runs in the bucket of this length."""
    params, batch = params_of("adapler"), make_batch([length] + [1] * 4)
    params = params | {"pruner": params["pruner"] | {"threshold_N": jnp.zeros((4,), jnp.float32)}}
    found = engine("adapler", driver)(params, batch)
    assert np.all(found[1].count_NB[:, 0] == length)
    assert_same(found, engine("adapler", "masked")(params, batch))


@pytest.mark.long
def test_buckets_do_not_change_the_answer():
    params, batch = params_of("adapler"), make_batch([24, 7, 3, 1, 13])
    expected = engine("adapler", "masked")(params, batch)
    for buckets in [(512,), (5, 13, 24)]:
        assert_same(
            make_engine(CONFIG, PRUNER, buckets=buckets, driver="bucketed")(params, batch), expected
        )


def test_short_ladder_is_refused():
    message = "bucket 8 cannot hold 24 kept tokens; add a larger size to config.inference.buckets"
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER, buckets=(4, 8), driver="bucketed")(
            params_of("adapler"), make_batch([24])
        )


def test_buckets_may_be_numbers_of_numpy():
    found = check_buckets(np.array([4, 24]))
    assert found == (4, 24) and all(type(bucket) is int for bucket in found)


def test_mixed_lengths_compile_once_a_shape():
    run = make_engine(CONFIG, PRUNER, buckets=(24,), driver="bucketed")
    params = params_of("adapler")
    run(params, make_batch([24, 1]))
    with compilations() as found:
        for lengths in ([3, 3], [17, 9], [1, 1]):
            run(params, make_batch(lengths))
    assert not found
    with compilations() as found:
        run(params, make_batch([5, 2, 1]))
    assert found


def test_executed_lengths_are_those_of_the_longest_example():
    count_NB = np.array([[5, 9], [4, 2], [1, 1]])
    entry, length_N = executed_lengths(PRUNER, [5, 10], count_NB, (1, 2, 4, 8, 16), num_slots=12)
    assert entry == 12 and length_N.tolist() == [12, 4, 1]
    entry, length_N = executed_lengths(PRUNER, [5, 2], count_NB, (16,), num_slots=12)
    assert entry == 12 and length_N.tolist() == [12, 12, 12]


def test_every_other_rung_is_an_entry():
    assert entry_buckets(PRUNER, (1, 2, 4, 8)) == (2, 8) and entry_buckets(PRUNER, (1, 2, 8)) == (
        1,
        8,
    )
    entry, _ = executed_lengths(PRUNER, [2, 1], [[2, 1]], (1, 2, 4, 8), num_slots=8)
    assert entry == 2


def test_a_batch_enters_at_any_rung_where_the_first_site_is_inside_a_layer():
    assert entry_buckets(PRUNERS["powerbert"], (1, 2, 4, 8)) == (1, 2, 4, 8)
    entry, length_N = executed_lengths(
        PRUNERS["powerbert"], [3, 1], [[2, 1]], (1, 2, 4, 8), num_slots=8
    )
    assert entry == 4 and length_N.tolist() == [2]
