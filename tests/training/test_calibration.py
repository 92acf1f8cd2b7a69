from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler_jax.training.calibration import (
    THRESHOLDS,
    TradeOff,
    at_limit,
    at_lowest,
    jitter_thresholds,
    num_bisections,
    reach_speedup,
    scale_all_thresholds,
    scale_to,
    steer,
)
from adapler_jax.training.methods import ltp, trbert

NUM_BISECTIONS = num_bisections(THRESHOLDS)
STEERING_GAIN = THRESHOLDS.gain
PARAMS = {
    "encoder": {"kernel": jnp.ones((2, 2))},
    "pruner": {"threshold_N": jnp.array([0.1, 0.2, 0.4], jnp.float32), "cls_ratio_N": jnp.ones(3)},
}


def speedup_of(params):
    """Monotone in every threshold; 1 + 10 * their mean, so in [1.1, 11]."""
    return 1.0 + 10.0 * float(jnp.mean(params["pruner"]["threshold_N"]))


def scores_of(params):
    return {"flops_speedup": speedup_of(params)}


def scale_thresholds(params, target, speedup_of):
    return scale_to(params, target, tradeoff=THRESHOLDS, speedup_of=speedup_of)


def thresholds(params):
    return np.asarray(params["pruner"]["threshold_N"])


@pytest.mark.parametrize("target", [1.2, 2.0, 3.3, 5.0, 8.0, 10.9])
def test_the_target_is_reached_and_hardly_exceeded(target):
    found = speedup_of(scale_thresholds(PARAMS, target, speedup_of))
    # Bisecting log(factor) over 1e4 eleven times leaves 0.45% of the thresholds.
    assert target <= found <= 1.0 + 1.005 * (target - 1.0)


def test_ratios_between_thresholds_are_kept_where_none_meets_a_bound():
    found = thresholds(scale_thresholds(PARAMS, 4.0, speedup_of))
    np.testing.assert_allclose(found / found[0], [1.0, 2.0, 4.0], rtol=1e-5)


def test_a_target_out_of_reach_gives_the_largest_thresholds():
    np.testing.assert_array_equal(thresholds(scale_thresholds(PARAMS, 20.0, speedup_of)), [1.0] * 3)


def test_a_target_below_all_gives_the_smallest_thresholds():
    np.testing.assert_allclose(thresholds(scale_thresholds(PARAMS, 0.5, speedup_of)), [0.01] * 3)


@pytest.mark.parametrize("target", [0.1, 1.5, 6.0, 10.999, 1e9])
def test_thresholds_never_leave_their_range(target):
    found = thresholds(scale_thresholds(PARAMS, target, speedup_of))
    assert np.all(found >= np.float32(0.01)) and np.all(found <= 1.0)


def test_a_step_function_is_met_from_above():
    """Measured speedups jump: the smallest factor is just after the jump."""

    def jump(params):
        return 3.0 if float(params["pruner"]["threshold_N"][0]) > 0.3 else 1.0

    found = scale_thresholds(PARAMS, 2.0, jump)
    assert jump(found) == 3.0 and 0.3 < thresholds(found)[0] < 0.3 * 1.005


@pytest.mark.parametrize("bias", [0.8, 0.97, 1.0, 1.1])
def test_a_biased_sample_does_not_miss_the_target(bias):
    calls = []

    def sample_speedup_of(params):
        calls.append(params)
        return speedup_of(params) / bias

    found, scores = reach_speedup(
        PARAMS, 4.0, tradeoff=THRESHOLDS, sample_speedup_of=sample_speedup_of, scores_of=scores_of
    )
    assert scores["flops_speedup"] == speedup_of(found)
    assert 4.0 <= speedup_of(found) <= max(1.0, bias) * 4.0 * 1.02
    assert len(calls) <= 2 * NUM_BISECTIONS + 2


