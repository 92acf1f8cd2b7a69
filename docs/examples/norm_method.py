"""Train the pruner of the example in add-a-method.md: one phase after fine-tuning."""

import jax.numpy as jnp

from adapler_jax.pruning import make_pruner
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    finetuned_start,
    rank_by_epoch,
    save_best_phase,
    soft_train_step,
    train,
)

SECTION = Section(
    {
        "num_epochs": 3,
        "batch_size": 32,
        "learning_rate": 5e-5,
        "threshold_learning_rate": 1e-2,  # of the levels
        "length_coef": 1.0,
        "slope": 10.0,
        "weight_decay": 0.01,
        "adam_epsilon": 1e-8,
        "clip_norm": 1.0,
        "warmup_ratio": 0.06,
        "checkpoint_every_steps": 0,
    },
    ranges={"length_coef": (0.0, 1e3)},
)


def run_norm(directory, context, config):
    """Train levels and weights from the fine-tuned model. The model is the last epoch."""
    options = config.norm
    pruner = make_pruner("norm", context.encoder)
    params = finetuned_start(directory, context, pruner, key="levels")
    make_step = soft_train_step(
        context,
        pruner,
        options,
        losses=LossConfig((("speedup", "length", options.length_coef),)),
        slope_schedule=lambda step, steps_per_epoch: jnp.float32(options.slope),
    )
    checkpoints = train(
        directory, context, pruner, params, options, make_step=make_step, rank=rank_by_epoch
    )
    save_best_phase(directory, context, pruner, checkpoints, params)


METHOD = Method(
    title="norms of states",
    sections={"norm": SECTION},
    phases=lambda config: [Phase("norm", run_norm)],
    tradeoff_fields=("norm.length_coef",),
)
