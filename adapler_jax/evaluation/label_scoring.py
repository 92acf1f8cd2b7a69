"""Score a head that gives a text any number of labels.

Shape letters:

    E examples of a set
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.evaluation.scoring import check_finite, check_same_texts
from adapler_jax.heads.multi_label import LABELS
from adapler_jax.metrics.classification import sigmoid
from adapler_jax.metrics.differences import number_difference_error
from adapler_jax.metrics.label_sets import (
    DEFAULT_THRESHOLD,
    METRICS,
    THRESHOLDS,
    check_label_metric,
    choose_label_thresholds,
    decide_labels,
    label_scores,
)
from adapler_jax.types import Batch


class _LabelColumns(NamedTuple):
    """The predictions for some examples, and what is right."""

    prob_EC: np.ndarray  # float, probabilities
    label_EC: np.ndarray  # bool
    example_id_E: np.ndarray  # int


class LabelScorer:
    """Score predicted labels by a metric of `metrics.label_sets`."""

    def __init__(
        self,
        metric: str,
        *,
        class_names: Sequence[str],
        threshold_C: Sequence[float] | None = None,
        default_C: Sequence[float] | float = DEFAULT_THRESHOLD,
    ):
        """Set the metric and the labels.

        Args:
          metric: one of METRICS.
          class_names: of the labels, in the order of the logits.
          threshold_C: of the probability of each label; None for the best on these examples.
          default_C: thresholds of labels that too few examples have to choose on.

        Raises:
          ValueError: there is no such metric.
        """
        check_label_metric(metric)
        self._metric, self._class_names = metric, tuple(class_names)
        self._default_C = np.asarray(default_C)
        self._given_C = None if threshold_C is None else np.asarray(threshold_C)
        self._parts: list[_LabelColumns] = []

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, C]."""
        columns = sigmoid(logits), batch.head_slots[LABELS], batch.example_id_B
        prob_BC, label_BC, id_B = (np.asarray(column)[is_real_B] for column in columns)
        self._parts.append(_LabelColumns(prob_BC, label_BC > 0, id_B))

    def _columns(self) -> _LabelColumns:
        """Return the examples of all batches, in the order of their ids."""
        found = _LabelColumns(*(np.concatenate(column) for column in zip(*self._parts)))
        order_E = np.argsort(found.example_id_E)
        return _LabelColumns(*(column[order_E] for column in found))

    def scores(self) -> dict[str, Any]:
        """Return `score`, the other metrics of METRICS, and the thresholds of the labels.

        Raises:
          ValueError: a probability is not a number.
        """
        prob_EC, label_EC, _ = found = self._columns()
        check_finite(prob_EC)
        threshold_C = self._thresholds(found)
        predicted_EC = decide_labels(prob_EC, threshold_C)
        scores = {name: metric(predicted_EC, label_EC) for name, metric in METRICS.items()}
        return {"score": scores.pop(self._metric)} | scores | {THRESHOLDS: threshold_C.tolist()}

    def _thresholds(self, found: _LabelColumns) -> np.ndarray:
        """Return the threshold of each label, float64 [C]."""
        if self._given_C is not None:
            return self._given_C
        return choose_label_thresholds(found.prob_EC, found.label_EC, self._default_C)

    def _decide(self, found: _LabelColumns) -> np.ndarray:
        """Return the predicted labels, bool [E, C]."""
        return decide_labels(found.prob_EC, self._thresholds(found))

    def example_scores(self) -> Mapping[int, float]:
        """Return the fraction of right answers, a yes or no to each label, by example id."""
        found = self._columns()
        right_EC = self._decide(found) == found.label_EC
        return dict(zip(found.example_id_E.tolist(), right_EC.mean(axis=-1).tolist()))

    def difference_se(self, other: "LabelScorer") -> float | None:
        """Return a bootstrap's paired standard error of the score's difference to another model's.

        Raises:
          ValueError: the other model has other examples.
        """
        found, others = self._columns(), other._columns()
        check_same_texts(found.example_id_E, others.example_id_E)
        return number_difference_error(
            METRICS[self._metric], found.label_EC, self._decide(found), other._decide(others)
        )

    def details(self) -> dict[str, Any]:
        """Return `classes`: name, precision, recall, f1 and support of each label."""
        found = self._columns()
        scores = label_scores(self._decide(found), found.label_EC)
        columns = zip(self._class_names, *(values.tolist() for values in scores), strict=True)
        fields = ("name", "precision", "recall", "f1", "support")
        return {"classes": [dict(zip(fields, row, strict=True)) for row in columns]}
