"""Turn the logits of batches into scores."""

from collections.abc import Sequence
from typing import Protocol

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
    """Collects every batch once, then returns the scores."""

    def add(self, logits, batch: Batch, real_B: np.ndarray) -> None:
        """Take the logits of a batch, as the head gives them.

        Args:
          real_B: bool, False on padding examples.
        """

    def scores(self) -> dict[str, float]:
        """Return scores in [0, 1] by name; `score` selects models."""


class UnlabelledTask:
    """Scores nothing, for measurements on batches without labels."""

    def add(self, logits, batch: Batch, real_B: np.ndarray) -> None:
        """Ignore the logits."""

    def scores(self) -> dict[str, float]:
        """Return no scores."""
        return {}


class ClassScorer:
    """A metric of `metrics.classification.METRICS` over the predicted classes."""

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
          threshold: of two classes, predict the second where its probability is at least this;
            None
            predicts the likeliest.
          shown_names: of the classes in details; empty: class_names.

        Raises:
          ValueError: the metric does not exist, or the classes do not fit it or the threshold.
        """
        self._metric, self._threshold = metric_name(metric, len(class_names)), threshold
        self._class_names = tuple(shown_names or class_names)
        self._values = (
            class_values(class_names, metric) if metric in ORDERED and class_names else None
        )
        if class_names:
            check_threshold(threshold, len(class_names))
        self._parts, self._num_classes = [], 0

    def add(self, logits_BC, batch: Batch, real_B: np.ndarray) -> None:
        """Take the logits of a batch; see `Scorer.add`."""
        logits_BC = np.asarray(logits_BC)[real_B]
        with np.errstate(invalid="ignore"):
            prob_BC = softmax(logits_BC)
        label_B = np.asarray(batch.label_B)[real_B]
        columns = (np.argmax(logits_BC, axis=-1), prob_BC.max(axis=-1), prob_BC[:, -1], label_B)
        self._num_classes = logits_BC.shape[-1]
        self._parts.append(columns)

    def _column(self, place: int) -> np.ndarray:
        """Return one of the columns of `add` over all batches."""
        return np.concatenate([columns[place] for columns in self._parts])

    @property
    def likeliest_E(self) -> np.ndarray:
        """The likeliest class of each example, in the order of the batches."""
        return self._column(0)

    @property
    def second_prob_E(self) -> np.ndarray:
        """The probability of the second of two classes, by example."""
        return self._column(2)

    @property
    def predicted_E(self) -> np.ndarray:
        """The predicted class of each example, in the order of the batches."""
        if self._threshold is None:
            return self.likeliest_E
        return (self.second_prob_E >= self._threshold).astype(np.int64)

    @property
    def label_E(self) -> np.ndarray:
        """The labelled class of each example, in the order of the batches."""
        return self._column(3)

    def scores(self) -> dict[str, float]:
        """Return `score`, and `ece`, the expected calibration error.

        Raises:
          ValueError: a logit is NaN, so that no class can be predicted.
        """
        confidence_E, predicted_E, label_E = self._column(1), self.predicted_E, self.label_E
        wrong_E = ~np.isfinite(confidence_E)
        if wrong_E.any():
            raise ValueError(
                f"the model gives {np.sum(wrong_E)} of {len(wrong_E)} texts scores that are not "
                "numbers; its weights "
                "are damaged or training diverged: train again with a lower learning rate"
            )
        metric = metric_name(self._metric, self._num_classes)
        if self._values is not None:
            score = METRICS[metric](self._values[predicted_E], self._values[label_E])
        else:
            score = METRICS[metric](predicted_E, label_E)
        return {"score": score, "ece": calibration_error(confidence_E, self.likeliest_E == label_E)}

    def details(self) -> dict:
        """Return scores by class, as plain values.

        Returns:
          majority_share: of the most frequent class; classes: name, precision, recall, f1 and
          support of
            each;
          confusion: counts [labelled][predicted], of at most MAX_CONFUSION classes.
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
