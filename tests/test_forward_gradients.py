"""Gradients through soft masks are finite, and tokens that left get none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.pruning import keep_all
from adapler_jax.types import MASK_BIAS, ScanOptions, Selection, SoftSelection
from tests import plain_bert as encoder
from tests.tiny import (
    CONFIG,
    HARD_SLOPE,
    NUM_SLOTS,
    PRUNER,
    assert_all_finite,
    assert_trees_near,
    make_batch,
)
from tests.tiny_forward import PARAMS, forward

DROPPED_SLOTS = (2, 5)


def fixed_pruner():
    """Drop the slots DROPPED_SLOTS before the first layer, whatever their states."""
    stays_L = jnp.ones((NUM_SLOTS,), bool).at[jnp.array(DROPPED_SLOTS)].set(False)

    def select(params, index, view):
        return Selection(score_BL=view.survival_BL, keep_BL=view.remaining_BL & stays_L[None])

    def soften(params, index, view, slope):
        bias_BL = jnp.where(stays_L[None], 0.0, MASK_BIAS) * view.survival_BL
        return SoftSelection(
            score_BL=view.survival_BL,
            bias_BL=bias_BL,
            survival_BL=view.survival_BL * jnp.exp(bias_BL),
        )

    return PRUNER._replace(
        name="fixed",
        score=lambda params, features: features.state_XD[..., 0],
        hard=select,
        soft=soften,
        init=lambda key, config: {},
    )


def loss_gradient(loop, batch):
    """A jitted function: the gradient of a loss of a soft pass with dropout."""

    def loss(params):
        logits_BC, trace = full_width.forward(
            params, CONFIG, PRUNER, batch, slope=jnp.float32(10.0), key=jax.random.key(0), loop=loop
        )
        return 0.01 * (jnp.sum(logits_BC**2) + jnp.sum(trace.count_NB))

    return jax.jit(jax.grad(loss))


@pytest.mark.long
def test_layers_that_are_unrolled_and_computed_twice_give_the_same_gradients():
    loops = ScanOptions(4, remat=True), ScanOptions()
    found, expected = (loss_gradient(loop, make_batch())(PARAMS) for loop in loops)
    assert_trees_near(found, expected, atol=1e-5)


@pytest.mark.long
def test_layers_computed_twice_need_less_memory():
    batch = make_batch((12,) * 8)
    programs = [
        loss_gradient(ScanOptions(CONFIG.num_layers, remat), batch).lower(PARAMS)
        for remat in (True, False)
    ]
    planned = [program.compile().memory_analysis().temp_size_in_bytes for program in programs]
    assert planned[0] < 0.6 * planned[1]


def test_tokens_that_left_do_not_influence_the_logits():
    pruner, params, batch = fixed_pruner(), PARAMS | {"pruner": {}}, make_batch()
    token_BL = batch.token_BL.copy()
    token_BL[:, DROPPED_SLOTS] = 1
    changed = batch.replace(token_BL=np.where(batch.valid_BL, token_BL, 0))
    assert np.any(changed.token_BL != batch.token_BL)
    found, expected = (forward(params, b, None, pruner)[0] for b in (changed, batch))
    np.testing.assert_array_equal(found, expected)
    plain, plain_changed = (forward(params, b, None, keep_all())[0] for b in (batch, changed))
    assert np.abs(plain - plain_changed)[0].max() > 1e-3


def test_states_of_tokens_that_left_get_no_gradient_from_the_logits():
    """Neither those that the pruner dropped nor padding; all others do."""
    batch, pruner = make_batch(), fixed_pruner()
    hidden_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )

    @jax.jit
    def gradient(hidden_BLD):
        def total(hidden_BLD):
            exit_hidden_BLD, _, _ = full_width.forward_layers(
                PARAMS | {"pruner": {}},
                CONFIG,
                pruner,
                hidden_BLD,
                batch.valid_BL,
                slope=jnp.float32(10.0),
                key=None,
                dtype=jnp.float32,
            )
            return jnp.sum(heads.classify(PARAMS["head"], CONFIG, exit_hidden_BLD[:, 0]))

        return jax.grad(total)(hidden_BLD)

    size_BL = np.abs(gradient(hidden_BLD)).max(axis=-1)
    read_BL = batch.valid_BL & ~np.isin(np.arange(NUM_SLOTS), DROPPED_SLOTS)
    assert np.all(size_BL[~read_BL] == 0) and np.all(size_BL[read_BL] > 1e-5)


@functools.cache
def jitted_gradient():
    @jax.jit
    def gradient(params, batch, slope):
        def total(params):
            logits_BC, _ = full_width.forward(params, CONFIG, PRUNER, batch, slope=slope)
            return jnp.sum(jnp.sin(3.0 * logits_BC))

        return jax.grad(total)(params)

    return gradient


@pytest.mark.parametrize("slope", [1.0, 10.0, 1e3, 1e5, HARD_SLOPE])
def test_gradients_through_the_soft_masks_are_finite(slope):
    assert_all_finite(jitted_gradient()(PARAMS, make_batch(), jnp.float32(slope)))


def test_the_task_reaches_predictors_thresholds_and_cls_ratios_through_the_soft_masks():
    grads = jax.tree.map(
        np.abs, jitted_gradient()(PARAMS, make_batch(), jnp.float32(5.0))["pruner"]
    )
    for name in ("hidden", "score"):
        assert np.all(grads[name]["kernel"].reshape(CONFIG.num_layers, -1).max(axis=-1) > 1e-6)
    assert np.all(grads["threshold_N"] > 1e-6)
    assert np.all(grads["cls_ratio_N"][1:] > 1e-7)
    assert grads["cls_ratio_N"][0] == 0


def test_no_gradient_reaches_the_pruner_under_the_hard_rule():
    def total(pruner_params):
        params = PARAMS | {"pruner": pruner_params}
        return jnp.sum(full_width.forward(params, CONFIG, PRUNER, make_batch(), slope=None)[0])

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(PARAMS["pruner"])):
        assert np.all(leaf == 0)
