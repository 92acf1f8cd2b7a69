"""The phases of TR-BERT after fine-tuning.

scores      importance of every training token, and the fine-tuned model's logits      -> scores.npz
            (where nothing imitates the scores: teacher, the logits alone)
init        selectors alone, towards the ranks of the scores; where asked for           -> model/
policy      selectors alone, by reinforcement                                          -> model/
trbert      selectors and encoder, by reinforcement and from the teacher's soft labels  -> model/
"""

import functools
import pathlib

import jax
import numpy as np

from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.pruning import Pruner
from adapler_jax.training import from_config
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.methods.policy import (
    check_depth,
    importance_scores,
    init_objective,
    init_selector_state,
    make_selector_step,
    policy_objective,
    rank_targets,
)
from adapler_jax.training.metrics_log import track
from adapler_jax.training.phases import load_phase_model, mark_complete, save_best_phase, train
from adapler_jax.training.setup import RunContext
from adapler_jax.training.teacher import load_teacher, run_teacher
from adapler_jax.types import PADDING_EXAMPLE_ID

SCORES_FILE = "scores.npz"


def needs_scores(options) -> bool:
    """Whether anything imitates the importance scores."""
    return options.imitation_ratio > 0 or options.init_num_epochs > 0


def check_fit(options, context: RunContext) -> None:
    """Raises ValueError where the options do not fit the encoder."""
    layers = selection_layers(from_config.make_trbert(context.encoder, options))
    if needs_scores(options):
        check_depth(context.encoder, layers)


def selection_layers(pruner: Pruner) -> tuple[int, ...]:
    """The layers in front of which tokens are selected."""
    return tuple(site.layer for site in pruner.sites)


def run_scores(directory: pathlib.Path, context: RunContext, config) -> None:
    """Importance scores and logits of every training example, by the fine-tuned model."""
    directory.mkdir(parents=True, exist_ok=True)
    params = load_phase_model(directory.parent / "finetune").params
    layers = selection_layers(from_config.make_trbert(context.encoder, config.trbert))
    num_rows = int(context.splits["train"].example_ids.max()) + 1
    guide = np.zeros((num_rows, len(layers), context.max_length), np.float32)
    logits = empty_logits(context.logits_shape, num_rows)
    measure = jax.jit(
        lambda params, batch: importance_scores(
            params, context.encoder, batch, layers=layers, dtype=context.dtype, head=context.head
        )
    )
    for batch in track(context.eval_batches("train", config.trbert.batch_size), directory.name):
        real_B = batch.example_id_B != PADDING_EXAMPLE_ID
        rows = batch.example_id_B[real_B]
        score_BSL, found = measure(params, batch)
        guide[rows, :, : score_BSL.shape[-1]] = np.asarray(score_BSL)[real_B]
        put_logits(logits, rows, found, real_B)
    save_arrays(directory / SCORES_FILE, guide=guide, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_rows})


def load_scores(workdir: pathlib.Path, options) -> PerExampleArrays | None:
    """What the first of the phases left."""
    if not needs_scores(options):
        return load_teacher(workdir, options)
    return load_arrays(workdir / "scores" / SCORES_FILE)


def train_selectors(
    directory,
    context: RunContext,
    config,
    *,
    start: str,
    num_epochs: int,
    make_objective,
    joint: bool,
) -> None:
    """One phase; the model is that of the last epoch.

    Args: start: the phase whose model it starts from. make_objective: (encoder, pruner, number of steps) -> objective as
    in `make_selector_step`. joint: whether the encoder is trained too.
    """
    options, workdir = config.trbert.copy_and_resolve_references(), directory.parent
    with options.unlocked():
        options.num_epochs = num_epochs
    pruner = from_config.make_trbert(context.encoder, options)
    params = load_phase_model(workdir / start).params
    if start == "finetune":
        params |= {"pruner": pruner.init(context.key("selectors"), context.encoder)}

    def make_step(encoder, params, main, num_steps):
        objective = make_objective(encoder, pruner, num_steps)
        return make_selector_step(objective, main, joint=joint), init_selector_state(
            params, main, joint=joint
        )

    checkpoints = train(
        directory,
        context,
        pruner,
        params,
        options,
        make_step=make_step,
        extras=load_scores(workdir, options),
        rank=lambda epoch, scores: float(epoch),
    )
    save_best_phase(directory, context, pruner, checkpoints, params)


def run_init(directory: pathlib.Path, context: RunContext, config) -> None:
    """Trains the selectors towards the ranks of the importance scores."""

    def make_objective(encoder, pruner, num_steps):
        def objective(params, batch, step, key):
            target_BSL = rank_targets(batch.importance_BSL, batch.valid_BL)
            return init_objective(params, encoder, pruner, batch, target_BSL, dtype=context.dtype)

        return objective

    train_selectors(
        directory,
        context,
        config,
        start="finetune",
        num_epochs=config.trbert.init_num_epochs,
        make_objective=make_objective,
        joint=False,
    )


def run_policy(directory: pathlib.Path, context: RunContext, config, *, joint: bool) -> None:
    """Trains the selectors by reinforcement, alone or with the encoder."""
    options = config.trbert
    policy = from_config.make_policy_config(options, joint=joint)._replace(
        class_weights=context.class_weights
    )

    def make_objective(encoder, pruner, num_steps):
        def objective(params, batch, step, key):
            return policy_objective(
                params,
                encoder,
                pruner,
                batch,
                policy,
                key=key,
                share_done=step / num_steps,
                dtype=context.dtype,
                head=context.head,
                loop=context.loop,
            )

        return objective

    if joint:
        start, num_epochs = "policy", options.joint_num_epochs
    else:
        start, num_epochs = (
            "init" if options.init_num_epochs else "finetune",
            options.policy_num_epochs,
        )
    train_selectors(
        directory,
        context,
        config,
        start=start,
        num_epochs=num_epochs,
        make_objective=make_objective,
        joint=joint,
    )


def phases_of(options) -> list:
    """(directory name, function) of the phases that the section asks for."""
    if needs_scores(options):
        plan = [("scores", run_scores)]
    else:
        plan = [("teacher", run_teacher)] if options.distil_coef else []
    plan += [("init", run_init)] if options.init_num_epochs else []
    return [
        *plan,
        ("policy", functools.partial(run_policy, joint=False)),
        ("trbert", functools.partial(run_policy, joint=True)),
    ]
