"""Train AdapLeR after fine-tuning.

saliency    gradient times input, and logits of the fine-tuned model    -> saliency.npz
distill     a student of fewer layers, where its section has epochs         -> model/
adapler     predictors, thresholds and weights together                 -> model/
adapt-Nx    thresholds scaled to a speedup, then trained on if it helps     -> model/

Source: Modarressi et al., "AdapLeR", ACL 2022.
"""

import functools
import math
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.presets import sections
from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.training.calibration import THRESHOLDS, reaches, steer
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.from_config import (
    make_adapler,
    make_last_slope,
    make_loss_config,
    make_slope_schedule,
    make_threshold_noise,
)
from adapler_jax.training.growth import continued_epochs
from adapler_jax.training.losses import saliency
from adapler_jax.training.methods import distill
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.methods.distill import with_student
from adapler_jax.training.metrics_log import track
from adapler_jax.training.phases import (
    SETTINGS,
    Phase,
    Rank,
    best_epoch_params,
    load_phase_model,
    mark_complete,
    rank_by_epoch,
    read_done,
    save_best_phase,
    soft_train_step,
    train,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.targets import (
    check_target_speedups,
    limits,
    reach_on_validation,
    save_target_phase,
    target_phases,
)
from adapler_jax.training.workdir import ADAPT, target_name
from adapler_jax.types import PADDING_EXAMPLE_ID, Params

SALIENCY_FILE = "saliency.npz"
SCALED, TRAINED_ON = "scaled", "trained_on"  # the models that a calibration compares
RESULTS = ("score", "flops_speedup")  # of both, in the closing record
AUTHORS_MARGIN = 0.01  # the authors take the fastest epoch that loses less than this


def run_saliency(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Save the saliency of every training example and the best epoch's logits.

    Saliency is the mean over the best fine-tuned epochs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    batches = context.eval_batches("train", config.saliency.batch_size)
    like = context.pretrained | {"pruner": {}}
    checkpoints = Checkpoints(
        directory.parent / "finetune", num_checkpoints=config.finetune.num_checkpoints
    )
    steps = checkpoints.best_steps()[: config.saliency.num_checkpoints]
    num_examples = context.num_train_examples
    total = np.zeros((num_examples, context.max_length), np.float32)
    logits = empty_logits(context.logits_shape, num_examples)
    measure = _make_saliency_program(context)
    for rank, step in enumerate(steps):
        params = checkpoints.restore_best(like, step)
        for batch in track(batches, directory.name):
            real_B = batch.example_id_B != PADDING_EXAMPLE_ID
            saliency_BL, found = measure(params, batch)
            ids = batch.example_id_B[real_B]
            total[ids, : batch.valid_BL.shape[1]] += np.asarray(saliency_BL)[real_B] / len(steps)
            if rank == 0:
                put_logits(logits, ids, found, real_B)
    checkpoints.close()
    save_arrays(directory / SALIENCY_FILE, saliency=total, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_examples, "finetune_steps": steps})


def _make_saliency_program(context: RunContext) -> Callable:
    """Return a jitted function (params, batch) -> (saliency, logits)."""

    @jax.jit
    def measure(params, batch):
        return saliency(params, context.encoder, batch, dtype=context.dtype, head=context.head)

    return measure


def load_saliency(directory: pathlib.Path) -> PerExampleArrays:
    """Return the arrays that the saliency phase saved."""
    return load_arrays(directory / SALIENCY_FILE)


def load_soft_labels(workdir: pathlib.Path, options: ConfigDict) -> PerExampleArrays | None:
    """Return the saliency phase's arrays; None where a student's section has no such labels."""
    return load_saliency(workdir / "saliency") if options.distil_coef else None


def run_adapler(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train AdapLeR. The model is the last epoch, or the authors' choice."""
    options, workdir = config.adapler, directory.parent
    context, start = with_student(workdir, context, config)
    pruner = make_adapler(context.encoder, options)
    start = start or _start_params(options, workdir, context)
    start |= {"pruner": pruner.init(context.key("predictors"), context.encoder)}
    slope_schedule = make_slope_schedule(options)
    if continued_epochs(directory):  # thresholds are as hard as they were at its end
        slope_schedule = make_last_slope(options)
    make_step = soft_train_step(
        context,
        pruner,
        options,
        losses=make_loss_config(options),
        slope_schedule=slope_schedule,
        threshold_noise=make_threshold_noise(options),
    )
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        options,
        make_step=make_step,
        extras=load_saliency(workdir / "saliency"),
        rank=_make_rank(options, workdir),
    )
    if not checkpoints.best_steps():
        raise ValueError(
            f"{directory.name}: no epoch came within a point of the fine-tuned model, so by the "
            "authors' rule there is no model; set config.adapler.checkpoint_selection=last, with a "
            "new --workdir"
        )
    record = {"num_epochs": options.num_epochs}
    save_best_phase(directory, context, pruner, checkpoints, start, record=record)


def _start_params(options: ConfigDict, workdir: pathlib.Path, context: RunContext) -> Params:
    """Return the weights that AdapLeR starts from."""
    finetuned = load_phase_model(workdir / "finetune").params
    return {"finetuned": finetuned, "pretrained": context.pretrained}[options.init_from]


def _make_rank(options: ConfigDict, workdir: pathlib.Path) -> Rank:
    """Return the rule that epochs are chosen by."""
    dense_score = read_done(workdir / "finetune")["validation"]["score"]

    def authors_rank(epoch, scores):
        is_close = scores["score"] > dense_score - AUTHORS_MARGIN
        return scores["flops_speedup"] if is_close else -1.0

    return {"last": rank_by_epoch, "authors": authors_rank}[options.checkpoint_selection]


def run_calibration(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, *, speedup: float
) -> None:
    """Bring AdapLeR's model to a FLOPs speedup on the validation split.

    The thresholds are scaled first. Where `is_worth_training` says so, the model is trained on
    while its thresholds are controlled, and scaled at its end. The better of both models on
    validation is kept, the scaled one on a tie. Controlled thresholds get no noise. Their bound of
    1 would make the noise lopsided.
    """
    workdir = directory.parent
    context, _ = with_student(workdir, context, config)
    options = config.adapler.copy_and_resolve_references()
    changes = {"num_epochs": config.adapt.num_epochs, "learning_rate": config.adapt.learning_rate}
    options.update(changes)
    pruner, start = make_adapler(context.encoder, options), load_phase_model(workdir / "adapler")
    reach = functools.partial(
        reach_on_validation,
        context,
        pruner,
        speedup=speedup,
        tradeoff=THRESHOLDS,
        batch_size=options.batch_size,
    )
    models = {SCALED: reach(start.params)}  # a restart measures it again, to equal numbers
    if is_worth_training(
        config.adapt,
        speedup=speedup,
        dense=read_done(workdir / "finetune")["validation"],
        trained=read_done(workdir / "adapler")["validation"],
        scaled=models[SCALED][1],
    ):
        params = _train_to_speedup(directory, context, start.params, options, speedup=speedup)
        models[TRAINED_ON] = reach(params)
    kept = better_model({name: scores for name, (_, scores) in models.items()}, speedup)
    params, scores = models[kept]
    results = {
        name: {field: found[field] for field in RESULTS} for name, (_, found) in models.items()
    }
    record = {"kept": kept, TRAINED_ON: None, **results, **limits(params, THRESHOLDS)}
    record[SETTINGS] = {f"{ADAPT}.{name}": config.adapt.get(name) for name in ("train", "max_drop")}
    save_target_phase(
        directory,
        context,
        pruner,
        params,
        scores,
        speedup=speedup,
        is_reached=reaches(scores, speedup),
        record=record,
    )


def is_worth_training(
    options: ConfigDict, *, speedup: float, dense: dict, trained: dict, scaled: dict
) -> bool:
    """Return whether a model whose thresholds were scaled to a target is trained on.

    Args:
      options: `config.adapt`; older configs lack some fields.
      speedup: the target.
      dense: validation scores of the fine-tuned model.
      trained: validation scores of the model before scaling.
      scaled: validation scores of the scaled model.
    """
    defaults = sections.adapt_section()
    mode = options.get("train", defaults["train"])
    if mode != "auto":
        return mode == "always"
    if trained["flops_speedup"] >= speedup:  # the tokens that it keeps in addition cost no score
        return False
    largest_drop = options.get("max_drop", defaults["max_drop"]) * abs(dense["score"])
    return not reaches(scaled, speedup) or dense["score"] - scaled["score"] > largest_drop


def better_model(scores: dict[str, dict], speedup: float) -> str:
    """Return the name of the model to keep, of {name: validation scores} with the scaled one first.

    A model that reaches the target is better than one that misses it. Among models that reach it
    the score decides, else the speedup. The first of equal models is kept.
    """

    def rank(name):
        is_reached = reaches(scores[name], speedup)
        return is_reached, scores[name]["score" if is_reached else "flops_speedup"]

    return max(scores, key=rank)


def _train_to_speedup(
    directory: pathlib.Path,
    context: RunContext,
    params: Params,
    options: ConfigDict,
    *,
    speedup: float,
) -> Params:
    """Train on from a model while the thresholds follow the speedup of each batch."""
    pruner = make_adapler(context.encoder, options)
    make_step = soft_train_step(
        context,
        pruner,
        options,
        losses=make_loss_config(options),
        slope_schedule=make_last_slope(options),
        threshold_controller=functools.partial(steer, tradeoff=THRESHOLDS, target=speedup),
    )
    checkpoints = train(
        directory,
        context,
        pruner,
        params,
        options,
        make_step=make_step,
        extras=load_saliency(directory.parent / "saliency"),
        rank=rank_by_epoch,
    )
    return best_epoch_params(checkpoints, params)[0]


def calibration_name(speedup: float) -> str:
    """Return the directory of the phase that brings the thresholds to a speedup."""
    return target_name(ADAPT, speedup)


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning, one calibration for each target speedup.

    With a section of a student, its tokens are pruned. Its phase comes before, unless it has no
    epochs.
    """
    has_phase = "distill" in config and config.distill.num_epochs
    run_student = functools.partial(distill.run_student, load_extras=load_soft_labels)
    student = [Phase("distill", run_student)] if has_phase else []
    adapler = Phase("adapler", run_adapler)
    targets = target_phases(config, ADAPT, run_calibration)
    return [Phase("saliency", run_saliency), *student, adapler, *targets]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where fields of AdapLeR's phases contradict each other."""
    target, is_relative = config.adapler.length_target, config.adapler.relative_length
    if target and is_relative != (target <= 1.0):
        unit = "a fraction, at most 1" if is_relative else "tokens summed over layers, more than 1"
        raise ValueError(
            f"config.adapler.length_target is {target}; with relative_length={is_relative} it is "
            f"{unit}; length_coef has that unit too"
        )
    num_averaged, num_kept = config.saliency.num_checkpoints, config.finetune.num_checkpoints
    if num_averaged > num_kept:
        raise ValueError(
            f"config.saliency.num_checkpoints is {num_averaged}, but only "
            f"config.finetune.num_checkpoints = {num_kept} epochs are kept; raise it"
        )
    if "distill" in config and config.adapler.init_from != "finetuned":
        raise ValueError(
            f"config.adapler.init_from is {config.adapler.init_from!r}; with a student AdapLeR "
            "starts from the student, so set it to finetuned, or leave out the variant paper"
        )
    check_target_speedups(config, ADAPT)


def check_context(config: ConfigDict, context: RunContext) -> None:
    """Raise ValueError where a student's layers do not fit the encoder."""
    if "distill" in config:
        distill.check_context(config, context)


ADAPLER = Section(
    sections.adapler_section(),
    ranges={
        "predictor_dim": (1, math.inf),
        "initial_threshold": THRESHOLD_RANGE,
        "length_target": (0.0, math.inf),
        "threshold_noise": (0.0, 5.0),
        "slope_start": (1.0, 1e9),  # from 1 on, soft survival above the threshold is 1
        "slope_end": (1.0, 1e9),
    },
    allowed={
        "init_from": ("finetuned", "pretrained"),
        "checkpoint_selection": ("last", "authors"),
        "slope_schedule": ("geometric", "epochs"),
    },
)

METHOD = Method(
    title="AdapLeR",
    sections={
        "saliency": Section(sections.saliency_section()),
        "adapler": ADAPLER,
        ADAPT: Section(
            sections.adapt_section(),
            ranges={"max_drop": (0.0, 1.0)},
            allowed={"train": ("auto", "always", "never")},
        ),
    },
    phases=phases,
    tradeoff_fields=("adapt.target_speedups",),
    check_config=check_config,
    check_context=check_context,
)
