"""What the fields of a config section mean: the pruner, losses, rates, slopes and draws of a phase."""

import dataclasses
import functools
from collections.abc import Callable

from adapler_jax.pruning import Pruner, make_pruner
from adapler_jax.training.calibration import jitter_thresholds
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import OptimizerConfig, slope_at
from adapler_jax.types import EncoderConfig


def pruner_of(encoder: EncoderConfig, options) -> Pruner:
    """AdapLeR with the options of `config.adapler`."""
    return make_pruner(
        "adapler", encoder,
        predictor_dim=options.predictor_dim, initial_threshold=options.initial_threshold,
        relative_length=options.relative_length, length_target=options.length_target,
        constant_targets=options.constant_targets, bound_cls_ratio=options.bound_cls_ratio,
    )  # fmt: skip


def losses_of(options) -> LossConfig:
    """The loss weights of `config.adapler`."""
    return LossConfig(
        term_coefs=(
            ("main", "contribution", options.contribution_coef),
            ("speedup", "length", options.length_coef),
        ),
        distil_coef=options.distil_coef,
    )


def rates_of(options) -> OptimizerConfig:
    """The optimizers' numbers of `config.finetune` or `config.adapler`."""
    return OptimizerConfig(
        learning_rate=options.learning_rate,
        predictor_learning_rate=options.get("predictor_learning_rate", options.learning_rate),
        threshold_learning_rate=options.get("threshold_learning_rate", 0.0),
        weight_decay=options.weight_decay,
        adam_epsilon=options.adam_epsilon,
        clip_norm=options.clip_norm,
        warmup_share=options.warmup_share,
    )


def slope_of(options) -> Callable:
    """Steps per epoch -> (step -> slope) of `config.adapler`."""

    def slope_fn(steps_per_epoch):
        return lambda step: slope_at(
            step, schedule=options.slope_schedule, steps_per_epoch=steps_per_epoch, num_epochs=options.num_epochs,
            first=options.slope_first, last=options.slope_last,
        )  # fmt: skip

    return slope_fn


def jitter_of(options) -> Callable | None:
    """What draws the thresholds of a step, by `config.adapler`; None where nothing does."""
    if not options.threshold_spread:
        return None
    return functools.partial(jitter_thresholds, spread=options.threshold_spread)


def with_dropout(encoder: EncoderConfig, phase) -> EncoderConfig:
    """The encoder with the phase's dropout; a negative probability leaves the checkpoint's own."""
    changes = {
        name: phase[name] for name in ("hidden_dropout_prob", "attention_dropout_prob") if phase.get(name, -1.0) >= 0
    }
    return dataclasses.replace(encoder, **changes)
