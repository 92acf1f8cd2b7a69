"""Time drivers and training steps on an accelerator, at batch sizes that fill one.

    python -m benchmarks.gpu [--quick] [--models minilm,base] [--cases 1x128,32x128]
        [--dtypes float32,bfloat16] [--drivers bucketed,packed] [--steps "adapler;trbert"]
        [--step_cases 32x128] [--json PATH] [--resume]

Runs `engines` and `training` in one command. It needs only jax for the device, flax, optax and
numpy, so that a checkout can be copied to a machine that has nothing else. Rows of `engines` come
first. The file is written after every case. With --resume, cases that the file contains for this
device and these versions are not measured again. The command stops where JAX finds only CPUs.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from adapler_jax.inference.autotune.workloads import SPEEDUPS, check_names, parse_case
from adapler_jax.io.provenance import device_name, module_command
from adapler_jax.io.records import print_results, versions, write_record
from adapler_jax.types import COMPUTE_DTYPES
from benchmarks import engines, training_steps
from benchmarks.models import MODELS

ENGINE_CASES = ("1x128", "32x128", "256x128", "256x512")
TRAINING_CASES = ("32x128", "256x128")
ENGINES, TRAINING = "engines", "training"
QUICK = {
    "models": ["quick"],
    "cases": [(4, 16)],
    "step_cases": [(4, 16)],
    "rounds": 2,
    "dtypes": ["bfloat16"],
    "speedups": (1.0, 2.0),
}


class Job(NamedTuple):
    """One case of one kind, written when it is measured."""

    kind: str  # ENGINES or TRAINING
    model: str
    case: tuple[int, int]
    dtypes: tuple[str, ...]


def jobs_of(options) -> Iterator[Job]:
    """Return all cases by model, those for `engines` first."""
    for model in options.models:
        for dtype in options.dtypes:
            yield from (Job(ENGINES, model, case, (dtype,)) for case in options.cases)
    for model in options.models:
        yield from (
            Job(TRAINING, model, case, tuple(options.dtypes)) for case in options.step_cases
        )


def measure(job: Job, options) -> list[dict]:
    """Return the rows of a case."""
    if job.kind == ENGINES:
        return engines.measure(
            job.model,
            *job.case,
            job.dtypes[0],
            speedups=options.speedups,
            num_rounds=options.rounds,
            drivers=options.drivers,
        )
    found = training_steps.measure(
        MODELS[job.model], *job.case, options.rounds, names=options.steps, dtypes=job.dtypes
    )
    return [{"model": job.model} | row for row in found]


def kind_of(row: dict) -> str:
    """Return which benchmark a row is from."""
    return ENGINES if "engine" in row else TRAINING


def rows_of(job: Job, rows: list[dict], options) -> list[dict]:
    """Return a job's rows among rows measured earlier; an empty list where some are missing."""
    found = [
        row
        for row in rows
        if kind_of(row) == job.kind
        and (row["model"], row["batch"], row["length"]) == (job.model, *job.case)
        and row["dtype"] in job.dtypes
    ]
    if job.kind == ENGINES:
        missing = set(options.drivers) - {row["engine"] for row in found}
    else:
        names = {training_steps.FINETUNE, *options.steps}
        missing = {(dtype, name) for dtype in job.dtypes for name in names} - {
            (row["dtype"], row["method"]) for row in found
        }
    return [] if missing else found


def rows_before(path, log: Callable[[str], None]) -> list[dict]:
    """Return a file's rows of this device and these versions, or an empty list with a note."""
    try:
        record = json.loads(pathlib.Path(path).read_text())
        origin, rows = (record["device"], record["versions"]), list(record["rows"])
        here = [{"model", "batch", "length", "dtype"} <= row.keys() for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log(f"{path} holds no rows to resume from ({type(error).__name__}); all cases are measured")
        return []
    if origin != (device_name(), versions()) or not all(here):
        log(f"{path} was measured on another device or with other versions; all cases are measured")
        return []
    return rows


def measure_all(options, log: Callable[[str], None]) -> tuple[list[dict], list[dict]]:
    """Measure all cases and write the file after each.

    Returns:
      Rows of `engines`, and rows of `training`.
    """
    before = rows_before(options.json, log) if options.resume else []
    found, command = {ENGINES: [], TRAINING: []}, module_command("benchmarks.gpu")
    for job in jobs_of(options):
        rows = rows_of(job, before, options)
        name = f"{job.kind}: {job.model}, {', '.join(job.dtypes)}, {job.case[0]}x{job.case[1]}"
        log(f"{name}: {'measured before' if rows else 'measuring'}")
        found[job.kind] += rows or measure(job, options)
        write_record([*found[ENGINES], *found[TRAINING]], command=command, path=options.json)
    return found[ENGINES], found[TRAINING]


def parse_arguments(arguments) -> argparse.Namespace:
    """Return the command line, lists as lists, cases as numbers; exit on a mistake."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a small encoder and batch, bfloat16, two rounds, on CPUs too",
    )
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument(
        "--cases", default=",".join(ENGINE_CASES), help="batch x length of the drivers"
    )
    parser.add_argument(
        "--step_cases", default=",".join(TRAINING_CASES), help="of training steps; empty for none"
    )
    parser.add_argument(
        "--dtypes", default=",".join(COMPUTE_DTYPES), help="operands of the encoder's products"
    )
    parser.add_argument(
        "--drivers", default=",".join(engines.PRUNED), help="compared with padded plain BERT"
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--steps",
        default=";".join(training_steps.STEPS),
        help="steps besides finetune, separated by ;",
    )
    parser.add_argument("--json", help="where the rows are written, after every case")
    parser.add_argument(
        "--resume", action="store_true", help="leave out the cases that the file of --json holds"
    )
    options = parser.parse_args(arguments)
    try:
        if options.resume and not options.json:
            raise ValueError("--resume needs the file of --json")
        for name in ("models", "cases", "step_cases", "dtypes", "drivers"):
            vars(options)[name] = [part for part in getattr(options, name).split(",") if part]
        for name, known in (
            ("models", MODELS),
            ("dtypes", COMPUTE_DTYPES),
            ("drivers", engines.PRUNED),
        ):
            check_names(getattr(options, name), known, name.removesuffix("s"))
        options.steps = options.steps.split(";")
        check_names(options.steps, training_steps.STEPS, "step")
        options.cases, options.step_cases = (
            list(map(parse_case, x)) for x in (options.cases, options.step_cases)
        )
    except ValueError as error:
        parser.error(str(error))
    if jax.default_backend() == "cpu" and not options.quick:
        parser.error(
            "JAX sees only CPUs here; benchmarks.engines and benchmarks.training measure those"
        )
    options.speedups = SPEEDUPS
    if options.quick:
        vars(options).update(QUICK)
    return options


def main(arguments=None) -> tuple[list[dict], list[dict]]:
    """Measure, print and return the rows."""
    options = parse_arguments(arguments)
    found = measure_all(options, lambda line: print(line, file=sys.stderr))
    for rows in found:
        print_results(rows)
    return found


if __name__ == "__main__":
    main()
