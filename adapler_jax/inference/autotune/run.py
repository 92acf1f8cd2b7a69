"""Measures what the fast drivers need on this device, once, so that engines choose by it from then on.

    python -m adapler_jax.inference.autotune.run [--model DIR | --shapes minilm,base] [--dtypes float32,bfloat16]
        [--cases 1x128,32x128,...] [--rounds 5] [--quick] [--fresh] [--out PATH]

Random weights; seconds depend on the tokens that stay alone. The drivers take turns in one run on texts of half to
whole the length, at several FLOPs speedups, and as plain BERT, on full batches too. Rungs are forward passes of full
batches with no other bucket than their length. The table lies under the user's cache directory, under the device's and
the libraries' names, or at --out; rows that were measured there before stay unless measured anew, or --fresh. The
machine should have nothing else to do. --model measures a model's own sizes; --quick takes a few minutes.
"""

import argparse
import datetime
import functools
import pathlib
import sys
from collections.abc import Callable, Sequence

from adapler_jax.io import process

if __name__ == "__main__":
    process.begin(resumes=False)  # before imports that take seconds

import jax
import jax.numpy as jnp

from adapler_jax.inference.autotune.select import fastest_driver
from adapler_jax.inference.autotune.table import (
    BUCKET,
    MEASURE_COMMAND,
    MEASURE_MODULE,
    PRUNING_DRIVERS,
    LatencyTable,
    Row,
    cached_path,
    case_of,
    check_origin,
    read_table,
    write_table,
)
from adapler_jax.inference.autotune.timing import time_interleaved
from adapler_jax.inference.autotune.workloads import (
    SHAPES,
    SPEEDUPS,
    check_names,
    full_batch,
    mixed_batch,
    parse_case,
    random_params,
    schedule_pruner,
    scheduled_params,
)
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.io.provenance import device_name, library_versions, module_command
from adapler_jax.pruning import keep_all
from adapler_jax.types import Batch, EncoderConfig
from adapler_jax.weights.config import read_config
from adapler_jax.weights.hub import resolve_model

DTYPES = ("float32", "bfloat16")
CASES = ("1x32", "1x128", "1x512", "8x128", "32x32", "32x128", "32x256")
QUICK = {"shapes": "minilm", "cases": "1x128,32x128", "rounds": 3}
QUICK_SPEEDUPS = (1.0, 3.3)


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


def parse_arguments(arguments) -> argparse.Namespace:
    """The command line, with `configs`, and `cases` as numbers. Ends the program on a mistake."""
    parser = argparse.ArgumentParser(
        prog=MEASURE_COMMAND,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="directory or hub name of a BERT whose sizes are measured")
    parser.add_argument(
        "--shapes", default=",".join(SHAPES), help=f"encoder sizes, of {', '.join(SHAPES)}"
    )
    parser.add_argument(
        "--dtypes", default=",".join(DTYPES), help="operands of the encoder's products"
    )
    parser.add_argument("--cases", default=",".join(CASES), help="batch x length")
    parser.add_argument(
        "--rounds", type=int, default=5, help="timings of everything; their median counts"
    )
    parser.add_argument("--quick", action="store_true", help="few cases and rounds: coarse")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument(
        "--out", type=pathlib.Path, help="where the table is written; default: the user's cache"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(QUICK)
    options.speedups = QUICK_SPEEDUPS if options.quick else SPEEDUPS
    try:
        options.cases = [parse_case(case) for case in options.cases.split(",")]
        options.dtypes = options.dtypes.split(",")
        check_names(options.dtypes, DTYPES, "dtype")
        check_names(options.shapes.split(","), SHAPES, "shape")
        if options.rounds < 1:
            raise ValueError(f"--rounds is {options.rounds}; expected 1 or more")
        options.configs = [SHAPES[name] for name in options.shapes.split(",")]
        if options.model:
            options.configs = [read_config(resolve_model(options.model))[0]]
    except ValueError as error:
        parser.error(str(error))
    return options


def main(
    arguments=None, *, log: Callable[[str], None] = functools.partial(print, file=sys.stderr)
) -> LatencyTable:
    """Measures, writes and returns the table."""
    options = parse_arguments(arguments)
    path = options.out or cached_path()
    before = None if options.fresh else table_before(path, log)
    command = module_command(MEASURE_MODULE, arguments)
    log(f"measuring {device_name()}")
    rows = measure_all(
        options.configs,
        options.dtypes,
        options.cases,
        speedups=options.speedups,
        num_rounds=options.rounds,
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


if __name__ == "__main__":
    main()
