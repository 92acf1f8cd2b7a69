"""Measure the fast drivers on this device, and write the table that selects drivers."""

import datetime
import functools
import itertools
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
    adapler_schedule,
    full_batch,
    mixed_batch,
    random_params,
    scheduled_params,
)
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.io.provenance import device_name, library_versions
from adapler_jax.pruning import keep_all
from adapler_jax.types import Batch, EncoderConfig


class Workload(NamedTuple):
    """The measurements of one call."""

    configs: Sequence[EncoderConfig]
    dtypes: Sequence[str]  # of the operands of the encoders' products
    # Batch size and length; lengths are cut to the positions of the encoder. Buckets are measured
    # up to the longest case of a batch size.
    cases: Sequence[tuple[int, int]]
    speedups: Sequence[float]  # FLOPs speedups of the schedules
    num_rounds: int  # timings of each call; the median counts


def make_row(
    what: str,
    config: EncoderConfig,
    dtype: str,
    batch: Batch,
    *,
    speedup: float | None,
    seconds: float,
) -> Row:
    """Return a measurement as a row."""
    batch_size, length = batch.valid_BL.shape
    return Row(
        what=what,
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        hidden_dim=config.hidden_dim,
        ffn_dim=config.ffn_dim,
        dtype=dtype,
        batch=batch_size,
        length=length,
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
    """Measure the fast drivers on one case.

    Args:
      config: of the encoder.
      dtype: of the operands of the encoder's products.
      batch_size: texts of a batch.
      length: token slots.
      speedups: FLOPs speedups of the schedules on mixed texts. Plain BERT also runs, on mixed
        texts and on full batches.
      num_rounds: timings of each; the median counts.
    """
    mixed, full = mixed_batch(config, batch_size, length), full_batch(config, batch_size, length)
    params = scheduled_params(config, mixed, speedups, jnp.dtype(dtype))
    workloads: list[tuple[float | None, Batch]] = [(None, mixed)]
    workloads += [(speedup, mixed) for speedup in speedups]
    if not mixed.valid_BL.all():
        workloads.append((None, full))
    calls = {}
    for driver in PRUNING_DRIVERS:
        for index, (speedup, batch) in enumerate(workloads):
            pruner = keep_all() if speedup is None else adapler_schedule(config).pruner
            run = make_engine(config, pruner, driver=driver, dtype=jnp.dtype(dtype))
            calls[driver, index] = functools.partial(run, params[speedup], jax.device_put(batch))
    rows = []
    for (driver, index), timing in time_interleaved(calls, repeats=num_rounds).items():
        speedup, batch = workloads[index]
        rows.append(
            make_row(driver, config, dtype, batch, speedup=speedup, seconds=timing.median_s)
        )
    return rows


def measure_buckets(
    config: EncoderConfig, dtype: str, batch_size: int, length: int, *, num_rounds: int
) -> list[Row]:
    """Measure the bucketed driver on full batches of every bucket up to `length`.

    No token is dropped.
    """
    pruner = adapler_schedule(config).pruner
    params = prepare_inference_params(random_params(config), config, jnp.dtype(dtype))
    params["pruner"] |= {"threshold_N": jnp.zeros_like(params["pruner"]["threshold_N"])}
    batches, calls = {}, {}
    for bucket in bucket_sizes(DEFAULT_BUCKETS, length):
        batch = full_batch(config, batch_size, bucket)
        run = make_engine(
            config, pruner, driver="bucketed", buckets=(bucket,), dtype=jnp.dtype(dtype)
        )
        batches[bucket] = batch
        calls[bucket] = functools.partial(run, params, jax.device_put(batch))
    return [
        make_row(BUCKET, config, dtype, batches[bucket], speedup=1.0, seconds=timing.median_s)
        for bucket, timing in time_interleaved(calls, repeats=num_rounds).items()
    ]


def measure_all(workload: Workload, *, log: Callable[[str], None]) -> list[Row]:
    """Measure every encoder, dtype and case, and the buckets of every batch size.

    Args:
      workload: the measurements.
      log: receives a line for each case.
    """
    num_rounds = workload.num_rounds
    rows: list[Row] = []
    cases = [_fitting_cases(workload, config) for config in workload.configs]
    count = itertools.count(1)
    total = len(workload.dtypes) * sum(len(fitting) + len(dict(fitting)) for fitting in cases)
    for config, fitting in zip(workload.configs, cases):
        longest = dict(fitting)  # the last of every batch size
        for dtype in workload.dtypes:
            name = f"{config.num_layers} layers of {config.hidden_dim}, {dtype}"
            for batch_size, length in fitting:
                found = measure_drivers(
                    config,
                    dtype,
                    batch_size,
                    length,
                    speedups=workload.speedups,
                    num_rounds=num_rounds,
                )
                rows += found
                case = f"{next(count)} of {total}: {name}, {batch_size}x{length}"
                log(f"{case}: {_describe_fastest(found)}")
            for batch_size, length in longest.items():
                rows += measure_buckets(config, dtype, batch_size, length, num_rounds=num_rounds)
                case = f"{next(count)} of {total}: {name}, batch {batch_size}"
                log(f"{case}: buckets up to {length}")
    return rows


def _fitting_cases(workload: Workload, config: EncoderConfig) -> list[tuple[int, int]]:
    """Return the different batch sizes and lengths that an encoder can run, in order."""
    return sorted(
        {(batch_size, min(length, config.num_positions)) for batch_size, length in workload.cases}
    )


def _describe_fastest(rows: Sequence[Row]) -> str:
    """Return the fastest drivers of one case."""
    plain = fastest_driver([row for row in rows if not row.is_pruned], None)
    pruned = fastest_driver([row for row in rows if row.is_pruned], None)
    return f"fastest with all tokens: {plain}, with tokens dropped: {pruned}"


def previous_table(path: pathlib.Path, log: Callable[[str], None]) -> LatencyTable | None:
    """Return the table at a path, or None without a file.

    Args:
      path: of the table.
      log: receives the reason if the table is damaged or was measured elsewhere; it is then
        replaced.
    """
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
    """Return all rows; of two rows of one measurement, the later at the index of the earlier."""
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
      workload: the measurements.
      path: of the table.
      command: recorded in the table.
      keep_earlier: keep the rows of the table at `path` that are not measured again.
      log: receives the progress, a line each.
    """
    before = previous_table(path, log) if keep_earlier else None
    log(f"measuring {device_name()}")
    rows = measure_all(workload, log=log)
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
