import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax.pruning import adapler as make_adapler
from adapler_jax.pruning.adapler import (
    constrain,
    contribution_scores,
    divergences,
    hard_select,
    init_params,
    layer_targets,
    loss_terms,
    min_grad_left,
    normalise,
    rescale_cls,
    soft_removal,
    soft_select,
    straight_through_ratio,
)
from adapler_jax.pruning.scores import scorer_logits
from adapler_jax.types import (
    MASK_BIAS,
    PADDING_EXAMPLE_ID,
    Batch,
    SiteInput,
    TokenFeatures,
    Trace,
)
from tests.tiny import CONFIG

SLOPES = [10.0, 100.0, 1000.0]
HARD_SLOPE = 1e20
removal = jax.jit(soft_removal)
removal_gradient = jax.jit(
    jax.vmap(jax.grad(soft_removal, argnums=(0, 1)), in_axes=(0, None, None))
)

# Soft removal


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


def soft_removal_by_hand(score, threshold, slope):
    below = slope / threshold * (score - threshold) - 0.1 / slope
    above = (score - 1.0) * 0.1 / slope / (1.0 - threshold)
    return max(-10000.0, min(0.0, below, above))


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


# Scores


def view_of(shares, live=None, weight=None):
    """One example with these relative shares: a logit ln k has the share k / sum of all k."""
    valid_BL = jnp.ones((1, len(shares)), bool) if live is None else jnp.array([live], bool)
    return SiteInput(
        token_logit_BL=jnp.log(jnp.array(shares, jnp.float32))[None],
        remaining_BL=valid_BL,
        survival_BL=valid_BL.astype(jnp.float32)
        if weight is None
        else jnp.array([weight], jnp.float32),
    )


def scores_of(view):
    return contribution_scores(view.token_logit_BL, view.remaining_BL, view.survival_BL)[0]


def site_params(threshold, cls_ratio=1.0):
    return {"threshold_N": jnp.float32(threshold), "cls_ratio_N": jnp.float32(cls_ratio)}


