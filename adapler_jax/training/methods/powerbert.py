"""The phases of PoWER-BERT after fine-tuning.

teacher     logits of the fine-tuned model, where they are distilled        -> teacher.npz
search      weights of ranks and the encoder together, soft extraction      -> model/, how many tokens a layer retains
powerbert   trained on with so many tokens, hard extraction                 -> model/, best epoch
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning import powerbert
from adapler_jax.pruning.powerbert import check_retention, retention
from adapler_jax.training import from_config
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.phases import (
    load_phase_model,
    read_done,
    save_best_phase,
    save_phase,
    soft_train_step,
    train,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.teacher import load_teacher, run_teacher
from adapler_jax.training.workdir import DONE
from adapler_jax.types import Params


def constant_slope(_):
    """Steps per epoch -> (step -> slope): the method has none, but 1 is not the hard rule's None."""
    return lambda step: jnp.float32(1.0)


def run_search(directory: pathlib.Path, context: RunContext, config) -> None:
    """Learns how many tokens each layer retains; the model is that of the last epoch."""
    options, workdir = config.powerbert, directory.parent
    pruner = from_config.make_powerbert_search(
        context.encoder, options, max_length=context.max_length
    )
    start = load_phase_model(workdir / "finetune").params
    start |= {"pruner": pruner.init(context.key("ranks"), context.encoder)}
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
            slope_fn=constant_slope,
            losses=LossConfig((("main", "mass", options.rank_l1_coef),), options.distil_coef),
        ),
        extras=load_teacher(workdir, options),
        rank=lambda epoch, scores: float(epoch),
    )
    params, scores = checkpoints.restore_best(start), checkpoints.best_scores()
    checkpoints.close()
    weight_NL = np.asarray(params["pruner"]["rank_weight_NL"])
    counts = retention(weight_NL, round_up=options.round_up)
    save_phase(
        directory,
        context,
        powerbert(context.encoder),
        with_retention(params, counts),
        scores,
        retention=counts,
        max_length=context.max_length,
        mass=weight_NL.sum(axis=-1).round(3).tolist(),
    )


def with_retention(params: Params, counts: tuple[int, ...]) -> Params:
    """The parameters of a model that retains so many tokens."""
    return params | {"pruner": {"retention_N": jnp.array(counts, jnp.float32)}}


def given_retention(options, context: RunContext) -> tuple[int, ...] | None:
    """The configuration that stands in for a search; None where there is none.

    Raises ValueError where it does not fit the encoder, or is of a search that is not finished or for another length.
    """
    if options.retention:
        counts = check_retention(options.retention, context.encoder.num_layers)
        if counts[0] > context.max_length:
            raise ValueError(
                f"config.powerbert.retention is {counts}, for longer texts than the {context.max_length} token slots of "
                "this run; give at most as many, or set config.data.max_length"
            )
        return counts
    if not options.retention_from:
        return None
    workdir = pathlib.Path(options.retention_from).expanduser()
    path = workdir / "search" / DONE
    if not path.exists():
        raise ValueError(
            f"config.powerbert.retention_from is {workdir}; there is no finished search ({path})"
        )
    found = read_done(path.parent)
    if found["max_length"] != context.max_length:
        raise ValueError(
            f"the search in {workdir} was for texts of {found['max_length']} token slots, this run has "
            f"{context.max_length}; set config.data.max_length, or search anew"
        )
    return check_retention(found["retention"], context.encoder.num_layers)


def run_retrain(directory: pathlib.Path, context: RunContext, config) -> None:
    """Trains with the found or given retention configuration; the model is the best epoch on validation."""
    options, workdir = config.powerbert, directory.parent
    pruner = powerbert(context.encoder, counts_padding=options.padding_votes)
    start, counts = "finetune", given_retention(options, context)
    if counts is None:
        start, counts = "search", tuple(read_done(workdir / "search")["retention"])
    params = with_retention(load_phase_model(workdir / start).params, counts)
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
            slope_fn=constant_slope,
            losses=LossConfig(distil_coef=options.distil_coef),
        ),
        extras=load_teacher(workdir, options),
        rank=lambda epoch, scores: scores["score"],
    )
    save_best_phase(directory, context, pruner, checkpoints, params, retention=counts)


def phases_of(options) -> list:
    """(directory name, function) of the phases that the section asks for."""
    plan = [("teacher", run_teacher)] if options.distil_coef else []
    plan += [] if options.retention or options.retention_from else [("search", run_search)]
    return [*plan, ("powerbert", run_retrain)]
