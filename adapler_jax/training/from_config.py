"""What the fields of a config section mean: the pruner, losses, rates, slopes and draws of a phase."""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp

from adapler_jax.pruning import Pruner, make_pruner
from adapler_jax.pruning.powerbert import powerbert_search
from adapler_jax.pruning.trbert import trbert
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.calibration import jitter_thresholds
from adapler_jax.training.methods.policy import PolicyConfig
from adapler_jax.training.optimizers import OptimizerConfig, slope_at
from adapler_jax.types import EncoderConfig

# Of what a method trains beside the encoder.
PRUNER_RATES = ("predictor_learning_rate", "rank_learning_rate", "selector_learning_rate")


def make_adapler(encoder: EncoderConfig, options) -> Pruner:
    """AdapLeR with the options of `config.adapler`."""
    return make_pruner(
        "adapler",
        encoder,
        predictor_dim=options.predictor_dim,
        initial_threshold=options.initial_threshold,
        relative_length=options.relative_length,
        length_target=options.length_target,
        stop_target_gradient=options.stop_target_gradient,
        clip_cls_ratio=options.clip_cls_ratio,
    )


def make_loss_config(options) -> LossConfig:
    """The loss weights of `config.adapler`."""
    return LossConfig(
        term_coefs=(
            ("main", "contribution", options.kl_coef),
            ("speedup", "length", options.length_coef),
        ),
        distil_coef=options.distil_coef,
    )


def make_powerbert_search(encoder: EncoderConfig, options, *, max_length: int) -> Pruner:
    """PoWER-BERT's search with the options of `config.powerbert`."""
    return powerbert_search(
        encoder,
        max_length=max_length,
        round_up=options.round_up,
        protects_cls=options.protects_cls,
        counts_padding=options.padding_votes,
    )


def make_trbert(encoder: EncoderConfig, options) -> Pruner:
    """TR-BERT with the options of `config.trbert`."""
    return trbert(encoder, layers=tuple(options.layers) or None, selector_dim=options.selector_dim)


def make_policy_config(options, *, joint: bool) -> PolicyConfig:
    """What the policy of `config.trbert` is trained by, in the phase of its own or with the encoder."""
    return PolicyConfig(
        length_coef=options.joint_length_coef if joint else options.policy_length_coef,
        num_samples=options.num_samples,
        sample_batch_size=options.sample_batch_size,
        imitation_ratio=0.0 if joint else options.imitation_ratio,
        task_coef=1.0 if joint else 0.0,
        distil_coef=options.distil_coef if joint else 0.0,
        normalize_by_padded_length=options.normalize_by_padded_length,
    )


def make_optimizer_config(options) -> OptimizerConfig:
    """The optimizers' numbers of the config section of a phase."""
    pruner_rates = [options[name] for name in PRUNER_RATES if name in options]
    return OptimizerConfig(
        learning_rate=options.learning_rate,
        predictor_learning_rate=pruner_rates[0] if pruner_rates else options.learning_rate,
        threshold_learning_rate=options.get("threshold_learning_rate", 0.0),
        weight_decay=options.weight_decay,
        adam_epsilon=options.adam_epsilon,
        clip_norm=options.clip_norm,
        warmup_ratio=options.warmup_ratio,
    )


def make_slope_fn(options) -> Callable:
    """Steps per epoch -> (step -> slope) of `config.adapler`."""

    def slope_fn(steps_per_epoch):
        return lambda step: slope_at(
            step,
            schedule=options.slope_schedule,
            steps_per_epoch=steps_per_epoch,
            num_epochs=options.num_epochs,
            first=options.slope_start,
            last=options.slope_end,
        )

    return slope_fn


def make_last_slope_fn(options) -> Callable:
    """Steps per epoch -> (step -> slope): the last one of `config.adapler` in every step."""
    return lambda _: lambda step: jnp.float32(options.slope_end)


def make_threshold_noise(options) -> Callable | None:
    """What draws the thresholds of a step, by `config.adapler`; None where nothing does."""
    if not options.threshold_noise:
        return None
    return functools.partial(jitter_thresholds, spread=options.threshold_noise)


def with_dropout(encoder: EncoderConfig, phase) -> EncoderConfig:
    """The encoder with the phase's dropout; a negative probability leaves the checkpoint's own."""
    changes = {
        name: phase[name]
        for name in ("hidden_dropout_prob", "attention_dropout_prob")
        if phase.get(name, -1.0) >= 0
    }
    if "hidden_dropout_prob" in changes:
        changes["classifier_dropout_prob"] = None  # the head's goes along
    return dataclasses.replace(encoder, **changes)
