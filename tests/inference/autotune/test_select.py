"""Which driver and buckets a latency table gives, and that an engine keeps to them."""

import dataclasses
import random

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.inference.autotune.select import (
    DriverChoice,
    bucket_latency_ms,
    fastest_driver,
    select_driver,
    useful_buckets,
)
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import keep_all
from adapler_jax.types import EncoderConfig
from benchmarks.compilations import compilations
from tests import tiny
from tests.inference.tables import (
    BASE,
    MINILM,
    TABLE,
    make_bucket_rows,
    make_case,
    make_row,
    make_table,
)
from tests.marks import mostly_long


def config_of(sizes):
    num_layers, num_heads, hidden_dim, ffn_dim = sizes
    return EncoderConfig(
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        ffn_dim=ffn_dim,
        vocab_size=100,
        num_positions=512,
    )


def pick(
    table=TABLE,
    sizes=MINILM,
    dtype=jnp.float32,
    *,
    batch_size=32,
    length=128,
    is_pruned=True,
    **options,
):
    return select_driver(
        table,
        config_of(sizes),
        dtype,
        batch_size=batch_size,
        length=length,
        is_pruned=is_pruned,
        **options,
    )


def test_batch_1_may_get_another_driver_than_batch_32():
    assert pick(batch_size=1).driver == "bucketed"
    assert pick(batch_size=32).driver == "packed"


def test_the_choice_does_not_depend_on_the_order_of_the_rows():
    rows = [*TABLE.rows, *make_case((9.0,) * 3, (1.0,) * 3, sizes=BASE, shape=(8, 64))]
    shapes = [(1, 16), (3, 128), (8, 64), (32, 500)]
    expected = [pick(make_table(rows), batch_size=b, length=n) for b, n in shapes]
    for seed in range(5):
        shuffled = random.Random(seed).sample(rows, len(rows))
        assert [pick(make_table(shuffled), batch_size=b, length=n) for b, n in shapes] == expected


@pytest.mark.parametrize(
    ("shape", "driver"),
    [
        ((1, 128), "bucketed"),
        ((5, 128), "bucketed"),
        ((6, 128), "packed"),
        ((500, 7), "packed"),
        ((2, 512), "bucketed"),
    ],
)
def test_the_nearest_shape_decides_by_ratio(shape, driver):
    """The geometric mean of 1 and 32 rows is 5.7."""
    assert pick(batch_size=shape[0], length=shape[1]).driver == driver


def test_of_two_shapes_equally_near_the_smaller_decides():
    rows = [
        *make_case((1.0,) * 3, (2.0,) * 3, shape=(8, 128)),
        *make_case((2.0,) * 3, (1.0,) * 3, shape=(32, 128)),
    ]
    assert (
        pick(make_table([*rows, *make_bucket_rows({128: 1.0}, batch=1)]), batch_size=16).driver
        == "bucketed"
    )


def test_the_nearest_encoder_decides_by_the_operations_of_a_layer():
    rows = [
        *make_case((1.0,) * 3, (2.0,) * 3, sizes=MINILM),
        *make_case((2.0,) * 3, (1.0,) * 3, sizes=BASE),
        *make_bucket_rows({128: 1.0}, batch=1),
    ]
    drivers = {
        (4, 2, 128, 512): "bucketed",
        (24, 12, 384, 1536): "bucketed",
        (12, 8, 512, 2048): "bucketed",
        (6, 12, 768, 3072): "packed",
        (24, 16, 1024, 4096): "packed",
    }
    assert {sizes: pick(make_table(rows), sizes).driver for sizes in drivers} == drivers


def test_operands_have_rows_of_their_own():
    rows = [*TABLE.rows, *make_case((1.0,) * 3, (2.0,) * 3, dtype="bfloat16")]
    assert pick(make_table(rows), dtype=jnp.bfloat16).driver == "bucketed"
    assert pick(make_table(rows), dtype="float32").driver == "packed"
    # For operands that are not in the table, all rows count.
    assert pick(TABLE, dtype=jnp.bfloat16).driver == "packed"


@pytest.mark.parametrize(
    ("speedup", "driver"),
    [(None, "packed"), (0.9, "packed"), (1.9, "packed"), (2.1, "bucketed"), (99.0, "bucketed")],
)
def test_only_the_schedule_nearest_to_the_expected_speedup_counts(speedup, driver):
    assert pick(expected_speedup=speedup).driver == driver


def test_plain_bert_has_rows_of_its_own():
    assert pick(is_pruned=False).driver == "bucketed"  # equal: 100 and 100 ms
    assert pick(is_pruned=False, expected_speedup=4.0).driver == "bucketed"
    mixed_and_full = [
        make_row("bucketed", 100, speedup=None),
        make_row("packed", 80, speedup=None),
        make_row("bucketed", 100, speedup=None, live_share=1.0),
        make_row("packed", 140, speedup=None, live_share=1.0),
    ]
    assert fastest_driver(mixed_and_full, None) == "bucketed"
    assert fastest_driver(mixed_and_full[:2], None) == "packed"


@pytest.mark.parametrize(
    ("packed", "driver"),
    [(100.0, "bucketed"), (97.5, "bucketed"), (96.5, "packed"), (103, "bucketed")],
)
def test_equal_times_go_to_the_driver_that_compiles_faster(packed, driver):
    assert fastest_driver([make_row("bucketed", 100), make_row("packed", packed)], None) == driver


