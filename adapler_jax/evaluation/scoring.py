"""Turn the logits of batches into scores.

Shape letters:

    E examples of a set
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from adapler_jax.metrics.classification import (
    METRICS,
    ORDERED,
    calibration_error,
    check_threshold,
    class_scores,
    class_values,
    confusion_matrix,
    majority_share,
    metric_name,
    softmax,
)
from adapler_jax.types import Batch

MAX_CONFUSION = 50  # classes whose confusion matrix is kept


class Scorer(Protocol):
    """Collects every batch once, and then returns the scores."""

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch.

        Args:
          logits: of the head.
          batch: with labels.
          is_real_B: bool, False for padding examples.
        """

    def scores(self) -> dict[str, float]:
        """Return scores in [0, 1] by name; `score` is the one that models are selected by."""


class UnlabelledTask:
    """Score nothing: for questions about a part of a split that need no score."""

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Ignore a batch."""

    def scores(self) -> dict[str, float]:
        """Return no scores."""
        return {}


class _ClassColumns(NamedTuple):
    """The predictions for some examples."""

    likeliest_E: np.ndarray  # int, class
    confidence_E: np.ndarray  # float, probability of the likeliest class
    last_prob_E: np.ndarray  # float, probability of the last class: the second of two
    label_E: np.ndarray  # int, class


class ClassScorer:
    """Score predicted classes by a metric of `metrics.classification.METRICS`."""

    def __init__(
        self,
        metric: str = "accuracy",
        *,
        class_names: Sequence[str] = (),
        threshold: float | None = None,
        shown_names: Sequence[str] = (),
    ):
        """Set the metric and the classes.

        Args:
          metric: one of METRICS; `f1` of more than two classes is `macro_f1`.
          class_names: in the order of the logits; needed for correlations of classes that are
            numbers.
          threshold: of two classes, the second is predicted if its probability is at least this.
            None for the likeliest class.
          shown_names: of the classes in details; empty: class_names.

        Raises:
          ValueError: there is no such metric, or the classes do not fit it or the threshold.
        """
        self._metric, self._threshold = metric_name(metric, len(class_names)), threshold
        self._class_names = tuple(shown_names or class_names)
        self._values = (
            class_values(class_names, metric) if metric in ORDERED and class_names else None
        )
        if class_names:
            check_threshold(threshold, len(class_names))
        self._parts: list[_ClassColumns] = []
        self._num_classes = 0

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, C]."""
        logits_BC = np.asarray(logits)[is_real_B]
        with np.errstate(invalid="ignore"):
            prob_BC = softmax(logits_BC)
        self._num_classes = logits_BC.shape[-1]
        columns = _ClassColumns(
            likeliest_E=np.argmax(logits_BC, axis=-1),
            confidence_E=prob_BC.max(axis=-1),
            last_prob_E=prob_BC[:, -1],
            label_E=np.asarray(batch.label_B)[is_real_B],
        )
        self._parts.append(columns)

    def _columns(self) -> _ClassColumns:
        """Return the predictions of all batches."""
        return _ClassColumns(*(np.concatenate(column) for column in zip(*self._parts)))

    @property
    def likeliest_E(self) -> np.ndarray:
        """Return the likeliest class of each example, in the order of the batches."""
        return self._columns().likeliest_E

    @property
    def second_prob_E(self) -> np.ndarray:
        """Return the probability of the second of two classes, in the order of the batches."""
        return self._columns().last_prob_E

    @property
    def predicted_E(self) -> np.ndarray:
        """Return the predicted class of each example, in the order of the batches."""
        if self._threshold is None:
            return self.likeliest_E
        return (self.second_prob_E >= self._threshold).astype(np.int64)

    @property
    def label_E(self) -> np.ndarray:
        """Return the labelled class of each example, in the order of the batches."""
        return self._columns().label_E

    def scores(self) -> dict[str, float]:
        """Return `score`, and `ece`, the expected calibration error.

        Raises:
          ValueError: a logit is not a number, so that no class is predicted.
        """
        columns, predicted_E = self._columns(), self.predicted_E
        wrong_E = ~np.isfinite(columns.confidence_E)
        if wrong_E.any():
            raise ValueError(
                f"the model gives {np.sum(wrong_E)} of {len(wrong_E)} texts scores that are not "
                "numbers; its weights are damaged or training diverged: train again with a lower "
                "learning rate"
            )
        metric = METRICS[metric_name(self._metric, self._num_classes)]
        if self._values is not None:
            score = metric(self._values[predicted_E], self._values[columns.label_E])
        else:
            score = metric(predicted_E, columns.label_E)
        is_right_E = columns.likeliest_E == columns.label_E
        return {"score": score, "ece": calibration_error(columns.confidence_E, is_right_E)}

    def details(self) -> dict[str, Any]:
        """Return scores by class, as plain values.

        Returns:
          `majority_share`: fraction of the most frequent class. `classes`: name, precision,
          recall, f1 and support of each class. `confusion`: counts [labelled][predicted], of at
          most MAX_CONFUSION classes.
        """
        matrix_CC = confusion_matrix(self.predicted_E, self.label_E, self._num_classes)
        names = self._class_names or tuple(map(str, range(self._num_classes)))
        columns = zip(names, *(values.tolist() for values in class_scores(matrix_CC)), strict=True)
        fields = ("name", "precision", "recall", "f1", "support")
        found = {
            "majority_share": majority_share(self.label_E),
            "classes": [dict(zip(fields, row, strict=True)) for row in columns],
        }
        if self._num_classes <= MAX_CONFUSION:
            found["confusion"] = matrix_CC.tolist()
        return found
