"""Time the drivers on given survival schedules: dense, bucketed and packed, on random weights.

    python -m benchmarks.engines [--quick] [--models minilm,base] [--cases 32x128,...]
        [--dtypes float32] [--method adapler] [--json PATH]

Texts have half to all of the batch's length; one has all of it. The module
`adapler_jax/inference/autotune/workloads.py` describes what the method drops. All drivers take
turns in one run. Ratios are medians over the ratios of the rounds. Rows are written as they are
measured.

    efficiency          wall-clock speedup over the dense model, which runs padding as users run it,
                        divided by the FLOPs speedup of true tokens
    packed_efficiency   the ratio over dense texts without padding (keep_all, packed)
    full                plain BERT on texts of one length, the length of the batch
    skewed              a batch whose first text keeps all tokens and whose others keep a tenth
    even                a batch whose texts all keep a tenth
    excess              seconds that the first skewed text adds, divided by the operations it adds,
                        both as fractions of the batch
    is_auto             the engine would choose this driver for a model of this speedup
    planned_mib         memory that XLA plans for the programs that run at one time: weights,
                        temporaries and results, of the stage that needs most

`bucketed` has the library's buckets. Skewed batches do not depend on the method and run with
AdapLeR alone.
"""

import argparse
import functools
import itertools
import sys
import time

import jax
import numpy as np

from adapler_jax import flops, model_flops
from adapler_jax.evaluation.models import true_speedup
from adapler_jax.inference.autotune.timing import median_speedup, time_interleaved
from adapler_jax.inference.autotune.workloads import (
    NUM_CLASSES,
    SPEEDUPS,
    adapler_schedule,
    check_names,
    full_batch,
    kept_fractions,
    mixed_batch,
    parse_case,
    random_params,
    scheduled_params,
)
from adapler_jax.inference.drivers.staged_run import StagedRun
from adapler_jax.inference.engine import Engine, make_engine, prepare_inference_params, program_rows
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import print_results, write_record
from adapler_jax.pruning import Pruner, keep_all
from adapler_jax.pruning.base import no_site_flops
from adapler_jax.types import COMPUTE_DTYPES, Batch, EncoderConfig, Selection
from benchmarks.models import MODELS
from benchmarks.schedules import SCHEDULES

CASES = ("1x128", "1x512", "8x128", "32x128", "32x512")
SKEWED_CASES = ((32, 128),)
PLAIN = ("dense", "dense, packed")
PRUNED = ("bucketed", "packed")
COLUMNS = [
    "model",
    "method",
    "batch",
    "length",
    "dtype",
    "texts",
    "engine",
    "flops_speedup",
    "wall_ms",
    "wall_ms_min",
    "wall_ms_max",
    "wall_speedup",
    "efficiency",
    "packed_efficiency",
    "excess",
    "is_auto",
    "compile_s",
    "planned_mib",
]
KEPT_ONE_IN = 10  # tokens of a text in a skewed batch


