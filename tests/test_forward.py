"""The pass at full width equals plain BERT where nothing is dropped, and [CLS] survives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.base import hard_to_soft
from adapler_jax.types import MASK_BIAS, Selection, SoftSelection
from tests import plain_bert as encoder
from tests.tiny import (
    CONFIG,
    HARD_SLOPE,
    NUM_SLOTS,
    PRUNER,
    assert_trees_near,
    make_batch,
    with_pruner_params,
)
from tests.tiny_forward import PARAMS, forward, jitted

# Relations


def test_keep_all_is_plain_bert():
    params, batch = PARAMS | {"pruner": {}}, make_batch()
    logits_BC, trace = forward(params, batch, None, keep_all())
    hidden_BLD = encoder.encode(
        params["encoder"], CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
    )
    expected_BC = heads.classify(params["head"], CONFIG, hidden_BLD[:, 0])
    np.testing.assert_allclose(logits_BC, expected_BC, rtol=0, atol=2e-6)
    assert jax.tree.leaves(trace) == []


def test_thresholds_of_zero_under_the_hard_rule_are_plain_bert():
    batch = make_batch()
    params = with_pruner_params(PARAMS, threshold_N=jnp.zeros((CONFIG.num_layers,)))
    logits_BC, trace = forward(params, batch, None)
    expected_BC, _ = forward(PARAMS | {"pruner": {}}, batch, None, keep_all())
    np.testing.assert_allclose(logits_BC, expected_BC, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(
        trace.survival_NBL, np.broadcast_to(batch.valid_BL, trace.survival_NBL.shape)
    )


def test_tokens_go_at_every_layer_of_these_tests():
    count_NB = forward(PARAMS, make_batch(), None)[1].count_NB
    assert np.all(np.diff(count_NB.sum(axis=1)) < 0)
    assert count_NB[0].sum() < make_batch().valid_BL.sum() and count_NB[-1].sum() > 4


def test_the_steepest_slope_is_the_hard_rule():
    for seed in range(3):
        batch = make_batch(seed=seed)
        (soft_BC, soft), (hard_BC, hard) = (
            forward(PARAMS, batch, HARD_SLOPE),
            forward(PARAMS, batch, None),
        )
        np.testing.assert_allclose(soft_BC, hard_BC, rtol=0, atol=5e-6)
        np.testing.assert_array_equal(soft.survival_NBL, hard.survival_NBL)
        np.testing.assert_array_equal(soft.count_NB, hard.count_NB)
        np.testing.assert_allclose(soft.score_NBL, hard.score_NBL, rtol=0, atol=5e-6)


@pytest.mark.parametrize("slope", [10.0, 1000.0, HARD_SLOPE, None])
def test_cls_survives_padding_never_and_weights_never_grow(slope):
    batch = make_batch()
    params = with_pruner_params(PARAMS, threshold_N=jnp.ones((CONFIG.num_layers,)))
    _, trace = forward(params, batch, slope)
    assert np.all(trace.survival_NBL[:, :, 0] == 1)
    assert not np.any(trace.survival_NBL[:, ~batch.valid_BL])
    assert np.all(np.diff(trace.survival_NBL, axis=0) <= 0)
    assert np.all(np.diff(trace.count_NB, axis=0) <= 0)
    np.testing.assert_allclose(trace.count_NB, trace.survival_NBL.sum(axis=-1), rtol=1e-6)
    assert np.all(trace.count_NB[0] <= batch.valid_BL.sum(axis=-1))
    np.testing.assert_allclose(trace.score_NBL.sum(axis=-1), 1.0, rtol=1e-5)


def test_tokens_that_left_have_no_score_under_the_hard_rule():
    batch = make_batch()
    _, trace = forward(PARAMS, batch, None)
    entering_NBL = np.concatenate([batch.valid_BL[None], trace.survival_NBL[:-1] > 0])
    assert not np.any(trace.score_NBL[~entering_NBL])
    assert np.all(trace.score_NBL[entering_NBL] > 0)


def test_higher_thresholds_keep_no_more_at_the_first_site():
    counts = []
    for threshold in (0.1, 0.5, 0.9):
        params = with_pruner_params(
            PARAMS, threshold_N=jnp.full((CONFIG.num_layers,), threshold, jnp.float32)
        )
        counts.append(forward(params, make_batch(), None)[1].count_NB[0])
    assert np.all(np.diff(counts, axis=0) <= 0) and counts[0].sum() > counts[-1].sum()


def test_collected_states_end_in_what_the_head_reads_and_jit_equals_eager():
    batch = make_batch()
    hidden_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    exit_hidden_BLD, trace, hidden_NBLD = full_width.forward_layers(
        PARAMS,
        CONFIG,
        PRUNER,
        hidden_BLD,
        batch.valid_BL,
        slope=jnp.float32(10.0),
        key=None,
        dtype=jnp.float32,
        collect_hidden=True,
    )
    assert hidden_NBLD.shape == (CONFIG.num_layers, *hidden_BLD.shape)
    np.testing.assert_array_equal(hidden_NBLD[-1], exit_hidden_BLD)
    logits_BC = heads.classify(PARAMS["head"], CONFIG, exit_hidden_BLD[:, 0])
    assert_trees_near((logits_BC, trace), forward(PARAMS, batch, 10.0))


def test_dropout_follows_its_key():
    batch = make_batch()
    run = jax.jit(
        lambda key: full_width.forward(
            PARAMS, CONFIG, PRUNER, batch, slope=jnp.float32(10.0), key=key
        )
    )
    first, again, other = run(jax.random.key(1)), run(jax.random.key(1)), run(jax.random.key(2))
    assert_trees_near(first, again, atol=0)
    assert np.abs(first[0] - other[0]).max() > 1e-2
    assert (
        np.abs(first[1].score_NBL[0] - other[1].score_NBL[0]).max() > 1e-4
    )  # predictor 0 reads dropped-out states


def test_a_new_slope_or_new_lengths_compile_nothing():
    forward(PARAMS, make_batch(), 10.0)
    num_compiled = jitted()._cache_size()
    for slope, lengths in [(1e20, (12, 1, 1, 1)), (55.5, (3, 3, 9, 2))]:
        forward(PARAMS, make_batch(lengths), slope)
    assert jitted()._cache_size() == num_compiled


def test_ranks_and_types_are_never_promoted_implicitly():
    batch, key = jax.tree.map(jnp.asarray, make_batch()), jax.random.key(0)

    def total(params, pruner, slope, dtype):
        logits_BC, trace = full_width.forward(
            params, CONFIG, pruner, batch, slope=slope, key=key, dtype=dtype
        )
        return jnp.sum(logits_BC) + (jnp.sum(trace.count_NB) if pruner.sites else 0.0)

    cases = [
        (PARAMS, PRUNER, jnp.float32(10.0)),
        (PARAMS, PRUNER, None),
        (PARAMS | {"pruner": {}}, keep_all(), None),
    ]
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        for params, pruner, slope in cases:
            for dtype in (jnp.float32, jnp.bfloat16):
                jax.make_jaxpr(
                    jax.grad(functools.partial(total, pruner=pruner, slope=slope, dtype=dtype))
                )(params)


# Values


def test_harden_by_hand():
    selection = Selection(score_BL=jnp.array([[0.9, 0.1]]), keep_BL=jnp.array([[True, False]]))
    found = hard_to_soft(selection)
    np.testing.assert_array_equal(found.score_BL, selection.score_BL)
    np.testing.assert_array_equal(found.bias_BL, [[0.0, MASK_BIAS]])
    np.testing.assert_array_equal(found.survival_BL, [[1.0, 0.0]])
    assert found.survival_BL.dtype == jnp.float32


def test_key_biases_of_sites_add_up_and_stop_at_the_mask():
    """A pruner that adds -1 at every site equals a layer's attention under -1, -2, -3 and -4."""
    batch = make_batch()
    hidden_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    minus_BL = jnp.where(jnp.arange(NUM_SLOTS)[None] == 0, 0.0, -1.0) * jnp.ones((4, 1))

    def soften(params, index, view, slope):
        return SoftSelection(
            score_BL=view.survival_BL, bias_BL=minus_BL, survival_BL=view.survival_BL
        )

    pruner = PRUNER._replace(soft=soften)
    found, _, _ = full_width.forward_layers(
        PARAMS,
        CONFIG,
        pruner,
        hidden_BLD,
        batch.valid_BL,
        slope=jnp.float32(1.0),
        key=None,
        dtype=jnp.float32,
    )

    @jax.jit
    def run_layer(layer, hidden_BLD, bias_BL):
        return encoder.feed_forward(
            layer, CONFIG, encoder.attend(layer, CONFIG, hidden_BLD, bias_BL)
        )

    for index in range(CONFIG.num_layers):
        layer = jax.tree.map(lambda leaf, index=index: leaf[index], PARAMS["encoder"]["layers"])
        hidden_BLD = run_layer(
            layer, hidden_BLD, jnp.where(batch.valid_BL, (index + 1) * minus_BL, MASK_BIAS)
        )
    np.testing.assert_allclose(found, hidden_BLD, rtol=0, atol=5e-6)


# Properties


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, NUM_SLOTS), min_size=4, max_size=4),
    seed=st.integers(0, 999),
    threshold=st.sampled_from([0.05, 0.3, 0.6, 0.9]),
    slope=st.sampled_from([2.0, 10.0, 300.0, HARD_SLOPE, None]),
)
def test_cls_survives_and_counts_never_grow_for_any_batch(lengths, seed, threshold, slope):
    params = with_pruner_params(
        PARAMS, threshold_N=jnp.full((CONFIG.num_layers,), threshold, jnp.float32)
    )
    batch = make_batch(lengths, seed=seed)
    logits_BC, trace = forward(params, batch, slope)
    assert np.all(np.isfinite(logits_BC))
    assert np.all(trace.survival_NBL[:, :, 0] == 1) and not np.any(
        trace.survival_NBL[:, ~batch.valid_BL]
    )
    assert np.all(np.diff(trace.count_NB, axis=0) <= 0)
