"""A dial for AdapLeR: one factor on all thresholds, drawn or steered in training, found by measuring after it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.types import Params

NUM_BISECTIONS = 11
MAX_ROUNDS = 5  # of correcting a sample's target
MARGIN = 1.001
TOLERANCE = 1.005  # more than the target by this is met
STEERING_GAIN = (
    0.05  # share of a batch's distance to the target, in logarithms, that one step makes good
)
JITTER = 1  # no dropout mask is drawn from this key itself
MAX_FACTOR = 100.0  # takes the smallest threshold ratio to the largest


def scale_all_thresholds(params: Params, factor) -> Params:
    """The parameters with threshold ratios times `factor`, kept in [0.01, 1]: above 1 a model could drop every token
    of a text whose scores are uniform."""
    threshold_N = jnp.clip(params["pruner"]["threshold_N"] * factor, *THRESHOLD_RANGE)
    return params | {"pruner": params["pruner"] | {"threshold_N": threshold_N}}


def jitter_thresholds(params: Params, key, spread: float) -> Params:
    """The parameters with threshold ratios times exp(u), one u uniform in [-spread, spread] for all layers.

    Drawn anew in every step, it trains one model for a range of speedups (the idea of LengthDrop: Kim and Cho,
    "Length-Adaptive Transformer", ACL 2021, there with random lengths).
    """
    draw = jax.random.uniform(jax.random.fold_in(key, JITTER), minval=-spread, maxval=spread)
    return scale_all_thresholds(params, jnp.exp(draw))


def steer_thresholds(params: Params, found, *, target: float) -> Params:
    """The parameters after one step of a proportional controller towards a FLOPs speedup.

        eta <- eta (target / found)^g,   g = 0.05

    Args: found: float32 scalar, FLOPs speedup of the batch just seen. Averaged over some 1/g batches, since thresholds
    that are fixed while predictors go on learning let the speedup drift by a quarter within an epoch.
    """
    return scale_all_thresholds(params, (target / found) ** STEERING_GAIN)


def scale_thresholds(
    params: Params, target: float, speedup_of: Callable[[Params], float]
) -> Params:
    """The smallest scaling found of the thresholds with which `speedup_of` reaches `target`.

    Bisects the logarithm of the factor in [1/100, 100]. Where even thresholds of 1 do not reach it, those are the
    answer.
    """
    low, high = 1.0 / MAX_FACTOR, MAX_FACTOR
    if speedup_of(scale_all_thresholds(params, high)) < target:
        return scale_all_thresholds(params, high)
    if speedup_of(scale_all_thresholds(params, low)) >= target:
        return scale_all_thresholds(params, low)
    for _ in range(NUM_BISECTIONS):
        middle = (low * high) ** 0.5
        if speedup_of(scale_all_thresholds(params, middle)) < target:
            low = middle
        else:
            high = middle
    return scale_all_thresholds(params, high)


def at_limit(params: Params) -> bool:
    """Whether no scaling makes the model any faster: all thresholds are at their largest."""
    return bool(jnp.all(params["pruner"]["threshold_N"] >= THRESHOLD_RANGE[1]))


def at_lowest(params: Params) -> bool:
    """Return whether no scaling makes the model drop fewer tokens: all thresholds are at their lowest."""
    return bool(jnp.all(params["pruner"]["threshold_N"] <= THRESHOLD_RANGE[0]))


def reach_speedup(
    params: Params,
    target: float,
    *,
    sample_speedup_of: Callable[[Params], float],
    scores_of: Callable[[Params], dict],
) -> tuple[Params, dict]:
    """`scale_thresholds` on a sample, whose target is corrected until the "flops_speedup" of all scores meets it.

    Returns the parameters that reached the target with the least speedup, and their scores; of those that do not reach
    it within MAX_ROUNDS the fastest. Where thresholds of 1 do not reach it, those are the answer.
    """
    measured = {}  # the searches of two rounds have most of their steps in common

    def key_of(params):
        return np.asarray(params["pruner"]["threshold_N"]).tobytes()

    def speedup_of(params):
        key = key_of(params)
        if key not in measured:
            measured[key] = sample_speedup_of(params)
        return measured[key]

    def distance(pair):
        found = pair[1]["flops_speedup"]
        return found < target, abs(found - target)

    goal, scored = target, {}
    for _ in range(MAX_ROUNDS):
        scaled = scale_thresholds(params, goal, speedup_of)
        if key_of(scaled) in scored:
            break  # a limit, or as near as the sample can tell
        scores = scores_of(scaled)
        scored[key_of(scaled)] = scaled, scores
        if target <= scores["flops_speedup"] <= target * TOLERANCE:
            break
        goal *= MARGIN * target / scores["flops_speedup"]
    return min(scored.values(), key=distance)