def test_cases_that_lack_a_driver_do_not_count():
    lonely = make_row("bucketed", 0.1, shape=(2, 128))
    assert pick(make_table([*TABLE.rows, lonely]), batch_size=6).driver == "packed"


def test_batch_1_gets_fewer_buckets():
    assert pick(batch_size=1).buckets == (32, 48, 64, 96, 128)
    large = pick(batch_size=32, expected_speedup=4.0)
    assert large == DriverChoice("bucketed", (2, 4, 8, 16, 24, 32, 48, 64, 96, 128))


def test_a_bucket_is_kept_if_it_is_faster_than_the_next_kept_one():
    """24 is 2% faster than 32, too little; 16 is 3.5% faster than 32, which stayed."""
    assert useful_buckets({16: 9.65, 24: 9.8, 32: 10.0}, 32) == (16, 32)
    assert useful_buckets({16: 9.8, 24: 9.9, 32: 10.0}, 32) == (32,)
    assert useful_buckets({16: 5.0, 24: 12.0, 32: 10.0}, 32)[-2:] == (
        16,
        32,
    )  # a busy moment of the machine


def test_buckets_between_the_measured_ones_are_interpolated():
    assert useful_buckets({2: 1.0, 512: 1.0}, 40) == (40,)
    assert useful_buckets({2: 1.0, 32: 16.0}, 40) == (2, 4, 8, 16, 24, 32, 40)


def test_beyond_the_largest_measured_bucket_time_grows_with_length():
    assert useful_buckets({64: 1.0, 128: 1.0}, 512) == (128, 192, 256, 384, 512)


def test_any_length_that_the_library_has_buckets_for_is_served():
    for length in (1, 2, 3, 127, 1000, 8192):
        assert useful_buckets({16: 1.0, 128: 5.0}, length)[-1] == length
    with pytest.raises(ValueError, match="bucket 8192 cannot hold 9000 kept tokens"):
        useful_buckets({128: 1.0}, 9000)


def test_buckets_are_those_of_the_nearest_batch_size():
    assert bucket_latency_ms(TABLE, config_of(MINILM), jnp.float32, batch_size=3)[16] == 5.05
    assert bucket_latency_ms(TABLE, config_of(MINILM), jnp.float32, batch_size=9)[16] == 16.0


def test_the_users_buckets_stay_as_they_are():
    for options in ({"batch_size": 1}, {"batch_size": 32}, {"is_pruned": False}):
        assert pick(buckets=(2, 4, 128), **options).buckets == (2, 4, 128)
    assert pick(is_pruned=False).buckets == DEFAULT_BUCKETS == pick(batch_size=32).buckets


@pytest.fixture(scope="module", name="engine")
def _engine():
    return make_engine(tiny.CONFIG, tiny.PRUNER, autotune_table=TABLE)


def test_an_engine_runs_what_the_table_chooses(engine):
    assert (
        engine.select_driver(1, 12).driver == "bucketed"
        and engine.select_driver(32, 12).driver == "packed"
    )
    named = make_engine(tiny.CONFIG, tiny.PRUNER, driver="packed")
    assert engine.program(32, 12) is named.program(32, 12)
    assert engine.program(1, 12) is not named.program(1, 12)
    assert (
        named.select_driver(1, 12)
        == named.select_driver(32, 64)
        == DriverChoice("packed", DEFAULT_BUCKETS)
    )


@pytest.mark.parametrize(
    ("name", "num_rows"), mostly_long(["adapler", "keep_all"], [1, 2, 8], quick=[("adapler", 2)])
)
def test_any_selection_equals_the_reference(name, num_rows):
    pruner = {"adapler": tiny.PRUNER, "keep_all": keep_all()}[name]
    params, batch = tiny.make_params(pruner), tiny.make_batch([12, 7, 3, 1, 5, 11, 2, 9][:num_rows])
    run = make_engine(tiny.CONFIG, pruner, autotune_table=TABLE)
    found_BC, trace = run(prepare_inference_params(params, tiny.CONFIG), batch)
    expected_BC, expected = make_engine(tiny.CONFIG, pruner, driver="masked")(params, batch)
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    if pruner.sites:
        np.testing.assert_array_equal(trace.count_NB, expected.count_NB)
        np.testing.assert_array_equal(trace.survival_NBL, expected.survival_NBL)


def test_a_shape_is_compiled_once_whatever_the_lengths():
    run = make_engine(tiny.CONFIG, tiny.PRUNER, autotune_table=TABLE, buckets=(6, 16))
    params = prepare_inference_params(tiny.make_params(), tiny.CONFIG)
    run(params, tiny.make_batch([11, 2], num_slots=11))
    again = make_engine(tiny.CONFIG, tiny.PRUNER, autotune_table=TABLE, buckets=(6, 16))
    with compilations() as found:
        for lengths in ([1, 1], [5, 8]):
            run(params, tiny.make_batch(lengths, num_slots=11))
        again(params, tiny.make_batch([4, 4], num_slots=11))
    assert not found and again.program(2, 11) is run.program(2, 11)


def test_a_table_of_another_device_is_rejected_wherever_it_is_given():
    other = dataclasses.replace(TABLE, device="a lathe")
    with pytest.raises(
        ValueError, match="the latency table was measured on another device: 'a lathe', this one is"
    ):
        make_engine(tiny.CONFIG, tiny.PRUNER, autotune_table=other)
