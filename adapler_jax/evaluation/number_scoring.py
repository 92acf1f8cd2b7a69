"""Score a head that returns a number, by correlation or by the order of a query's documents.

Shape letters:

    E examples of a set
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from adapler_jax.evaluation.scoring import check_finite, check_same_texts, paired_error
from adapler_jax.heads.regression import apply_activation
from adapler_jax.metrics.differences import number_difference_error
from adapler_jax.metrics.ranking import (
    CORRELATIONS,
    QUERY_METRICS,
    check_number_metric,
    compare_orders,
    kendall_tau,
    query_scores,
)
from adapler_jax.types import Batch


class NumberScorer:
    """Score numbers by a metric of `metrics.ranking`."""

    def __init__(self, metric: str, *, activation: str, group_E: np.ndarray):
        """Set the metric.

        Args:
          metric: one of CORRELATIONS or QUERY_METRICS.
          activation: from the logit to the number.
          group_E: int, by example id; documents of one query have the same number.

        Raises:
          ValueError: there is no such metric.
        """
        check_number_metric(metric)
        self._metric, self._activation, self._group_E = metric, activation, group_E
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, logits: Any, batch: Batch, is_real_B: np.ndarray) -> None:
        """Add a batch; logits: [B, 1]."""
        logit_B = np.asarray(logits)[:, 0]
        columns = logit_B, np.asarray(batch.label_B), np.asarray(batch.example_id_B)
        logit_B, label_B, id_B = (column[is_real_B] for column in columns)
        self._parts.append((logit_B, label_B, id_B))

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return logits, labels and example ids of all batches, in the order of the ids.

        Orders are of logits: different logits may have equal numbers.
        """
        logit_E, label_E, id_E = (np.concatenate(column) for column in zip(*self._parts))
        order_E = np.argsort(id_E)
        return logit_E[order_E], label_E[order_E], id_E[order_E]

    def _numbers(self, logit_E: np.ndarray) -> np.ndarray:
        """Return the numbers of logits, float64 [E]."""
        return np.asarray(apply_activation(jnp.asarray(logit_E), self._activation), np.float64)

    def _correlate(self, logit_E: np.ndarray, label_E: np.ndarray) -> float:
        """Return the metric of CORRELATIONS."""
        is_ranked = self._metric == "spearman"
        return CORRELATIONS[self._metric](logit_E if is_ranked else self._numbers(logit_E), label_E)

    def scores(self) -> dict[str, float]:
        """Return `score`, and `mse`, the mean squared error.

        Raises:
          ValueError: a number is not finite, or no query has a relevant document.
        """
        logit_E, label_E, id_E = self._columns()
        check_finite(logit_E)
        error = float(np.mean((self._numbers(logit_E) - label_E) ** 2))
        if self._metric in CORRELATIONS:
            return {"score": self._correlate(logit_E, label_E), "mse": error}
        found = query_scores(self._metric, logit_E, label_E, self._group_E[id_E])
        if not found:
            raise ValueError(
                f"no query has documents whose labels rank them, so {self._metric} is not defined; "
                "choose another config.data.metric"
            )
        return {"score": float(np.mean(list(found.values()))), "mse": error}

    def example_scores(self) -> Mapping[int, float]:
        """Return the metric by the number of the query; for a correlation minus squared errors."""
        logit_E, label_E, id_E = self._columns()
        if self._metric in QUERY_METRICS:
            return query_scores(self._metric, logit_E, label_E, self._group_E[id_E])
        error_E = (self._numbers(logit_E) - label_E) ** 2
        return dict(zip(id_E.tolist(), (-error_E).tolist()))

    def difference_se(self, other: "NumberScorer") -> float | None:
        """Return the paired standard error of the score's difference to another model's.

        For correlations it is a bootstrap's.

        Raises:
          ValueError: the other model has other examples.
        """
        if self._metric in QUERY_METRICS:
            return paired_error(self.example_scores(), other.example_scores())
        logit_E, other_E, label_E, _ = self._paired(other)
        return number_difference_error(self._correlate, label_E, logit_E, other_E)

    def agreement(self, other: "NumberScorer") -> dict[str, float]:
        """Return `kendall_tau` and `top10_overlap` with another model, means over queries.

        For correlations there is one tau, over all examples.

        Raises:
          ValueError: the other model has other examples.
        """
        logit_E, other_E, _, id_E = self._paired(other)
        if self._metric in CORRELATIONS:
            return {"kendall_tau": kendall_tau(logit_E, other_E)}
        return compare_orders(logit_E, other_E, self._group_E[id_E]).means()

    def _paired(
        self, other: "NumberScorer"
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the logits of both models, the labels and the ids, in the order of the ids."""
        logit_E, label_E, id_E = self._columns()
        other_E, _, other_id_E = other._columns()
        check_same_texts(id_E, other_id_E)
        return logit_E, other_E, label_E, id_E
