"""The phases of a run, each a function of the context and of what the phases before it left in the workdir.

finetune    plain BERT on the task                        -> model/, best epochs
saliency    gradient x input and logits of the fine-tuned -> saliency.npz
adapler     predictors, thresholds and weights together   -> model/
adapt       thresholds scaled or steered to a speedup     -> model/
"""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.data.batching.batches import num_steps_per_epoch, train_batches
from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.evaluation.models import evaluate_model
from adapler_jax.evaluation.scoring import UnlabelledTask
from adapler_jax.export.program_spec import PROGRAM_FILES
from adapler_jax.inference.compute_dtype import OPERANDS_FILE
from adapler_jax.io.atomic_files import check_directory, remove_file, replace_text, write_checksums
from adapler_jax.io.provenance import commit_of_tree, device_name
from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.pruning import Pruner, keep_all
from adapler_jax.training import from_config
from adapler_jax.training.balance import balance
from adapler_jax.training.checkpoints import LAST, Checkpoints
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.growth import CONTINUED, continued_epochs
from adapler_jax.training.loop import PhaseSpec, train_loop
from adapler_jax.training.losses import LossConfig, saliency
from adapler_jax.training.methods.calibration import (
    TOLERANCE,
    at_limit,
    at_lowest,
    reach_speedup,
    steer_thresholds,
)
from adapler_jax.training.metrics_log import track
from adapler_jax.training.optimizers import main_optimizer, threshold_optimizer
from adapler_jax.training.setup import RunContext
from adapler_jax.training.steps import TrainState, init_state, make_train_step
from adapler_jax.training.validation import validate
from adapler_jax.training.workdir import DONE, TRAIN_PHASE, read_object
from adapler_jax.types import PADDING_EXAMPLE_ID, Params
from adapler_jax.weights.card import CARD_FILE
from adapler_jax.weights.save import Saved, load_model, save_model

SALIENCY_FILE = "saliency.npz"
NUM_CALIBRATION_BATCHES = 16
# In a model's folder: the card is its user's to edit; the others are written after training, with
# their own checksums.
MAY_CHANGE = (CARD_FILE, OPERANDS_FILE, PROGRAM_FILES)


def is_complete(directory: pathlib.Path) -> bool:
    """Whether the phase of this directory is finished."""
    return (directory / DONE).exists()


def mark_complete(directory: pathlib.Path, numbers: dict) -> None:
    """Writes the closing record of a phase, in one step, with the code and the device that ended it; then removes the
    state to go on from, which is larger than the model."""
    record = numbers | {"commit": commit_of_tree(), "device": device_name()}
    replace_text(directory / DONE, json.dumps(record, indent=1), checksum=True)
    shutil.rmtree(directory / LAST, ignore_errors=True)
    remove_file(directory / CONTINUED)


def read_done(directory: pathlib.Path) -> dict:
    """The closing record of a phase. Raises ValueError where it is damaged."""
    return read_object(directory / DONE, TRAIN_PHASE)


def validation_split(context: RunContext) -> str:
    """The split that models are chosen on: validation, or the first of several."""
    return next(name for name in context.splits if name.startswith("validation"))


