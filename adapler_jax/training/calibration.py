"""Bring a model to a speedup by one factor on its dial: on all thresholds, or on selectors' odds.

The factor is random or controlled during training, and found by measurements after it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning.adapler import THRESHOLD_RANGE
from adapler_jax.types import Array, Params

RESOLUTION = 0.0045  # of the factor that bisection finds, in logarithms
MAX_ROUNDS = 5  # of corrections of a sample's target
MARGIN = 1.001
TOLERANCE = 1.005  # a speedup up to this times the target meets it
NOISE_STREAM = 1  # fold_in of the step's key, which no dropout mask uses


class Dial(NamedTuple):
    """What one factor changes in a trained model, so that it drops more tokens or fewer.

    Attributes:
      scale: (params, factor) -> params. A larger factor drops at least as many tokens. The result
        is clipped to a range.
      read: params -> the array that `scale` changes.
      max_factor: from 1 on; takes the lowest setting to the highest, and its inverse back.
      gain: fraction of a batch's distance to the target, in logarithms, that one step corrects.
    """

    scale: Callable[[Params, Any], Params]
    read: Callable[[Params], Array]
    max_factor: float
    gain: float = 0.05


def scale_all_thresholds(params: Params, factor) -> Params:
    """Return the parameters with threshold ratios times `factor`, clipped to [0.01, 1].

    Above 1 a model could drop every token of a text whose scores are uniform.
    """
    threshold_N = jnp.clip(params["pruner"]["threshold_N"] * factor, *THRESHOLD_RANGE)
    return params | {"pruner": params["pruner"] | {"threshold_N": threshold_N}}


# The dial of AdapLeR.
THRESHOLDS = Dial(
    scale=scale_all_thresholds,
    read=lambda params: params["pruner"]["threshold_N"],
    max_factor=THRESHOLD_RANGE[1] / THRESHOLD_RANGE[0],
)


def jitter_thresholds(params: Params, key, spread: float) -> Params:
    """Return the parameters with threshold ratios times exp(u), u uniform in [-spread, spread].

    All layers share one u, and each step draws another. Training then serves a range of speedups.

    Source: LengthDrop of Kim and Cho, "Length-Adaptive Transformer", ACL 2021, has random lengths.
    """
    draw = jax.random.uniform(jax.random.fold_in(key, NOISE_STREAM), minval=-spread, maxval=spread)
    return scale_all_thresholds(params, jnp.exp(draw))


def steer(params: Params, found, *, dial: Dial, target: float) -> Params:
    """Return the parameters after one step of a proportional controller towards a FLOPs speedup.

        factor = (target / found)^g

    The controller averages over about 1/g batches. With a fixed dial the speedup drifts by a
    quarter within an epoch, because the scores continue to change.

    Args:
      params: of the whole model.
      found: float32 scalar, FLOPs speedup of the last batch.
      dial: of the method, with the gain g.
      target: the FLOPs speedup to reach.
    """
    return dial.scale(params, (target / found) ** dial.gain)


def scale_to(
    params: Params, target: float, *, dial: Dial, speedup_of: Callable[[Params], float]
) -> Params:
    """Return the parameters with the smallest factor on the dial that reaches the target speedup.

    Bisects the logarithm of the factor. Where the dial's limit does not reach the target, the
    result is at the limit.
    """
    low, high = 1.0 / dial.max_factor, dial.max_factor
    if speedup_of(dial.scale(params, high)) < target:
        return dial.scale(params, high)
    if speedup_of(dial.scale(params, low)) >= target:
        return dial.scale(params, low)
    for _ in range(num_bisections(dial)):
        middle = (low * high) ** 0.5
        if speedup_of(dial.scale(params, middle)) < target:
            low = middle
        else:
            high = middle
    return dial.scale(params, high)


def num_bisections(dial: Dial) -> int:
    """Return how often the range of a dial is halved until the factor has its resolution."""
    return math.ceil(math.log2(2.0 * math.log(dial.max_factor) / RESOLUTION))


def at_limit(params: Params, dial: Dial) -> bool:
    """Return whether no factor makes the model faster: the dial is at its highest."""
    return bool(jnp.all(dial.read(dial.scale(params, dial.max_factor)) == dial.read(params)))


def at_lowest(params: Params, dial: Dial) -> bool:
    """Return whether no factor keeps more tokens: the dial is at its lowest."""
    return bool(jnp.all(dial.read(dial.scale(params, 1.0 / dial.max_factor)) == dial.read(params)))


def reach_speedup(
    params: Params,
    target: float,
    *,
    dial: Dial,
    sample_speedup_of: Callable[[Params], float],
    scores_of: Callable[[Params], dict],
) -> tuple[Params, dict]:
    """Scale a dial on a sample, and correct the sample's target until all data meet it.

    Args:
      params: of the whole model.
      target: FLOPs speedup of all data.
      dial: of the method.
      sample_speedup_of: params -> FLOPs speedup of a sample.
      scores_of: params -> scores of all data, with "flops_speedup".

    Returns:
      The parameters that reached the target with the least speedup, and their scores. If none
      reached it within MAX_ROUNDS, the fastest.
    """
    measured = {}  # the searches of two rounds have most of their steps in common

    def key_of(params):
        return np.asarray(dial.read(params)).tobytes()

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
        scaled = scale_to(params, goal, dial=dial, speedup_of=speedup_of)
        if key_of(scaled) in scored:
            break  # a limit, or the sample's resolution
        scores = scores_of(scaled)
        scored[key_of(scaled)] = scaled, scores
        if target <= scores["flops_speedup"] <= target * TOLERANCE:
            break
        goal *= MARGIN * target / scores["flops_speedup"]
    return min(scored.values(), key=distance)


def reaches(scores: dict, target: float) -> bool:
    """Return whether scores have a speedup, within the tolerance."""
    return scores["flops_speedup"] * TOLERANCE >= target
