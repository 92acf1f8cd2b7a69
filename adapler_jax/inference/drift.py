"""Notice texts, or a reranker's queries, that are unlike the ones of a calibration.

A text's kept share is the mean over layers of the fraction of its tokens that enter. A query has
the mean share and the mean logit of its pairs, which are too alike to count one by one.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

MIN_TEXTS = 128  # that are compared first; then at every doubling
Z = 4.0  # standard errors of a mean that are no drift
TOLERANCE = 0.02  # difference of a mean that is no drift, however many texts there are
# Mean and standard deviation over texts, in the rows of a calibration. The margin is the one
# without a decision threshold, so that it is the same for all thresholds.
SHARE, MARGIN = "text_share", "margin"
QUERY_SHARE, QUERY_LOGIT = "query_share", "query_logit"
NAMES = {SHARE: "share of tokens kept", MARGIN: "margin between the two likeliest classes"}
QUERY_NAMES = {QUERY_SHARE: "share of tokens kept", QUERY_LOGIT: "logit"}


class DriftMonitor:
    """Compares the texts or queries that a model sees with its calibration; warns once."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, float]],
        num_texts: int,
        *,
        names: Mapping[str, str] = NAMES,
        unit: str = "texts",
    ):
        """Take the measurements of a calibration.

        Args:
          rows: one a budget, with each of `names` and its deviation `..._sd`.
          num_texts: that were measured.
          names: of the measurements, with their words.
          unit: of what is counted.
        """
        self._rows, self._num_calibrated = rows, num_texts
        self._names, self._unit = names, unit
        self._sums = dict.fromkeys(names, 0.0)
        self._expected = dict.fromkeys(names, 0.0)
        self._variances = dict.fromkeys(names, 0.0)
        self._num_texts, self._next = 0, MIN_TEXTS

    def add(self, budget_B: ArrayLike | None, *values: np.ndarray) -> None:
        """Count the texts of a call, and warn where the means leave the calibrated bands.

        Args:
          budget_B: of each text, or one of all; texts at NaN or None do not count.
          *values: of each text, [B], in the order of the names: kept shares, and margins by
            `metrics.classification.margins` without a threshold, or a query's logits.
        """
        budget_B = np.broadcast_to(np.asarray(budget_B, np.float64), values[0].shape)
        is_counted_B = ~np.isnan(budget_B)
        if self._next < 0 or not np.any(is_counted_B):
            return
        budget_X = budget_B[is_counted_B]
        for name, found_B in zip(self._names, values, strict=True):
            self._sums[name] += float(np.sum(found_B[is_counted_B]))
            self._expected[name] += float(np.sum(self._at(budget_X, name)))
            self._variances[name] += float(np.sum(self._at(budget_X, f"{name}_sd") ** 2))
        self._num_texts += len(budget_X)
        if self._num_texts >= self._next:
            self._next = 2 * self._num_texts
            self._compare()

    def _at(self, budget_X: np.ndarray, name: str) -> np.ndarray:
        """Return a measurement at budgets, interpolated."""
        budgets = [row["budget"] for row in self._rows]
        return np.interp(budget_X, budgets, [row[name] for row in self._rows])

    def _compare(self) -> None:
        """Warn, once, if a mean is outside its band."""
        n = self._num_texts
        for name, words in self._names.items():
            found, expected = self._sums[name] / n, self._expected[name] / n
            deviation = math.sqrt(self._variances[name] / n)
            band = max(TOLERANCE, Z * deviation * math.sqrt(1 / n + 1 / self._num_calibrated))
            if abs(found - expected) > band:
                self._next = -1
                warnings.warn(
                    f"the {n:,} {self._unit} so far are unlike the calibration's: their mean "
                    f"{words} is {found:.2f}, there it was {expected:.2f}; speeds and certificates "
                    f"may not hold, calibrate again with {self._unit} of now",
                    stacklevel=2,
                )
                return


def query_means(queries: Sequence | np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Return the means of each value over the pairs of a query, float64 [queries], sorted by query.

    Args:
      queries: of the pairs: texts, or their numbers.
      *values: of the pairs, [M].
    """
    # An array of texts would give every query the room of the longest, and cut NULs at their ends.
    number_M = np.unique(np.asarray(queries, object), return_inverse=True)[1]
    size_Q = np.bincount(number_M)
    return [np.bincount(number_M, weights=value_M) / size_Q for value_M in values]