def compile_columns(engine: Engine, params, batch: Batch) -> dict:
    """Return the seconds to compile an engine for a batch, and the MiB that XLA plans."""
    B, L = batch.token_BL.shape
    rows = program_rows(engine.select_driver(B, L).driver, B)
    part = jax.tree.map(lambda leaf: leaf[:rows], batch)
    program, at_a_time = engine.program(B, L), -(-B // rows)
    start = time.perf_counter()
    if isinstance(program, StagedRun):
        compiled = program.compile(params, part)
    else:
        compiled = [program.lower(params, part).compile()]
    compile_s = time.perf_counter() - start
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    memories = [stage.memory_analysis() for stage in compiled]
    # A layer's result is in the place of the state that it gets.
    working = max(found.temp_size_in_bytes + found.output_size_in_bytes for found in memories)
    planned = weights + at_a_time * working
    return {"compile_s": compile_s, "planned_mib": planned / 2**20}


def make_engines(config, pruner, plain_names, drivers, **options) -> dict[str, Engine]:
    """Return the engines of plain BERT and of a method, by driver."""
    plain = {
        name: make_engine(config, keep_all(), driver=driver, **options)
        for name, driver in zip(plain_names, ("bucketed", "packed"))
    }
    return plain | {
        driver: make_engine(config, pruner, driver=driver, **options) for driver in drivers
    }


def measured_speedup(params, config, pruner, batch: Batch, trace) -> float:
    """Return the FLOPs speedup of a batch, from the counts of its trace."""
    length_B = np.asarray(batch.valid_BL).sum(-1)
    return true_speedup(params, config, pruner, length_B, np.asarray(trace.count_NB))


def measure(
    name: str,
    batch_size: int,
    length: int,
    dtype: str,
    *,
    speedups,
    num_rounds: int,
    method: str = "adapler",
    drivers=("bucketed", "packed"),
) -> list[dict]:
    """Return a row for each schedule and driver, then plain BERT on texts of one length."""
    config = MODELS[name]
    batch, full = (
        jax.device_put(make(config, batch_size, length)) for make in (mixed_batch, full_batch)
    )
    schedule = SCHEDULES[method](config)
    at_speedup = scheduled_params(config, batch, speedups, COMPUTE_DTYPES[dtype], schedule=schedule)
    plain = at_speedup.pop(None)
    pruner, options = schedule.pruner, {"dtype": COMPUTE_DTYPES[dtype]}
    plain_names = PLAIN if "packed" in drivers else PLAIN[:1]
    engines = make_engines(config, pruner, plain_names, drivers, **options)
    pruned = next(iter(at_speedup.values()))
    notes = {
        name: compile_columns(engine, plain if name in PLAIN else pruned, batch)
        for name, engine in engines.items()
    }
    plain_mixed, plain_full = (
        {(texts, 1.0, n): functools.partial(engines[n], plain, inputs) for n in plain_names}
        for texts, inputs in (("mixed", batch), ("full", full))
    )
    pruned_mixed = {
        ("mixed", speedup, driver): functools.partial(engines[driver], params, batch)
        for speedup, params in at_speedup.items()
        for driver in drivers
    }
    calls = plain_mixed | pruned_mixed | plain_full
    timings = time_interleaved(calls, repeats=num_rounds)
    shape = {"model": name, "method": method, "batch": batch_size, "length": length, "dtype": dtype}
    rows = []
    for (texts, target, engine), timing in timings.items():
        found = 1.0
        if engine in PRUNED:
            trace = calls[texts, target, engine]()[1]
            found = measured_speedup(at_speedup[target], config, pruner, batch, trace)
        wall, *packed = (
            median_speedup(timings[texts, 1.0, dense], timing) for dense in plain_names
        )
        automatic = make_engine(
            config, pruner if engine in PRUNED else keep_all(), expected_speedup=target, **options
        )
        driver = engines[engine].select_driver(batch_size, length).driver
        is_auto = automatic.select_driver(batch_size, length).driver == driver
        row = {"texts": texts, "engine": engine, "target": target, "flops_speedup": found}
        row |= seconds(timing) | {"wall_speedup": wall, "efficiency": wall / found}
        row["packed_efficiency"] = packed[0] / found if packed else None
        rows.append(shape | row | notes[engine] | {"is_auto": is_auto})
    return rows


def seconds(timing) -> dict:
    """Return the columns of a timing."""
    low, high = timing.spread_s
    return {
        "wall_ms": 1e3 * timing.median_s,
        "wall_ms_min": 1e3 * low,
        "wall_ms_max": 1e3 * high,
        "num_timings": len(timing.seconds),
    }


def first_site_pruner(config: EncoderConfig) -> Pruner:
    """Return a method that drops tokens of an even number, but [CLS], at the first site."""

    def select(params, index, view):
        keep_BL = view.remaining_BL & ((view.token_logit_BL > 0) | (index > 0))
        return Selection(view.survival_BL, keep_BL.at[:, 0].set(view.remaining_BL[:, 0]))

    return adapler_schedule(config).pruner._replace(
        score=lambda params, features: features.state_XD[..., 0],
        hard=select,
        site_flops=no_site_flops,
    )


def skewed_batch(config: EncoderConfig, batch_size: int, length: int, *, num_whole: int) -> Batch:
    """Return full texts that keep a tenth of their tokens, but `num_whole`, which keep all."""
    batch = full_batch(config, batch_size, length)
    keep_BL = np.arange(length)[None] % KEPT_ONE_IN == 0
    keep_BL = keep_BL | (np.arange(batch_size)[:, None] < num_whole)
    return batch.replace(token_BL=(batch.token_BL // 2 * 2 + ~keep_BL).astype(np.int32))


def measure_skewed(
    name: str, batch_size: int, length: int, dtype: str, num_rounds: int
) -> list[dict]:
    """Return a row for each driver and batch."""
    config, pruner = MODELS[name], first_site_pruner(MODELS[name])
    params = random_params(config)
    # The first entry of a token's state is the parity of its number.
    sign_V = 1.0 - 2.0 * (np.arange(config.vocab_size) % 2)
    token_VD = params["encoder"]["embeddings"]["token"].at[:, 0].set(sign_V)
    params["encoder"]["embeddings"] |= {"token": token_VD}
    params = prepare_inference_params(params, config, COMPUTE_DTYPES[dtype])
    batches = {
        texts: jax.device_put(skewed_batch(config, batch_size, length, num_whole=num_whole))
        for texts, num_whole in (("even", 0), ("skewed", 1))
    }
    engines = {
        driver: make_engine(config, pruner, driver=driver, dtype=COMPUTE_DTYPES[dtype])
        for driver in PRUNED
    }
    calls = {
        (texts, driver): functools.partial(engine, params, batch)
        for texts, batch in batches.items()
        for driver, engine in engines.items()
    }
    timings = time_interleaved(calls, repeats=num_rounds)
    spent = {}
    for texts in batches:
        count_NB = np.asarray(calls[texts, "packed"]()[1].count_NB, np.int64)
        spent[texts] = model_flops.pruned_flops(
            config,
            pruner,
            params,
            np.full(batch_size, length),
            count_NB,
            head=flops.pooled_flops(config, NUM_CLASSES),
            reads_first=True,
        ).sum()
    rows = []
    for (texts, engine), timing in timings.items():
        wall = timing.median_s / timings["even", engine].median_s
        added = 1.0 - 1.0 / median_speedup(timing, timings["even", engine])
        flops_added = 1.0 - spent["even"] / spent[texts]
        rows.append(
            {
                "model": name,
                "batch": batch_size,
                "length": length,
                "dtype": dtype,
                "texts": texts,
                "engine": engine,
                **seconds(timing),
                "wall_to_even": wall,
                "flops_to_even": float(spent[texts] / spent["even"]),
                "excess": added / flops_added if flops_added else None,
            }
        )
    return rows


def main(arguments=None) -> list[dict]:
    """Measure, print and return the rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="a small encoder and batch, two rounds"
    )
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument("--cases", default=",".join(CASES), help="batch x length")
    parser.add_argument("--method", default="adapler", choices=SCHEDULES)
    parser.add_argument("--speedups", default=",".join(map(str, SPEEDUPS)))
    parser.add_argument("--dtypes", default=",".join(COMPUTE_DTYPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.quick:
        options.models, options.cases, options.speedups, options.rounds = "quick", "4x16", "1,2", 2
    models, dtypes, speedups = (
        options.models.split(","),
        options.dtypes.split(","),
        options.speedups.split(","),
    )
    try:
        check_names(models, MODELS, "model")
        check_names(dtypes, COMPUTE_DTYPES, "dtype")
        cases, speedups = (
            [parse_case(case) for case in options.cases.split(",")],
            [float(x) for x in speedups],
        )
        for model, (_, length) in itertools.product(models, cases):
            # It raises ValueError if the method cannot be that fast.
            schedule = SCHEDULES[options.method](MODELS[model])
            kept_fractions(MODELS[model], length, max(speedups), schedule=schedule)
    except ValueError as error:
        parser.error(str(error))
    command, rows = module_command("benchmarks.engines"), []
    for model, dtype, case in itertools.product(models, dtypes, cases):
        print(f"{model}, {dtype}, {case[0]}x{case[1]}: {options.rounds} rounds", file=sys.stderr)
        rows += measure(
            model,
            *case,
            dtype,
            speedups=speedups,
            num_rounds=options.rounds,
            method=options.method,
        )
        if options.method == "adapler" and (case in SKEWED_CASES or options.quick):
            rows += measure_skewed(model, *case, dtype, options.rounds)
        write_record(rows, command=command, path=options.json)
    print_results(rows, columns=COLUMNS)
    return rows


if __name__ == "__main__":
    main()
