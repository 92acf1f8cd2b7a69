"""Bring a model to a speedup by one factor on its trade-off parameter, such as all thresholds.

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


class TradeOff(NamedTuple):
    """A trade-off parameter of a trained model: one factor makes it drop more tokens or fewer.

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


# The trade-off parameter of AdapLeR.
THRESHOLDS = TradeOff(
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


def steer(params: Params, found, *, tradeoff: TradeOff, target: float) -> Params:
    """Return the parameters after one step of a proportional controller towards a FLOPs speedup.

        factor = (target / found)^g

    The controller averages over about 1/g batches. With a fixed parameter the speedup drifts by a
    quarter within an epoch, because the scores continue to change.

    Args:
      params: of the whole model.
      found: float32 scalar, FLOPs speedup of the last batch.
      tradeoff: the trade-off parameter of the method, with the gain g.
      target: the FLOPs speedup to reach.
    """
    return tradeoff.scale(params, (target / found) ** tradeoff.gain)


def scale_to(
    params: Params, target: float, *, tradeoff: TradeOff, speedup_of: Callable[[Params], float]
) -> Params:
    """Return the parameters with the smallest factor that reaches the target speedup.

    Bisects the logarithm of the factor. Where the highest setting does not reach the target, the
    result has this setting.
    """
    low, high = 1.0 / tradeoff.max_factor, tradeoff.max_factor
    if speedup_of(tradeoff.scale(params, high)) < target:
        return tradeoff.scale(params, high)
    if speedup_of(tradeoff.scale(params, low)) >= target:
        return tradeoff.scale(params, low)
    for _ in range(num_bisections(tradeoff)):
        middle = (low * high) ** 0.5
        if speedup_of(tradeoff.scale(params, middle)) < target:
            low = middle
        else:
            high = middle
    return tradeoff.scale(params, high)


def num_bisections(tradeoff: TradeOff) -> int:
    """Return how often the range of factors is halved until the factor has its resolution."""
    return math.ceil(math.log2(2.0 * math.log(tradeoff.max_factor) / RESOLUTION))


def at_limit(params: Params, tradeoff: TradeOff) -> bool:
    """Return whether no factor makes the model faster."""
    return bool(
        jnp.all(tradeoff.read(tradeoff.scale(params, tradeoff.max_factor)) == tradeoff.read(params))
    )


def at_lowest(params: Params, tradeoff: TradeOff) -> bool:
    """Return whether no factor makes the model keep more tokens."""
    return bool(
        jnp.all(
            tradeoff.read(tradeoff.scale(params, 1.0 / tradeoff.max_factor))
            == tradeoff.read(params)
        )
    )


def reach_speedup(
    params: Params,
    target: float,
    *,
    tradeoff: TradeOff,
    sample_speedup_of: Callable[[Params], float],
    scores_of: Callable[[Params], dict],
) -> tuple[Params, dict]:
    """Scale a parameter on a sample, and correct the sample's target until all data meet it.

    Args:
      params: of the whole model.
      target: FLOPs speedup of all data.
      tradeoff: the trade-off parameter of the method.
      sample_speedup_of: params -> FLOPs speedup of a sample.
      scores_of: params -> scores of all data, with "flops_speedup".

    Returns:
      The parameters that reached the target with the least speedup, and their scores. If none
      reached it within MAX_ROUNDS, the fastest.
    """
    measured = {}  # the searches of two rounds have most of their steps in common

    def key_of(params):
        return np.asarray(tradeoff.read(params)).tobytes()

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
        scaled = scale_to(params, goal, tradeoff=tradeoff, speedup_of=speedup_of)
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
