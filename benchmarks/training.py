"""Seconds and memory of a training step: fine-tuning beside AdapLeR, on random weights of the MiniLM-L6 shape.

    python -m benchmarks.training [--torch] [--quick] [--json PATH]

The steps take turns in one run, with the default recipe of `configs/common.py`; compilation is apart. AdapLeR trains
without attention dropout, as its recipe does; a third row has it, to compare like with like. Ratios are to fine-tuning
with the same operands. Memory is what XLA plans for the program: arguments and temporaries. With --torch, fine-tuning
of the same model by transformers and AdamW takes turns too, in a process of its own, in float32 and bfloat16 autocast;
`torch_ratio` is to the better of the two.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from adapler_jax import encoder, heads
from adapler_jax.inference.measure import seconds_of
from adapler_jax.pruning import keep_all
from adapler_jax.report.results import write_results
from adapler_jax.training import recipe
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.setup import COMPUTE_DTYPES, with_dropout
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.types import Batch, EncoderConfig
from benchmarks.models import MINILM, QUICK
from benchmarks.peer_systems import REQUIREMENTS, missing_packages, peer_versions
from benchmarks.remote import Remote
from benchmarks.training_torch import TorchTraining
from benchmarks.turns import time_turns, use_cores
from configs import common

SHAPES = ((32, 32), (16, 256))
QUICK_SHAPES = ((8, 16),)
TORCH = "torch finetune"
STEPS_PER_EPOCH = 100  # of the schedules; no step is timed that far


def random_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """A full batch of random tokens with random saliency."""
    rng = np.random.default_rng(0)
    return Batch(
        token_BL=rng.integers(0, config.vocab_size, (batch_size, length)).astype(np.int32),
        segment_BL=np.zeros((batch_size, length), np.int32),
        live_BL=np.ones((batch_size, length), bool),
        label_B=rng.integers(0, 2, batch_size).astype(np.int32),
        example_id_B=np.arange(batch_size, dtype=np.int32),
        saliency_BL=rng.random((batch_size, length)).astype(np.float32),
        teacher_logits_BC=np.zeros((batch_size, 2), np.float32),
    )


def compile_step(config, options, batch, dtype):
    """(compiled step, start state, compile seconds, planned bytes) of a section of the default config."""
    pruner, parts = keep_all(), {"losses": LossConfig(), "slope_fn": lambda step: None}
    if "predictor_dim" in options:
        pruner = recipe.pruner_of(config, options)
        parts = {
            "losses": recipe.losses_of(options), "slope_fn": recipe.slope_of(options)(STEPS_PER_EPOCH),
            "jitter": recipe.jitter_of(options),
        }  # fmt: skip
    key = jax.random.key(0, impl="rbg")
    params = {
        "encoder": encoder.init_encoder(key, config),
        "head": heads.init_classifier(key, config, 2),
        "pruner": pruner.init(key, config),
    }
    rates, num_steps = recipe.rates_of(options), STEPS_PER_EPOCH * options.num_epochs
    main, thresholds = main_optimizer(rates, num_steps), threshold_optimizer(rates, num_steps)
    step_fn = make_train_step(
        with_dropout(config, options), pruner, main=main, thresholds=thresholds, dtype=dtype,
        unroll=config.num_layers, **parts,
    )  # fmt: skip
    state = init_state(params, pruner, main, thresholds)
    start = time.perf_counter()
    compiled = jax.jit(step_fn, donate_argnums=0).lower(state, batch, key).compile()
    memory = compiled.memory_analysis()
    return compiled, state, time.perf_counter() - start, memory.argument_size_in_bytes + memory.temp_size_in_bytes


def our_turns(config: EncoderConfig, batch: Batch, dtype: str) -> tuple[dict[str, Callable], dict[str, dict]]:
    """A turn of one step, and the columns that do not change, of each of our methods."""
    recipes, key = common.base_config(), jax.random.key(1, impl="rbg")
    like_finetune = recipes.adapler.copy_and_resolve_references()
    like_finetune.attention_dropout_prob = recipes.finetune.attention_dropout_prob
    methods = {
        "finetune": recipes.finetune, "adapler": recipes.adapler, "adapler, attention dropout": like_finetune
    }  # fmt: skip
    turns, columns, states = {}, {}, {}
    for name, method in methods.items():
        compiled, states[name], compile_s, planned = compile_step(config, method, batch, COMPUTE_DTYPES[dtype])

        def step(name=name, compiled=compiled):
            states[name], numbers = compiled(states[name], batch, key)
            return numbers

        turns[name] = lambda step=step: [seconds_of(step)]
        columns[name] = {"memory_mib": planned / 2**20, "compile_s": compile_s}
    for name in methods:
        columns[name]["memory_ratio"] = columns[name]["memory_mib"] / columns["finetune"]["memory_mib"]
    return turns, columns


def torch_training(config: EncoderConfig, batch: Batch, dtype: str, num_threads: int) -> Remote:
    """torch's fine-tuning of the same model on the same batch, in a process of its own."""
    options = common.base_config().finetune
    inputs = {
        "input_ids": batch.token_BL, "attention_mask": batch.live_BL, "token_type_ids": batch.segment_BL,
        "labels": batch.label_B,
    }  # fmt: skip
    return Remote(
        TorchTraining, with_dropout(config, options), recipe.rates_of(options),
        {name: array.astype(np.int64) for name, array in inputs.items()},
        dtype=dtype, num_steps=STEPS_PER_EPOCH * options.num_epochs, num_threads=num_threads,
    )  # fmt: skip


