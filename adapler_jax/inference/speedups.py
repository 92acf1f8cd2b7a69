"""Find the budgets of a request, on a calibrated curve. NumPy only."""

import math
from collections.abc import Sequence

import numpy as np

Budget = float | Sequence[float] | np.ndarray | None  # of a request: one, or one for each text


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
    is_number = isinstance(speedup, int | float | np.number) and not isinstance(speedup, bool)
    if not is_number:
        raise ValueError(f"speedup is {speedup!r:.60}; expected a number")
    if math.isfinite(speedup) and slowest < speedup <= fastest:
        # FLOPs are nearly linear in the budget, speedups are not.
        costs = [1.0 / value for value in speedups]
        return float(np.interp(1.0 / speedup, costs, budgets))
    if 0.0 < speedup <= max(1.0, slowest):
        return 1.0
    raise ValueError(f"speedup is {speedup:g}; this model has speedups from 1 to {fastest:.2f}")


def resolve_exported(
    budget: Budget,
    speedup: float | None,
    *,
    budgets: Sequence[float],
    speedups: Sequence[float],
) -> Budget:
    """Return the budget of a request to an exported file; None for the trained thresholds.

    Args:
      budget: of the request, or None.
      speedup: in place of a budget.
      budgets: calibrated, increasing; empty for a file of one speed.
      speedups: measured at these budgets.

    Raises:
      ValueError: both are given, the file has one speed, or it has no such budget or speedup.
    """
    if budget is None and speedup is None:
        return None
    if budget is not None and speedup is not None:
        raise ValueError("budget and speedup are both given; give one")
    if not budgets:
        raise ValueError(
            "the exported file has one speed; `adapler calibrate` the model and export it again as "
            "an ONNX file, since OpenVINO's take no budget. A model that keeps all tokens needs "
            "`adapler compress` before"
        )
    if speedup is not None:
        return budget_of_speedup(speedup, budgets, speedups)
    check_range(budget, budgets[0])
    return budget


def check_range(budget: Budget, lowest: float) -> None:
    """Raise ValueError unless all budgets are numbers from the lowest to 1."""
    expected = f"expected {lowest:g} to 1, the share of tokens to keep"
    try:
        values = np.asarray(budget)
        budget_X = np.ravel(values.astype(np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"budget is {budget!r:.60}; {expected}") from None
    if values.dtype.kind not in "fiu" or values.ndim > 1:
        raise ValueError(f"budget is {budget!r:.60}; {expected}, or one for each row")
    smallest = min(lowest, float(np.float32(lowest)))  # float32 may round a budget below the lowest
    wrong_X = budget_X[~((budget_X >= smallest) & (budget_X <= 1.0))]
    if wrong_X.size:
        raise ValueError(f"budget is {wrong_X[0]:g}; {expected}")


def spread_budget(budget: Budget, num_rows: int, *, unit: str = "texts") -> np.ndarray | None:
    """Return the budget of every row, float32 [rows]; None without a budget.

    Raises:
      ValueError: there are budgets for another number of rows.
    """
    if budget is None:
        return None
    value_M = np.asarray(budget, np.float32)
    if value_M.ndim and value_M.shape != (num_rows,):
        raise ValueError(f"{value_M.size} budgets for {num_rows} {unit}; give one for each")
    return np.broadcast_to(value_M, (num_rows,))


def repeat_budgets(budget: Budget, counts: Sequence[int]) -> Budget:
    """Return the budget of every window of texts with so many windows."""
    if budget is None or np.ndim(budget) == 0:
        return budget
    return np.repeat(np.asarray(budget), counts)
