"""Soft removal equals its equation, has finite gradients, and becomes the hard rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax.pruning.adapler import min_grad_left, soft_removal
from adapler_jax.types import MASK_BIAS
from tests.pruning.by_hand import soft_removal_by_hand
from tests.tiny import HARD_SLOPE

SLOPES = [10.0, 100.0, 1000.0]


removal = jax.jit(soft_removal)
removal_gradient = jax.jit(
    jax.vmap(jax.grad(soft_removal, argnums=(0, 1)), in_axes=(0, None, None))
)


# Columns: x = 0, 0.01, 0.04, 0.049, 0.05, 0.1, 0.5, 1, at delta = 0.05.
TABLE = {
    10.0: [-10.01, -8.01, -2.01, -0.21, -0.01, -0.009474, -0.005263, 0.0],
    100.0: [-100.001, -80.001, -20.001, -2.001, -0.001, -0.000947, -0.000526, 0.0],
    1000.0: [-1000.0001, -800.0001, -200.0001, -20.0001, -0.0001, -0.000095, -0.000053, 0.0],
}
TABLE_SCORES = jnp.array([0.0, 0.01, 0.04, 0.049, 0.05, 0.1, 0.5, 1.0])


@pytest.mark.parametrize("slope", SLOPES)
def test_soft_removal_equals_the_table(slope):
    # Where x - delta is small compared with both, float32 leaves an error of slope * 1e-7 / delta.
    found = removal(TABLE_SCORES, jnp.float32(0.05), jnp.float32(slope))
    np.testing.assert_allclose(found, TABLE[slope], rtol=2e-6, atol=5.1e-7 + slope * 4e-7)


@pytest.mark.parametrize("slope", SLOPES)
@pytest.mark.parametrize("threshold", [0.002, 0.25, 0.9])
def test_soft_removal_equals_the_equation(threshold, slope):
    scores = [0.0, 0.3 * threshold, 0.9 * threshold, 1.1 * threshold, 0.95, 1.0]
    found = removal(jnp.array(scores), jnp.float32(threshold), jnp.float32(slope))
    expected = [soft_removal_by_hand(score, threshold, slope) for score in scores]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [1e-4, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("slope", SLOPES)
def test_depth_at_score_zero_does_not_depend_on_the_threshold(threshold, slope):
    found = float(removal(jnp.float32(0.0), jnp.float32(threshold), jnp.float32(slope)))
    assert found == pytest.approx(-slope - 0.1 / slope, rel=1e-5)


@pytest.mark.parametrize("slope", SLOPES)
def test_depth_at_a_threshold_of_one_is_at_least_that(slope):
    """There the upper piece divides by its guard of 1e-7 alone, and is the deeper one for small
    slopes."""
    assert (
        MASK_BIAS
        <= float(removal(jnp.float32(0.0), jnp.float32(1.0), jnp.float32(slope)))
        <= -slope
    )


def test_soft_removal_never_falls_below_the_mask():
    assert float(removal(jnp.float32(0.0), jnp.float32(0.5), jnp.float32(1e5))) == MASK_BIAS


def test_steepest_soft_removal_is_the_hard_rule():
    scores = jnp.array(
        [0.0, 0.2, np.nextafter(np.float32(0.25), np.float32(0)), 0.25, 0.2500001, 0.6, 1.0]
    )
    found = removal(scores, jnp.float32(0.25), jnp.float32(HARD_SLOPE))
    np.testing.assert_array_equal(found[:3], [MASK_BIAS] * 3)
    assert np.all(found[3:] > -1e-20) and np.all(jnp.exp(found[3:]) == 1.0)


@pytest.mark.parametrize("slope", [*SLOPES, 1e5, HARD_SLOPE])
def test_threshold_and_score_of_one_lose_nothing(slope):
    assert float(removal(jnp.float32(1.0), jnp.float32(1.0), jnp.float32(slope))) == pytest.approx(
        0.0, abs=0.011
    )


@pytest.mark.parametrize("slope", [*SLOPES, 1e5, HARD_SLOPE])
@pytest.mark.parametrize("threshold", [1e-4, 0.5, 1.0])
def test_values_and_gradients_are_finite_at_the_ends_and_at_ties(threshold, slope):
    scores = jnp.array([0.0, threshold, 1.0])
    arguments = jnp.float32(threshold), jnp.float32(slope)
    assert np.all(np.isfinite(removal(scores, *arguments)))
    assert np.all(np.isfinite(removal_gradient(scores, *arguments)))


def test_gradients_by_hand():
    """Below the threshold slope / delta and -slope x / delta^2; above it the flat piece; under the
    mask nothing."""
    by_score, by_threshold = removal_gradient(
        jnp.array([0.1, 0.6]), jnp.float32(0.25), jnp.float32(10.0)
    )
    np.testing.assert_allclose(by_score, [10.0 / 0.25, 0.01 / 0.75], rtol=1e-5)
    np.testing.assert_allclose(
        by_threshold, [-10.0 * 0.1 / 0.25**2, -0.4 * 0.01 / 0.75**2], rtol=1e-5
    )
    cut, _ = removal_gradient(jnp.array([0.0]), jnp.float32(0.25), jnp.float32(1e5))
    assert float(cut[0]) == 0.0


def test_first_minimum_sends_the_gradient_of_a_tie_to_the_left():
    assert jax.grad(min_grad_left, argnums=(0, 1))(2.0, 2.0) == (1.0, 0.0)
    assert jax.grad(min_grad_left, argnums=(0, 1))(2.0, 1.0) == (0.0, 1.0)
    assert float(min_grad_left(2.0, 1.0)) == 1.0


@settings(max_examples=40, deadline=None)
@given(
    low=st.floats(0.0, 1.0, width=32),
    high=st.floats(0.0, 1.0, width=32),
    threshold=st.floats(2.0**-13, 1.0, width=32),
    slope=st.sampled_from([1.0, 10.0, 1000.0, 1e6, HARD_SLOPE]),
)
def test_soft_removal_grows_with_the_score_and_stays_in_range(low, high, threshold, slope):
    low, high = sorted((low, high))
    found = removal(jnp.float32([low, high]), jnp.float32(threshold), jnp.float32(slope))
    assert MASK_BIAS <= found[0] <= found[1] <= 0.0
