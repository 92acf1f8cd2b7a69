"""LTP: hand-computed values, gradients, and equal results in all drivers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.forward import forward
from adapler_jax.inference.engine import make_engine
from adapler_jax.pruning.ltp import hard_mask, loss_terms, ltp, rising_thresholds, soft_mask
from adapler_jax.types import SiteInput, Trace
from tests import tiny

PRUNER = ltp(tiny.CONFIG)
LENGTHS = (12, 7, 3, 1, 9)
# Column sums of attention of one text: three tokens, then padding. Their mean over queries is
# [0.5, 0.2, 0.3].
SITE = SiteInput(
    token_logit_BL=jnp.array([[1.5, 0.6, 0.9, 0.7]]),
    remaining_BL=jnp.array([[True, True, True, False]]),
    survival_BL=jnp.array([[1.0, 1.0, 1.0, 0.0]]),
)


def site_params(threshold):
    return {"score_threshold_N": jnp.float32(threshold)}


def make_params(threshold_N=(0.08, 0.12, 0.16, 0.16)):
    threshold_N = jnp.array(threshold_N, jnp.float32)
    return tiny.with_pruner_params(tiny.make_params(PRUNER), score_threshold_N=threshold_N)


def test_first_thresholds_rise_linearly_to_the_final_one():
    np.testing.assert_allclose(rising_thresholds(4, 0.01), [0.0025, 0.005, 0.0075, 0.01], rtol=1e-6)


def test_the_score_is_the_mean_attention_of_the_remaining_queries():
    found = hard_mask(site_params(0.25), jnp.int32(0), SITE)
    np.testing.assert_allclose(found.score_BL, [[0.5, 0.2, 0.3, 0.0]], rtol=1e-6)


def test_tokens_above_the_threshold_and_cls_stay_and_padding_never():
    found = hard_mask(site_params(0.25), jnp.int32(0), SITE)
    np.testing.assert_array_equal(found.keep_BL, [[True, False, True, False]])
    found = hard_mask(site_params(0.9), jnp.int32(0), SITE)
    np.testing.assert_array_equal(found.keep_BL, [[True, False, False, False]])


def test_the_soft_mask_is_a_sigmoid_and_multiplies_the_states():
    found = soft_mask(site_params(0.25), jnp.int32(0), SITE, jnp.float32(20.0))
    sigmoid = 1.0 / (1.0 + np.exp([1.0, -1.0]))  # of 20 (0.2 - 0.25) and 20 (0.3 - 0.25)
    np.testing.assert_allclose(found.scale_BL[0, :3], [1.0, *sigmoid], rtol=1e-5)
    np.testing.assert_allclose(found.survival_BL[0, :3], [1.0, *sigmoid], rtol=1e-5)
    np.testing.assert_allclose(found.bias_BL[0, 1:3], np.log(sigmoid), rtol=1e-5)


def test_the_length_term_is_the_mean_mask_of_real_texts():
    batch = tiny.make_batch((4, 2), num_slots=4, num_fillers=1)
    trace = Trace(count_NB=jnp.array([[4.0, 2.0, 9.0], [2.0, 1.0, 9.0]]))
    # Fractions 1 and 0.5 of both texts: a mean of 0.75.
    assert float(loss_terms({}, trace, batch)["length"]) == pytest.approx(0.75)


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_fast_drivers_equal_the_reference(driver):
    params, batch = make_params(), tiny.make_batch(LENGTHS)
    (found_BC, found), (expected_BC, expected) = (
        make_engine(tiny.CONFIG, PRUNER, buckets=(4, 12), driver=name)(params, batch)
        for name in (driver, "masked")
    )
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.count_NB, expected.count_NB)
    np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    total_N = np.sum(expected.count_NB, axis=1)
    assert total_N[-1] < total_N[0] < sum(LENGTHS)


def test_a_small_temperature_gives_the_hard_rule():
    params, batch = make_params(), tiny.make_batch(LENGTHS)
    soft_BC, trace = forward(params, tiny.CONFIG, PRUNER, batch, slope=jnp.float32(1e8))
    hard_BC, expected = forward(params, tiny.CONFIG, PRUNER, batch, slope=None)
    np.testing.assert_allclose(trace.count_NB, expected.count_NB, atol=1e-4)
    np.testing.assert_allclose(soft_BC, hard_BC, atol=1e-4, rtol=0)


def test_padding_does_not_change_logits():
    params = make_params()
    short, long = (tiny.make_batch((7, 3), num_slots=slots) for slots in (7, 12))
    found, expected = (
        forward(params, tiny.CONFIG, PRUNER, batch, slope=None)[0] for batch in (long, short)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def length_gradient(params):
    def length(params):
        batch = tiny.make_batch(LENGTHS)
        _, trace = forward(params, tiny.CONFIG, PRUNER, batch, slope=jnp.float32(50.0))
        return PRUNER.loss_terms(params["pruner"], trace, batch)["length"]

    return jax.grad(length)(params)


@pytest.mark.long
def test_the_length_term_has_a_gradient_through_the_score_and_through_the_thresholds():
    gradient = length_gradient(make_params())
    assert np.all(gradient["pruner"]["score_threshold_N"] < 0)  # higher thresholds, fewer tokens
    # The first layer's queries and keys reach the term through the scores of its own site alone or
    # later ones; the embeddings reach it through all of them.
    embeddings = gradient["encoder"]["embeddings"]
    assert max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(embeddings)) > 1e-6
    for leaf in jax.tree.leaves(gradient):
        assert np.all(np.isfinite(leaf))


def test_the_hard_rule_gives_the_thresholds_no_gradient():
    def task(params):
        logits_BC, _ = forward(params, tiny.CONFIG, PRUNER, tiny.make_batch(LENGTHS), slope=None)
        return jnp.sum(logits_BC**2)

    gradient = jax.grad(task)(make_params())
    np.testing.assert_array_equal(gradient["pruner"]["score_threshold_N"], np.zeros(4))
