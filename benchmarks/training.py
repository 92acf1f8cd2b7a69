"""Seconds and memory of a training step: fine-tuning beside AdapLeR, on random weights of the MiniLM-L6 shape.

    python -m benchmarks.training [--quick] [--json PATH]

Both steps take turns in one run, with the default recipe of `configs/common.py`; compilation is apart. AdapLeR trains
without attention dropout, as its recipe does; a third row has it, to compare like with like. Ratios are to fine-tuning
with the same operands. Memory is what XLA plans for the program: arguments and temporaries.
"""

import argparse
import statistics
import sys
import time

import jax
import numpy as np

from adapler_jax import encoder, heads
from adapler_jax.pruning import keep_all
from adapler_jax.report.results import write_results
from adapler_jax.training import recipe
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.setup import COMPUTE_DTYPES, with_dropout
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.types import Batch, EncoderConfig
from benchmarks.models import MINILM, QUICK
from configs import common

SHAPES = ((32, 32), (16, 256))
QUICK_SHAPES = ((8, 16),)
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


def measure(config: EncoderConfig, batch_size: int, length: int, dtype: str, num_rounds: int) -> list[dict]:
    """One row a method: interleaved rounds on one shape, the first round of each left out."""
    batch, key = random_batch(config, batch_size, length), jax.random.key(1, impl="rbg")
    recipes = common.base_config()
    like_finetune = recipes.adapler.copy_and_resolve_references()
    like_finetune.attention_dropout_prob = recipes.finetune.attention_dropout_prob
    methods = {
        "finetune": recipes.finetune, "adapler": recipes.adapler, "adapler, attention dropout": like_finetune
    }  # fmt: skip
    programs = {name: compile_step(config, method, batch, COMPUTE_DTYPES[dtype]) for name, method in methods.items()}
    states = {name: program[1] for name, program in programs.items()}
    seconds = {name: [] for name in programs}
    for _ in range(num_rounds + 1):
        for name, (compiled, *_) in programs.items():
            start = time.perf_counter()
            states[name], numbers = compiled(states[name], batch, key)
            jax.block_until_ready(numbers)
            seconds[name].append(time.perf_counter() - start)
    dense_ms = 1e3 * statistics.median(seconds["finetune"][1:])
    dense_bytes = programs["finetune"][3]
    return [
        {
            "method": name, "batch": batch_size, "length": length, "dtype": dtype, "num_timings": num_rounds,
            "wall_ms": 1e3 * statistics.median(seconds[name][1:]),
            "wall_ms_min": 1e3 * min(seconds[name][1:]),
            "wall_ms_max": 1e3 * max(seconds[name][1:]),
            "time_ratio": 1e3 * statistics.median(seconds[name][1:]) / dense_ms,
            "memory_mib": planned / 2**20, "memory_ratio": planned / dense_bytes, "compile_s": compile_s,
        }
        for name, (_, _, compile_s, planned) in programs.items()
    ]  # fmt: skip


def main(arguments=None) -> list[dict]:
    """Measures, prints and returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small encoder and batch, two rounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="where the rows are written")
    options = parser.parse_args(arguments)
    config, shapes, rounds = (QUICK, QUICK_SHAPES, 2) if options.quick else (MINILM, SHAPES, options.rounds)
    cases = [(*shape, dtype) for shape in shapes for dtype in COMPUTE_DTYPES]
    rows = [row for case in cases for row in measure(config, *case, rounds)]
    write_results(rows, command=" ".join(["python -m benchmarks.training", *sys.argv[1:]]), path=options.json)
    return rows


if __name__ == "__main__":
    main()
