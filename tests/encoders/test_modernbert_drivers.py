"""All drivers compute one ModernBERT, with and without dropped tokens."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops
from adapler_jax import forward as full_width
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import attend
from adapler_jax.heads import CLASSIFICATION, classify, with_pooling
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import adapler, attention, keep_all, powerbert, trbert, vocabulary
from adapler_jax.pruning.scores import make_scorer
from adapler_jax.types import TokenFeatures
from tests import tiny
from tests.encoders.made_modernbert import CONFIG, random_params

LENGTHS = (12, 7, 3, 1, 9, 12, 2, 5)
BUCKETS = (4, 8, 12)
PRUNERS = {
    "keep_all": keep_all(),
    "adapler": adapler(CONFIG, predictor_dim=8),
    "attention": attention(CONFIG),
    "powerbert": powerbert(CONFIG),
    "trbert": trbert(CONFIG, selector_dim=8),
    "vocabulary": vocabulary(CONFIG),
}
LEAVES = {
    "adapler": {"threshold_N": jnp.full((4,), 0.8)},
    "attention": {"share_J": jnp.array([0.8, 0.7, 0.7, 0.6])},
    "powerbert": {"retention_N": jnp.array([9.0, 6.0, 6.0, 2.0])},
    "vocabulary": {"share_J": jnp.array([0.6])},
}


def make_batch():
    """Ragged texts, in one segment."""
    batch = tiny.make_batch(LENGTHS)
    return batch.replace(segment_BL=np.zeros_like(batch.segment_BL))


@functools.cache
def params_of(name):
    """Random parameters with which the method drops tokens."""
    params = random_params(CONFIG, CLASSIFICATION, pruner=PRUNERS[name])
    pruner = params["pruner"] | LEAVES.get(name, {})
    if name == "trbert":
        pruner = jax.tree.map(lambda leaf: 5.0 * leaf, pruner)
    if name == "vocabulary":
        saliency_JV = jax.random.uniform(jax.random.key(3), pruner["saliency_JV"].shape)
        pruner["saliency_JV"] = saliency_JV
    return params | {"pruner": pruner}


def run(name, driver, **options):
    """Logits and trace of a driver, with layers as it runs them fastest."""
    params = params_of(name)
    if driver != "masked":
        params = prepare_inference_params(params, CONFIG)
    if driver == "packed":
        options |= {"tiles": (4, 8), "block_tokens": 20}
    engine = make_engine(CONFIG, PRUNERS[name], buckets=BUCKETS, driver=driver, **options)
    return engine(params, make_batch())


@pytest.mark.long
@pytest.mark.parametrize("name", PRUNERS)
def test_all_drivers_agree(name):
    expected_BC, expected = run(name, "masked", return_exit_hidden=True)
    for driver in ("bucketed", "packed"):
        found_BC, found = run(name, driver, return_exit_hidden=True)
        np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
        np.testing.assert_allclose(
            found.exit_hidden_BLD, expected.exit_hidden_BLD, atol=2e-5, rtol=0
        )
        if PRUNERS[name].sites:
            np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    if PRUNERS[name].sites:
        assert np.sum(expected.count_NB[-1]) < sum(LENGTHS)


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
@pytest.mark.parametrize("name", PRUNERS)
def test_the_last_layer_for_cls_alone_gives_equal_logits(driver, name):
    expected_BC, expected = run(name, "masked")
    found_BC, found = run(name, driver)
    np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
    if PRUNERS[name].sites:
        np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)


@pytest.mark.long
@pytest.mark.parametrize("name", ["adapler", "attention"])
def test_the_mean_is_of_the_tokens_that_are_left(name):
    head = with_pooling(CLASSIFICATION, "mean")
    expected_BC, trace = run(name, "masked", head=head, return_exit_hidden=True)
    for driver in ("bucketed", "packed"):
        found_BC, _ = run(name, driver, head=head)
        np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5, rtol=0)
    left_BL1 = trace.survival_NBL[-1][..., None]
    assert float(jnp.sum(left_BL1)) < sum(LENGTHS)
    total_BD = jnp.sum(left_BL1 * trace.exit_hidden_BLD, axis=1)
    by_hand_BC = classify(params_of(name)["head"], CONFIG, total_BD / jnp.sum(left_BL1, axis=1))
    np.testing.assert_allclose(expected_BC, by_hand_BC, atol=1e-5)


@pytest.mark.long
def test_without_a_pruner_the_passes_are_the_plain_encoder():
    batch, params = make_batch(), params_of("keep_all")
    dense_BC, _ = dense.forward(params, CONFIG, batch)
    masked_BC, _ = run("keep_all", "masked")
    soft_BC, _ = full_width.forward(params, CONFIG, keep_all(), batch, slope=jnp.float32(1.0))
    for found_BC in (masked_BC, soft_BC):
        np.testing.assert_allclose(found_BC, dense_BC, atol=1e-5, rtol=0)


def attended(layer, positions, index):
    """States after the attention half of a layer, of three tokens at some positions."""
    layers = params_of("keep_all")["encoder"]["layers"]
    hidden_BLD = jax.random.normal(jax.random.key(0), (1, 3, CONFIG.hidden_dim))
    found_BLD, _ = attend(
        encoder_of(CONFIG),
        jax.tree.map(lambda leaf: leaf[layer], layers),
        CONFIG,
        hidden_BLD,
        jnp.zeros((1, 3)),
        index=jnp.int32(index),
        position_BL=jnp.array([positions]),
    )
    return found_BLD


@pytest.mark.parametrize("index", [1, 3])
def test_kept_tokens_have_the_rotation_and_window_of_their_original_positions(index):
    shifted_BLD = attended(index, [3, 4, 5], index)
    np.testing.assert_allclose(attended(index, [0, 1, 2], index), shifted_BLD, atol=1e-5)
    far_BLD = attended(index, [0, 1, 9], index)
    assert np.max(np.abs(far_BLD - shifted_BLD)) > 1e-3
    # The last token is outside of the window of a local layer, whose other states ignore it.
    is_same = np.allclose(far_BLD[:, 0], attended(index, [0, 1, 11], index)[:, 0], atol=1e-6)
    assert is_same == (index == 1)


def test_a_network_of_a_pruner_reads_normalised_states():
    site = jax.tree.map(lambda leaf: leaf[0], params_of("adapler")["pruner"])
    site = {"hidden": site["hidden"], "score": site["score"]}
    state_XD = jax.random.normal(jax.random.key(1), (5, CONFIG.hidden_dim))
    score = make_scorer(CONFIG, "gelu")
    found_X = score(site, TokenFeatures(state_XD=state_XD))
    grown_X = score(site, TokenFeatures(state_XD=100.0 * state_XD + 7.0))
    np.testing.assert_allclose(found_X, grown_X, atol=1e-4)
    mean_X1 = jnp.mean(state_XD, axis=-1, keepdims=True)
    normed_XD = (state_XD - mean_X1) / jnp.std(state_XD, axis=-1, keepdims=True)
    post_norm = dataclasses.replace(CONFIG, is_pre_norm=False)
    by_hand_X = make_scorer(post_norm, "gelu")(site, TokenFeatures(state_XD=normed_XD))
    np.testing.assert_allclose(found_X, by_hand_X, atol=1e-4)
    added = flops.scorer_flops(CONFIG, 8) - flops.scorer_flops(post_norm, 8)
    assert added == 5 * CONFIG.hidden_dim + 2


@pytest.mark.long
def test_training_reaches_every_layer():
    batch = jax.tree.map(jnp.asarray, make_batch())

    def loss(params):
        logits_BC, trace = full_width.forward(
            params,
            CONFIG,
            PRUNERS["adapler"],
            batch,
            slope=jnp.float32(10.0),
            key=jax.random.key(0),
        )
        return jnp.mean(logits_BC**2) + jnp.mean(trace.count_NB)

    gradient = jax.jit(jax.grad(loss))(params_of("adapler"))
    tiny.assert_all_finite(gradient)
    layers = gradient["encoder"]["layers"]
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(layers))
    assert not np.any(layers["attention_norm"]["scale"][0])
