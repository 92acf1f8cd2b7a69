"""Make training steps of every phase on random weights and tokens.

Needs no more than jax, flax, optax and numpy.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Collection

import jax
import numpy as np

from adapler_jax import heads
from adapler_jax.encoders import encoder_of
from adapler_jax.inference.autotune.timing import seconds_of
from adapler_jax.inference.autotune.workloads import NUM_CLASSES
from adapler_jax.presets import sections
from adapler_jax.pruning import Pruner, keep_all, powerbert
from adapler_jax.training import from_config
from adapler_jax.training.calibration import THRESHOLDS, steer
from adapler_jax.training.losses import LossConfig, saliency
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.policy import (
    init_selector_state,
    make_selector_step,
    policy_objective,
)
from adapler_jax.training.steps import TrainState, init_state, make_train_step
from adapler_jax.types import COMPUTE_DTYPES, Batch, EncoderConfig, ScanOptions
from benchmarks.turns import time_turns

STEPS_PER_EPOCH = 100  # of the schedules; no step is timed that far
ADAPT_SPEEDUP = 2.0
FINETUNE = "finetune"


class Section(dict):
    """A config section whose fields are attributes too, as in ml_collections."""

    __getattr__ = dict.__getitem__


def random_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Return a full batch of random tokens with random saliency."""
    rng = np.random.default_rng(0)
    return Batch(
        token_BL=rng.integers(0, config.vocab_size, (batch_size, length)).astype(np.int32),
        segment_BL=np.zeros((batch_size, length), np.int32),
        valid_BL=np.ones((batch_size, length), bool),
        label_B=rng.integers(0, NUM_CLASSES, batch_size).astype(np.int32),
        example_id_B=np.arange(batch_size, dtype=np.int32),
        saliency_BL=rng.random((batch_size, length)).astype(np.float32),
        teacher_logits=np.zeros((batch_size, NUM_CLASSES), np.float32),
    )


def start_params(config: EncoderConfig, pruner: Pruner):
    """Return random weights."""
    key = jax.random.key(0, impl="rbg")
    return {
        "encoder": encoder_of(config).init(key, config),
        "head": heads.init_classifier(key, config, NUM_CLASSES),
        "pruner": pruner.init(key, config),
    }


def finetune_parts() -> tuple[Section, dict]:
    """Return fine-tuning's section and the arguments of `make_train_step` that it sets."""
    return Section(sections.finetune_section()), {
        "pruner": keep_all(),
        "losses": LossConfig(),
        "slope_fn": lambda step: None,
    }


def adapler_parts(config: EncoderConfig, **changes) -> tuple[Section, dict]:
    """Return AdapLeR's section and arguments, with other values of some fields."""
    options = Section(sections.adapler_section(), **changes)
    return options, {
        "pruner": from_config.make_adapler(config, options),
        "losses": from_config.make_loss_config(options),
        "slope_fn": functools.partial(
            from_config.make_slope_schedule(options), steps_per_epoch=STEPS_PER_EPOCH
        ),
        "threshold_noise": from_config.make_threshold_noise(options),
    }


def adapt_parts(config: EncoderConfig) -> tuple[Section, dict]:
    """Return the section and arguments that calibrate AdapLeR's model to a speedup."""
    options, parts = adapler_parts(config)
    threshold_controller = functools.partial(steer, tradeoff=THRESHOLDS, target=ADAPT_SPEEDUP)
    return options, parts | {
        "slope_fn": lambda step: options.slope_end,
        "threshold_noise": None,
        "threshold_controller": threshold_controller,
    }


def powerbert_parts(
    config: EncoderConfig, batch: Batch, *, is_search: bool
) -> tuple[Section, dict]:
    """Return the section and arguments of PoWER-BERT's search, or of its training."""
    options, length = Section(sections.powerbert_section()), batch.token_BL.shape[1]
    pruner = (
        from_config.make_powerbert_search(config, options, length)
        if is_search
        else powerbert(config)
    )
    terms = (("main", "mass", options.rank_l1_coef),) if is_search else ()
    return options, {
        "pruner": pruner,
        "losses": LossConfig(terms, options.distil_coef),
        "slope_fn": lambda step: 1.0,
    }


class Step:
    """A compiled training step and its state."""

    def __init__(self, step_fn: Callable, state: TrainState, batch: Batch):
        """Compile the step."""
        self._state, self._batch, self._key = state, batch, jax.random.key(1, impl="rbg")
        self._run, self.columns = compiled_with_columns(
            jax.jit(step_fn, donate_argnums=0), self._state, self._batch, self._key
        )

    def __call__(self):
        """Run one step."""
        self._state, numbers = self._run(self._state, self._batch, self._key)
        return numbers


def soft_train_step(
    config: EncoderConfig,
    batch: Batch,
    dtype: str,
    options: Section,
    parts: dict,
    *,
    remat: bool = False,
) -> Step:
    """Return a step by the soft rule, of every method but TR-BERT."""
    rates, num_steps = (
        from_config.make_optimizer_config(options),
        STEPS_PER_EPOCH * options.num_epochs,
    )
    main, thresholds = main_optimizer(rates, num_steps), threshold_optimizer(rates, num_steps)
    step_fn = make_train_step(
        from_config.with_dropout(config, options),
        main=main,
        thresholds=thresholds,
        dtype=COMPUTE_DTYPES[dtype],
        loop=ScanOptions(config.num_layers, remat),
        **parts,
    )
    pruner = parts["pruner"]
    return Step(step_fn, init_state(start_params(config, pruner), pruner, main, thresholds), batch)