def save_phase_model(
    directory: pathlib.Path,
    context: RunContext,
    params: Params,
    pruner: Pruner,
    extra: dict | None = None,
) -> None:
    """Writes the phase's model directory, and its checksums next to it."""
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
      ValueError: a file of it is not what the phase wrote, or is missing.
    """
    model = directory / "model"
    check_directory(
        model,
        f"remove {directory} and give the training command again; it trains this phase from its start",
        skip=MAY_CHANGE,
    )
    return load_model(model)


def soft_train_step(
    context: RunContext,
    pruner: Pruner,
    options,
    *,
    losses=LossConfig(),
    slope_fn,
    threshold_controller=None,
    threshold_noise=None,
):
    """What `train` asks for, of the step that trains everything by the soft rule: see `make_train_step`.

    slope_fn: steps per epoch -> (step -> slope).
    """
    losses = losses._replace(class_weights=context.class_weights)

    def make(encoder, params, main, num_steps):
        thresholds = threshold_optimizer(from_config.make_optimizer_config(options), num_steps)
        train_step = make_train_step(
            encoder,
            pruner,
            losses,
            main,
            thresholds,
            slope_fn=slope_fn(num_steps // options.num_epochs),
            dtype=context.dtype,
            threshold_controller=threshold_controller,
            threshold_noise=threshold_noise,
            head=context.head,
            loop=context.loop,
        )
        return train_step, init_state(params, pruner, main, thresholds)

    return make


def train(
    directory,
    context: RunContext,
    pruner: Pruner,
    params: Params,
    options,
    *,
    make_step,
    extras=None,
    rank,
) -> Checkpoints:
    """Runs one training phase with the options of its config section.

    Args: make_step: (encoder with the phase's dropout, params, optimizer, number of steps) ->
      (train_step, TrainState).
    rank: (epoch, scores) -> what epochs are chosen by.
    """
    tokenized = context.splits["train"]
    if context.balanced_sampling:
        tokenized = balance(tokenized, context.seed)
    batch_size = context.rows(options.batch_size)
    steps_per_epoch = num_steps_per_epoch(len(tokenized), batch_size)
    num_before = continued_epochs(directory)
    if num_before and not (directory / LAST).exists():
        params = load_phase_model(directory).params
    num_steps = (options.num_epochs - num_before) * steps_per_epoch
    main = main_optimizer(from_config.make_optimizer_config(options), num_steps)
    train_step, state = make_step(
        from_config.with_dropout(context.encoder, options), params, main, num_steps
    )
    if num_before:
        state = state.replace(step=jnp.asarray(num_before * steps_per_epoch, jnp.int32))
    split = validation_split(context)
    batches = context.eval_batches(split, options.batch_size)

    def evaluate(params, epoch):
        scores = validate(params, context, pruner, batches, context.task.make_scorer(split))
        return scores | {"rank": rank(epoch, scores)}

    plan = PhaseSpec(
        label=directory.name,
        num_epochs=options.num_epochs,
        steps_per_epoch=steps_per_epoch,
        num_checkpoints=options.get("num_checkpoints", 1),
        checkpoint_every_steps=options.checkpoint_every_steps,
        patience=options.get("early_stopping_patience", 0),
        first_step=num_before * steps_per_epoch,
        train_step=train_step,
        batches_from=lambda step: iter(
            train_batches(
                tokenized,
                batch_size=batch_size,
                lengths=context.lengths,
                seed=context.seed,
                start_step=step,
                example_arrays=extras,
            )
        ),
        evaluate=evaluate,
    )
    return train_loop(plan, directory, state, context.key(directory.name + " dropout"))


def save_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    params: Params,
    scores: dict,
    *,
    decision_threshold: float | None = None,
    **more,
) -> None:
    """Saves a phase's model and closes the phase with its validation scores and what else there is to record.

    decision_threshold: of two classes, to be saved with the model."""
    directory.mkdir(parents=True, exist_ok=True)
    threshold = {"no_answer_threshold": scores["threshold"]} if "threshold" in scores else {}
    threshold |= {} if decision_threshold is None else {THRESHOLD: decision_threshold}
    save_phase_model(directory, context, params, pruner, dict(context.task.extra) | threshold)
    mark_complete(directory, {"validation": scores, **more})


def save_best_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    checkpoints: Checkpoints,
    like: Params,
    **more,
) -> None:
    """Closes a phase with its best epoch; `like`: parameters of the same shapes; more: what else there is to record."""
    params, scores = checkpoints.restore_best(like), checkpoints.best_scores()
    checkpoints.close()
    save_phase(directory, context, pruner, params, scores, **more)


def run_finetune(directory: pathlib.Path, context: RunContext, config) -> None:
    """Fine-tunes plain BERT; the model is the epoch with the best validation score."""
    pruner = keep_all()
    start = context.pretrained | {"pruner": {}}
    if not config.finetune.num_epochs:
        return keep_finetuned(directory, context, config)
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        config.finetune,
        make_step=soft_train_step(
            context, pruner, config.finetune, slope_fn=lambda _: lambda step: None
        ),
        rank=lambda epoch, scores: scores["score"],
    )
    save_best_phase(
        directory, context, pruner, checkpoints, start, num_epochs=config.finetune.num_epochs
    )


def keep_finetuned(directory: pathlib.Path, context: RunContext, config) -> None:
    """Validates and saves a model that is fine-tuned already, as the phase's only epoch; its thresholds are kept."""
    directory.mkdir(parents=True, exist_ok=True)
    pruner, split = keep_all(), validation_split(context)
    start = context.pretrained | {"pruner": {}}
    threshold = context.decision_threshold
    scorer = context.task.make_scorer(
        split, context.no_answer_threshold if threshold is None else threshold
    )
    batches = context.eval_batches(split, config.finetune.batch_size)
    scores = validate(start, context, pruner, batches, scorer)
    checkpoints = Checkpoints(directory, num_checkpoints=1)
    checkpoints.save_best(
        TrainState(jnp.zeros((), jnp.int32), start, (), ()), scores | {"rank": scores["score"]}
    )
    checkpoints.close()
    save_phase(
        directory, context, pruner, start, scores, decision_threshold=threshold, num_epochs=0
    )


def run_saliency(directory: pathlib.Path, context: RunContext, config) -> None:
    """Saliency of every training example, averaged over the best fine-tuned epochs, and the best epoch's logits."""
    directory.mkdir(parents=True, exist_ok=True)
    pruner, tokenized = keep_all(), context.splits["train"]
    batches = context.eval_batches("train", config.saliency.batch_size)
    like = context.pretrained | {"pruner": {}}
    checkpoints = Checkpoints(
        directory.parent / "finetune", num_checkpoints=config.finetune.num_checkpoints
    )
    steps = checkpoints.best_steps()[: config.saliency.num_checkpoints]
    num_rows = int(tokenized.example_ids.max()) + 1
    total = np.zeros((num_rows, context.max_length), np.float32)
    logits = empty_logits(context.logits_shape, num_rows)

    @jax.jit
    def measure(params, batch):
        return saliency(
            params, context.encoder, pruner, batch, dtype=context.dtype, head=context.head
        )

    for place, step in enumerate(steps):
        params = checkpoints.restore_best(like, step)
        for batch in track(batches, directory.name):
            real_B = batch.example_id_B != PADDING_EXAMPLE_ID
            saliency_BL, found = measure(params, batch)
            rows = batch.example_id_B[real_B]
            total[rows, : batch.valid_BL.shape[1]] += np.asarray(saliency_BL)[real_B] / len(steps)
            if place == 0:
                put_logits(logits, rows, found, real_B)
    checkpoints.close()
    save_arrays(directory / SALIENCY_FILE, saliency=total, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_rows, "finetune_steps": steps})


