"""Make a fine-tuned model faster without training, in a run: two methods, a model for each target.

attention-Nx     each layer keeps the tokens that receive the most attention     -> model/
vocabulary-Nx    the most salient entries of the vocabulary enter the encoder    -> model/

Both see the training texts without their labels.
"""

import functools
import pathlib

from ml_collections import ConfigDict

from adapler_jax.evaluation.shares import OutOfReachError
from adapler_jax.evaluation.training_free import check_head, prune_without_training
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.presets.sections import training_free_section
from adapler_jax.training.methods.base import Method, Section
from adapler_jax.training.phases import Phase, load_phase_model
from adapler_jax.training.setup import RunContext
from adapler_jax.training.targets import (
    FIELD,
    check_target_speedups,
    save_target_phase,
    target_phases,
)
from adapler_jax.training.validation import validation_scores


def run_target(
    directory: pathlib.Path,
    context: RunContext,
    config: ConfigDict,
    *,
    speedup: float,
    method: str,
) -> None:
    """Bring the fine-tuned model to a speedup without training, and validate it."""
    batch_size = config[method].batch_size
    prune = functools.partial(
        prune_without_training,
        load_phase_model(directory.parent / "finetune").params,
        context.encoder,
        context.eval_batches("train", batch_size),
        method=method,
        dtype=context.dtype,
        head=context.head,
    )
    is_reached = True
    with Heartbeat(lambda: f"{directory.name}: choosing tokens by the training texts"):
        try:
            params, pruner = prune(speedup=speedup)
        except OutOfReachError as error:
            is_reached = False
            params, pruner = prune(speedup=error.highest)
    with Heartbeat(lambda: f"{directory.name}: validation"):
        scores = validation_scores(params, context, pruner, batch_size)
    save_target_phase(
        directory,
        context,
        pruner,
        params,
        scores,
        speedup=speedup,
        is_reached=is_reached,
        record={"at_limit": not is_reached, "at_lowest": False},
    )


def make_method(name: str, title: str) -> Method:
    """Return the record of a method that needs no training."""

    def phases(config: ConfigDict) -> list[Phase]:
        """Return one phase for each target."""
        return target_phases(config, name, functools.partial(run_target, method=name))

    def check_config(config: ConfigDict) -> None:
        """Raise ValueError where there is no target, or one is not possible."""
        check_target_speedups(config, name)
        if not config[name][FIELD]:
            raise ValueError(f"config.{name}.{FIELD} is empty; give a speedup, as (2.0,)")

    def check_context(config: ConfigDict, context: RunContext) -> None:
        """Raise ValueError where the task has neither classes, labels nor numbers of texts."""
        del config
        check_head(name, context.head)

    return Method(
        title=title,
        sections={name: Section(training_free_section())},
        phases=phases,
        tradeoff_fields=(f"{name}.{FIELD}",),
        check_config=check_config,
        check_context=check_context,
    )


ATTENTION = make_method("attention", "attention received, without training")
VOCABULARY = make_method("vocabulary", "vocabulary saliency, without training")