@pytest.mark.parametrize(
    ("sample_slope", "slope", "target"), [(1.0, 1.2, 1.6), (1.9, 2.4, 3.0), (2.4, 1.9, 2.7)]
)
def test_a_sample_that_is_slower_or_faster_than_the_whole_does_not_overshoot(
    sample_slope, slope, target
):
    def linear(slope):
        return lambda params: 1.0 + slope * float(jnp.mean(params["pruner"]["threshold_N"]))

    found, scores = reach_speedup(
        PARAMS,
        target,
        tradeoff=THRESHOLDS,
        sample_speedup_of=linear(sample_slope),
        scores_of=lambda params: {"flops_speedup": linear(slope)(params)},
    )
    assert target <= scores["flops_speedup"] <= 1.01 * target
    assert not at_limit(found, THRESHOLDS)


def test_a_target_below_the_slowest_is_scored_once():
    calls = []

    def count(params):
        calls.append(params)
        return scores_of(params)

    found, scores = reach_speedup(
        PARAMS, 0.5, tradeoff=THRESHOLDS, sample_speedup_of=speedup_of, scores_of=count
    )
    np.testing.assert_allclose(thresholds(found), [0.01] * 3)
    assert len(calls) == 1 and scores["flops_speedup"] == pytest.approx(1.1)
    assert at_lowest(found, THRESHOLDS) and not at_lowest(PARAMS, THRESHOLDS)


def test_out_of_reach_ends_at_the_limit():
    found, _ = reach_speedup(
        PARAMS, 20.0, tradeoff=THRESHOLDS, sample_speedup_of=speedup_of, scores_of=scores_of
    )
    assert at_limit(found, THRESHOLDS) and not at_limit(PARAMS, THRESHOLDS)


def test_nothing_but_the_thresholds_changes():
    before = thresholds(PARAMS).copy()
    found = scale_thresholds(PARAMS, 4.0, speedup_of)
    assert found["encoder"] is PARAMS["encoder"]
    assert found["pruner"]["cls_ratio_N"] is PARAMS["pruner"]["cls_ratio_N"]
    np.testing.assert_array_equal(thresholds(PARAMS), before)


def test_the_number_of_measurements_is_bounded():
    calls = []

    def measure(params):
        calls.append(params)
        return speedup_of(params)

    scale_thresholds(PARAMS, 4.0, measure)
    assert len(calls) <= NUM_BISECTIONS + 2


def test_with_factor_by_hand():
    np.testing.assert_allclose(thresholds(scale_all_thresholds(PARAMS, 2.0)), [0.2, 0.4, 0.8])
    np.testing.assert_allclose(thresholds(scale_all_thresholds(PARAMS, 4.0)), [0.4, 0.8, 1.0])
    np.testing.assert_allclose(
        thresholds(scale_all_thresholds(PARAMS, 0.08)), [0.01, 0.016, 0.032], rtol=1e-6
    )


def test_jitter_draws_one_factor_for_all_layers_evenly_on_both_sides():
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = np.array([thresholds(jitter_thresholds(PARAMS, key, 0.5)) for key in keys])
    np.testing.assert_allclose(
        drawn[:, 1:] / drawn[:, :1], np.tile([2.0, 4.0], (400, 1)), rtol=1e-5
    )
    shift = np.log(drawn[:, 0] / 0.1)
    assert -0.5 <= shift.min() < -0.48 and 0.48 < shift.max() <= 0.5
    assert abs(shift.mean()) < 0.05  # standard error 0.0144


def test_jitter_keeps_the_range():
    keys = jax.random.split(jax.random.key(1), 50)
    drawn = np.array([thresholds(jitter_thresholds(PARAMS, key, 5.0)) for key in keys])
    assert drawn.min() >= np.float32(0.01) and drawn.max() == 1.0


