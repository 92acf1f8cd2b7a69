"""Translate sections of a config into pruners, loss weights, rates, slopes and noise.

Benchmarks of accelerators use these functions, so the module needs JAX alone.
"""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp

from adapler_jax.pruning import Pruner, adapler, trbert
from adapler_jax.pruning.powerbert import powerbert_search
from adapler_jax.training.calibration import jitter_thresholds
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import OptimizerConfig, slope_at
from adapler_jax.training.policy import PolicyConfig
from adapler_jax.training.steps import SlopeSchedule, ThresholdNoise
from adapler_jax.types import EncoderConfig

Options = Any  # a section of a config, or another mapping with fields as attributes

THRESHOLD_RATE = "threshold_learning_rate"


def make_optimizer_config(options: Options) -> OptimizerConfig:
    """Return the optimizers' numbers of a config section.

    A field NAME_learning_rate is the peak rate of the pruner's weights; without one they have the
    encoder's rate. The thresholds' rate has a field of its own.
    """
    pruner_rates = [
        options[name]
        for name in options
        if name.endswith("_learning_rate") and name != THRESHOLD_RATE
    ]
    return OptimizerConfig(
        learning_rate=options.learning_rate,
        predictor_learning_rate=pruner_rates[0] if pruner_rates else options.learning_rate,
        threshold_learning_rate=options.get(THRESHOLD_RATE, 0.0),
        weight_decay=options.weight_decay,
        adam_epsilon=options.adam_epsilon,
        clip_norm=options.clip_norm,
        warmup_ratio=options.warmup_ratio,
    )


def with_dropout(encoder: EncoderConfig, options: Options) -> EncoderConfig:
    """Return the encoder with the section's dropout.

    A negative probability keeps the checkpoint's.
    """
    changes = {
        name: options[name]
        for name in ("hidden_dropout_prob", "attention_dropout_prob")
        if options.get(name, -1.0) >= 0
    }
    if "hidden_dropout_prob" in changes:
        changes["classifier_dropout_prob"] = None  # the head then has the encoder's probability
    return dataclasses.replace(encoder, **changes)


def make_adapler(encoder: EncoderConfig, options: Options) -> Pruner:
    """Return AdapLeR with the options of `config.adapler`."""
    return adapler(
        encoder,
        predictor_dim=options.predictor_dim,
        initial_threshold=options.initial_threshold,
        relative_length=options.relative_length,
        length_target=options.length_target,
        stop_target_gradient=options.stop_target_gradient,
        clip_cls_ratio=options.clip_cls_ratio,
    )


def make_loss_config(options: Options) -> LossConfig:
    """Return the loss weights of `config.adapler`."""
    return LossConfig(
        term_coefs=(
            ("main", "contribution", options.kl_coef),
            ("speedup", "length", options.length_coef),
        ),
        distil_coef=options.distil_coef,
    )


def make_slope_schedule(options: Options) -> SlopeSchedule:
    """Return the slope of every step, by `config.adapler`."""

    def slope(step, steps_per_epoch):
        return slope_at(
            step,
            schedule=options.slope_schedule,
            steps_per_epoch=steps_per_epoch,
            num_epochs=options.num_epochs,
            first=options.slope_start,
            last=options.slope_end,
        )

    return slope


def make_last_slope(options: Options) -> SlopeSchedule:
    """Return a schedule that has the last slope of `config.adapler` in every step."""
    return lambda step, steps_per_epoch: jnp.float32(options.slope_end)


def make_threshold_noise(options: Options) -> ThresholdNoise | None:
    """Return the function that draws a step's thresholds; None without noise in the config."""
    if not options.threshold_noise:
        return None
    return functools.partial(jitter_thresholds, spread=options.threshold_noise)


def make_powerbert_search(encoder: EncoderConfig, options: Options, max_length: int) -> Pruner:
    """Return PoWER-BERT's search with the options of `config.powerbert`."""
    return powerbert_search(
        encoder,
        max_length=max_length,
        round_up=options.round_up,
        protects_cls=options.protects_cls,
        counts_padding=options.padding_votes,
    )


def make_trbert(encoder: EncoderConfig, options: Options) -> Pruner:
    """Return TR-BERT with the options of `config.trbert`."""
    layers = tuple(options.layers) or None
    return trbert(encoder, layers=layers, selector_dim=options.selector_dim)


def make_policy_config(options: Options, *, joint: bool) -> PolicyConfig:
    """Return the numbers of the policy's loss.

    Args:
      joint: whether the encoder is trained too.
    """
    return PolicyConfig(
        length_coef=options.joint_length_coef if joint else options.policy_length_coef,
        num_samples=options.num_samples,
        sample_batch_size=options.sample_batch_size,
        imitation_ratio=0.0 if joint else options.imitation_ratio,
        task_coef=1.0 if joint else 0.0,
        distil_coef=options.distil_coef if joint else 0.0,
        normalize_by_padded_length=options.normalize_by_padded_length,
    )
