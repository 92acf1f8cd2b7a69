"""Fine-tune plain BERT: the first phase of every method, and a method of its own.

finetune    plain BERT on the task    -> model/, best epochs
"""

import pathlib

import jax.numpy as jnp
from ml_collections import ConfigDict

from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.presets.sections import finetune_section
from adapler_jax.pruning import keep_all
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    rank_by_score,
    save_best_phase,
    save_phase,
    soft_train_step,
    train,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.steps import TrainState
from adapler_jax.training.validation import validate, validation_split


def run_finetune(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Fine-tune plain BERT. The model is the epoch with the best validation score."""
    options = config.finetune
    if not options.num_epochs:
        keep_finetuned(directory, context, config)
        return
    pruner = keep_all()
    start = context.pretrained | {"pruner": {}}
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        options,
        make_step=soft_train_step(context, pruner, options),
        rank=rank_by_score,
    )
    save_best_phase(
        directory, context, pruner, checkpoints, start, record={"num_epochs": options.num_epochs}
    )


def keep_finetuned(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Validate and save a model that is fine-tuned already. Its thresholds are kept."""
    directory.mkdir(parents=True, exist_ok=True)
    pruner, split = keep_all(), validation_split(context)
    params = context.pretrained | {"pruner": {}}
    threshold = context.decision_threshold
    scorer = context.task.make_scorer(
        split, context.tuned_threshold if threshold is None else threshold
    )
    batches = context.eval_batches(split, config.finetune.batch_size)
    with Heartbeat(lambda: f"{directory.name}: validation"):
        scores = validate(params, context, pruner, batches, scorer)
    checkpoints = Checkpoints(directory, num_checkpoints=1)
    state = TrainState(jnp.zeros((), jnp.int32), params, (), ())
    checkpoints.save_best(state, scores | {"rank": scores["score"]})
    checkpoints.close()
    save_phase(
        directory,
        context,
        pruner,
        params,
        scores,
        decision_threshold=threshold,
        record={"num_epochs": 0},
    )


FINETUNE = Phase("finetune", run_finetune)

METHOD = Method(
    title="plain BERT",
    # Epochs of 0: the model is fine-tuned already.
    sections={"finetune": Section(finetune_section(), ranges={"num_epochs": (0, float("inf"))})},
    phases=lambda config: [],
    drops_tokens=False,
)
