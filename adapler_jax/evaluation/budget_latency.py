"""Measure how long a calibrated model takes at each budget, on this device."""

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.reranker import Reranker

NUM_CALLS = 24  # of a round at a budget
NUM_ROUNDS = 3  # whose median counts; the budgets take turns


class Latency(NamedTuple):
    """A request for a latency."""

    milliseconds: float  # of a call with batch_size texts, tokenizing included
    batch_size: int = 1

    def check(self) -> None:
        """Raise ValueError unless both are positive."""
        if not self.milliseconds > 0.0 or self.batch_size < 1:
            raise ValueError(
                f"latency of {self.milliseconds:g} ms with batch size {self.batch_size}; expected "
                "numbers above 0"
            )

    def sentence(self, calibration: Calibration) -> str:
        """Return the budget in words; where all are too slow, the message of `budget_of`."""
        try:
            found = self.budget_of(calibration)
        except ValueError as error:
            return str(error)
        return f"budget {found:g} is the largest within {self.milliseconds:g} ms"

    def budget_of(self, calibration: Calibration) -> float:
        """Return the largest budget within the latency.

        Raises:
          ValueError: no budget is; says the nearest.
        """
        rows = calibration.rows
        within = [row["budget"] for row in rows if row["milliseconds"] <= self.milliseconds]
        if within:
            return max(within)
        nearest = min(rows, key=lambda row: row["milliseconds"])
        raise ValueError(
            f"no budget takes {self.milliseconds:g} ms or less with batch size {self.batch_size}; "
            f"the nearest is budget {nearest['budget']:g} with {nearest['milliseconds']:.1f} ms"
        )


def measure_latency(
    model: Classifier | Reranker, texts: Sequence, budgets: Sequence[float], *, batch_size: int
) -> dict[float, float]:
    """Return the milliseconds of a call of `predict` at each budget.

    Compilation is not counted. The machine should run nothing else.

    Args:
      model: that is calibrated.
      texts: of its task; a seeded sample is timed.
      budgets: to time.
      batch_size: texts of a call.
    """
    rng = np.random.default_rng(0)
    rows = np.resize(rng.permutation(len(texts)), NUM_CALLS * batch_size)
    calls = [[texts[row] for row in part] for part in rows.reshape(NUM_CALLS, batch_size).tolist()]
    model.warm_up(batch_size)

    def seconds(budget: float) -> float:
        """Return the seconds of all calls."""
        start = time.perf_counter()
        for call in calls:
            model.predict(call, batch_size=batch_size, budget=budget)
        return time.perf_counter() - start

    for budget in budgets:
        seconds(budget)
    found = [{budget: seconds(budget) for budget in budgets} for _ in range(NUM_ROUNDS)]
    return {
        budget: 1e3 * statistics.median(round_[budget] for round_ in found) / NUM_CALLS
        for budget in budgets
    }
