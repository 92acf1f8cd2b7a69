"""Bring AdapLeR to a speedup with one factor on all thresholds.

The factor is random or controlled during training, and found by measurements after it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.types import Params

NUM_BISECTIONS = 11
MAX_ROUNDS = 5  # of corrections of a sample's target
MARGIN = 1.001
TOLERANCE = 1.005  # a speedup up to this times the target meets it
# Fraction of a batch's distance to the target, in logarithms, that one step corrects.
STEERING_GAIN = 0.05
NOISE_STREAM = 1  # fold_in of the step's key, which no dropout mask uses
MAX_FACTOR = 100.0  # takes the smallest threshold ratio to the largest


def scale_all_thresholds(params: Params, factor) -> Params:
    """Return the parameters with threshold ratios times `factor`, clipped to [0.01, 1].

    Above 1 a model could drop every token of a text whose scores are uniform.
    """
    threshold_N = jnp.clip(params["pruner"]["threshold_N"] * factor, *THRESHOLD_RANGE)
    return params | {"pruner": params["pruner"] | {"threshold_N": threshold_N}}


def jitter_thresholds(params: Params, key, spread: float) -> Params:
    """Return the parameters with threshold ratios times exp(u), u uniform in [-spread, spread].

    All layers share one u, and each step draws another. Training then serves a range of speedups.

    Source: LengthDrop of Kim and Cho, "Length-Adaptive Transformer", ACL 2021, has random lengths.
    """
    draw = jax.random.uniform(jax.random.fold_in(key, NOISE_STREAM), minval=-spread, maxval=spread)
    return scale_all_thresholds(params, jnp.exp(draw))


def steer_thresholds(params: Params, found, *, target: float) -> Params:
    """Return the parameters after one step of a proportional controller towards a FLOPs speedup.

        eta <- eta (target / found)^g,   g = 0.05

    The controller averages over about 1/g batches. With fixed thresholds the speedup drifts by a
    quarter within an epoch, because the predictors continue to learn.

    Args:
      params: of the whole model.
      found: float32 scalar, FLOPs speedup of the last batch.
      target: the FLOPs speedup to reach.
    """
    return scale_all_thresholds(params, (target / found) ** STEERING_GAIN)


def scale_thresholds(
    params: Params, target: float, speedup_of: Callable[[Params], float]
) -> Params:
    """Return the parameters with the smallest scaled thresholds that reach the target speedup.

    Bisects the logarithm of the factor in [1/100, 100]. Where thresholds of 1 do not reach the
    target, the result has thresholds of 1.
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
    """Return whether no scaling makes the model faster: all thresholds are at their highest."""
    return bool(jnp.all(params["pruner"]["threshold_N"] >= THRESHOLD_RANGE[1]))


def at_lowest(params: Params) -> bool:
    """Return whether no scaling keeps more tokens: all thresholds are at their lowest."""
    return bool(jnp.all(params["pruner"]["threshold_N"] <= THRESHOLD_RANGE[0]))


def reach_speedup(
    params: Params,
    target: float,
    *,
    sample_speedup_of: Callable[[Params], float],
    scores_of: Callable[[Params], dict],
) -> tuple[Params, dict]:
    """Scale the thresholds on a sample, and correct the sample's target until all data meet it.

    Args:
      params: of the whole model.
      target: FLOPs speedup of all data.
      sample_speedup_of: params -> FLOPs speedup of a sample.
      scores_of: params -> scores of all data, with "flops_speedup".

    Returns:
      The parameters that reached the target with the least speedup, and their scores. If none
      reached it within MAX_ROUNDS, the fastest.
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
            break  # a limit, or the sample's resolution
        scores = scores_of(scaled)
        scored[key_of(scaled)] = scaled, scores
        if target <= scores["flops_speedup"] <= target * TOLERANCE:
            break
        goal *= MARGIN * target / scores["flops_speedup"]
    return min(scored.values(), key=distance)
