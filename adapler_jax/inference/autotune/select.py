"""Select the driver and the buckets of a batch shape by a latency table.

Pure functions; the same table gives the same selection. The nearest case of the table decides,
by ratios of sizes: encoder, dtype, batch size and length. Of its schedules the nearest to the
expected speedup decides, or without one all of them. The driver with the lowest geometric mean of
milliseconds is selected, "bucketed" where both are about equal.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax.inference.autotune.table import BUCKET, PRUNING_DRIVERS, LatencyTable, Row, case_of
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.types import EncoderConfig

# Fraction of the time that "packed" must save compared with "bucketed", and a bucket compared with
# the next larger one. Both compile longer, and smaller differences are noise.
MIN_GAIN = 0.03


class DriverChoice(NamedTuple):
    """The driver that runs a batch, and its buckets."""

    driver: str
    buckets: tuple[int, ...]


def select_driver(
    table: LatencyTable,
    config: EncoderConfig,
    dtype: DTypeLike,
    *,
    batch_size: int,
    length: int,
    is_pruned: bool,
    expected_speedup: float | None = None,
    buckets: Sequence[int] | None = None,
) -> DriverChoice:
    """Select the driver and the buckets for batches of one shape.

    Args:
      table: from `find_table`.
      config: of the encoder.
      dtype: of the operands of the encoder's products.
      batch_size: texts of a batch.
      length: token slots of a batch.
      is_pruned: the model drops tokens. For plain BERT "bucketed" runs padded, "packed" does not.
      expected_speedup: FLOPs speedup of the model, if known.
      buckets: given by the user. None for the library's; "bucketed" then gets only the buckets
        that save time on this shape.

    Returns:
      The driver and its buckets.
    """
    rows = [row for row in table.rows if row.what in PRUNING_DRIVERS and row.is_pruned == is_pruned]
    case = nearest_case(rows, config, dtype, batch_size=batch_size, length=length)
    driver = fastest_driver(case, expected_speedup)
    if buckets is not None:
        return DriverChoice(driver, tuple(buckets))
    if driver == "packed" or not is_pruned:
        return DriverChoice(driver, DEFAULT_BUCKETS)
    ms_by_bucket = bucket_latency_ms(table, config, dtype, batch_size=batch_size)
    return DriverChoice(driver, useful_buckets(ms_by_bucket, length))


def log_ratio(first: float, second: float) -> float:
    """Return the distance of two sizes: the logarithm of the larger one over the smaller one."""
    return abs(math.log(first / second))


def operations(sizes: tuple[int, int, int, int]) -> tuple[int, int]:
    """Return the multiplications per token of a layer and of all layers, without attention's.

    Args:
      sizes: layers, heads, hidden and feed-forward width of an encoder.
    """
    num_layers, _, hidden_dim, ffn_dim = sizes
    layer = 4 * hidden_dim**2 + 2 * hidden_dim * ffn_dim
    return layer, num_layers * layer


def nearest_encoder(rows: Iterable[Row], config: EncoderConfig, dtype: DTypeLike) -> list[Row]:
    """Return the rows of the nearest encoder.

    Encoders are compared by the operations of a layer, then of all layers, then by their heads.
    For a dtype that is not in the table, the rows of all dtypes count.
    """
    rows = list(rows)
    dtype_name = jnp.dtype(dtype).name
    rows = [row for row in rows if row.dtype == dtype_name] or rows
    ours = (config.num_layers, config.num_heads, config.hidden_dim, config.ffn_dim)

    def distance(sizes: tuple[int, int, int, int]) -> tuple:
        (layer, total), (our_layer, our_total) = operations(sizes), operations(ours)
        heads = log_ratio(sizes[1], ours[1])
        return log_ratio(layer, our_layer), log_ratio(total, our_total), heads, sizes

    nearest = min({row.encoder for row in rows}, key=distance)
    return [row for row in rows if row.encoder == nearest]


def nearest_case(
    rows: Iterable[Row], config: EncoderConfig, dtype: DTypeLike, *, batch_size: int, length: int
) -> list[Row]:
    """Return the rows of the nearest case; of two equally near batch shapes, of the smaller one.

    Only cases that have both drivers count; `check_complete` makes sure that there is one.
    """
    rows = list(rows)
    cases = [{case_of(row) for row in rows if row.what == driver} for driver in PRUNING_DRIVERS]
    complete = set.intersection(*cases)
    rows = nearest_encoder([row for row in rows if case_of(row) in complete], config, dtype)

    def distance(shape: tuple[int, int]) -> tuple:
        return log_ratio(shape[0], batch_size) + log_ratio(shape[1], length), shape

    nearest = min({(row.batch, row.length) for row in rows}, key=distance)
    return [row for row in rows if (row.batch, row.length) == nearest]


def fastest_driver(rows: Sequence[Row], expected_speedup: float | None) -> str:
    """Return the driver with the lowest geometric mean of milliseconds.

    Args:
      rows: of one case, with the same schedules for each driver.
      expected_speedup: only the schedule nearest to it counts; None for all.
    """
    speedups = {row.speedup for row in rows if row.speedup is not None}
    if expected_speedup is not None and speedups:
        nearest = min(speedups, key=lambda speedup: (log_ratio(speedup, expected_speedup), speedup))
        rows = [row for row in rows if row.speedup == nearest]
    bucketed, packed = (_mean_log_ms(rows, driver) for driver in PRUNING_DRIVERS)
    return "packed" if packed < bucketed + math.log(1.0 - MIN_GAIN) else "bucketed"


def _mean_log_ms(rows: Sequence[Row], driver: str) -> float:
    """Return the mean logarithm of a driver's milliseconds."""
    logs = [math.log(row.ms) for row in rows if row.what == driver]
    return math.fsum(logs) / len(logs)


def bucket_latency_ms(
    table: LatencyTable, config: EncoderConfig, dtype: DTypeLike, *, batch_size: int
) -> dict[int, float]:
    """Return milliseconds by bucket, of the nearest encoder at the nearest batch size."""
    buckets = [row for row in table.rows if row.what == BUCKET]
    rows = nearest_encoder(buckets, config, dtype)
    batches = {row.batch for row in rows}
    nearest = min(batches, key=lambda batch: (log_ratio(batch, batch_size), batch))
    return {row.length: row.ms for row in rows if row.batch == nearest}


def useful_buckets(ms_by_bucket: dict[int, float], length: int) -> tuple[int, ...]:
    """Return the library's buckets that are clearly faster than the next larger one.

    Between measured buckets, milliseconds are a power of the length; above the largest they grow
    in proportion to it.

    Args:
      ms_by_bucket: measured milliseconds.
      length: token slots of a batch, the last bucket.

    Raises:
      ValueError: the largest bucket is shorter than `length`.
    """
    measured = np.array(sorted(ms_by_bucket))
    ms = np.array([ms_by_bucket[bucket] for bucket in measured.tolist()])

    def expected_ms(bucket: int) -> float:
        log_ms = np.interp(math.log(bucket), np.log(measured), np.log(ms))
        return math.exp(log_ms) * max(1.0, bucket / measured[-1])

    useful = [length]
    smaller_buckets = bucket_sizes(DEFAULT_BUCKETS, length)[:-1]
    for bucket in reversed(smaller_buckets):
        if expected_ms(bucket) <= (1.0 - MIN_GAIN) * expected_ms(useful[-1]):
            useful.append(bucket)
    return tuple(useful[::-1])