def test_a_step_of_steering_by_hand():
    """A batch at a quarter of the target raises every threshold by 4^g, one at the target changes
    nothing."""
    np.testing.assert_allclose(
        thresholds(steer(PARAMS, jnp.float32(0.5), tradeoff=THRESHOLDS, target=2.0)),
        np.array([0.1, 0.2, 0.4]) * 4.0**STEERING_GAIN,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        thresholds(steer(PARAMS, jnp.float32(2.0), tradeoff=THRESHOLDS, target=2.0)),
        thresholds(PARAMS),
    )


@pytest.mark.parametrize("target", [1.5, 3.0, 4.5])
def test_steering_comes_to_the_target_from_both_sides(target):
    for factor in (0.2, 2.5):
        params = scale_all_thresholds(PARAMS, factor)
        for _ in range(int(40 / STEERING_GAIN)):
            params = steer(
                params, jnp.float32(speedup_of(params)), tradeoff=THRESHOLDS, target=target
            )
        assert speedup_of(params) == pytest.approx(target, rel=1e-3)


class Toy(NamedTuple):
    """A trade-off parameter, a model, and its speedup as a smooth function of the parameter."""

    tradeoff: TradeOff
    params: Any
    speedup_of: Callable


def kept_odds(params):
    """Return the speedup where a selector keeps a token with the probability of its bias."""
    keep_S1 = jax.nn.sigmoid(params["pruner"]["score"]["bias"])
    return 1.0 / float(0.1 + 0.9 * jnp.mean(keep_S1))


def kept_above(name):
    """Return the speedup where a layer of thresholds keeps the share 1 - eta of the tokens."""

    def speedup_of(params):
        return 1.0 / float(0.1 + 0.9 * jnp.mean(1.0 - params["pruner"][name]))

    return speedup_of


TOYS = {
    "adapler": Toy(THRESHOLDS, PARAMS, kept_above("threshold_N")),
    "ltp": Toy(
        ltp.TRADEOFF,
        {"pruner": {"score_threshold_N": jnp.array([0.0, 0.01, 0.02])}},
        kept_above("score_threshold_N"),
    ),
    "trbert": Toy(
        trbert.TRADEOFF,
        {"pruner": {"hidden": {}, "score": {"bias": jnp.array([[1.0], [4.0]])}}},
        kept_odds,
    ),
}


@pytest.mark.parametrize("method", TOYS)
@pytest.mark.parametrize("target", [1.3, 2.0, 4.0])
def test_a_controller_reaches_its_target_within_5_percent(method, target):
    tradeoff, params, speedup_of = TOYS[method]
    for _ in range(int(60 / tradeoff.gain)):
        params = steer(params, jnp.float32(speedup_of(params)), tradeoff=tradeoff, target=target)
    assert speedup_of(params) == pytest.approx(target, rel=0.05)


@pytest.mark.parametrize("method", TOYS)
def test_every_tradeoff_is_scaled_to_the_target_and_to_its_limits(method):
    tradeoff, params, speedup_of = TOYS[method]
    found = scale_to(params, 2.0, tradeoff=tradeoff, speedup_of=speedup_of)
    assert 2.0 <= speedup_of(found) <= 2.01
    highest = scale_to(params, 99.0, tradeoff=tradeoff, speedup_of=speedup_of)
    lowest = scale_to(params, 0.5, tradeoff=tradeoff, speedup_of=speedup_of)
    for edge, is_highest in ((highest, True), (lowest, False), (found, None)):
        assert at_limit(edge, tradeoff) == (is_highest is True)
        assert at_lowest(edge, tradeoff) == (is_highest is False)


@pytest.mark.parametrize("method", TOYS)
@given(st.floats(1e-3, 1e3), st.floats(1.0, 1e3))
def test_a_larger_factor_drops_no_less(method, factor, more):
    tradeoff, params, _ = TOYS[method]
    sign = -1.0 if method == "trbert" else 1.0  # a bias keeps tokens, a threshold drops them
    less, larger = (
        np.asarray(tradeoff.read(tradeoff.scale(params, x))) for x in (factor, factor * more)
    )
    assert np.all(sign * larger >= sign * less)
