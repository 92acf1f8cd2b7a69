"""Training steps on random weights and tokens, each a turn; needs no more than jax, flax, optax and numpy."""

import time
from collections.abc import Callable

import jax
import numpy as np

from adapler_jax import encoder, heads
from adapler_jax.inference.measure import seconds_of
from adapler_jax.pruning import keep_all
from adapler_jax.training import recipe
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.types import COMPUTE_DTYPES, Batch, EncoderConfig
from benchmarks.turns import time_turns
from configs import sections

STEPS_PER_EPOCH = 100  # of the schedules; no step is timed that far


class Section(dict):
    """A config section whose fields are attributes too, as ml_collections gives them."""

    __getattr__ = dict.__getitem__


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
        recipe.with_dropout(config, options), pruner, main=main, thresholds=thresholds, dtype=dtype,
        unroll=config.num_layers, **parts,
    )  # fmt: skip
    state = init_state(params, pruner, main, thresholds)
    start = time.perf_counter()
    compiled = jax.jit(step_fn, donate_argnums=0).lower(state, batch, key).compile()
    memory = compiled.memory_analysis()
    return compiled, state, time.perf_counter() - start, memory.argument_size_in_bytes + memory.temp_size_in_bytes


def our_turns(config: EncoderConfig, batch: Batch, dtype: str) -> tuple[dict[str, Callable], dict[str, dict]]:
    """A turn of one step, and the columns that do not change, of each of our methods."""
    key = jax.random.key(1, impl="rbg")
    finetune, adapler = Section(sections.finetune_section()), Section(sections.adapler_section())
    like_finetune = Section(adapler, attention_dropout_prob=finetune.attention_dropout_prob)
    methods = {"finetune": finetune, "adapler": adapler, "adapler, attention dropout": like_finetune}
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


def measure(
    config: EncoderConfig,
    batch_size: int,
    length: int,
    dtype: str,
    num_rounds: int,
    *,
    others: dict[str, Callable] | None = None,
) -> list[dict]:
    """One row a method: interleaved rounds on one shape, the first round of each left out.

    Args: others: turns beside ours, by name.
    """
    turns, columns = our_turns(config, random_batch(config, batch_size, length), dtype)
    turns |= others or {}
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
