"""Notice texts that are unlike the texts of a calibration.

A text's kept share is the mean over layers of the fraction of its tokens that enter.
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
NAMES = {SHARE: "share of tokens kept", MARGIN: "margin between the two likeliest classes"}


class DriftMonitor:
    """Compares the texts that a classifier sees with its calibration; warns once."""

    def __init__(self, rows: Sequence[Mapping[str, float]], num_texts: int):
        """Take the measurements of a calibration.

        Args:
          rows: one a budget, with `text_share`, `margin`, and their deviations `..._sd`.
          num_texts: that were measured.
        """
        self._rows, self._num_calibrated = rows, num_texts
        self._sums = dict.fromkeys(NAMES, 0.0)
        self._expected = dict.fromkeys(NAMES, 0.0)
        self._variances = dict.fromkeys(NAMES, 0.0)
        self._num_texts, self._next = 0, MIN_TEXTS

    def add(self, budget_B: ArrayLike | None, share_B: np.ndarray, margin_B: np.ndarray) -> None:
        """Count the texts of a call, and warn where the means leave the calibrated bands.

        Args:
          budget_B: of each text, or one of all; texts at NaN or None do not count.
          share_B: kept share of each text.
          margin_B: of each text, by `metrics.classification.margins` without a threshold.
        """
        budget_B = np.broadcast_to(np.asarray(budget_B, np.float64), share_B.shape)
        is_counted_B = ~np.isnan(budget_B)
        if self._next < 0 or not np.any(is_counted_B):
            return
        budget_X = budget_B[is_counted_B]
        for name, found_B in ((SHARE, share_B), (MARGIN, margin_B)):
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
        for name, words in NAMES.items():
            found, expected = self._sums[name] / n, self._expected[name] / n
            deviation = math.sqrt(self._variances[name] / n)
            band = max(TOLERANCE, Z * deviation * math.sqrt(1 / n + 1 / self._num_calibrated))
            if abs(found - expected) > band:
                self._next = -1
                warnings.warn(
                    f"the {n:,} texts so far are unlike the calibration's: their mean {words} "
                    f"is {found:.2f}, there it was {expected:.2f}; speeds and certificates may not "
                    "hold, calibrate again with texts of now",
                    stacklevel=2,
                )
                return
