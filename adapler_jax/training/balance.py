"""Balance classes of different sizes: by weights in the loss, or by repeated rows."""

import dataclasses

import numpy as np

from adapler_jax.data.batching.ragged import ragged
from adapler_jax.data.tokenization.tokens import Tokenized

BALANCED = "balanced"  # a value of config.class_weight; the other is none


def check_balance(config, *, has_classes: bool) -> None:
    """Reject fields that set both ways, or a task without classes.

    Raises:
      ValueError: naming the field.
    """
    if config.get("class_weight", "none") == BALANCED and config.get("balanced_sampling", False):
        raise ValueError(
            "config.class_weight is 'balanced' and config.balanced_sampling is True; both make "
            "up for the sizes of "
            "classes; give one"
        )
    for name in ("class_weight", "balanced_sampling"):
        if not has_classes and config.get(name, False) not in ("none", False):
            raise ValueError(
                f"config.{name} is of classes, and task {config.task!r} has none; leave it out"
            )


def class_weights(label_E: np.ndarray, num_classes: int) -> tuple[float, ...]:
    """Return the weight of each class in the loss: examples / (classes * examples of the class).

    The mean weight of the examples is 1. A class without examples has weight 1.

    Args:
      label_E: int32, of the training examples.
      num_classes: C.
    """
    count_C = np.bincount(label_E, minlength=num_classes)
    num_present = np.count_nonzero(count_C)
    weight_C = np.where(count_C, len(label_E) / (num_present * np.maximum(1, count_C)), 1.0)
    return tuple(weight_C.tolist())


def balanced_rows(label_E: np.ndarray, seed: int) -> np.ndarray:
    """Return row numbers that give each class as many examples as the largest: int64, increasing.

    Every example is in the result. A smaller class repeats its examples equally often, and the
    seed draws the rest.
    """
    generator, count_C = np.random.default_rng(seed), np.bincount(label_E)
    chosen = []
    for label in np.flatnonzero(count_C):
        rows = np.flatnonzero(label_E == label)
        whole, rest = divmod(count_C.max(), len(rows))
        chosen += [np.repeat(rows, whole), generator.permutation(rows)[:rest]]
    return np.sort(np.concatenate(chosen))


def balance(tokenized: Tokenized, seed: int) -> Tokenized:
    """Return a split with the rows of `balanced_rows`; the rows keep their ids."""
    rows = balanced_rows(tokenized.labels, seed)
    return dataclasses.replace(
        tokenized,
        tokens=ragged([tokenized.tokens[row] for row in rows], np.int32),
        segments=ragged([tokenized.segments[row] for row in rows], np.int8),
        labels=tokenized.labels[rows],
        example_ids=tokenized.example_ids[rows],
        head_slots={name: mark[rows] for name, mark in tokenized.head_slots.items()},
    )
