"""Drivers and training steps on an accelerator, at batch sizes that fill one.

    python -m benchmarks.gpu [--quick] [--models minilm,base] [--steps "adapler;trbert"] [--json PATH]

`engines` and `training` in one command that needs no more than jax for the device, flax, optax and numpy: a checkout
can be carried to a machine that has nothing else. Rows of `engines` come first. It does not start where JAX sees only
CPUs.
"""

import argparse

import jax

from adapler_jax.inference.schedules import SPEEDUPS
from adapler_jax.provenance import module_command
from adapler_jax.report.results import print_results, write_record
from adapler_jax.types import COMPUTE_DTYPES
from benchmarks import engines, training_steps
from benchmarks.models import MODELS

ENGINE_CASES = ((1, 128), (32, 128), (256, 128), (256, 512))
TRAINING_CASES = ((32, 128), (256, 128))
QUICK_CASES = ((4, 16),)


def measure(
    models, engine_cases, training_cases, *, speedups, num_rounds: int, steps, dtypes=tuple(COMPUTE_DTYPES)
) -> tuple[list[dict], list[dict]]:
    """(rows of `engines`, rows of `training`)."""
    engine_rows, training_rows = [], []
    for name in models:
        for dtype in dtypes:
            for case in engine_cases:
                engine_rows += engines.measure(name, *case, dtype, speedups, num_rounds)
        for case in training_cases:
            found = training_steps.measure(MODELS[name], *case, num_rounds, names=steps, dtypes=dtypes)
            training_rows += [{"model": name} | row for row in found]
    return engine_rows, training_rows


def main(arguments=None) -> tuple[list[dict], list[dict]]:
    """Measures, prints and returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a small encoder and batch, bfloat16, two rounds, on CPUs too"
    )
    parser.add_argument("--models", default="minilm,base")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", default=";".join(training_steps.STEPS), help="beside finetune, with ; between them")
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    steps = options.steps.split(";")
    if jax.default_backend() == "cpu" and not options.quick:
        parser.error("JAX sees only CPUs here; benchmarks.engines and benchmarks.training measure those")
    if options.quick:
        found = measure(
            ("quick",), QUICK_CASES, QUICK_CASES, speedups=(1.0, 2.0), num_rounds=2, steps=steps, dtypes=("bfloat16",)
        )  # fmt: skip
    else:
        models = options.models.split(",")
        found = measure(models, ENGINE_CASES, TRAINING_CASES, speedups=SPEEDUPS, num_rounds=options.rounds, steps=steps)
    for rows in found:
        print_results(rows)
    command = module_command("benchmarks.gpu")
    write_record([*found[0], *found[1]], command=command, path=options.json)
    return found


if __name__ == "__main__":
    main()
