"""Train PoWER-BERT after fine-tuning.

teacher     logits of the fine-tuned model, where they are distilled        -> teacher.npz
search      weights of ranks and the encoder together, soft extraction      -> model/
powerbert   the found number of tokens for each layer, hard extraction      -> model/, best epoch
powerbert-Nx  in place of it, for each target: numbers of tokens with this speedup

The search records how many tokens each layer retains.
Source: Goyal et al., "PoWER-BERT", ICML 2020.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from adapler_jax.io.atomic_files import replace_text
from adapler_jax.presets.sections import powerbert_section
from adapler_jax.pruning import Pruner, powerbert
from adapler_jax.pruning.powerbert import check_retention, retention
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.from_config import make_powerbert_search
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    best_epoch_params,
    finetuned_start,
    load_phase_model,
    num_training_steps,
    rank_by_epoch,
    rank_by_score,
    read_done,
    save_best_phase,
    save_phase,
    soft_train_step,
    train,
    unit_slope,
)
from adapler_jax.training.retention import counts_for_speedup, make_speedup_of
from adapler_jax.training.setup import RunContext
from adapler_jax.training.targets import (
    check_target_speedups,
    save_target_phase,
    target_phases,
)
from adapler_jax.training.teacher import load_teacher, teacher_phases
from adapler_jax.training.validation import validation_scores
from adapler_jax.training.workdir import DONE
from adapler_jax.types import EncoderConfig, Params

RAISED_FILE = "raised_rank_learning_rate"  # of a search whose rate was raised at its start


def make_powerbert(encoder: EncoderConfig, config: ConfigDict) -> Pruner:
    """Return PoWER-BERT with the options of `config.powerbert`."""
    return powerbert(encoder, counts_padding=config.powerbert.padding_votes)


def run_search(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Learn how many tokens each layer retains. The model is the last epoch."""
    options, workdir = config.powerbert.copy_and_resolve_references(), directory.parent
    note = raise_rank_rate(directory, options, num_training_steps(context, options))
    pruner = make_powerbert_search(context.encoder, options, context.max_length)
    start = finetuned_start(directory, context, pruner, key="ranks")
    losses = LossConfig((("main", "mass", options.rank_l1_coef),), options.distil_coef)
    checkpoints = train(
        directory,
        context,
        pruner,
        start,
        options,
        make_step=soft_train_step(
            context, pruner, options, slope_schedule=unit_slope, losses=losses
        ),
        extras=load_teacher(workdir, options),
        rank=rank_by_epoch,
    )
    params, scores = best_epoch_params(checkpoints, start)
    weight_NL = np.asarray(params["pruner"]["rank_weight_NL"])
    counts = retention(weight_NL, round_up=options.round_up)
    record = {
        "retention": counts,
        "max_length": context.max_length,
        "mass": weight_NL.sum(axis=-1).round(3).tolist(),
    }
    record |= {"note": note} if note else {}
    params = with_retention(params, counts)
    save_phase(directory, context, powerbert(context.encoder), params, scores, record=record)


def raise_rank_rate(directory: pathlib.Path, options: ConfigDict, num_steps: int) -> str:
    """Raise the rate of the weights of ranks where a run has too few steps to move them.

    Adam moves a weight by at most about its rate in a step, and the mean rate of a schedule is half
    of its peak. A weight that starts at 1 gets to 0 only at a rate of 2 / num_steps or more. A
    search that release 0.1 began keeps its rate.

    Args:
      directory: of the search; a file in it says that the rate was raised.
      options: `config.powerbert`; the rate is changed in place.
      num_steps: of the search.

    Returns:
      A note on the change; empty without one.
    """
    rate = options.rank_learning_rate
    if rate == 0.0 or rate * num_steps >= 1.0:
        return ""
    if not directory.exists() or not any(directory.iterdir()):
        directory.mkdir(parents=True, exist_ok=True)
        replace_text(directory / RAISED_FILE, "")
    if not (directory / RAISED_FILE).exists():
        return ""
    options.rank_learning_rate = max(rate, 2.0 / num_steps)
    return (
        f"config.powerbert.rank_learning_rate was raised from {rate:g} to "
        f"{options.rank_learning_rate:.2g}: in {num_steps} steps it takes no weight to 0"
    )


def with_retention(params: Params, counts: tuple[int, ...]) -> Params:
    """Return the parameters of a model that retains so many tokens."""
    return params | {"pruner": {"retention_N": jnp.array(counts, jnp.float32)}}


def given_retention(options: ConfigDict, context: RunContext) -> tuple[int, ...] | None:
    """Return the configuration that replaces a search; None where the run searches.

    Raises:
      ValueError: the configuration does not fit the encoder, or its search is unfinished or was
        for another length.
    """
    if options.retention:
        return _check_given_counts(options.retention, context)
    if options.retention_from:
        return _read_counts(pathlib.Path(options.retention_from).expanduser(), context)
    return None


