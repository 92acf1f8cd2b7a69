"""Run the loop that every phase shares: steps, checks, checkpoints, an evaluation each epoch."""

import math
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adapler_jax.io import process
from adapler_jax.training.checkpoints import Checkpoints
from adapler_jax.training.metrics_log import MetricsLog
from adapler_jax.training.pace import SavePace
from adapler_jax.training.steps import TrainState
from adapler_jax.types import Batch, Params

LOG_EVERY_STEPS = 10
DERIVED = (
    "main",
    "speedup",
    "flops_speedup",
    "accuracy",
    "grad_norm",
)  # from the terms; a bad term spoils them too


class PhaseSpec(NamedTuple):
    """The settings of a phase for the loop."""

    label: str
    num_epochs: int
    steps_per_epoch: int
    num_checkpoints: int  # epochs whose weights are kept
    checkpoint_every_steps: int  # in addition to every epoch's end; 0: never
    # (state, batch, key) -> (state, numbers); the loop jits it and donates the state
    train_step: Callable
    batches_from: Callable[[int], Iterator[Batch]]
    # (parameters, epoch from 0) -> {"rank": selects epochs, ...}, floats or lists of floats
    evaluate: Callable[[Params, int], dict]
    checkpoint_every_minutes: float = 0.0  # in addition to both; 0: never
    patience: int = 0  # epochs without a better one after which the phase ends; 0: never
    first_step: int = 0  # of this schedule; more where a finished phase is trained on


def check_finite(history: list[tuple[int, dict]], label: str) -> list[tuple[int, dict[str, float]]]:
    """Return the numbers of some steps, fetched from the device.

    Raises:
      FloatingPointError: with the term and the step that is NaN or infinite.
    """
    fetched = [
        (step, {name: float(value) for name, value in numbers.items()}) for step, numbers in history
    ]
    rank = {name: place for place, name in enumerate(DERIVED, start=1)}
    for step, numbers in fetched:
        for name, value in sorted(numbers.items(), key=lambda item: rank.get(item[0], 0)):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{label}: {name} is {value} at step {step}; train in a new workdir with "
                    "lower learning "
                    "rates or from other weights; checkpoints of earlier steps are kept"
                )
    return fetched


def format_metrics(scores: dict) -> str:
    """Return validation scores as a text."""
    words = f"validation score {100 * scores['score']:.1f}"
    return words + (
        f", FLOPs speedup {scores['flops_speedup']:.2f}x" if "flops_speedup" in scores else ""
    )


def is_stale(plan: PhaseSpec, checkpoints: Checkpoints, step: int) -> bool:
    """Return whether enough epochs passed since the best one to end the phase early.

    It reads checkpoints on disk, so that a restart decides equally.
    """
    if not plan.patience or not checkpoints.best_steps() or step % plan.steps_per_epoch:
        return False
    return (
        step - max(checkpoints.reached_step(), plan.first_step)
        >= plan.patience * plan.steps_per_epoch
    )


def train_loop(
    plan: PhaseSpec, directory: pathlib.Path, state: TrainState, seed_key
) -> Checkpoints:
    """Run a phase to its end, from its last checkpoint if it has one.

    The numbers do not depend on where the phase stopped. The returned checkpoints have the weights
    of the best epochs, and the metrics log of `directory` has all measurements.
    """
    checkpoints = Checkpoints(directory, num_checkpoints=plan.num_checkpoints)
    # A copy: the first step donates the state, and the caller may start another phase from the
    # same arrays.
    state = jax.tree.map(jnp.copy, checkpoints.restore_last(state))
    start_step, num_steps = int(state.step), plan.num_epochs * plan.steps_per_epoch
    train_step = jax.jit(plan.train_step, donate_argnums=0)
    with MetricsLog(
        directory, start_step=start_step, num_steps=num_steps, label=plan.label
    ) as metrics_log:
        if start_step:
            metrics_log.log(f"{plan.label}: continues after step {start_step} of {num_steps}")
        is_over = start_step >= num_steps or is_stale(plan, checkpoints, start_step)
        history, batches = [], iter(()) if is_over else plan.batches_from(start_step)
        pace = SavePace(plan.checkpoint_every_minutes)
        if not is_over:
            metrics_log.show("compiling ...")
        for step in range(start_step, start_step if is_over else num_steps):
            process.check()  # of a signal whose exception was lost
            epoch, position = divmod(step, plan.steps_per_epoch)
            state, numbers = train_step(state, next(batches), seed_key)
            history.append((step + 1, numbers))
            last_of_epoch = position + 1 == plan.steps_per_epoch
            every_steps = plan.checkpoint_every_steps
            checkpoint_due = pace.is_due() or (every_steps and (step + 1) % every_steps == 0)
            if last_of_epoch or checkpoint_due or len(history) == LOG_EVERY_STEPS:
                _log(metrics_log, check_finite(history, plan.label))
                history = []
            if last_of_epoch:
                if epoch * plan.steps_per_epoch <= start_step:
                    metrics_log.show("compiling the validation ...")
                scores = _validate(plan, metrics_log, state, epoch)
                checkpoints.save_best(state, scores)
            if last_of_epoch or checkpoint_due:
                jax.block_until_ready(state)
                with pace.saving():
                    checkpoints.save_last(state)
            # The line follows the save: a kill after the line does not repeat the epoch.
            if last_of_epoch:
                metrics_log.log(
                    f"{plan.label}: epoch {epoch + 1} of {plan.num_epochs}, "
                    f"{format_metrics(scores)}"
                )
                if step + 1 < num_steps and is_stale(plan, checkpoints, step + 1):
                    metrics_log.log(
                        f"{plan.label}: ends early, {plan.patience} epochs after its best one"
                    )
                    break
    return checkpoints


def _validate(plan: PhaseSpec, metrics_log: MetricsLog, state: TrainState, epoch: int) -> dict:
    """Return the scores of an epoch, and write them into the metrics log."""
    metrics_log.note("validation")
    scores = plan.evaluate(state.params, epoch)
    metrics_log.note("")
    metrics_log.show("")
    metrics_log.write(int(state.step), "validation", {"epoch": epoch + 1, **scores})
    return scores


def _log(metrics_log: MetricsLog, fetched: list[tuple[int, dict[str, float]]]) -> None:
    """Write fetched numbers into the metrics log."""
    for step, numbers in fetched:
        metrics_log.write(step, "train", numbers)
    step, last = fetched[-1]
    shown = {
        words: sum(numbers[name] for _, numbers in fetched) / len(fetched)
        for name, words in (("main", "loss"), ("accuracy", "accuracy"))
        if name in last
    }
    metrics_log.advance(step, shown)
