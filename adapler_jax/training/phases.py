"""Share the parts of phases between methods: the training, the saved model, the closing record."""

import dataclasses
import functools
import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from adapler_jax.data.batching.batches import num_steps_per_epoch, train_batches
from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.export.program_spec import PROGRAM_FILES
from adapler_jax.inference.compute_dtype import OPERANDS_FILE
from adapler_jax.io.atomic_files import check_directory, remove_file, replace_text, write_checksums
from adapler_jax.io.provenance import commit_of_tree, device_name
from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.pruning import Pruner
from adapler_jax.training import from_config
from adapler_jax.training.balance import balance
from adapler_jax.training.checkpoints import LAST, Checkpoints
from adapler_jax.training.growth import CONTINUED, continued_epochs
from adapler_jax.training.loop import PhaseSpec, train_loop
from adapler_jax.training.losses import NO_TERMS, LossConfig
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.pace import minutes_of
from adapler_jax.training.setup import RunContext
from adapler_jax.training.steps import (
    SlopeSchedule,
    ThresholdController,
    ThresholdNoise,
    TrainState,
    TrainStep,
    init_state,
    make_train_step,
)
from adapler_jax.training.validation import validate, validation_split
from adapler_jax.training.workdir import DONE, TRAIN_PHASE, read_object
from adapler_jax.types import EncoderConfig, Params
from adapler_jax.weights.card import CARD_FILE
from adapler_jax.weights.config import (
    CALIBRATION_FILE,
    EXPORT_FOLDERS,
    EXPORTS_FILE,
    SCORES_FILE,
)
from adapler_jax.weights.save import Saved, load_model, save_model
from adapler_jax.weights.students import teacher_facts

SETTINGS = "settings"  # entry of a closing record: fields that later calls may change
# Files of a model's directory that may change after training. Users edit the card; the others have
# checksums of their own.
MAY_CHANGE = (
    *(CALIBRATION_FILE, CARD_FILE, EXPORTS_FILE, SCORES_FILE, OPERANDS_FILE, PROGRAM_FILES),
    *(f"{folder}/*" for folder in EXPORT_FOLDERS),
)

# Phases that draw dropout under another name, so that their numbers are equal to release 0.1.
KEY_NAMES = {"distill": "distil"}

# (epoch from 0, validation scores) -> what epochs are chosen by; the highest is the best
Rank = Callable[[int, dict], float]
# (encoder with the phase's dropout, params, optimizer, number of steps) -> (train step, its state)
MakeStep = Callable[
    [EncoderConfig, Params, optax.GradientTransformation, int], tuple[TrainStep, TrainState]
]
RunPhase = Callable[[pathlib.Path, RunContext, ConfigDict], None]


class Phase(NamedTuple):
    """One step of a run, which leaves a finished directory in the workdir.

    Attributes:
      name: of the directory.
      run: (directory, context, config) -> None. It continues after a kill, and ends with
        `mark_complete` or `save_phase`.
    """

    name: str
    run: RunPhase


def is_complete(directory: pathlib.Path) -> bool:
    """Return whether the phase of this directory is finished."""
    return (directory / DONE).exists()


