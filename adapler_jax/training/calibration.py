"""A dial for a trained AdapLeR model: one factor on all thresholds, found by measuring."""

from collections.abc import Callable

import jax.numpy as jnp

from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.types import Params

NUM_BISECTIONS = 8
MAX_FACTOR = 100.0  # takes the smallest threshold ratio to the largest


def with_factor(params: Params, factor: float) -> Params:
    """The parameters with threshold ratios times `factor`, kept in [0.01, 1]: above 1 a model could drop every token
    of a text whose scores are uniform."""
    threshold_N = jnp.clip(params["pruner"]["threshold_N"] * factor, *THRESHOLD_RANGE)
    return params | {"pruner": params["pruner"] | {"threshold_N": threshold_N}}


def scale_thresholds(params: Params, target: float, speedup_of: Callable[[Params], float]) -> Params:
    """The smallest scaling found of the thresholds with which `speedup_of` reaches `target`.

    Bisects the logarithm of the factor in [1/100, 100]. Where even thresholds of 1 do not reach it, those are the answer.
    """
    low, high = 1.0 / MAX_FACTOR, MAX_FACTOR
    if speedup_of(with_factor(params, high)) < target:
        return with_factor(params, high)
    if speedup_of(with_factor(params, low)) >= target:
        return with_factor(params, low)
    for _ in range(NUM_BISECTIONS):
        middle = (low * high) ** 0.5
        if speedup_of(with_factor(params, middle)) < target:
            low = middle
        else:
            high = middle
    return with_factor(params, high)
