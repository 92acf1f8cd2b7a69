"""Bring a model of any method to target speedups: check the targets, scale on validation, close.

A run with `config.SECTION.target_speedups` has one phase SECTION-Nx for each target.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from adapler_jax.evaluation.models import evaluate_model
from adapler_jax.evaluation.scoring import UnlabelledTask
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.pruning.base import Pruner
from adapler_jax.training.calibration import TradeOff, at_limit, at_lowest, reach_speedup, reaches
from adapler_jax.training.phases import (
    Phase,
    best_epoch_params,
    mark_complete,
    save_phase,
)
from adapler_jax.training.setup import RunContext
from adapler_jax.training.validation import validate, validation_split
from adapler_jax.training.workdir import target_name
from adapler_jax.types import Params

NUM_SAMPLE_BATCHES = 16
FIELD = "target_speedups"


def target_speedups(config: ConfigDict, section: str) -> list[float]:
    """Return the targets of a section in increasing order; none where an older config lacks them.

    Args:
      config: of the run.
      section: name of the section, which begins the names of the phases.
    """
    return sorted(getattr(config, section).get(FIELD, ()))


def target_phases(config: ConfigDict, section: str, run: Callable) -> list[Phase]:
    """Return one phase for each target of a section.

    Args:
      config: of the run.
      section: as in `target_speedups`.
      run: (directory, context, config, *, speedup) -> None, as `Phase.run`.
    """
    return [
        Phase(target_name(section, speedup), functools.partial(run, speedup=speedup))
        for speedup in target_speedups(config, section)
    ]


def check_target_speedups(config: ConfigDict, section: str) -> None:
    """Raise ValueError where a target is not a factor of 1 or more, or names a phase twice."""
    speedups: Sequence[Any] = getattr(config, section).get(FIELD, ())
    for speedup in speedups:
        is_number = isinstance(speedup, int | float) and not isinstance(speedup, bool)
        if not is_number or not (math.isfinite(speedup) and speedup >= 1.0):
            raise ValueError(
                f"config.{section}.{FIELD} holds {speedup!r}; "
                "expected factors of 1 or more, as (1.5, 2.0)"
            )
    names = [target_name(section, speedup) for speedup in speedups]
    if len(set(names)) < len(names):
        raise ValueError(
            f"config.{section}.{FIELD} names a phase twice: {', '.join(sorted(names))}"
        )


def reach_on_validation(
    context: RunContext,
    pruner: Pruner,
    params: Params,
    speedup: float,
    *,
    tradeoff: TradeOff,
    batch_size: int,
) -> tuple[Params, dict]:
    """Scale a trade-off parameter until the validation split has the speedup.

    Returns:
      The parameters, and their validation scores.
    """
    split = validation_split(context)
    batches = context.eval_batches(split, batch_size)
    every = max(1, len(batches) // NUM_SAMPLE_BATCHES)
    # Batches are sorted by length, so the middle one of a group represents it.
    sample = batches[every // 2 :: every]

    def sample_speedup(params):
        found = evaluate_model(
            params,
            context.encoder,
            pruner,
            sample,
            scorer=UnlabelledTask(),
            head=context.head,
            dense_config=context.full_encoder,
            dtype=context.dtype,
            driver="masked",
        )
        return found.flops_speedup

    def scores_of(params):
        return validate(params, context, pruner, batches, context.task.make_scorer(split))

    with Heartbeat(lambda: f"scaling to {speedup:g}x by the validation split"):
        return reach_speedup(
            params,
            speedup,
            tradeoff=tradeoff,
            sample_speedup_of=sample_speedup,
            scores_of=scores_of,
        )


def run_scaled_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    start: Params,
    *,
    speedup: float,
    tradeoff: TradeOff,
    batch_size: int,
    train: Callable[[Params], Any],
) -> None:
    """Scale a model to a speedup, train it on, and scale it once more.

    A speedup out of reach by scaling ends the phase without training: at its highest setting the
    model drops all that the method can drop.

    Args:
      directory: of the phase.
      context: of the run.
      pruner: of the model.
      start: parameters of the model.
      speedup: the target.
      tradeoff: the trade-off parameter of the method.
      batch_size: of validation.
      train: scaled parameters -> checkpoints of the training.
    """
    reach = functools.partial(
        reach_on_validation,
        context,
        pruner,
        speedup=speedup,
        tradeoff=tradeoff,
        batch_size=batch_size,
    )
    params, scores = reach(start)
    if reaches(scores, speedup):
        params, _ = best_epoch_params(train(params), params)
        params, scores = reach(params)
    save_target_phase(
        directory,
        context,
        pruner,
        params,
        scores,
        speedup=speedup,
        is_reached=reaches(scores, speedup),
        record=limits(params, tradeoff),
    )


def limits(params: Params, tradeoff: TradeOff) -> dict[str, bool]:
    """Return the entries of a closing record on the limits of a parameter."""
    return {"at_limit": at_limit(params, tradeoff), "at_lowest": at_lowest(params, tradeoff)}


def save_target_phase(
    directory: pathlib.Path,
    context: RunContext,
    pruner: Pruner,
    params: Params,
    scores: dict,
    *,
    speedup: float,
    is_reached: bool,
    record: Mapping[str, Any],
) -> None:
    """Save a model that reached its target; close the phase without a model otherwise.

    Args:
      directory: of the phase.
      context: of the run.
      pruner: of the model.
      params: of the model.
      scores: on validation.
      speedup: the target.
      is_reached: whether the model reached it.
      record: further entries of the closing record.
    """
    record = {"target_speedup": speedup, **record}
    if is_reached:
        save_phase(directory, context, pruner, params, scores, record=record)
        return
    directory.mkdir(parents=True, exist_ok=True)
    mark_complete(directory, {"validation": scores, **record, "is_reached": False})
