"""The record of a task in tokens, for training and evaluation."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.split_names import evaluation_splits
from adapler_jax.evaluation.scoring import Scorer
from adapler_jax.heads import Head


class TaskData(NamedTuple):
    """A task, loaded and in tokens."""

    name: str
    metric: str  # name of the main score
    head: Head
    class_names: tuple[str, ...]  # empty for heads without classes
    splits: dict[str, Tokenized]
    notes: tuple[str, ...]  # notes to the user, one sentence each
    # (split, saved threshold or thresholds, or None) -> a fresh Scorer
    make_scorer: Callable[..., Scorer]
    group: int = 1  # rows that belong together
    unit: str = "texts"  # name of a row
    extra: Mapping[str, Any] = {}  # fields of the task that a saved model needs
    majority: Mapping[
        str, float
    ] = {}  # by split the share of its most frequent class; none where texts are read

    @property
    def num_classes(self) -> int:
        """Return the number of classes C."""
        return len(self.class_names)

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Splits to report on: the test splits, or the validation splits where there is no test."""
        return evaluation_splits(self.splits)
