"""Translate the fields that every section of training has: rates of the optimizers, and dropout."""

import dataclasses

from ml_collections import ConfigDict

from adapler_jax.training.optimizers import OptimizerConfig
from adapler_jax.types import EncoderConfig

THRESHOLD_RATE = "threshold_learning_rate"


def make_optimizer_config(options: ConfigDict) -> OptimizerConfig:
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


def with_dropout(encoder: EncoderConfig, options: ConfigDict) -> EncoderConfig:
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
