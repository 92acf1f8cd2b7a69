"""AdapLeR's scores decide which tokens a site removes, softly or hard, and [CLS] stays."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax.pruning.adapler import (
    constrain,
    contribution_scores,
    hard_select,
    init_params,
    normalise,
    rescale_cls,
    soft_select,
    straight_through_ratio,
)
from adapler_jax.pruning.scores import scorer_logits
from adapler_jax.types import SiteInput, TokenFeatures
from tests.pruning.by_hand import soft_removal_by_hand
from tests.tiny import CONFIG, HARD_SLOPE

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
