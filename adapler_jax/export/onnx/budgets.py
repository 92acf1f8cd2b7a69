"""Interpolate a pruner's values between calibrated budgets inside the graph.

Letters besides the key of `types.py`:

    K calibrated budgets, increasing; the last is 1
    I intervals between them, K - 1
"""

from typing import NamedTuple

import numpy as np

from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.settings import BUDGET
from adapler_jax.inference.calibration import FIXED, Calibration


class SiteValues(NamedTuple):
    """The value of a pruner at one site."""

    value: Value  # float32 [B, 1] or [1, 1], threshold or share
    share: Value | None = None  # float32, share of the entering tokens; NaN for the threshold


def values_of_sites(
    graph: Graph, own_J: np.ndarray, full: float, calibration: Calibration | None
) -> list[SiteValues]:
    """Return the values of each site at the budgets of the texts.

    Args:
      graph: gets the nodes; with a calibration also the default of the input BUDGET.
      own_J: values of the model without a budget.
      full: value that keeps all tokens.
      calibration: of the model.
    """
    own_J = np.asarray(own_J, np.float32)
    if calibration is None:
        return [SiteValues(graph.constant([[own]], np.float32)) for own in own_J.tolist()]
    budget_B = graph.weight(BUDGET, np.full(1, np.nan, np.float32))
    budget_B1 = graph.add("Reshape", budget_B, (-1, 1))
    is_own_B1 = graph.add("IsNaN", budget_B1)
    value_JK = np.array(calibration.values, np.float32)
    if calibration.mode == FIXED:
        share_BJ = _interpolate(graph, budget_B1, calibration, value_JK, full=1.0)
        share_BJ = graph.add("Where", is_own_B1, float("nan"), share_BJ)
        own = [graph.constant([[value]], np.float32) for value in own_J.tolist()]
        return [
            SiteValues(own[site], graph.add("Gather", share_BJ, (site,), axis=1))
            for site in range(len(own))
        ]
    value_BJ = _interpolate(graph, budget_B1, calibration, value_JK, full=full)
    value_BJ = graph.add("Where", is_own_B1, graph.constant(own_J[None], np.float32), value_BJ)
    return [
        SiteValues(graph.add("Gather", value_BJ, (site,), axis=1)) for site in range(len(own_J))
    ]


def _interpolate(
    graph: Graph, budget_B1: Value, calibration: Calibration, value_JK: np.ndarray, *, full: float
) -> Value:
    """Return the values of all sites, linear between budgets: float32 [B, J].

    v(b) = v_0 + sum_i clip((b - b_i) / (b_{i+1} - b_i), 0, 1) (v_{i+1} - v_i)
    """
    budget_K = np.array(calibration.budgets, np.float32)
    start_1J = graph.constant(value_JK[None, :, 0], np.float32)
    if len(budget_K) == 1:
        value_BJ = start_1J
    else:
        lower_1I = graph.constant(budget_K[None, :-1], np.float32)
        width_1I = graph.constant(np.diff(budget_K)[None], np.float32)
        fraction_BI = graph.add("Div", graph.add("Sub", budget_B1, lower_1I), width_1I)
        fraction_BI = graph.add("Clip", fraction_BI, 0.0, 1.0)
        step_IJ = graph.constant(np.diff(value_JK, axis=1).T, np.float32)
        value_BJ = graph.add("Add", graph.add("MatMul", fraction_BI, step_IJ), start_1J)
    return graph.add("Where", graph.add("GreaterOrEqual", budget_B1, 1.0), full, value_BJ)
