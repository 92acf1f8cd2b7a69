"""Score a head that returns numbers, by correlation or by the order of a query's documents.

Shape letters:

    E examples of a set
    C numbers of an example
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adapler_jax.evaluation.scoring import check_finite, check_same_texts, paired_error
from adapler_jax.heads.regression import apply_activation, numbers_of
from adapler_jax.metrics.differences import number_difference_error
from adapler_jax.metrics.ranking import (
    CORRELATIONS,
    QUERY_METRICS,
    check_number_metric,
    compare_orders,
    mean_tau,
    query_scores,
)
from adapler_jax.types import Batch


class _NumberColumns(NamedTuple):
    """The logits of some examples, and what is right."""

    logit_EC: np.ndarray  # float32
    label_EC: np.ndarray  # float32
    example_id_E: np.ndarray  # int


class NumberScorer:
    """Score numbers by a metric of `metrics.ranking`; of several it is their mean."""

    def __init__(
        self, metric: str, *, activation: str, group_E: np.ndarray, names: Sequence[str] = ()
    ):
        """Set the metric.

        Args:
          metric: one of CORRELATIONS, or for one number of QUERY_METRICS.
          activation: from the logit to the number.
          group_E: int, by example id; documents of one query have the same number.
          names: of several numbers, in the order of the logits.

        Raises:
          ValueError: there is no such metric.
        """
        check_number_metric(metric)
        self._metric, self._activation, self._group_E = metric, activation, group_E
        self._names = tuple(names)
        self._parts: list[_NumberColumns] = []

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, C]."""
        logits_BC = np.asarray(logits)
        label_BC = np.asarray(numbers_of(batch, logits_BC.shape[-1]))
        columns = logits_BC, label_BC, np.asarray(batch.example_id_B)
        self._parts.append(_NumberColumns(*(column[is_real_B] for column in columns)))

    def _columns(self) -> _NumberColumns:
        """Return the examples of all batches, in the order of their ids.

        Orders are of logits: different logits may have equal numbers.
        """
        found = _NumberColumns(*(np.concatenate(column) for column in zip(*self._parts)))
        order_E = np.argsort(found.example_id_E)
        return _NumberColumns(*(column[order_E] for column in found))

    def _numbers(self, logit_EC: np.ndarray) -> np.ndarray:
        """Return the numbers of logits, float64 [E, C]."""
        return np.asarray(apply_activation(jnp.asarray(logit_EC), self._activation), np.float64)

    def _correlate(self, logit_EC: np.ndarray, label_EC: np.ndarray) -> float:
        """Return the metric of CORRELATIONS, the mean over outputs."""
        return float(np.mean(self._correlations(logit_EC, label_EC)))

    def _correlations(self, logit_EC: np.ndarray, label_EC: np.ndarray) -> list[float]:
        """Return the metric of CORRELATIONS for each output."""
        is_ranked = self._metric == "spearman"
        found_EC = logit_EC if is_ranked else self._numbers(logit_EC)
        correlate = CORRELATIONS[self._metric]
        outputs = zip(found_EC.T, label_EC.T, strict=True)
        return [float(correlate(found_E, label_E)) for found_E, label_E in outputs]

    def _query_scores(self, found: _NumberColumns) -> dict[int, float]:
        """Return the metric of QUERY_METRICS by the number of the query."""
        group_E = self._group_E[found.example_id_E]
        return query_scores(self._metric, found.logit_EC[:, 0], found.label_EC[:, 0], group_E)

    def scores(self) -> dict[str, float]:
        """Return `score`, and `mse`, the mean squared error.

        Raises:
          ValueError: a number is not finite, or no query has a relevant document.
        """
        found = self._columns()
        check_finite(found.logit_EC)
        error = float(np.mean((self._numbers(found.logit_EC) - found.label_EC) ** 2))
        if self._metric in CORRELATIONS:
            return {"score": self._correlate(found.logit_EC, found.label_EC), "mse": error}
        by_query = self._query_scores(found)
        if not by_query:
            raise ValueError(
                f"no query has documents whose labels rank them, so {self._metric} is not defined; "
                "choose another config.data.metric"
            )
        return {"score": float(np.mean(list(by_query.values()))), "mse": error}

    def details(self) -> dict[str, Any]:
        """Return `numbers`, the name and the score of each of several numbers; else nothing."""
        if not self._names:
            return {}
        found = self._columns()
        scores = self._correlations(found.logit_EC, found.label_EC)
        rows = zip(self._names, scores, strict=True)
        return {"numbers": [{"name": name, "score": score} for name, score in rows]}

    def example_scores(self) -> Mapping[int, float]:
        """Return the metric by the number of the query; for a correlation minus squared errors."""
        found = self._columns()
        if self._metric in QUERY_METRICS:
            return self._query_scores(found)
        error_EC = (self._numbers(found.logit_EC) - found.label_EC) ** 2
        return dict(zip(found.example_id_E.tolist(), (-error_EC.mean(axis=-1)).tolist()))

    def difference_se(self, other: "NumberScorer") -> float | None:
        """Return the paired standard error of the score's difference to another model's.

        For correlations it is a bootstrap's.

        Raises:
          ValueError: the other model has other examples.
        """
        if self._metric in QUERY_METRICS:
            return paired_error(self.example_scores(), other.example_scores())
        found, other_EC = self._paired(other)
        return number_difference_error(self._correlate, found.label_EC, found.logit_EC, other_EC)

    def agreement(self, other: "NumberScorer") -> dict[str, float]:
        """Return `kendall_tau` and `top10_overlap` with another model, means over queries.

        For correlations there is one tau, over all examples; of several numbers it is their mean.

        Raises:
          ValueError: the other model has other examples.
        """
        found, other_EC = self._paired(other)
        if self._metric in CORRELATIONS:
            return {"kendall_tau": mean_tau(found.logit_EC, other_EC)}
        group_E = self._group_E[found.example_id_E]
        return compare_orders(found.logit_EC[:, 0], other_EC[:, 0], group_E).means()

    def _paired(self, other: "NumberScorer") -> tuple[_NumberColumns, np.ndarray]:
        """Return the examples of this model, and the logits of another one for them, [E, C]."""
        found, others = self._columns(), other._columns()
        check_same_texts(found.example_id_E, others.example_id_E)
        return found, others.logit_EC
