"""AdapLeR's targets and loss terms equal values by hand, and gradients flow where they should."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax.pruning import adapler as make_adapler
from adapler_jax.pruning.adapler import divergences, layer_targets, loss_terms, normalise
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, Trace
from tests.tiny import CONFIG


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


def test_flags_of_the_factory_reach_its_functions():
    params = {"threshold_N": jnp.ones(2), "cls_ratio_N": -jnp.ones(2)}
    assert make_adapler(CONFIG).constrain(params)["cls_ratio_N"][0] > 0
    assert make_adapler(CONFIG, clip_cls_ratio=False).constrain(params)["cls_ratio_N"][0] == -1
    relative = make_adapler(CONFIG).loss_terms(RATIOS, TRACE, batch_of())["length"]
    absolute = make_adapler(CONFIG, relative_length=False).loss_terms(RATIOS, TRACE, batch_of())[
        "length"
    ]
    assert float(relative) < 1 < float(absolute)
