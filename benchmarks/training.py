"""Seconds and memory of a training step: fine-tuning beside AdapLeR, on random weights of the MiniLM-L6 shape.

    python -m benchmarks.training [--quick] [--json PATH]

Both steps take turns in one run; compilation is apart. AdapLeR trains without attention dropout, as its recipe does;
a third row has it, to compare like with like. Ratios are to fine-tuning with the same operands. Memory is what XLA
plans for the program: arguments and temporaries.
"""

import argparse
import dataclasses
import statistics
import sys
import time

import jax
import numpy as np

from adapler_jax import encoder, heads
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.report.results import write_results
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import OptimizerConfig, main_optimizer, slope_at, threshold_optimizer
from adapler_jax.training.setup import COMPUTE_DTYPES
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.types import Batch, EncoderConfig

MINILM = EncoderConfig(num_layers=6, num_heads=12, hidden_dim=384, ffn_dim=1536, vocab_size=30522, num_positions=512)
RATES = OptimizerConfig(5e-5, 1e-3, 2e-3, weight_decay=0.01, adam_epsilon=1e-8, clip_norm=1.0, warmup_share=0.06)
SHAPES = ((32, 32), (16, 256))
QUICK_SHAPES = ((8, 16),)
QUICK = dataclasses.replace(MINILM, num_layers=2, vocab_size=1000)
ADAPLER_LOSSES = LossConfig((("main", "contribution", 0.005), ("speedup", "length", 0.3)), distil_coef=0.5)


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


def compile_step(config, pruner, losses, batch, dtype):
    """(compiled step, start state, compile seconds, planned bytes)."""
    key = jax.random.key(0, impl="rbg")
    params = {
        "encoder": encoder.init_encoder(key, config),
        "head": heads.init_classifier(key, config, 2),
        "pruner": pruner.init(key, config),
    }
    main, thresholds = main_optimizer(RATES, 1000), threshold_optimizer(RATES, 1000)

    def slope_fn(step):
        return slope_at(step, schedule="geometric", steps_per_epoch=100, num_epochs=3, first=10.0, last=1000.0)

    step_fn = make_train_step(config, pruner, losses, main, thresholds, slope_fn=slope_fn, dtype=dtype,
                              unroll=config.num_layers)  # fmt: skip
    state = init_state(params, pruner, main, thresholds)
    start = time.perf_counter()
    compiled = jax.jit(step_fn, donate_argnums=0).lower(state, batch, key).compile()
    memory = compiled.memory_analysis()
    return compiled, state, time.perf_counter() - start, memory.argument_size_in_bytes + memory.temp_size_in_bytes


def measure(config: EncoderConfig, batch_size: int, length: int, dtype: str, num_rounds: int) -> list[dict]:
    """One row a method: interleaved rounds on one shape, the first round of each left out."""
    batch, key = random_batch(config, batch_size, length), jax.random.key(1, impl="rbg")
    without = dataclasses.replace(config, attention_dropout_prob=0.0)
    methods = {
        "finetune": (config, keep_all(), LossConfig()),
        "adapler": (without, adapler(config), ADAPLER_LOSSES),
        "adapler, attention dropout": (config, adapler(config), ADAPLER_LOSSES),
    }
    programs = {name: compile_step(*method, batch, COMPUTE_DTYPES[dtype]) for name, method in methods.items()}
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