def test_scores_by_hand():
    np.testing.assert_allclose(scores_of(view_of([1, 2, 3, 4])), [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_padding_scores_zero_and_changes_no_score():
    found = scores_of(view_of([1, 3, 1e6, 1e-6], live=[True, True, False, False]))
    np.testing.assert_allclose(found, [0.25, 0.75, 0.0, 0.0], rtol=1e-6)
    assert found[2] == found[3] == 0.0


def test_scores_are_scaled_by_the_soft_survival():
    found = scores_of(view_of([1, 2, 3, 4], weight=[1.0, 0.5, 0.0, 0.25]))
    np.testing.assert_allclose(found, [1 / 3, 1 / 3, 0.0, 1 / 3], rtol=1e-6)


def test_score_uses_both_layers_of_the_predictor():
    """z = 2 tanh(h - 1) + 3 tanh(4 - h): 2 tanh(-1) + 3 tanh(4) and 2 tanh(1) + 3 tanh(2)."""
    params = {
        "hidden": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.array([-1.0, 4.0])},
        "score": {"kernel": jnp.array([[2.0], [3.0]]), "bias": jnp.array([7.0])},
    }
    found = scorer_logits(params, TokenFeatures(jnp.array([[0.0], [2.0]])), activation="tanh")
    expected = [7 + 2 * math.tanh(-1) + 3 * math.tanh(4), 7 + 2 * math.tanh(1) + 3 * math.tanh(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_normalise_by_hand():
    np.testing.assert_allclose(
        normalise(jnp.array([[1.0, 3.0], [0.0, 0.0]])), [[0.25, 0.75], [0.0, 0.0]]
    )


def test_rescale_cls_by_hand():
    np.testing.assert_allclose(rescale_cls(jnp.array([[0.2, 0.8]]), 4.0), [[0.5, 0.5]], rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(1.0, 1e4, width=32), min_size=5, max_size=5), st.integers(1, 5))
def test_scores_sum_to_one_over_live_tokens(shares, num_live):
    found = np.asarray(scores_of(view_of(shares, live=[slot < num_live for slot in range(5)])))
    assert found.sum() == pytest.approx(1.0, rel=1e-5)
    assert np.all(found[:num_live] > 0) and np.all(found[num_live:] == 0)


# The surrogate of the [CLS] ratio


@pytest.mark.parametrize("ratio", [0.001, 0.3, 1.0, 2.5, 1e4])
def test_surrogate_ratio_is_exactly_one_and_its_slope_one_over_the_ratio(ratio):
    for index in (1, 3):
        value, slope = jax.value_and_grad(straight_through_ratio)(jnp.float32(ratio), index)
        assert value == 1.0
        assert float(slope) == pytest.approx(1 / (ratio + 1e-7), rel=1e-6)


def test_surrogate_ratio_of_the_first_site_is_a_constant():
    assert jax.value_and_grad(straight_through_ratio)(jnp.float32(2.5), 0) == (1.0, 0.0)


def test_cls_ratio_changes_no_value_of_the_soft_selection():
    view = view_of([1, 2, 3, 4])
    found, expected = (
        soft_select(site_params(0.8, ratio), jnp.int32(2), view, jnp.float32(10.0))
        for ratio in (0.2, 3.0)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# Soft and hard removal at one site


def test_soft_selection_by_hand():
    """Two soft tokens enter with [CLS], n = 3, so delta = 0.9 / 3 = 0.3."""
    weight = [1.0, 1.0, 0.5, 0.5, 1e-7]
    view = view_of([1, 2, 8, 6, 4], weight=weight)
    found = soft_select(site_params(0.9), jnp.int32(1), view, jnp.float32(10.0))
    total = 1 + 2 + 4 + 3 + 4e-7
    scores = [1 / total, 2 / total, 4 / total, 3 / total, 4e-7 / total]
    threshold = 0.9 / (3.0 + 1e-7)
    edits = [0.0] + [
        soft_removal_by_hand(x, threshold, 10.0) * w for x, w in zip(scores[1:], weight[1:])
    ]
    survival = [w * math.exp(edit) for w, edit in zip(weight, edits)]
    survival[-1] = 1e-7  # of less weight than 1e-6: not shrunk any further
    np.testing.assert_allclose(found.score_BL[0], scores, rtol=1e-5)
    np.testing.assert_allclose(found.bias_BL[0], edits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.survival_BL[0], survival, rtol=1e-4)


def test_only_tokens_of_more_weight_than_a_millionth_shrink():
    """Both lose exp(-10000 w), the first about 1%, were it not gone already."""
    view = view_of([1, 1, 1], weight=[1.0, 0.9e-6, 1.1e-6])
    found = soft_select(site_params(1.0), jnp.int32(1), view, jnp.float32(1e6)).survival_BL[0]
    np.testing.assert_allclose(found, [1.0, 0.9e-6, 1.1e-6 * math.exp(-0.011)], rtol=1e-5)


def test_cls_is_never_softened_even_where_its_score_is_the_lowest():
    found = soft_select(
        site_params(1.0), jnp.int32(1), view_of([1, 500, 500]), jnp.float32(HARD_SLOPE)
    )
    assert found.bias_BL[0, 0] == 0.0 and found.survival_BL[0, 0] == 1.0


def test_padding_keeps_weight_zero_and_gets_no_bias_of_its_own():
    view = view_of([1, 2, 3], live=[True, True, False])
    found = soft_select(site_params(1.0), jnp.int32(1), view, jnp.float32(10.0))
    assert found.survival_BL[0, 2] == 0.0 and found.bias_BL[0, 2] == 0.0


def kept(shares, threshold, live=None):
    return (
        hard_select(site_params(threshold), jnp.int32(1), view_of(shares, live)).keep_BL[0].tolist()
    )


def test_select_by_hand():
    """Scores 0.1 0.2 0.3 0.4 against 0.9 / 4 = 0.225 and 0.7 / 4 = 0.175; [CLS] stays though its
    0.1 is below."""
    assert kept([1, 2, 3, 4], 0.9) == [True, False, True, True]
    assert kept([1, 2, 3, 4], 0.7) == [True, True, True, True]


def test_select_counts_the_tokens_that_enter_only():
    """Scores 1/6 2/6 3/6 of three tokens against 0.9 / 3 = 0.3; with 0.9 / 4 more would be kept."""
    assert kept([1, 1.7, 3, 99], 0.9, live=[True, True, True, False]) == [True, False, True, False]
    assert kept([1, 2, 3, 99], 0.9, live=[True, True, True, False]) == [True, True, True, False]


def test_a_score_exactly_at_the_threshold_is_kept():
    for num_tokens in (1, 2, 4, 8):
        assert kept([1.0] * num_tokens, 1.0) == [True] * num_tokens


def test_an_empty_row_selects_nothing():
    assert kept([1, 2, 3], 0.5, live=[False] * 3) == [False] * 3


def test_the_hard_rule_equals_the_steepest_soft_one_at_a_site():
    for shares in ([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 1, 1, 9, 3]):
        soft = soft_select(site_params(0.8), jnp.int32(1), view_of(shares), jnp.float32(HARD_SLOPE))
        assert (soft.survival_BL[0] > 0).tolist() == kept(shares, 0.8)


@settings(max_examples=25, deadline=None)
@given(
    shares=st.lists(st.floats(1.0, 100.0, width=32), min_size=6, max_size=6),
    num_live=st.integers(1, 6),
    threshold=st.floats(0.0625, 1.0, width=32),
)
def test_cls_always_stays_and_padding_never(shares, num_live, threshold):
    found = kept(shares, threshold, live=[slot < num_live for slot in range(6)])
    assert found[0] and not any(found[num_live:])


# Targets and loss terms


def test_layer_targets_by_hand():
    """The first layer ignores its ratio; the second has lost half of token 1 and token 2, and
    doubles [CLS]."""
    saliency_BL = jnp.array([[1.0, 2.0, 1.0, 0.0]])
    entering_NBL = jnp.array([[[1.0, 1.0, 1.0, 0.0]], [[1.0, 0.5, 0.0, 0.0]]])
    found = layer_targets(saliency_BL, entering_NBL, jnp.array([5.0, 2.0]))
    np.testing.assert_allclose(found[0, 0], [0.25, 0.5, 0.25, 0.0], rtol=1e-6)
    np.testing.assert_allclose(found[1, 0], [2 / 3, 1 / 3, 0.0, 0.0], rtol=1e-6)


def test_targets_of_an_example_without_saliency_are_zero():
    found = layer_targets(jnp.zeros((1, 3)), jnp.ones((2, 1, 3)), jnp.ones(2))
    np.testing.assert_array_equal(found, np.zeros((2, 1, 3)))


def test_divergences_by_hand():
    """Zero entries count as 1e-7 on both sides."""
    target_NBL = jnp.array([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]])
    score_NBL = jnp.array([[[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]]])
    expected = [
        0.5 * math.log(2) + 1e-7 * math.log(1e-7 / 0.25),
        0.5 * math.log(0.5) + 0.5 * math.log(0.5 / 1e-7),
        0.0,
    ]
    np.testing.assert_allclose(
        divergences(target_NBL, score_NBL)[0], expected, rtol=1e-5, atol=1e-7
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(0.0078125, 1.0, width=32), min_size=4, max_size=4),
    st.lists(st.floats(0.0078125, 1.0, width=32), min_size=4, max_size=4),
)
def test_divergence_of_distributions_is_not_negative(target, score):
    target_NBL, score_NBL = (normalise(jnp.array([x], jnp.float32))[None] for x in (target, score))
    assert float(divergences(target_NBL, score_NBL)[0, 0]) >= -1e-6


# Two sites, two examples and a filler; every number of the trace is chosen, not computed.
LIVE = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
TRACE = Trace(
    score_NBL=jnp.array(
        [
            [[0.1, 0.2, 0.3, 0.4], [0.6, 0.4, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]],
            [[0.4, 0.3, 0.2, 0.1], [0.9, 0.1, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]],
        ]
    ),
    survival_NBL=jnp.array(
        [
            [[1.0, 0.5, 0.8, 0.2], [1.0, 0.25, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]],
            [[1.0, 0.1, 0.4, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]],
        ]
    ),
    count_NB=jnp.array([[2.5, 1.25, 1.0], [1.5, 1.0, 1.0]]),
)
SALIENCY = np.array([[2.0, 1.0, 3.0, 4.0], [3.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
RATIOS = {"cls_ratio_N": jnp.array([1.0, 2.0])}


def batch_of(example_ids=(7, 3, PADDING_EXAMPLE_ID), saliency=SALIENCY):
    zeros_BL = np.zeros(LIVE.shape, np.int32)
    return Batch(
        token_BL=zeros_BL,
        segment_BL=zeros_BL,
        valid_BL=LIVE,
        label_B=zeros_BL[:, 0],
        example_id_B=np.array(example_ids, np.int32),
        saliency_BL=saliency,
    )


@functools.cache
def jitted_terms(relative_length, stop_target_gradient, length_target=0.0):
    flags = {"relative_length": relative_length, "stop_target_gradient": stop_target_gradient}
    return jax.jit(functools.partial(loss_terms, length_target=length_target, **flags))


def terms(
    trace=TRACE, batch=None, *, relative_length=False, stop_target_gradient=True, params=RATIOS
):
    found = jitted_terms(relative_length, stop_target_gradient)(
        params, trace, batch_of() if batch is None else batch
    )
    return {name: float(value) for name, value in found.items()}


def kl(target, score):
    clip = functools.partial(np.clip, a_min=1e-7, a_max=1.0)
    return float(np.sum(clip(target) * np.log(clip(target) / clip(score))))


def test_contribution_by_hand():
    """Weights are 2 and 1; site 1 has its [CLS] doubled and fades by the largest weight."""
    score_NBL = np.asarray(TRACE.score_NBL, np.float64)
    first = kl(np.array([0.2, 0.1, 0.3, 0.4]), score_NBL[0, 0]) + kl(
        np.array([0.75, 0.25, 0, 0]), score_NBL[0, 1]
    )
    left_0 = np.array([2 * 2.0, 0.5, 2.4, 0.8])
    left_1 = np.array([2 * 3.0, 0.25, 0.0, 0.0])
    second = 0.8 * kl(left_0 / left_0.sum(), score_NBL[1, 0]) + 0.25 * kl(
        left_1 / left_1.sum(), score_NBL[1, 1]
    )
    assert terms()["contribution"] == pytest.approx((2 * first + second) / 2, rel=1e-5)


def test_length_by_hand():
    """Tokens summed over layers, 4 and 2.25; or their shares of 2 layers with 4 and 2 tokens."""
    assert terms()["length"] == pytest.approx((4.0 + 2.25) / 2)
    assert terms(relative_length=True)["length"] == pytest.approx((4.0 / 8 + 2.25 / 4) / 2)


def test_only_the_length_beyond_its_target_counts():
    found = jitted_terms(False, True, 3.0)(RATIOS, TRACE, batch_of())["length"]
    assert found == pytest.approx((4.0 + 2.25) / 2 - 3.0)
    assert jitted_terms(False, True, 4.0)(RATIOS, TRACE, batch_of())["length"] == 0.0


def test_relative_length_of_keeping_everything_is_one():
    full = TRACE.replace(count_NB=jnp.broadcast_to(LIVE.sum(axis=-1).astype(np.float32), (2, 3)))
    assert terms(full, relative_length=True)["length"] == pytest.approx(1.0)


def test_terms_ignore_filler_rows():
    saliency = SALIENCY.copy()
    saliency[2] = 50.0
    changed = jax.tree.map(lambda leaf: leaf.at[:, 2].set(0.37), TRACE)
    assert terms(changed, batch_of(saliency=saliency)) == terms()


def test_terms_of_fillers_alone_are_zero():
    assert terms(batch=batch_of((PADDING_EXAMPLE_ID,) * 3)) == {"contribution": 0.0, "length": 0.0}


def test_a_site_where_only_cls_is_left_teaches_nothing():
    """Site 1 of the second example, whose scores then do not matter."""
    alone = TRACE.replace(survival_NBL=TRACE.survival_NBL.at[0, 1, 1].set(0.0))
    other = alone.replace(score_NBL=alone.score_NBL.at[1, 1].set(jnp.array([0.1, 0.2, 0.3, 0.4])))
    assert terms(alone)["contribution"] == pytest.approx(terms(other)["contribution"], rel=1e-6)


@functools.cache
def contribution_gradient(stop_target_gradient):
    def contribution(trace, ratio_N):
        flags = {"relative_length": True, "stop_target_gradient": stop_target_gradient}
        return loss_terms({"cls_ratio_N": ratio_N}, trace, batch_of(), **flags)["contribution"]

    return jax.jit(jax.grad(contribution, argnums=(0, 1)))


def test_constant_targets_let_no_gradient_through():
    by_trace, by_ratio = contribution_gradient(True)(TRACE, RATIOS["cls_ratio_N"])
    assert np.all(by_trace.survival_NBL == 0) and np.all(by_ratio == 0)
    assert np.all(by_trace.score_NBL[:, 0] != 0) and np.all(by_trace.score_NBL[:, 2] == 0)


def test_targets_that_are_not_constant_pull_at_earlier_masks_and_ratios():
    by_trace, by_ratio = contribution_gradient(False)(TRACE, RATIOS["cls_ratio_N"])
    assert np.all(by_trace.survival_NBL[0, 0] != 0) and np.all(by_trace.survival_NBL[1] == 0)
    assert by_ratio[0] == 0 and by_ratio[1] != 0


def test_the_flag_of_the_targets_changes_no_value():
    assert terms(stop_target_gradient=False) == pytest.approx(terms(stop_target_gradient=True))


def test_gradient_by_the_scores_by_hand():
    """d/ds of 2 t log(t / s) is -2 t / s, over two examples."""
    by_trace, _ = contribution_gradient(True)(TRACE, RATIOS["cls_ratio_N"])
    expected = -2 * np.array([0.2, 0.1, 0.3, 0.4]) / np.array([0.1, 0.2, 0.3, 0.4]) / 2
    np.testing.assert_allclose(by_trace.score_NBL[0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("option", "value"), [("numpy_rank_promotion", "raise"), ("numpy_dtype_promotion", "strict")]
)
def test_loss_terms_promote_nothing_implicitly(option, value):
    run = functools.partial(loss_terms, relative_length=True, stop_target_gradient=True)
    with getattr(jax, option)(value):
        jax.make_jaxpr(lambda trace: run(RATIOS, trace, batch_of()))(TRACE)


# Parameters


def test_fresh_parameters():
    params = init_params(jax.random.key(0), CONFIG, predictor_dim=8, initial_threshold=0.25)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == {
        "hidden": {"kernel": (4, 16, 8), "bias": (4, 8)},
        "score": {"kernel": (4, 8, 1), "bias": (4, 1)},
        "threshold_N": (4,),
        "cls_ratio_N": (4,),
    }
    assert (
        params["threshold_N"].tolist() == [0.25] * 4 and params["cls_ratio_N"].tolist() == [1.0] * 4
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    kernel_NDP = params["hidden"]["kernel"]
    assert np.all(params["hidden"]["bias"] == 0) and np.abs(kernel_NDP[0] - kernel_NDP[1]).max() > 0


@pytest.mark.parametrize("bound", [True, False])
def test_constrain_by_hand(bound):
    params = {
        "threshold_N": jnp.array([-1.0, 0.01, 0.5, 1.5]),
        "cls_ratio_N": jnp.array([1.0, -0.5, 0.0, 30.0]),
        "hidden": {"kernel": jnp.full((4, 1, 1), 7.0)},
    }
    found = constrain(params, clip_cls_ratio=bound)
    np.testing.assert_allclose(found["threshold_N"], [0.01, 0.01, 0.5, 1.0])
    np.testing.assert_allclose(
        found["cls_ratio_N"], [1.0, 0.001, 0.001, 30.0] if bound else [1.0, -0.5, 0.0, 30.0]
    )
    assert found["hidden"] is params["hidden"]


def test_flags_of_the_factory_reach_its_functions():
    params = {"threshold_N": jnp.ones(2), "cls_ratio_N": -jnp.ones(2)}
    assert make_adapler(CONFIG).constrain(params)["cls_ratio_N"][0] > 0
    assert make_adapler(CONFIG, clip_cls_ratio=False).constrain(params)["cls_ratio_N"][0] == -1
    relative = make_adapler(CONFIG).loss_terms(RATIOS, TRACE, batch_of())["length"]
    absolute = make_adapler(CONFIG, relative_length=False).loss_terms(RATIOS, TRACE, batch_of())[
        "length"
    ]
    assert float(relative) < 1 < float(absolute)
