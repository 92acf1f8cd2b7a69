"""Measure the fast drivers on this device and write the table that engines choose by."""

import datetime
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adapler_jax.inference.autotune.select import fastest_driver
from adapler_jax.inference.autotune.table import (
    BUCKET,
    PRUNING_DRIVERS,
    LatencyTable,
    Row,
    case_of,
    check_origin,
    read_table,
    write_table,
)
from adapler_jax.inference.autotune.timing import time_interleaved
from adapler_jax.inference.autotune.workloads import (
    full_batch,
    mixed_batch,
    random_params,
    schedule_pruner,
    scheduled_params,
)
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.io.provenance import device_name, library_versions
from adapler_jax.pruning import keep_all
from adapler_jax.types import Batch, EncoderConfig


class Workload(NamedTuple):
    """Hold what one call measures."""

    configs: Sequence[EncoderConfig]
    dtypes: Sequence[str]
    cases: Sequence[tuple[int, int]]  # batch size and length
    speedups: Sequence[float]  # in FLOPs
    num_rounds: int  # timings of each call


def make_row(
    what: str,
    config: EncoderConfig,
    dtype: str,
    batch: Batch,
    *,
    speedup: float | None,
    seconds: float,
) -> Row:
    """A measurement as a row."""
    return Row(
        what=what,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        ffn_dim=config.ffn_dim,
        dtype=dtype,
        batch=batch.valid_BL.shape[0],
        length=batch.valid_BL.shape[1],
        live_share=round(float(batch.valid_BL.mean()), 4),
        speedup=speedup,
        ms=round(1e3 * seconds, 4),
    )


def measure_drivers(
    config: EncoderConfig,
    dtype: str,
    batch_size: int,
    length: int,
    *,
    speedups: Sequence[float],
    num_rounds: int,
) -> list[Row]:
    """The fast drivers on one case: every schedule on mixed texts, plain BERT on mixed texts and on full batches."""
    mixed, full = mixed_batch(config, batch_size, length), full_batch(config, batch_size, length)
    params = scheduled_params(config, mixed, speedups, jnp.dtype(dtype))
    works = [(None, mixed), *((speedup, mixed) for speedup in speedups)]
    if not mixed.valid_BL.all():
        works.append((None, full))
    calls = {}
    for driver in PRUNING_DRIVERS:
        for index, (speedup, batch) in enumerate(works):
            pruner = keep_all() if speedup is None else schedule_pruner(config)
            run = make_engine(config, pruner, driver=driver, dtype=jnp.dtype(dtype))
            calls[driver, index] = functools.partial(run, params[speedup], jax.device_put(batch))
    timings = time_interleaved(calls, repeats=num_rounds)
    return [
        make_row(
            driver, config, dtype, works[index][1], speedup=works[index][0], seconds=timing.median_s
        )
        for (driver, index), timing in timings.items()
    ]


def measure_buckets(
    config: EncoderConfig, dtype: str, batch_size: int, length: int, *, num_rounds: int
) -> list[Row]:
    """The bucketed driver on full batches of every bucket up to `length`, nothing dropped."""
    params = prepare_inference_params(random_params(config), config, jnp.dtype(dtype))
    params["pruner"] |= {"threshold_N": jnp.zeros_like(params["pruner"]["threshold_N"])}
    batches = {
        bucket: full_batch(config, batch_size, bucket)
        for bucket in bucket_sizes(DEFAULT_BUCKETS, length)
    }
    calls = {}
    for bucket, batch in batches.items():
        run = make_engine(
            config,
            schedule_pruner(config),
            driver="bucketed",
            buckets=(bucket,),
            dtype=jnp.dtype(dtype),
        )
        calls[bucket] = functools.partial(run, params, jax.device_put(batch))
    timings = time_interleaved(calls, repeats=num_rounds)
    return [
        make_row(BUCKET, config, dtype, batches[bucket], speedup=1.0, seconds=timing.median_s)
        for bucket, timing in timings.items()
    ]


def measure_all(
    configs: Sequence[EncoderConfig],
    dtypes: Sequence[str],
    cases: Sequence[tuple[int, int]],
    *,
    speedups: Sequence[float],
    num_rounds: int,
    log: Callable[[str], None],
) -> list[Row]:
    """The rows of every encoder, dtype and case; rungs up to the longest case of every batch size.

    Cases longer than an encoder's positions are cut to them.
    """
    rows = []
    for config in configs:
        fitting = sorted(
            {(batch_size, min(length, config.num_positions)) for batch_size, length in cases}
        )
        longest = dict(fitting)  # the last of every batch size
        for dtype in dtypes:
            name = f"{config.num_layers} layers of {config.hidden_dim}, {dtype}"
            for batch_size, length in fitting:
                found = measure_drivers(
                    config, dtype, batch_size, length, speedups=speedups, num_rounds=num_rounds
                )
                rows += found
                fastest = [
                    fastest_driver([row for row in found if row.is_pruned == pruned], None)
                    for pruned in (0, 1)
                ]
                log(
                    f"{name}, {batch_size}x{length}: plain BERT {fastest[0]}, pruned models {fastest[1]}"
                )
            for batch_size, length in longest.items():
                rows += measure_buckets(config, dtype, batch_size, length, num_rounds=num_rounds)
                log(f"{name}, batch {batch_size}: buckets up to {length}")
    return rows


def table_before(path: pathlib.Path, log: Callable[[str], None]) -> LatencyTable | None:
    """The table at a path; None where there is none of this device and these versions, which is told."""
    if not path.exists():
        return None
    try:
        table = read_table(path)
        check_origin(table, str(path))
        return table
    except ValueError as error:
        log(f"replaced: {error}")
        return None


def merge(before: Sequence[Row], rows: Sequence[Row]) -> tuple[Row, ...]:
    """All rows; of one measurement the later one, at the place of the earlier."""
    return tuple({(row.what, case_of(row)): row for row in (*before, *rows)}.values())


def measure_device(
    workload: Workload,
    path: pathlib.Path,
    *,
    command: str,
    keep_earlier: bool,
    log: Callable[[str], None],
) -> LatencyTable:
    """Measure a workload, and write and return the table.

    Args:
      workload: what to measure.
      path: of the table.
      command: recorded in the table.
      keep_earlier: whether rows of the table at `path` stay unless they are measured again.
      log: receives the progress, a line each.
    """
    before = table_before(path, log) if keep_earlier else None
    log(f"measuring {device_name()}")
    rows = measure_all(
        workload.configs,
        workload.dtypes,
        workload.cases,
        speedups=workload.speedups,
        num_rounds=workload.num_rounds,
        log=log,
    )
    table = LatencyTable(
        command=f"{before.command}; {command}" if before else command,
        device=device_name(),
        versions=library_versions(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        rows=merge(before.rows if before else (), rows),
    )
    write_table(table, path)
    log(f"{len(rows)} measurements written to {path}")
    return table
