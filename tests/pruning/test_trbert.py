import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.inference.drivers import masked
from adapler_jax.pruning import keep_all, trbert
from adapler_jax.pruning.base import rank_descending
from adapler_jax.pruning.trbert import (
    action_losses,
    check_layers,
    default_layers,
    hard_select,
    hard_select_by_batch,
    imitated_actions,
    probabilities,
    selected_fraction,
    soft_select,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    MASK_BIAS,
    SamplingNoise,
    Site,
    SiteInput,
    TokenFeatures,
    Trace,
)
from tests.tiny import CONFIG, LENGTHS, make_batch, make_params

PRUNER = trbert(CONFIG, selector_dim=8)
LIVE = jnp.array([[True, True, True, True, False], [True, True, False, False, False]])
HALF = 0.0  # a logit


def logit(probability):
    return math.log(probability / (1.0 - probability))


def view(probability_BL, *, valid_BL=LIVE, survival_BL=None, noise=None):
    token_logit_BL = jnp.array([[logit(p) for p in row] for row in probability_BL])
    survival_BL = valid_BL.astype(jnp.float32) if survival_BL is None else jnp.array(survival_BL)
    return SiteInput(
        token_logit_BL=token_logit_BL, remaining_BL=valid_BL, survival_BL=survival_BL, noise=noise
    )


PROBABILITIES = [[0.1, 0.6, 0.4, 0.9, 0.9], [0.2, 0.3, 0.9, 0.9, 0.9]]


def sharp_params(seed=0, factor=10.0):
    """Random weights whose selectors differ between tokens."""
    params = make_params(PRUNER, seed=seed)
    pruner = jax.tree.map(lambda leaf: leaf * factor, params["pruner"])
    return params | {"pruner": pruner}


# Where and what


@pytest.mark.parametrize(
    ("num_layers", "layers"), [(12, (1, 6)), (6, (1, 3)), (4, (1, 2)), (3, (1,)), (2, (1,))]
)
def test_tokens_are_selected_early_and_in_the_middle(num_layers, layers):
    assert default_layers(num_layers) == layers


@pytest.mark.parametrize("layers", [(), (0,), (1, 4), (2, 1), (1, 1), (1.5,), (True, 2)])
def test_bad_layers_are_refused(layers):
    with pytest.raises(ValueError, match="expected increasing numbers from 1 to 3"):
        check_layers(layers, 4)


def test_sites_are_where_they_were_asked_for():
    assert PRUNER.sites == (Site(1, BEFORE_ATTENTION), Site(2, BEFORE_ATTENTION))
    assert trbert(CONFIG, layers=(3,)).sites == (Site(3, BEFORE_ATTENTION),)
    assert dict(trbert(CONFIG, layers=(3,)).factory_kwargs) == {"layers": (3,)}


def test_selector_by_hand():
    params = {
        "hidden": {"kernel": jnp.array([[1.0, 0.0], [0.0, -1.0]]), "bias": jnp.array([0.0, 0.5])},
        "score": {"kernel": jnp.array([[2.0], [1.0]]), "bias": jnp.array([0.25])},
    }
    gelu = [x / 2 * (1 + math.erf(x / math.sqrt(2))) for x in (3.0, -0.5)]
    np.testing.assert_allclose(
        PRUNER.score(params, TokenFeatures(jnp.array([3.0, 1.0]))),
        2 * gelu[0] + gelu[1] + 0.25,
        rtol=1e-6,
    )


def test_fresh_selectors_are_undecided():
    _, trace = masked.forward(make_params(PRUNER), CONFIG, PRUNER, make_batch())
    for layer in (1, 2):
        entering_BL = np.asarray(trace.survival_NBL[layer - 1]) > 0
        assert np.all(np.abs(np.asarray(trace.score_NBL[layer])[entering_BL] - 0.5) < 0.4)


# The hard rule