def _check_given_counts(retention, context: RunContext) -> tuple[int, ...]:
    """Return the counts of `config.powerbert.retention`."""
    counts = check_retention(retention, context.encoder.num_layers)
    if counts[0] > context.max_length:
        raise ValueError(
            f"config.powerbert.retention is {counts}, for longer texts than the "
            f"{context.max_length} token slots of this run; give at most as many, or set "
            "config.data.max_length"
        )
    return counts


def _read_counts(workdir: pathlib.Path, context: RunContext) -> tuple[int, ...]:
    """Return the counts that another run's search found."""
    path = workdir / "search" / DONE
    if not path.exists():
        raise ValueError(
            f"config.powerbert.retention_from is {workdir}; there is no finished search ({path})"
        )
    found = read_done(path.parent)
    if found["max_length"] != context.max_length:
        raise ValueError(
            f"the search in {workdir} was for texts of {found['max_length']} token slots, this run "
            f"has {context.max_length}; set config.data.max_length, or run a new search"
        )
    return check_retention(found["retention"], context.encoder.num_layers)


def run_retrain(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Train with the found or given counts. The model is the best epoch on validation."""
    start, counts = "finetune", given_retention(config.powerbert, context)
    if counts is None:
        done = read_done(directory.parent / "search")
        start, counts = "search", tuple(done["retention"])
    params = with_retention(load_phase_model(directory.parent / start).params, counts)
    checkpoints = _train_counts(directory, context, config, params)
    pruner, record = make_powerbert(context.encoder, config), {"retention": counts}
    save_best_phase(directory, context, pruner, checkpoints, params, record=record)


def _train_counts(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, params: Params
) -> Checkpoints:
    """Train a model whose counts are set; return its checkpoints, the best epoch first."""
    options = config.powerbert
    pruner = make_powerbert(context.encoder, config)
    losses = LossConfig(distil_coef=options.distil_coef)
    return train(
        directory,
        context,
        pruner,
        params,
        options,
        make_step=soft_train_step(
            context, pruner, options, slope_schedule=unit_slope, losses=losses
        ),
        extras=load_teacher(directory.parent, options),
        rank=rank_by_score,
    )


def run_target(
    directory: pathlib.Path, context: RunContext, config: ConfigDict, *, speedup: float
) -> None:
    """Train with counts that have a FLOPs speedup on the training texts.

    The counts are exact arithmetic on lengths, so no measurement is needed. The model is the best
    epoch on validation.
    """
    pruner = make_powerbert(context.encoder, config)
    params = _load_search(directory.parent / "search", context, config)
    speedup_of = make_speedup_of(
        params, context.encoder, pruner, context.splits["train"].lengths, head=context.head
    )
    counts = counts_for_speedup(params["pruner"]["rank_weight_NL"], speedup, speedup_of)
    params = with_retention(params, counts)
    training_speedup = speedup_of(counts)
    is_reached = training_speedup >= speedup
    if is_reached:
        checkpoints = _train_counts(directory, context, config, params)
        params, scores = best_epoch_params(checkpoints, params)
    else:
        scores = validation_scores(params, context, pruner, config.powerbert.batch_size)
    record = {
        "retention": counts,
        "training_speedup": training_speedup,
        "at_limit": max(counts) == 1,
    }
    save_target_phase(
        directory,
        context,
        pruner,
        params,
        scores,
        speedup=speedup,
        is_reached=is_reached,
        record=record,
    )


def _load_search(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> Params:
    """Return the parameters of a finished search with its weights of ranks.

    The saved model has the counts alone; the checkpoint has the weights.
    """
    search = make_powerbert_search(context.encoder, config.powerbert, context.max_length)
    like = finetuned_start(directory, context, search, key="ranks")
    params, _ = best_epoch_params(Checkpoints(directory, num_checkpoints=1), like)
    return params


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning; given counts need no search."""
    options = config.powerbert
    is_given = options.retention or options.retention_from
    search = [] if is_given else [Phase("search", run_search)]
    final = target_phases(config, "powerbert", run_target) or [Phase("powerbert", run_retrain)]
    return [*teacher_phases(options), *search, *final]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where the numbers of tokens are given in two ways."""
    fields = ("retention", "retention_from", "target_speedups")
    given = [f"config.powerbert.{name}" for name in fields if config.powerbert.get(name, ())]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are both given; give one")
    check_target_speedups(config, "powerbert")


def check_context(config: ConfigDict, context: RunContext) -> None:
    """Raise ValueError where given counts do not fit the run."""
    given_retention(config.powerbert, context)


METHOD = Method(
    title="PoWER-BERT",
    sections={"powerbert": Section(powerbert_section(), ranges={"rank_l1_coef": (0.0, 1e3)})},
    phases=phases,
    tradeoff_fields=("powerbert.target_speedups", "powerbert.rank_l1_coef"),
    check_config=check_config,
    check_context=check_context,
)
