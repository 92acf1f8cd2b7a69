"""Define the method: a record of how a pruner is trained.

A run walks the phase `finetune`, then the phases of `config.method`. One of them has the method's
name and leaves the method's model. With target speedups, it may be one phase for each of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from adapler_jax.training.phases import Phase
from adapler_jax.training.setup import RunContext

# Ranges that hold for a field in every section that has it: lowest and highest value.
COMMON_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, math.inf),
    "checkpoint_every_minutes": (0.0, math.inf),
    "checkpoint_every_steps": (0, math.inf),
    "num_epochs": (1, math.inf),
    "num_checkpoints": (1, math.inf),
    "clip_norm": (0.0, math.inf),
    "distil_coef": (0.0, 1.0),
    "early_stopping_patience": (0, math.inf),
    "warmup_ratio": (0.0, 1.0),
}


class Section(NamedTuple):
    """The fields of one section of a config.

    Attributes:
      fields: names and default values.
      ranges: lowest and highest value of numbers, by name. `COMMON_RANGES` holds too.
      allowed: values of choices, by name.
    """

    fields: Mapping[str, Any]
    ranges: Mapping[str, tuple[float, float]] = {}
    allowed: Mapping[str, Sequence[str]] = {}


def accept_config(config: ConfigDict) -> None:
    """Accept every config: the method has no rule on several fields at once."""


def accept_context(config: ConfigDict, context: RunContext) -> None:
    """Accept every context: the method fits every encoder and every data set."""


class Method(NamedTuple):
    """How a pruner is trained.

    Attributes:
      title: the method's name in reports.
      sections: the config's sections by name. One of them has the method's name; a section of
        training has `finetune`'s fields for rates and batches, as `phases.train` reads them.
      phases: config -> the phases after `finetune`, in their order.
      tradeoff_fields: dotted fields that trade the score for speed. A user changes them to get
        another speedup.
      drops_tokens: whether the model drops tokens, so that a report can show them.
      check_config: raises ValueError where fields contradict each other. It runs before any work.
      check_context: raises ValueError where a field does not fit the encoder or the data.
    """

    title: str
    sections: Mapping[str, Section]
    phases: Callable[[ConfigDict], list[Phase]]
    tradeoff_fields: tuple[str, ...] = ()
    drops_tokens: bool = True
    check_config: Callable[[ConfigDict], None] = accept_config
    check_context: Callable[[ConfigDict, RunContext], None] = accept_context
