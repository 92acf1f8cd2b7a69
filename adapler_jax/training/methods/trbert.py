"""Train TR-BERT after fine-tuning.

scores      importance of every training token, and the teacher's logits              -> scores.npz
init        selectors alone, towards the ranks of the scores, if the config says so  -> model/
policy      selectors alone, by reinforcement                                        -> model/
trbert      selectors and encoder, by reinforcement and from the teacher's soft labels  -> model/
trbert-Nx   in place of it, for each target: with controlled odds of the selectors     -> model/

Where nothing imitates the scores, the phase `teacher` saves the logits alone.
Source: Ye et al., "TR-BERT", NAACL 2021.
"""

import functools
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.presets.sections import trbert_section
from adapler_jax.pruning import Pruner
from adapler_jax.training.calibration import TradeOff, steer
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.example_arrays import empty_logits, load_arrays, put_logits, save_arrays
from adapler_jax.training.from_config import make_policy_config, make_trbert
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.metrics_log import track
from adapler_jax.training.phases import (
    Phase,
    finetuned_start,
    load_phase_model,
    mark_complete,
    rank_by_epoch,
    save_best_phase,
    train,
)
from adapler_jax.training.policy import (
    check_depth,
    importance_scores,
    init_objective,
    init_selector_state,
    make_selector_step,
    policy_objective,
    rank_targets,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.steps import ThresholdController
from adapler_jax.training.targets import check_target_speedups, run_scaled_phase, target_phases
from adapler_jax.training.teacher import load_teacher, teacher_phases
from adapler_jax.types import PADDING_EXAMPLE_ID, Params

SCORES_FILE = "scores.npz"

# (params, batch, step, key, encoder, number of steps) -> (objective, {name: scalar})
PhaseObjective = Callable


BIAS_RANGE = (-20.0, 20.0)  # of the selectors' logits; a model learns less than this


def scale_odds(params: Params, factor) -> Params:
    """Return the parameters with the selectors' odds of dropping a token times `factor`.

    The bias of every selector's logit falls by log(factor), within its range.
    """
    score = params["pruner"]["score"]
    bias_S1 = jnp.clip(score["bias"] - jnp.log(factor), *BIAS_RANGE)
    return params | {"pruner": params["pruner"] | {"score": score | {"bias": bias_S1}}}


TRADEOFF = TradeOff(
    scale=scale_odds,
    read=lambda params: params["pruner"]["score"]["bias"],
    max_factor=math.exp(BIAS_RANGE[1] - BIAS_RANGE[0]),
    gain=0.1,  # odds move the speedup less than thresholds do
)


def needs_scores(options: ConfigDict) -> bool:
    """Return whether anything imitates the importance scores."""
    return options.imitation_ratio > 0 or options.init_num_epochs > 0


def check_context(config: ConfigDict, context: RunContext) -> None:
    """Raise ValueError where the options do not fit the encoder."""
    layers = selection_layers(make_trbert(context.encoder, config.trbert))
    if needs_scores(config.trbert):
        check_depth(context.encoder, layers)


def selection_layers(pruner: Pruner) -> tuple[int, ...]:
    """Return the layers before which tokens are selected."""
    return tuple(site.layer for site in pruner.sites)


def run_scores(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Save importance scores and logits of every training example, by the fine-tuned model."""
    directory.mkdir(parents=True, exist_ok=True)
    params = load_phase_model(directory.parent / "finetune").params
    layers = selection_layers(make_trbert(context.encoder, config.trbert))
    num_examples = context.num_train_examples
    importance = np.zeros((num_examples, len(layers), context.max_length), np.float32)
    logits = empty_logits(context.logits_shape, num_examples)

    @jax.jit
    def measure(params, batch):
        return importance_scores(
            params, context.encoder, batch, layers=layers, dtype=context.dtype, head=context.head
        )

    for batch in track(context.eval_batches("train", config.trbert.batch_size), directory.name):
        real_B = batch.example_id_B != PADDING_EXAMPLE_ID
        ids = batch.example_id_B[real_B]
        score_BJL, found = measure(params, batch)
        importance[ids, :, : score_BJL.shape[-1]] = np.asarray(score_BJL)[real_B]
        put_logits(logits, ids, found, real_B)
    save_arrays(directory / SCORES_FILE, guide=importance, teacher_logits=logits)
    mark_complete(directory, {"num_examples": num_examples})


def load_scores(workdir: pathlib.Path, options: ConfigDict) -> PerExampleArrays | None:
    """Return the arrays of the first phase."""
    if not needs_scores(options):
        return load_teacher(workdir, options)
    return load_arrays(workdir / "scores" / SCORES_FILE)


def train_selectors(
    params: Params,
    directory: pathlib.Path,
    context: RunContext,
    config: ConfigDict,
    *,
    num_epochs: int,
    objective: PhaseObjective,
    joint: bool,
    controller: ThresholdController | None = None,
) -> Checkpoints:
    """Train the selectors in one phase; return its checkpoints, the last epoch first.

    Args:
      params: where the phase starts.
      num_epochs: of the phase.
      objective: (params, batch, step, key, encoder=, num_steps=) -> (scalar, {name: scalar}).
      joint: whether the encoder is trained too.
      controller: as in `make_selector_step`.
    """
    options, workdir = config.trbert.copy_and_resolve_references(), directory.parent
    with options.unlocked():
        options.num_epochs = num_epochs

    def make_step(encoder, params, main, num_steps):
        step_objective = functools.partial(objective, encoder=encoder, num_steps=num_steps)
        train_step = make_selector_step(step_objective, main, joint=joint, controller=controller)
        return train_step, init_selector_state(params, main, joint=joint)

    return train(
        directory,
        context,
        make_trbert(context.encoder, options),
        params,
        options,
        make_step=make_step,
        extras=load_scores(workdir, options),
        rank=rank_by_epoch,
    )


def _run_phase(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, *, start: str, **training
) -> None:
    """Run one phase. The model is the last epoch.

    Args:
      directory: of the phase.
      context: of the run.
      config: of the run.
      start: the phase whose model it starts from.
      **training: as in `train_selectors`.
    """
    pruner = make_trbert(context.encoder, config.trbert)
    if start == "finetune":
        params = finetuned_start(directory, context, pruner, key="selectors")
    else:
        params = load_phase_model(directory.parent / start).params
    checkpoints = train_selectors(params, directory, context, config, **training)
    save_best_phase(directory, context, pruner, checkpoints, params)


def run_init(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train the selectors towards the ranks of the importance scores."""
    pruner = make_trbert(context.encoder, config.trbert)

    def objective(params, batch, step, key, *, encoder, num_steps):
        target_BJL = rank_targets(batch.importance_BJL, batch.valid_BL)
        return init_objective(params, encoder, pruner, batch, target_BJL, dtype=context.dtype)

    _run_phase(
        directory,
        context,
        config,
        start="finetune",
        num_epochs=config.trbert.init_num_epochs,
        objective=objective,
        joint=False,
    )


def run_policy(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train the selectors alone by reinforcement."""
    options = config.trbert
    _run_phase(
        directory,
        context,
        config,
        start="init" if options.init_num_epochs else "finetune",
        num_epochs=options.policy_num_epochs,
        objective=_policy_objective(context, config, joint=False),
        joint=False,
    )


def run_joint(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train selectors and encoder together by reinforcement."""
    _run_phase(directory, context, config, start="policy", **_joint_training(context, config))


def _joint_training(context: RunContext, config: ConfigDict) -> dict[str, Any]:
    """Return the keywords of `train_selectors` for the joint phase."""
    return {
        "num_epochs": config.trbert.joint_num_epochs,
        "objective": _policy_objective(context, config, joint=True),
        "joint": True,
    }


def run_target(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, *, speedup: float
) -> None:
    """Shift the selectors to a FLOPs speedup, train jointly under control, and shift once more.

    The controller follows the sampled actions, which the encoder is trained on.
    """
    joint = {"directory": directory, "context": context, "config": config}
    joint |= _joint_training(context, config)
    joint["controller"] = functools.partial(steer, tradeoff=TRADEOFF, target=speedup)
    run_scaled_phase(
        directory,
        context,
        make_trbert(context.encoder, config.trbert),
        load_phase_model(directory.parent / "policy").params,
        speedup=speedup,
        tradeoff=TRADEOFF,
        batch_size=config.trbert.batch_size,
        train=functools.partial(train_selectors, **joint),
    )


def _policy_objective(context: RunContext, config: ConfigDict, *, joint: bool) -> PhaseObjective:
    """Return the objective of a reinforcement phase, as `train_selectors` takes it."""
    pruner = make_trbert(context.encoder, config.trbert)
    policy = make_policy_config(config.trbert, joint=joint)
    policy = policy._replace(class_weights=context.class_weights)

    def objective(params, batch, step, key, *, encoder, num_steps):
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


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning."""
    options = config.trbert
    first = [Phase("scores", run_scores)] if needs_scores(options) else teacher_phases(options)
    init = [Phase("init", run_init)] if options.init_num_epochs else []
    final = target_phases(config, "trbert", run_target) or [Phase("trbert", run_joint)]
    return [*first, *init, Phase("policy", run_policy), *final]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where a target speedup is not possible."""
    check_target_speedups(config, "trbert")


TRBERT = Section(
    trbert_section(),
    ranges={
        "selector_dim": (1, math.inf),
        "init_num_epochs": (0, math.inf),
        "policy_num_epochs": (1, math.inf),
        "joint_num_epochs": (1, math.inf),
        "imitation_ratio": (0.0, 1.0),
        "policy_length_coef": (0.0, 1e3),
        "joint_length_coef": (0.0, 1e3),
        "num_samples": (2, 1024),
        "sample_batch_size": (0, 1024),
    },
)

METHOD = Method(
    title="TR-BERT",
    sections={"trbert": TRBERT},
    phases=phases,
    tradeoff_fields=(
        "trbert.target_speedups",
        "trbert.policy_length_coef",
        "trbert.joint_length_coef",
    ),
    check_config=check_config,
    check_context=check_context,
)
