"""Train LTP after fine-tuning.

teacher     logits of the fine-tuned model, where they are distilled        -> teacher.npz
soft        thresholds and weights together, with a soft mask               -> model/
ltp         the weights, with the hard mask of fixed thresholds             -> model/, best epoch
ltp-Nx      in place of it, for each target: thresholds scaled before and after it   -> model/

Source: Kim et al., "Learned Token Pruning for Transformers", KDD 2022.
"""

import functools
import math
import pathlib

import jax.numpy as jnp
from ml_collections import ConfigDict

from adapler_jax.presets.sections import CHECKPOINT_EVERY_MINUTES
from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.ltp import ltp
from adapler_jax.training.calibration import TradeOff
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    finetuned_start,
    load_phase_model,
    rank_by_epoch,
    rank_by_score,
    save_best_phase,
    soft_train_step,
    train,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.steps import SlopeSchedule
from adapler_jax.training.targets import check_target_speedups, run_scaled_phase, target_phases
from adapler_jax.training.teacher import load_teacher, teacher_phases
from adapler_jax.types import EncoderConfig, Params

SECTION = Section(
    {
        "target_speedups": (),  # FLOPs speedups on validation; later calls can add some
        "num_epochs": 3,  # of the soft phase, and again of the hard phase
        "batch_size": 32,
        "learning_rate": 5e-5,
        "theta_learning_rate": 1e-4,  # of the thresholds, in the soft phase
        "final_threshold": 0.01,  # first threshold of the last layer; they rise linearly
        "temperature": 1e-3,  # T of the soft mask
        "length_coef": 0.1,  # lambda: on the mean of the masks
        "distil_coef": 1.0,  # coefficient for soft labels in the task loss, in both phases
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.06,
        "hidden_dropout_prob": -1.0,
        "attention_dropout_prob": -1.0,
        "early_stopping_patience": 0,  # of the hard phase: epochs without a better score; 0: off
        "checkpoint_every_steps": 0,
        "checkpoint_every_minutes": CHECKPOINT_EVERY_MINUTES,
    },
    ranges={
        "final_threshold": (0.0, 1.0),
        "temperature": (1e-9, 1.0),
        "length_coef": (0.0, math.inf),
    },
)


SCALED_RANGE = (1e-6, 1.0)  # a factor moves no threshold of 0; almost no token is below 1e-6


def scale_score_thresholds(params: Params, factor) -> Params:
    """Return the parameters with the thresholds times `factor`, clipped to [1e-6, 1]."""
    threshold_N = jnp.maximum(params["pruner"]["score_threshold_N"], SCALED_RANGE[0])
    return params | {"pruner": {"score_threshold_N": jnp.clip(threshold_N * factor, *SCALED_RANGE)}}


TRADEOFF = TradeOff(
    scale=scale_score_thresholds,
    read=lambda params: params["pruner"]["score_threshold_N"],
    max_factor=SCALED_RANGE[1] / SCALED_RANGE[0],
)


def make_ltp(encoder: EncoderConfig, config: ConfigDict) -> Pruner:
    """Return LTP with the options of `config.ltp`."""
    return ltp(encoder, final_threshold=config.ltp.final_threshold)


def mask_slope(options: ConfigDict) -> SlopeSchedule:
    """Return 1 / T as the slope of every step."""
    return lambda step, steps_per_epoch: jnp.float32(1.0 / options.temperature)


def run_soft(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Learn thresholds and weights together. The model is the last epoch."""
    options, workdir = config.ltp, directory.parent
    pruner = make_ltp(context.encoder, config)
    start = finetuned_start(directory, context, pruner, key="thresholds")
    # Early stopping is a choice among hard models.
    soft_options = options.copy_and_resolve_references()
    soft_options.early_stopping_patience = 0
    losses = LossConfig((("main", "length", options.length_coef),), options.distil_coef)
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        soft_options,
        make_step=soft_train_step(
            context, pruner, options, losses=losses, slope_schedule=mask_slope(options)
        ),
        extras=load_teacher(workdir, options),
        rank=rank_by_epoch,
    )
    save_best_phase(directory, context, pruner, checkpoints, start)


def run_hard(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train the weights with fixed thresholds. The model is the best epoch on validation.

    The hard mask has no gradient, so the thresholds stay.
    """
    start = load_phase_model(directory.parent / "soft").params
    checkpoints = _train_hard(start, directory, context, config)
    save_best_phase(directory, context, make_ltp(context.encoder, config), checkpoints, start)


def _train_hard(
    start: Params, directory: pathlib.Path, context: RunContext, config: ConfigDict
) -> Checkpoints:
    """Train the weights of a model under the hard mask; return the checkpoints."""
    options, pruner = config.ltp, make_ltp(context.encoder, config)
    losses = LossConfig(distil_coef=options.distil_coef)
    return train(
        directory,
        context,
        pruner,
        start,
        options,
        make_step=soft_train_step(context, pruner, options, losses=losses),
        extras=load_teacher(directory.parent, options),
        rank=rank_by_score,
    )


def run_target(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, *, speedup: float
) -> None:
    """Scale the thresholds to a FLOPs speedup, run the hard phase, and scale once more."""
    hard = {"directory": directory, "context": context, "config": config}
    run_scaled_phase(
        directory,
        context,
        make_ltp(context.encoder, config),
        load_phase_model(directory.parent / "soft").params,
        speedup=speedup,
        tradeoff=TRADEOFF,
        batch_size=config.ltp.batch_size,
        train=functools.partial(_train_hard, **hard),
    )


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning."""
    final = target_phases(config, "ltp", run_target) or [Phase("ltp", run_hard)]
    return [*teacher_phases(config.ltp), Phase("soft", run_soft), *final]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where a target speedup is not possible."""
    check_target_speedups(config, "ltp")


METHOD = Method(
    title="LTP",
    sections={"ltp": SECTION},
    phases=phases,
    tradeoff_fields=("ltp.target_speedups", "ltp.length_coef"),
    check_config=check_config,
)
