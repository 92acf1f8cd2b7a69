"""Find the budget of a speedup on a calibrated curve."""

import math
from collections.abc import Sequence

import numpy as np


def budget_of_speedup(speedup: float, budgets: Sequence[float], speedups: Sequence[float]) -> float:
    """Return the budget that was measured to have a FLOPs speedup, by interpolation.

    Args:
      speedup: the asked one.
      budgets: calibrated, increasing; the last is 1.
      speedups: measured at the budgets, falling.

    Raises:
      ValueError: no budget has it; says which are there.
    """
    fastest, slowest = speedups[0], speedups[-1]
    if math.isfinite(speedup) and slowest < speedup <= fastest:
        # FLOPs are nearly linear in the budget, speedups are not.
        costs = [1.0 / value for value in speedups]
        return float(np.interp(1.0 / speedup, costs, budgets))
    if 0.0 < speedup <= max(1.0, slowest):
        return 1.0
    raise ValueError(f"speedup is {speedup:g}; this model has speedups from 1 to {fastest:.2f}")
