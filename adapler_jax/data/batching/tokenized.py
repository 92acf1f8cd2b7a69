"""The record of tokenized examples that batches are made from."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from adapler_jax.data.batching.ragged import Ragged


@dataclasses.dataclass(frozen=True)
class Tokenized:
    """Tokenized examples.

    Attributes:
      tokens: int32 rows that start with [CLS], at most max_length long.
      segments: int8 rows of the same lengths: 0 for the first text and its [SEP], 1 for the second.
      labels: int32 [rows] of classes, or float32 [rows] of numbers.
      example_ids: int32 [rows], unique, at least 0.
      head_slots: int32 arrays [rows, ...] by name: token slots or labels that a head reads or is
        trained with; -1 for padding. Several numbers a text are float32 [rows, outputs].
      group: consecutive rows that belong together, such as the options of a question; 1 for
        independent rows.
    """

    tokens: Ragged
    segments: Ragged
    labels: np.ndarray
    example_ids: np.ndarray
    head_slots: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    group: int = 1

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.tokens)

    @property
    def lengths(self) -> np.ndarray:
        """Return the number of tokens of each example, int64 [rows]."""
        return self.tokens.lengths