def test_tokens_from_a_half_on_go_on_and_so_does_cls():
    found = hard_select({}, 1, view(PROBABILITIES))
    assert found.keep_BL.astype(int).tolist() == [[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(
        found.score_BL, [[0.1, 0.6, 0.4, 0.9, 0.0], [0.2, 0.3, 0, 0, 0]], rtol=1e-5
    )


def test_exactly_a_half_goes_on():
    found = hard_select({}, 1, view([[0.5, 0.5, 0.5, 0.5, 0.5]], valid_BL=LIVE[:1]))
    assert found.keep_BL[0].astype(int).tolist() == [1, 1, 1, 1, 0]


def test_the_released_rule_fills_rows_up_to_the_longest():
    found = hard_select_by_batch({}, 1, view(PROBABILITIES))
    assert found.keep_BL.astype(int).tolist() == [[1, 1, 0, 1, 0], [1, 1, 0, 0, 0]]
    alone = hard_select_by_batch({}, 1, view(PROBABILITIES[1:], valid_BL=LIVE[1:]))
    assert alone.keep_BL[0].astype(int).tolist() == [1, 0, 0, 0, 0]


def test_layers_without_a_site_keep_what_entered():
    _, trace = masked.forward(sharp_params(), CONFIG, PRUNER, make_batch())
    survival_NBL, valid_BL = np.asarray(trace.survival_NBL), make_batch().valid_BL
    np.testing.assert_array_equal(survival_NBL[0], valid_BL)
    np.testing.assert_array_equal(survival_NBL[3], survival_NBL[2])
    assert not np.any(trace.score_NBL[0]) and not np.any(trace.score_NBL[3])
    assert survival_NBL[0].sum() > survival_NBL[1].sum() > survival_NBL[2].sum() > 4
    assert np.all(survival_NBL[:, :, 0] == 1.0)


def test_selectors_that_keep_all_are_plain_bert():
    params = make_params(PRUNER)
    params["pruner"]["score"]["bias"] = params["pruner"]["score"]["bias"] + 50.0
    found, trace = masked.forward(params, CONFIG, PRUNER, make_batch())
    expected, _ = masked.forward(params | {"pruner": {}}, CONFIG, keep_all(), make_batch())
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(trace.count_NB, np.broadcast_to(LENGTHS, (4, 4)))


def test_cls_alone_still_answers():
    params = make_params(PRUNER)
    params["pruner"]["score"]["bias"] = params["pruner"]["score"]["bias"] - 50.0
    found, trace = masked.forward(params, CONFIG, PRUNER, make_batch())
    assert np.all(np.isfinite(found)) and np.all(trace.count_NB[1:] == 1)


def test_batch_mates_and_padding_matter_by_the_released_rule_alone():
    params, batch = sharp_params(), make_batch((12, 7, 9, 5))
    rows = [jax.tree.map(lambda leaf, row=row: leaf[row : row + 1], batch) for row in range(4)]
    together, _ = masked.forward(params, CONFIG, PRUNER, batch)
    for row, alone in enumerate(rows):
        np.testing.assert_allclose(
            masked.forward(params, CONFIG, PRUNER, alone)[0][0], together[row], atol=1e-5
        )
    wide, _ = masked.forward(
        params, CONFIG, PRUNER, make_batch((12, 7, 9, 5), num_slots=16, padding=9)
    )
    np.testing.assert_allclose(wide, together, atol=1e-5)
    released = trbert(CONFIG, selector_dim=8, by_batch=True)
    together, _ = masked.forward(params, CONFIG, released, batch)
    alone = np.concatenate([masked.forward(params, CONFIG, released, one)[0] for one in rows])
    assert np.abs(together - alone).max() > 1e-3


# Sampling


def noise(uniform_BL, importance_BL=None, imitate_B=None):
    return SamplingNoise(
        jnp.array(uniform_BL),
        None if importance_BL is None else jnp.array(importance_BL),
        None if imitate_B is None else jnp.array(imitate_B),
    )


def test_actions_are_sampled_by_hand():
    uniform_BL = [[0.99, 0.59, 0.41, 0.0, 0.0], [0.99, 0.29, 0.0, 0.0, 0.0]]
    found = soft_select({}, 1, view(PROBABILITIES, noise=noise(uniform_BL)), None)
    assert found.survival_BL.tolist() == [[1, 1, 0, 1, 0], [1, 1, 0, 0, 0]]
    assert found.bias_BL[0].tolist() == [0, 0, MASK_BIAS, 0, MASK_BIAS]


def test_tokens_that_are_gone_do_not_come_back():
    survival_BL = [[1.0, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    found = soft_select(
        {},
        2,
        view(PROBABILITIES, survival_BL=survival_BL, noise=noise(np.zeros((2, 5), np.float32))),
        None,
    )
    assert found.survival_BL.tolist() == [[1, 0, 1, 0, 0], [1, 0, 0, 0, 0]]
    np.testing.assert_allclose(found.score_BL[0], [0.1, 0.0, 0.4, 0.0, 0.0], rtol=1e-6)


def test_imitation_takes_as_many_as_the_policy_would():
    """0.1 + 0.6 + 0.4 + 0.9 = 2 tokens of the first row, 0.5 of the second, which is rounded up."""
    score_BL = probabilities(view(PROBABILITIES))
    importance_BL = jnp.array([[0.1, 0.9, 0.95, 0.2, 1.0], [0.5, 0.4, 1.0, 1.0, 1.0]])
    found = imitated_actions(score_BL, importance_BL, LIVE)
    assert found.astype(int).tolist() == [[0, 1, 1, 0, 0], [1, 0, 0, 0, 0]]
    guided = noise(np.zeros((2, 5), np.float32), importance_BL, [True, False])
    softened = soft_select({}, 1, view(PROBABILITIES, noise=guided), None)
    assert softened.survival_BL.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]


def test_places_by_hand():
    found = rank_descending(jnp.array([[0.5, 0.7, 0.7, 0.9, 2.0]]), LIVE[:1])
    assert found.tolist() == [[3, 1, 2, 0, 4]]


# Losses


def trace_of(score_NBL, survival_NBL):
    survival_NBL = jnp.array(survival_NBL, jnp.float32)
    return Trace(jnp.array(score_NBL, jnp.float32), survival_NBL, jnp.sum(survival_NBL, axis=-1))


def test_action_losses_by_hand():
    """Of three tokens, the site before layer 1 drops the last, and the next the middle one."""
    valid_BL = jnp.array([[True, True, True, False]])
    scores = [[[0, 0, 0, 0]], [[0.5, 0.8, 0.3, 0]], [[0.9, 0.25, 0, 0]]]
    weights = [[[1, 1, 1, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 0]]]
    sites = (Site(1, BEFORE_ATTENTION), Site(2, BEFORE_ATTENTION))
    expected = (
        -(math.log(0.5) + math.log(0.8) + math.log(0.7)) / 3 - (math.log(0.9) + math.log(0.75)) / 2
    )
    found = action_losses(trace_of(scores, weights), sites, valid_BL)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_selected_fraction_by_hand():
    valid_BL = jnp.array([[True, True, True, False]])
    weights = [[[1, 1, 1, 0]], [[1, 1, 0, 0]], [[1, 0, 0, 0]]]
    sites = (Site(1, BEFORE_ATTENTION), Site(2, BEFORE_ATTENTION))
    trace = trace_of(np.zeros((3, 1, 4)), weights)
    np.testing.assert_allclose(selected_fraction(trace, sites, valid_BL), [(2 / 3 + 1 / 3) / 2])
    np.testing.assert_allclose(
        selected_fraction(trace, sites, valid_BL, normalize_by_padded_length=True),
        [(2 / 4 + 1 / 4) / 2],
    )


def test_sampled_passes_drop_what_their_actions_say():
    params, batch = sharp_params(), make_batch()
    zeros, ones = jnp.zeros((4, *batch.valid_BL.shape)), jnp.ones((4, *batch.valid_BL.shape))
    run = jax.jit(
        lambda uniform_NBL: full_width.forward(
            params, CONFIG, PRUNER, batch, slope=jnp.float32(1.0), noise=SamplingNoise(uniform_NBL)
        )
    )
    kept, trace = run(zeros)
    np.testing.assert_array_equal(trace.count_NB, np.broadcast_to(LENGTHS, (4, 4)))
    dense, _ = masked.forward(params | {"pruner": {}}, CONFIG, keep_all(), batch)
    np.testing.assert_allclose(kept, dense, atol=1e-5)
    _, trace = run(ones)
    assert np.all(trace.count_NB[1:] == 1.0)
