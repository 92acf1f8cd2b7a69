"""What turns the logits of batches into scores."""

from typing import Protocol

import numpy as np

from adapler_jax.metrics.classification import METRICS
from adapler_jax.types import Batch


class Scorer(Protocol):
    """Is given every batch once, then asked for the scores."""

    def add(self, logits, batch: Batch, real_B: np.ndarray) -> None:
        """Takes the logits of a batch, as the head gives them; real_B: bool, False on filler rows."""

    def scores(self) -> dict[str, float]:
        """Scores in [0, 1] by name, the one that models are chosen by as `score`."""


class NoScorer:
    """Scores nothing: for what is asked of some batches of a split alone."""

    def add(self, logits, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`."""

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`: none."""
        return {}


class ClassScorer:
    """A metric of `metrics.classification.METRICS` over the likeliest classes."""

    def __init__(self, metric: str = "accuracy"):
        """Raises ValueError where there is no such metric."""
        if metric not in METRICS:
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}")
        self._metric, self._parts = METRICS[metric], []

    def add(self, logits_BC, batch: Batch, real_B: np.ndarray) -> None:
        """As `Scorer.add`."""
        self._parts.append((np.argmax(logits_BC, axis=-1)[real_B], np.asarray(batch.label_B)[real_B]))

    @property
    def predicted_E(self) -> np.ndarray:
        """The likeliest class of each example, in the order of the batches."""
        return np.concatenate([predicted_B for predicted_B, _ in self._parts])

    @property
    def label_E(self) -> np.ndarray:
        """The class of each example, in the order of the batches."""
        return np.concatenate([label_B for _, label_B in self._parts])

    def scores(self) -> dict[str, float]:
        """As `Scorer.scores`."""
        return {"score": self._metric(self.predicted_E, self.label_E)}