def measure(
    config: EncoderConfig, batch_size: int, length: int, dtype: str, num_rounds: int, *, with_torch: bool
) -> list[dict]:
    """One row a method: interleaved rounds on one shape, the first round of each left out."""
    batch = random_batch(config, batch_size, length)
    turns, columns = our_turns(config, batch, dtype)
    with contextlib.ExitStack() as stack:
        if with_torch:
            remote = torch_training(config, batch, dtype, use_cores(0))
            turns[TORCH] = stack.enter_context(remote).turn
        for turn in turns.values():
            turn()
        timings = time_turns(turns, num_rounds=num_rounds)
    dense_s = np.median(timings["finetune"])
    return [
        {
            "method": name, "batch": batch_size, "length": length, "dtype": dtype, "num_timings": second_R1.size,
            "wall_ms": 1e3 * float(np.median(second_R1)), "wall_ms_min": 1e3 * float(second_R1.min()),
            "wall_ms_max": 1e3 * float(second_R1.max()), "time_ratio": float(np.median(second_R1) / dense_s),
            **columns.get(name, {}),
        }
        for name, second_R1 in timings.items()
    ]  # fmt: skip


def with_torch_ratio(rows: list[dict]) -> list[dict]:
    """The rows with their time relative to torch's better dtype on the same shape."""
    best = {}
    for row in rows:
        if row["method"] == TORCH:
            shape = row["batch"], row["length"]
            best[shape] = min(row["wall_ms"], best.get(shape, row["wall_ms"]))
    return [row | {"torch_ratio": row["wall_ms"] / best[row["batch"], row["length"]]} for row in rows]


def main(arguments=None) -> list[dict]:
    """Measures, prints and returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small encoder and batch, two rounds")
    parser.add_argument("--torch", action="store_true", help="fine-tuning in torch too")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    if options.torch and (missing := missing_packages("torch")):
        parser.error(f"--torch needs {', '.join(missing)}; pip install -r {REQUIREMENTS}")
    config, shapes, rounds = (QUICK, QUICK_SHAPES, 2) if options.quick else (MINILM, SHAPES, options.rounds)
    cases = [(*shape, dtype) for shape in shapes for dtype in COMPUTE_DTYPES]
    rows = [row for case in cases for row in measure(config, *case, rounds, with_torch=options.torch)]
    rows = with_torch_ratio(rows) if options.torch else rows
    write_results(
        rows, command=" ".join(["python -m benchmarks.training", *sys.argv[1:]]), path=options.json,
        more_versions=peer_versions() if options.torch else None,
    )  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