def mark_complete(directory: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Write the closing record of a phase, then remove its training state.

    The record is written in one step, with the code's commit and the device. The training state is
    larger than the model, and a finished phase needs it no more.
    """
    record = {**record, "commit": commit_of_tree(), "device": device_name()}
    replace_text(directory / DONE, json.dumps(record, indent=1), checksum=True)
    shutil.rmtree(directory / LAST, ignore_errors=True)
    remove_file(directory / CONTINUED)


def read_done(directory: pathlib.Path) -> dict[str, Any]:
    """Return the closing record of a phase.

    Raises:
      ValueError: the file is damaged.
    """
    return read_object(directory / DONE, TRAIN_PHASE)


def rank_by_score(epoch: int, scores: dict) -> float:
    """Rank an epoch by its validation score."""
    return scores["score"]


def rank_by_epoch(epoch: int, scores: dict) -> float:
    """Rank the last epoch highest."""
    return float(epoch)


def no_slope(step: jax.Array, steps_per_epoch: int) -> None:
    """Return None: the forward pass uses the hard rule in every step."""


def unit_slope(step: jax.Array, steps_per_epoch: int) -> jax.Array:
    """Return 1: the forward pass uses the soft rule of a method that has no slope."""
    return jnp.float32(1.0)


def save_phase_model(
    directory: pathlib.Path,
    context: RunContext,
    params: Params,
    pruner: Pruner,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the phase's model directory, and its checksums next to it."""
    save_model(
        directory / "model",
        params,
        context.encoder,
        pruner_name=pruner.name,
        pruner_options=dict(pruner.factory_kwargs),
        head=context.head,
        class_names=context.class_names or None,
        max_length=context.max_length,
        task=context.task.name,
        tokenizer=context.tokenizer,
        extra=extra,
    )
    write_checksums(directory / "model", skip=MAY_CHANGE)


def load_phase_model(directory: pathlib.Path) -> Saved:
    """Return the model of a finished phase.

    Raises:
      ValueError: a file is missing, or changed since the phase wrote it.
    """
    model = directory / "model"
    advice = (
        f"remove {directory} and give the training command again; "
        "it trains this phase from its start"
    )
    check_directory(model, advice, skip=MAY_CHANGE)
    return load_model(model)


def soft_train_step(
    context: RunContext,
    pruner: Pruner,
    options: ConfigDict,
    *,
    losses: LossConfig = NO_TERMS,
    slope_schedule: SlopeSchedule = no_slope,
    threshold_controller: ThresholdController | None = None,
    threshold_noise: ThresholdNoise | None = None,
) -> MakeStep:
    """Return what makes the standard step, which trains all parameters through one forward pass.

    Args:
      options: the config section of the phase.
      losses: weights of the loss terms.
      slope_schedule: slope of the soft rule in every step.
      threshold_controller: as in `make_train_step`.
      threshold_noise: as in `make_train_step`.
    """
    losses = losses._replace(class_weights=context.class_weights, dense_config=context.full_encoder)

    def make(encoder, params, main, num_steps):
        thresholds = threshold_optimizer(from_config.make_optimizer_config(options), num_steps)
        steps_per_epoch = num_steps // options.num_epochs
        train_step = make_train_step(
            encoder,
            pruner,
            losses,
            main,
            thresholds,
            slope_fn=functools.partial(slope_schedule, steps_per_epoch=steps_per_epoch),
            dtype=context.dtype,
            threshold_controller=threshold_controller,
            threshold_noise=threshold_noise,
            head=context.head,
            loop=context.loop,
        )
        return train_step, init_state(params, pruner, main, thresholds)

    return make


def training_rows(context: RunContext) -> Tokenized:
    """Return the rows of an epoch: with balanced sampling, smaller classes are repeated."""
    tokenized = context.splits["train"]
    return balance(tokenized, context.seed) if context.balanced_sampling else tokenized


def num_training_steps(context: RunContext, options: ConfigDict) -> int:
    """Return the steps of a phase's first training, by its config section."""
    batch_size = context.num_rows(options.batch_size)
    return options.num_epochs * num_steps_per_epoch(len(training_rows(context)), batch_size)


def train(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    params: Params,
    options: ConfigDict,
    *,
    make_step: MakeStep,
    rank: Rank,
    extras: PerExampleArrays | None = None,
) -> Checkpoints:
    """Run one training phase to its end, and return the checkpoints of its best epochs.

    Args:
      directory: of the phase.
      params: where the phase starts.
      options: the config section of the phase.
      make_step: builds the step and its first state.
      rank: what epochs are chosen by.
      extras: arrays of each training example that earlier phases saved.
    """
    tokenized = training_rows(context)
    batch_size = context.num_rows(options.batch_size)
    steps_per_epoch = num_steps_per_epoch(len(tokenized), batch_size)
    num_before = continued_epochs(directory)
    if num_before and not (directory / LAST).exists():
        params = load_phase_model(directory).params
    num_steps = (options.num_epochs - num_before) * steps_per_epoch
    main = main_optimizer(from_config.make_optimizer_config(options), num_steps)
    encoder = from_config.with_dropout(context.encoder, options)
    train_step, state = make_step(encoder, params, main, num_steps)
    if num_before:
        state = dataclasses.replace(
            state, step=jnp.asarray(num_before * steps_per_epoch, jnp.int32)
        )

    def batches_from(step):
        order = {"seed": context.seed, "start_step": step}
        sizes = {"batch_size": batch_size, "lengths": context.lengths}
        return iter(train_batches(tokenized, **sizes, **order, example_arrays=extras))

    phase = PhaseSpec(
        label=directory.name,
        num_epochs=options.num_epochs,
        steps_per_epoch=steps_per_epoch,
        num_checkpoints=options.get("num_checkpoints", 1),
        checkpoint_every_steps=options.checkpoint_every_steps,
        checkpoint_every_minutes=minutes_of(options),
        patience=options.get("early_stopping_patience", 0),
        first_step=num_before * steps_per_epoch,
        train_step=train_step,
        batches_from=batches_from,
        evaluate=_make_evaluate(context, pruner, options.batch_size, rank),
    )
    key_name = KEY_NAMES.get(directory.name, directory.name)
    return train_loop(phase, directory, state, context.key(f"{key_name} dropout"))


def _make_evaluate(
    context: RunContext, pruner: Pruner, batch_size: int, rank: Rank
) -> Callable[[Params, int], dict]:
    """Return a function (params, epoch) -> validation scores with their rank."""
    split = validation_split(context)
    batches = context.eval_batches(split, batch_size)

    def evaluate(params, epoch):
        scores = validate(params, context, pruner, batches, context.task.make_scorer(split))
        return scores | {"rank": rank(epoch, scores)}

    return evaluate


def finetuned_start(
    directory: pathlib.Path, context: RunContext, pruner: Pruner, *, key: str
) -> Params:
    """Return the fine-tuned model with fresh parameters of a pruner.

    Args:
      directory: of the phase that starts from it.
      key: name of the random key of the pruner's parameters.
    """
    params = load_phase_model(directory.parent / "finetune").params
    return params | {"pruner": pruner.init(context.key(key), context.encoder)}


def best_epoch_params(checkpoints: Checkpoints, like: Params) -> tuple[Params, dict]:
    """Return the parameters and the scores of the best epoch, and close the checkpoints.

    Args:
      like: parameters of the same shapes.
    """
    params, scores = checkpoints.restore_best(like), checkpoints.best_scores()
    checkpoints.close()
    return params, scores


def save_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    params: Params,
    scores: dict,
    *,
    record: Mapping[str, Any] = {},
    decision_threshold: float | None = None,
) -> None:
    """Save a phase's model and close the phase with its validation scores.

    Args:
      record: further entries of the closing record.
      decision_threshold: of two classes, saved with the model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    extra = dict(context.task.extra)
    if THRESHOLDS in scores:
        extra[THRESHOLDS] = scores[THRESHOLDS]
    if "threshold" in scores:
        extra["no_answer_threshold"] = scores["threshold"]
    if decision_threshold is not None:
        extra[THRESHOLD] = decision_threshold
    if context.full_encoder is not None:
        extra |= teacher_facts(context.full_encoder)
    save_phase_model(directory, context, params, pruner, extra)
    mark_complete(directory, {"validation": scores, **record})


def save_best_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    checkpoints: Checkpoints,
    like: Params,
    *,
    record: Mapping[str, Any] = {},
) -> None:
    """Close a phase with its best epoch; arguments as in `best_epoch_params` and `save_phase`."""
    params, scores = best_epoch_params(checkpoints, like)
    save_phase(directory, context, pruner, params, scores, record=record)
