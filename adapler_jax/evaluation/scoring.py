"""Turn the logits of batches into scores.

Shape letters:

    E examples of a set
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from adapler_jax.metrics.classification import (
    METRICS,
    ORDERED,
    THRESHOLD,
    calibration_error,
    check_threshold,
    class_scores,
    class_values,
    confusion_matrix,
    macro_f1,
    majority_share,
    metric_name,
    softmax,
)
from adapler_jax.metrics.differences import class_difference_error, mean_difference_error
from adapler_jax.metrics.label_sets import THRESHOLDS
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

    def example_scores(self) -> Mapping[int, float]:
        """Return by example id, or by number of the question, scores whose mean is `score`."""


def saved_threshold(extra: Mapping[str, Any]) -> Any:
    """Return the threshold, or a list for several labels, that a model was saved with, or None.

    Args:
      extra: fields of the saved model.
    """
    fields = (THRESHOLD, THRESHOLDS, "no_answer_threshold")
    return next((extra[field] for field in fields if extra.get(field) is not None), None)


def check_finite(score_E: np.ndarray) -> None:
    """Raise ValueError where a model gives texts scores that are not numbers, [E] or [E, C]."""
    wrong_E = ~np.isfinite(score_E).reshape(len(score_E), -1).all(axis=-1)
    if wrong_E.any():
        raise ValueError(
            f"the model gives {np.sum(wrong_E)} of {len(wrong_E)} texts scores that are not "
            "numbers; its weights are damaged or training diverged: train again with a lower "
            "learning rate"
        )


def check_same_texts(id_E, other_id_E) -> None:
    """Raise ValueError unless two models have scores of the same examples, by their sorted ids."""
    if not np.array_equal(id_E, other_id_E):
        raise ValueError("two models have scores of different texts; score the same split")


class UnlabelledTask:
    """Score nothing: for questions about a part of a split that need no score."""

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Ignore a batch."""

    def scores(self) -> dict[str, float]:
        """Return no scores."""
        return {}

    def example_scores(self) -> Mapping[int, float]:
        """Return no scores."""
        return {}


class _ClassColumns(NamedTuple):
    """The predictions for some examples."""

    likeliest_E: np.ndarray  # int, class
    confidence_E: np.ndarray  # float, probability of the likeliest class
    last_prob_E: np.ndarray  # float, probability of the last class: the second of two
    label_E: np.ndarray  # int, class
    example_id_E: np.ndarray  # int


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
            example_id_E=np.asarray(batch.example_id_B)[is_real_B],
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
        check_finite(columns.confidence_E)
        metric = METRICS[metric_name(self._metric, self._num_classes)]
        if self._values is not None:
            score = metric(self._values[predicted_E], self._values[columns.label_E])
        else:
            score = metric(predicted_E, columns.label_E)
        is_right_E = columns.likeliest_E == columns.label_E
        return {"score": score, "ece": calibration_error(columns.confidence_E, is_right_E)}

    def example_scores(self) -> Mapping[int, float]:
        """Return 1 for a right class and 0 for a wrong one, by example id."""
        is_right_E = (self.predicted_E == self.label_E).astype(float)
        return dict(zip(self._columns().example_id_E.tolist(), is_right_E.tolist()))

    def difference_se(self, other: "ClassScorer") -> float | None:
        """Return the paired standard error of the score's difference to another model's.

        Raises:
          ValueError: the other model has other examples.
        """
        name = metric_name(self._metric, self._num_classes)
        if name == "accuracy":
            return paired_error(self.example_scores(), other.example_scores())
        id_E, other_id_E = self._columns().example_id_E, other._columns().example_id_E
        order_E, other_order_E = np.argsort(id_E), np.argsort(other_id_E)
        check_same_texts(id_E[order_E], other_id_E[other_order_E])
        return class_difference_error(
            name,
            self.label_E[order_E],
            self.predicted_E[order_E],
            other.predicted_E[other_order_E],
            value_C=self._values,
        )

    def details(self) -> dict[str, Any]:
        """Return scores by class, as plain values.

        Returns:
          `majority_share`: fraction of the most frequent class. `macro_f1`: the mean F1 of the
          classes. `classes`: name, precision, recall, f1 and support of each class. `confusion`:
          counts [labelled][predicted], of at most MAX_CONFUSION classes.
        """
        matrix_CC = confusion_matrix(self.predicted_E, self.label_E, self._num_classes)
        names = self._class_names or tuple(map(str, range(self._num_classes)))
        columns = zip(names, *(values.tolist() for values in class_scores(matrix_CC)), strict=True)
        fields = ("name", "precision", "recall", "f1", "support")
        found = {
            "majority_share": majority_share(self.label_E),
            "macro_f1": macro_f1(self.predicted_E, self.label_E),
            "classes": [dict(zip(fields, row, strict=True)) for row in columns],
        }
        if self._num_classes <= MAX_CONFUSION:
            found["confusion"] = matrix_CC.tolist()
        return found


def paired_error(scores: Mapping[int, float], others: Mapping[int, float]) -> float | None:
    """Return the standard error of the mean difference of two models' scores of each example.

    Args:
      scores: of a model, by example id.
      others: of another model, by example id.

    Returns:
      The error as a fraction; None for fewer than two examples.

    Raises:
      ValueError: the examples differ.
    """
    check_same_texts(sorted(scores), sorted(others))
    return mean_difference_error([score - others[key] for key, score in scores.items()])


def difference_se(scorer: Scorer, dense: Scorer) -> float | None:
    """Return the paired standard error of a model's score minus the dense model's.

    The error of accuracies and of scores that are means over questions is exact. Other metrics of
    classes have a bootstrap's.

    Args:
      scorer: of the model.
      dense: of the dense model, on the same examples in any order.
    """
    compare = getattr(scorer, "difference_se", None)
    if compare is not None and type(scorer) is type(dense):
        return compare(dense)
    return paired_error(scorer.example_scores(), dense.example_scores())
