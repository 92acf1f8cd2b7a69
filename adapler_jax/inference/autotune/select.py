"""From a latency table to the driver and the buckets of a batch shape: pure, and the same for the same table.

Of the table's cases (encoder, dtype, batch, length) the one nearest to the model's decides, distances being ratios. Of
its schedules the one nearest to the speedup that the caller expects, or else all of them alike: the driver with the
lowest geometric mean of milliseconds, "bucketed" where the two are about equal.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from adapler_jax.inference.autotune.table import BUCKET, PRUNING_DRIVERS, LatencyTable, Row, case_of
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.types import EncoderConfig

MIN_GAIN = 0.03  # share of the time that "packed" must save over "bucketed", and a rung over the next larger one: both
# compile longer, and smaller differences are noise


class DriverChoice(NamedTuple):
    """What runs a batch."""

    driver: str
    buckets: tuple[int, ...]


def select_driver(
    table: LatencyTable,
    config: EncoderConfig,
    dtype,
    *,
    batch_size: int,
    length: int,
    is_pruned: bool,
    expected_speedup: float | None = None,
    buckets: Sequence[int] | None = None,
) -> DriverChoice:
    """The driver and the buckets for batches of one shape.

    Args: table: as `find_table` gives it. dtype: of the operands of the encoder's products. length: token slots.
    is_pruned: whether the model drops tokens; plain BERT's "bucketed" runs padded, its "packed" without padding.
    expected_speedup: FLOPs speedup of the model where it is known. buckets: those that the user wants; None for the
    library's, of which "bucketed" gets those alone that save time on this shape.
    """
    driver = fastest_driver(
        nearest_case(
            [
                row
                for row in table.rows
                if row.what in PRUNING_DRIVERS and row.is_pruned == is_pruned
            ],
            config,
            dtype,
            batch_size=batch_size,
            length=length,
        ),
        expected_speedup,
    )
    if buckets is None:
        buckets = DEFAULT_BUCKETS
        if driver == "bucketed" and is_pruned:
            buckets = useful_buckets(
                bucket_latency_ms(table, config, dtype, batch_size=batch_size), length
            )
    return DriverChoice(driver, tuple(buckets))


def operations(sizes: tuple[int, int, int, int]) -> tuple[int, int]:
    """Multiplications a token of an encoder (layers, heads, hidden, feed-forward): of a layer, and of all; attention's
    products, which grow with the length, apart."""
    num_layers, _, hidden_dim, ffn_dim = sizes
    layer = 4 * hidden_dim**2 + 2 * hidden_dim * ffn_dim
    return layer, num_layers * layer


def nearest_encoder(rows: Iterable[Row], config: EncoderConfig, dtype) -> list[Row]:
    """The rows of the encoder nearest in the operations of a layer, then of all layers, then in its number of heads.

    A dtype that the table does not know is served by the rows of all others.
    """
    rows = list(rows)
    name = jnp.dtype(dtype).name
    rows = [row for row in rows if row.dtype == name] or rows
    here = (config.num_layers, config.num_heads, config.hidden_dim, config.ffn_dim)

    def distance(sizes):
        ratios = [
            abs(math.log(there / ours)) for there, ours in zip(operations(sizes), operations(here))
        ]
        return *ratios, abs(math.log(sizes[1] / here[1])), sizes

    nearest = min({row.encoder for row in rows}, key=distance)
    return [row for row in rows if row.encoder == nearest]


def nearest_case(
    rows: Iterable[Row], config: EncoderConfig, dtype, *, batch_size: int, length: int
) -> list[Row]:
    """The rows of the case nearest to a model and a batch shape; of equally near shapes the smaller one's.

    Cases that lack a driver do not count; the table has others.
    """
    rows = list(rows)
    complete = set.intersection(
        *({case_of(row) for row in rows if row.what == driver} for driver in PRUNING_DRIVERS)
    )
    rows = nearest_encoder([row for row in rows if case_of(row) in complete], config, dtype)

    def distance(shape):
        return abs(math.log(shape[0] / batch_size)) + abs(math.log(shape[1] / length)), shape

    nearest = min({(row.batch, row.length) for row in rows}, key=distance)
    return [row for row in rows if (row.batch, row.length) == nearest]


def fastest_driver(rows: Sequence[Row], expected_speedup: float | None) -> str:
    """The driver with the lowest geometric mean of milliseconds over the rows, or at the schedule nearest to the
    expected speedup. Rows: of one case, each driver's on the same schedules."""
    if expected_speedup is not None and all(row.is_pruned for row in rows):
        nearest = min(
            {row.speedup for row in rows},
            key=lambda speedup: (abs(math.log(speedup / expected_speedup)), speedup),
        )
        rows = [row for row in rows if row.speedup == nearest]
    log_ms = {
        driver: [math.log(row.ms) for row in rows if row.what == driver]
        for driver in PRUNING_DRIVERS
    }
    bucketed, packed = (
        math.fsum(log_ms[driver]) / len(log_ms[driver]) for driver in PRUNING_DRIVERS
    )
    return "packed" if packed < bucketed + math.log(1.0 - MIN_GAIN) else "bucketed"


def bucket_latency_ms(
    table: LatencyTable, config: EncoderConfig, dtype, *, batch_size: int
) -> dict[int, float]:
    """Milliseconds by bucket, of the nearest encoder at the nearest batch size."""
    rows = nearest_encoder((row for row in table.rows if row.what == BUCKET), config, dtype)
    nearest = min(
        {row.batch for row in rows}, key=lambda batch: (abs(math.log(batch / batch_size)), batch)
    )
    return {
        row.length: row.ms
        for row in sorted(rows, key=lambda row: row.length)
        if row.batch == nearest
    }


def useful_buckets(ms_by_bucket: dict[int, float], length: int) -> tuple[int, ...]:
    """The library's buckets for `length` token slots, without those that are hardly faster than the next larger one.

    Between measured buckets milliseconds are a power of the length; above the largest they grow with it.
    Raises ValueError where the largest bucket is shorter than `length`.
    """
    measured = np.array(sorted(ms_by_bucket))
    ms = np.array([ms_by_bucket[bucket] for bucket in measured])

    def expected_ms(bucket):
        inside = math.exp(np.interp(math.log(bucket), np.log(measured), np.log(ms)))
        return inside * max(1.0, bucket / measured[-1])

    kept = [length]
    for rung in reversed(bucket_sizes(DEFAULT_BUCKETS, length)[:-1]):
        if expected_ms(rung) <= (1.0 - MIN_GAIN) * expected_ms(kept[-1]):
            kept.append(rung)
    return tuple(kept[::-1])