def load_saliency(directory: pathlib.Path) -> PerExampleArrays:
    """What the saliency phase left."""
    return load_arrays(directory / SALIENCY_FILE)


def run_adapler(directory: pathlib.Path, context: RunContext, config) -> None:
    """Trains AdapLeR; the model is the last epoch, or by the authors' rule the fastest within a point of dense."""
    options, workdir = config.adapler, directory.parent
    pruner = from_config.make_adapler(context.encoder, options)
    finetuned = load_phase_model(workdir / "finetune").params
    starts = {"finetuned": finetuned, "pretrained": context.pretrained}
    start = starts[options.init_from] | {
        "pruner": pruner.init(context.key("predictors"), context.encoder)
    }
    dense_score = read_done(workdir / "finetune")["validation"]["score"]

    def authors_rank(epoch, scores):
        return scores["flops_speedup"] if scores["score"] > dense_score - 0.01 else -1.0

    ranks = {"last": lambda epoch, scores: float(epoch), "authors": authors_rank}
    slope_fn = from_config.make_slope_fn(options)
    if continued_epochs(directory):  # thresholds are as hard as they were at its end
        slope_fn = from_config.make_last_slope_fn(options)
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        options,
        make_step=soft_train_step(
            context,
            pruner,
            options,
            losses=from_config.make_loss_config(options),
            slope_fn=slope_fn,
            threshold_noise=from_config.make_threshold_noise(options),
        ),
        extras=load_saliency(workdir / "saliency"),
        rank=ranks[options.checkpoint_selection],
    )
    if not checkpoints.best_steps():
        raise ValueError(
            f"{directory.name}: no epoch came within a point of the fine-tuned model, so by the authors' rule there is "
            "no model; set config.adapler.checkpoint_selection=last, with a new --workdir"
        )
    save_best_phase(directory, context, pruner, checkpoints, start, num_epochs=options.num_epochs)


def run_calibration(
    directory: pathlib.Path, context: RunContext, config, *, speedup: float
) -> None:
    """Brings AdapLeR's model to a FLOPs speedup: trains it on while its thresholds are steered there, and scales them
    to it at the end. A model that is faster already is only scaled: what it keeps more costs it
    nothing. Steered thresholds are not drawn from a range: their bound of 1 would make it lopsided
    and push the steering off.

    Args: speedup: of the validation split, at the end.
    """
    start = directory.parent / "adapler"
    options = config.adapler.copy_and_resolve_references()
    options.update(
        {"num_epochs": config.adapt.num_epochs, "learning_rate": config.adapt.learning_rate}
    )
    pruner = from_config.make_adapler(context.encoder, options)
    params = load_phase_model(start).params
    trained = read_done(start)["validation"]["flops_speedup"] < speedup
    if trained:
        checkpoints = train(
            directory,
            context,
            pruner,
            params,
            options,
            make_step=soft_train_step(
                context,
                pruner,
                options,
                losses=from_config.make_loss_config(options),
                slope_fn=from_config.make_last_slope_fn(options),
                threshold_controller=functools.partial(steer_thresholds, target=speedup),
            ),
            extras=load_saliency(directory.parent / "saliency"),
            rank=lambda epoch, scores: float(epoch),
        )
        params = checkpoints.restore_best(params)
        checkpoints.close()
    split = validation_split(context)
    batches = context.eval_batches(split, options.batch_size)
    every = max(1, len(batches) // NUM_CALIBRATION_BATCHES)

    def speedup_on_sample(params):
        return evaluate_model(
            params,
            context.encoder,
            pruner,
            sample,
            scorer=UnlabelledTask(),
            head=context.head,
            dtype=context.dtype,
            driver="masked",
        ).flops_speedup

    # Batches are sorted by length, so the middle one of a group stands for it.
    sample = batches[every // 2 :: every]
    params, scores = reach_speedup(
        params,
        speedup,
        sample_speedup_of=speedup_on_sample,
        scores_of=lambda params: validate(
            params, context, pruner, batches, context.task.make_scorer(split)
        ),
    )
    record = {"target_speedup": speedup, "trained": trained, "at_limit": at_limit(params)}
    record["at_lowest"] = at_lowest(params)
    if scores["flops_speedup"] * TOLERANCE < speedup:
        directory.mkdir(parents=True, exist_ok=True)
        mark_complete(directory, {"validation": scores, **record, "is_reached": False})
    else:
        save_phase(directory, context, pruner, params, scores, **record)
