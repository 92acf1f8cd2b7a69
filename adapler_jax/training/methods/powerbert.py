"""Train PoWER-BERT after fine-tuning.

teacher     logits of the fine-tuned model, where they are distilled        -> teacher.npz
search      weights of ranks and the encoder together, soft extraction      -> model/
powerbert   the found number of tokens for each layer, hard extraction      -> model/, best epoch

The search records how many tokens each layer retains.
Source: Goyal et al., "PoWER-BERT", ICML 2020.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from adapler_jax.presets.sections import powerbert_section
from adapler_jax.pruning import Pruner, powerbert
from adapler_jax.pruning.powerbert import check_retention, retention
from adapler_jax.training.from_config import make_powerbert_search
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import (
    Phase,
    best_epoch_params,
    finetuned_start,
    load_phase_model,
    rank_by_epoch,
    rank_by_score,
    read_done,
    save_best_phase,
    save_phase,
    soft_train_step,
    train,
    unit_slope,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.teacher import load_teacher, teacher_phases
from adapler_jax.training.workdir import DONE
from adapler_jax.types import EncoderConfig, Params


def make_powerbert(encoder: EncoderConfig, config: ConfigDict) -> Pruner:
    """Return PoWER-BERT with the options of `config.powerbert`."""
    return powerbert(encoder, counts_padding=config.powerbert.padding_votes)


def run_search(directory: pathlib.Path, context: RunContext, config: ConfigDict) -> None:
    """Learn how many tokens each layer retains. The model is the last epoch."""
    options, workdir = config.powerbert, directory.parent
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
    params = with_retention(params, counts)
    save_phase(directory, context, powerbert(context.encoder), params, scores, record=record)


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
    options, workdir = config.powerbert, directory.parent
    pruner = make_powerbert(context.encoder, config)
    start, counts = "finetune", given_retention(options, context)
    if counts is None:
        start, counts = "search", tuple(read_done(workdir / "search")["retention"])
    params = with_retention(load_phase_model(workdir / start).params, counts)
    losses = LossConfig(distil_coef=options.distil_coef)
    checkpoints = train(
        directory,
        context,
        pruner,
        params,
        options,
        make_step=soft_train_step(
            context, pruner, options, slope_schedule=unit_slope, losses=losses
        ),
        extras=load_teacher(workdir, options),
        rank=rank_by_score,
    )
    record = {"retention": counts}
    save_best_phase(directory, context, pruner, checkpoints, params, record=record)


def phases(config: ConfigDict) -> list[Phase]:
    """Return the phases after fine-tuning; given counts need no search."""
    options = config.powerbert
    is_given = options.retention or options.retention_from
    search = [] if is_given else [Phase("search", run_search)]
    return [*teacher_phases(options), *search, Phase("powerbert", run_retrain)]


def check_config(config: ConfigDict) -> None:
    """Raise ValueError where two configurations of counts are given."""
    if config.powerbert.retention and config.powerbert.retention_from:
        raise ValueError(
            "config.powerbert.retention and config.powerbert.retention_from are both given; "
            "give one"
        )


def check_context(config: ConfigDict, context: RunContext) -> None:
    """Raise ValueError where given counts do not fit the run."""
    given_retention(config.powerbert, context)


METHOD = Method(
    title="PoWER-BERT",
    sections={"powerbert": Section(powerbert_section(), ranges={"rank_l1_coef": (0.0, 1e3)})},
    phases=phases,
    tradeoff_fields=("powerbert.rank_l1_coef",),
    check_config=check_config,
    check_context=check_context,
)