def policy_step(config: EncoderConfig, batch: Batch, dtype: str, *, joint: bool) -> Step:
    """Return a step of TR-BERT's policy, alone or with the encoder."""
    options = Section(sections.trbert_section())
    pruner, policy = (
        from_config.make_trbert(config, options),
        from_config.make_policy_config(options, joint=joint),
    )
    main = main_optimizer(from_config.make_optimizer_config(options), STEPS_PER_EPOCH)
    config = from_config.with_dropout(config, options)

    def objective(params, batch, step, key):
        return policy_objective(
            params,
            config,
            pruner,
            batch,
            policy,
            key=key,
            share_done=step / STEPS_PER_EPOCH,
            dtype=COMPUTE_DTYPES[dtype],
            loop=ScanOptions(config.num_layers),
        )

    params = start_params(config, pruner)
    importance_BJL = np.stack([batch.saliency_BL] * len(pruner.sites), axis=1)
    return Step(
        make_selector_step(objective, main, joint=joint),
        init_selector_state(params, main, joint=joint),
        batch.replace(importance_BJL=importance_BJL),
    )


class SaliencyStep:
    """The compiled step of the phase between fine-tuning and AdapLeR."""

    def __init__(self, config: EncoderConfig, batch: Batch, dtype: str):
        """Compile the step."""
        self._params, self._batch = start_params(config, keep_all()), batch

        def measure_saliency(params, batch):
            return saliency(params, config, batch, dtype=COMPUTE_DTYPES[dtype])

        self._run, self.columns = compiled_with_columns(
            jax.jit(measure_saliency), self._params, batch
        )

    def __call__(self):
        """Run one step."""
        return self._run(self._params, self._batch)


def compiled_with_columns(jitted, *args) -> tuple[Callable, dict]:
    """Return a compiled program, with the seconds to compile it and the MiB XLA plans."""
    start = time.perf_counter()
    compiled = jitted.lower(*args).compile()
    compile_s = time.perf_counter() - start
    memory = compiled.memory_analysis()
    planned = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return compiled, {"memory_mib": planned / 2**20, "compile_s": compile_s}


def adapler_with_attention_dropout(config: EncoderConfig) -> tuple[Section, dict]:
    """Return AdapLeR's parts with fine-tuning's dropout."""
    finetune, _ = finetune_parts()
    return adapler_parts(config, attention_dropout_prob=finetune.attention_dropout_prob)


STEPS = {  # (config, batch, dtype) -> step, in the order of the phases
    FINETUNE: lambda *case: soft_train_step(*case, *finetune_parts()),
    "finetune, remat": lambda *case: soft_train_step(*case, *finetune_parts(), remat=True),
    "saliency": SaliencyStep,
    "adapler": lambda *case: soft_train_step(*case, *adapler_parts(case[0])),
    "adapler, attention dropout": lambda *case: soft_train_step(
        *case, *adapler_with_attention_dropout(case[0])
    ),
    "adapt": lambda *case: soft_train_step(*case, *adapt_parts(case[0])),
    "powerbert search": lambda *case: soft_train_step(
        *case, *powerbert_parts(*case[:2], is_search=True)
    ),
    "powerbert": lambda *case: soft_train_step(*case, *powerbert_parts(*case[:2], is_search=False)),
    "trbert policy": functools.partial(policy_step, joint=False),
    "trbert": functools.partial(policy_step, joint=True),
}


def measure(
    config: EncoderConfig,
    batch_size: int,
    length: int,
    num_rounds: int,
    *,
    names: Collection[str] = tuple(STEPS),
    dtypes: Collection[str] = tuple(COMPUTE_DTYPES),
    others: dict[tuple[str, str], Callable] | None = None,
) -> list[dict]:
    """Return one row for each dtype and step; all take turns on one shape, without the first round.

    Args:
      names: of the steps besides fine-tuning.
      others: further turns, by dtype and name.
    """
    config = dataclasses.replace(config, num_positions=max(length, config.num_positions))
    batch = random_batch(config, batch_size, length)
    steps = {
        (dtype, name): make(config, batch, dtype)
        for dtype in dtypes
        for name, make in STEPS.items()
        if name in {FINETUNE, *names}
    }
    turns = {name: lambda step=step: [seconds_of(step)] for name, step in steps.items()} | (
        others or {}
    )
    for turn in turns.values():
        turn()
    timings, rows = time_turns(turns, num_rounds=num_rounds), []
    for (dtype, name), second_R1 in timings.items():
        row = {
            "method": name,
            "batch": batch_size,
            "length": length,
            "dtype": dtype,
            "num_timings": second_R1.size,
            "wall_ms": 1e3 * float(np.median(second_R1)),
            "wall_ms_min": 1e3 * float(second_R1.min()),
            "wall_ms_max": 1e3 * float(second_R1.max()),
            "time_ratio": float(np.median(second_R1) / np.median(timings[dtype, FINETUNE])),
        }
        if (dtype, name) in steps:
            columns = steps[dtype, name].columns
            row |= columns | {
                "memory_ratio": columns["memory_mib"] / steps[dtype, FINETUNE].columns["memory_mib"]
            }
        rows.append(row)
    return rows
