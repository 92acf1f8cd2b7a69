"""Compare fine-tuning with bfloat16 operands and with float32: equal start, batches and dropout.

    python -m benchmarks.loss_curve --config=configs/quickstart.py --json=PATH

The record has a row for each seed and dtype, with the smoothed loss at every step. The summary has
the largest distance between the two dtypes' curves of one seed, and the largest distance between
two seeds' curves in float32. It compares the effect of the operands with the effect of the seed.
"""

import copy
import itertools
import sys

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.batching.batches import train_batches
from adapler_jax.io.provenance import module_command
from adapler_jax.io.records import print_table, results_record, write_json
from adapler_jax.pruning import keep_all
from adapler_jax.training import from_config
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.setup import RunContext, load_run_context
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.training.workdir import flatten
from adapler_jax.types import COMPUTE_DTYPES

WINDOW = 25  # steps that a smoothed loss is the mean of


def make_step(setup: RunContext, options, dtype: str, num_steps: int):
    """Return the jitted step of fine-tuning and its optimizers, rates falling to 0."""
    rates = from_config.make_optimizer_config(options)
    optimizers = main_optimizer(rates, num_steps), threshold_optimizer(rates, num_steps)
    step_fn = make_train_step(
        from_config.with_dropout(setup.encoder, options),
        keep_all(),
        LossConfig(),
        *optimizers,
        slope_fn=lambda step: None,
        dtype=COMPUTE_DTYPES[dtype],
        loop=setup.loop,
    )
    return jax.jit(step_fn), optimizers


def losses_of_run(setup: RunContext, options, step_fn, optimizers, num_steps: int) -> np.ndarray:
    """Return the task losses of one fine-tuning, float64 [steps].

    The context's seed sets data order, start and dropout.

    Raises:
      FloatingPointError: a loss is not finite.
    """
    state = init_state(setup.pretrained | {"pruner": {}}, keep_all(), *optimizers)
    batches = train_batches(
        setup.splits["train"], batch_size=options.batch_size, lengths=setup.lengths, seed=setup.seed
    )
    losses, key = [], setup.key("finetune dropout")
    for batch in itertools.islice(batches, num_steps):
        state, numbers = step_fn(state, batch, key)
        losses.append(numbers["task"])
    found = np.array(jax.device_get(losses), np.float64)
    if not np.all(np.isfinite(found)):
        step = int(np.argmin(np.isfinite(found)))
        raise FloatingPointError(f"task is {found[step]} at step {step + 1}")
    return found


def smooth(losses, window: int = WINDOW) -> np.ndarray:
    """Return the mean of every `window` consecutive losses, float64 [steps - window + 1]."""
    return np.convolve(losses, np.ones(window) / window, mode="valid")


def summarize(rows: list[dict]) -> dict:
    """Return largest and mean distances of smoothed curves, between dtypes and between seeds."""
    curves = {
        dtype: np.array([row["smoothed_loss"] for row in rows if row["dtype"] == dtype])
        for dtype in COMPUTE_DTYPES
    }
    between_dtypes = np.abs(curves["float32"] - curves["bfloat16"])
    between_seeds = np.ptp(curves["float32"], axis=0)
    return {
        "dtypes_max": float(between_dtypes.max()),
        "dtypes_mean": float(between_dtypes.mean()),
        "seeds_max": float(between_seeds.max()),
        "seeds_mean": float(between_seeds.mean()),
        "max_ratio": float(between_dtypes.max() / between_seeds.max()),
    }


def compare(config, seeds, num_steps: int, *, log, window: int = WINDOW) -> list[dict]:
    """Return a row for each seed and dtype."""
    rows, programs, options = [], {}, config.finetune
    for seed in seeds:
        seeded = copy.deepcopy(config)
        seeded.seed = seed
        setup = load_run_context(seeded, log=log)
        for dtype in COMPUTE_DTYPES:
            if dtype not in programs:
                programs[dtype] = make_step(setup, options, dtype, num_steps)
            losses = losses_of_run(setup, options, *programs[dtype], num_steps)
            smoothed = smooth(losses, window)
            log(
                f"seed {seed}, {dtype}: smoothed loss {smoothed[0]:.3f} to {smoothed[-1]:.3f} "
                f"in {num_steps} steps"
            )
            rows.append(
                {
                    "task": config.task,
                    "seed": seed,
                    "dtype": dtype,
                    "num_steps": num_steps,
                    "window": window,
                    "first_loss": float(smoothed[0]),
                    "last_loss": float(smoothed[-1]),
                    "smoothed_loss": smoothed.tolist(),
                }
            )
    return rows


def main(options):
    """Train, print and write."""
    seeds, num_steps, window = [int(seed) for seed in options.seeds], options.steps, WINDOW
    if len(set(seeds)) < 2:
        raise ValueError(
            f"--seeds is {','.join(options.seeds)}; expected at least two, "
            "to compare with their distance"
        )
    if options.quick:
        seeds, num_steps, window = seeds[:2], 10, 5
    rows = compare(
        options.config,
        seeds,
        num_steps,
        window=window,
        log=lambda line: print(line, file=sys.stderr),
    )
    print_table(rows, columns=["seed", "dtype", "first_loss", "last_loss"])
    print_table([summarize(rows)])
    if options.json:
        record = results_record(rows, command=module_command("benchmarks.loss_curve"))
        write_json(
            options.json,
            record | {"config": flatten(options.config.to_dict()), "summary": summarize(rows)},
        )


if __name__ == "__main__":
    config_flags.DEFINE_config_file(
        "config", None, "config whose fine-tuning is run", lock_config=True
    )
    flags.DEFINE_list(
        "seeds", ["0", "1", "2"], "of the start, the order of the data and dropout; at least two"
    )
    flags.DEFINE_integer("steps", 300, "of each fine-tuning", lower_bound=WINDOW)
    flags.DEFINE_bool("quick", False, "two seeds, ten steps")
    flags.DEFINE_string("json", None, "where the rows are written")
    flags.mark_flags_as_required(["config"])
    run_command(lambda: main(flags.FLAGS))
