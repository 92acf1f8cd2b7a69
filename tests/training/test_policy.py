"""Rewards, advantages, gradients and memory of TR-BERT's policy step."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adapler_jax import forward as full_width
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.pruning import keep_all, trbert
from adapler_jax.pruning.trbert import action_losses, selected_fraction
from adapler_jax.training.optimizers import allow_promotion
from adapler_jax.training.policy import (
    PolicyConfig,
    check_depth,
    combine,
    importance_scores,
    init_objective,
    init_selector_state,
    make_selector_step,
    policy_objective,
    rank_targets,
)
from adapler_jax.types import SamplingNoise, ScanOptions
from tests.tiny import (
    CONFIG,
    assert_all_finite,
    assert_trees_equal,
    assert_trees_near,
    make_batch,
    make_params,
)

PRUNER = trbert(CONFIG, selector_dim=8)
LAYERS = (1, 2)


def with_guide(batch):
    importance_BJL = np.random.default_rng(5).uniform(
        size=(len(batch.label_B), 2, batch.valid_BL.shape[1])
    )
    return batch.replace(importance_BJL=importance_BJL.astype(np.float32))


def test_rewards_and_advantages_by_hand():
    """Two samples of one text, and a filler row that counts nowhere."""
    found = {
        "task": jnp.array([[0.5, 9.0], [1.0, 9.0]]),
        "share": jnp.array([[0.8, 1.0], [0.2, 1.0]]),
        "nll": jnp.array([[2.0, 5.0], [3.0, 6.0]]),
    }
    batch = make_batch((3,), num_fillers=1)
    total, numbers = combine(found, batch, PolicyConfig(length_coef=2.0, task_coef=1.0))
    rewards = -0.5 - 1.6, -1.0 - 0.4
    mean = sum(rewards) / 2
    policy = ((rewards[0] - mean) * 2.0 + (rewards[1] - mean) * 3.0) / 2
    np.testing.assert_allclose(numbers["policy"], policy, rtol=1e-6)
    np.testing.assert_allclose(numbers["reward"], mean, rtol=1e-6)
    np.testing.assert_allclose(total, policy + 0.75, rtol=1e-6)


@pytest.mark.long
def test_policy_gradient_is_that_of_the_expected_reward():
    """Two tokens, one site: [CLS] is forced, so two actions are possible. Expectation over all
    pairs of samples.

    The baseline holds the sample itself, which scales the gradient by (K - 1) / K; the loss of an
    action is a mean over the two tokens that enter.
    """
    pruner = trbert(CONFIG, layers=(1,), selector_dim=8)
    params, batch = make_params(pruner), make_batch((2,), num_slots=2)
    policy = PolicyConfig(length_coef=0.7, num_samples=2)

    def sampled(selectors, keeps):
        """Return the objective of `policy_objective` with this action of the second token."""
        uniform_NBL = jnp.full((4, 1, 2), 0.0 if keeps else 1.0)
        logits_BC, trace = full_width.forward(
            params | {"pruner": selectors},
            CONFIG,
            pruner,
            batch,
            slope=jnp.float32(1.0),
            noise=SamplingNoise(uniform_NBL),
        )
        return {
            "task": CLASSIFICATION.loss_fn(logits_BC, batch, 0.0),
            "share": selected_fraction(trace, pruner.sites, batch.valid_BL),
            "nll": action_losses(trace, pruner.sites, batch.valid_BL),
        }, trace.score_NBL[1, 0, 1]

    @functools.partial(jax.jit, static_argnames=("first", "second"))
    def gradient(selectors, first, second):
        def loss(selectors):
            pair = [sampled(selectors, keeps)[0] for keeps in (first, second)]
            return combine(jax.tree.map(lambda *x: jnp.stack(x), *pair), batch, policy)[0]

        return jax.grad(loss)(selectors)

    def expected_reward(selectors):
        rewards, probability = [], None
        for keeps in (True, False):
            found, probability = sampled(selectors, keeps)
            rewards.append(-found["task"][0] - policy.length_coef * found["share"][0])
        keeps, drops = (jax.lax.stop_gradient(reward) for reward in rewards)
        return probability * keeps + (1.0 - probability) * drops

    probability = float(sampled(params["pruner"], True)[1])
    chances = {True: probability, False: 1.0 - probability}
    pairs = [(first, second) for first in chances for second in chances]
    found = [
        jax.tree.map(
            lambda leaf, w=chances[a] * chances[b]: w * leaf,
            gradient(params["pruner"], first=a, second=b),
        )
        for a, b in pairs
    ]
    found = jax.tree.map(lambda *leaves: sum(leaves), *found)
    steepest = jax.tree.map(lambda leaf: leaf / optax.tree.norm(found), found)

    def along(step):
        return float(
            expected_reward(
                jax.tree.map(lambda leaf, d: leaf + step * d, params["pruner"], steepest)
            )
        )

    finite = (along(1e-2) - along(-1e-2)) / 2e-2
    # Rewards are differentiated as constants by the sampler; here too, since only probabilities
    # move with selectors.
    np.testing.assert_allclose(float(optax.tree.norm(found)), -finite * (1 / 2) / 2, rtol=2e-2)
    assert finite < -1e-4


def objective_of(params, batch, policy, **options):
    """Return `policy_objective` of the tiny model in float32."""
    return policy_objective(params, CONFIG, PRUNER, batch, policy, dtype=jnp.float32, **options)


@functools.cache
def gradients(joint, **options):
    params, batch = make_params(PRUNER), with_guide(make_batch(num_fillers=1))
    policy = PolicyConfig(
        length_coef=1.0, num_samples=4, task_coef=1.0 if joint else 0.0, **options
    )

    def loss(params):
        return objective_of(
            params, batch, policy, key=jax.random.key(3), share_done=jnp.float32(0.0)
        )

    return jax.jit(jax.grad(loss, has_aux=True))(params)


@pytest.mark.long
def test_the_policy_reaches_selectors_and_the_task_the_encoder():
    grads, numbers = gradients(True)
    assert_all_finite(grads)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(grads["pruner"]))
    assert np.any(grads["encoder"]["layers"]["query"]["kernel"] != 0)
    assert float(numbers["main"]) == pytest.approx(float(numbers["policy"] + numbers["task"]))
    assert 0.0 < float(numbers["share"]) < 1.0


@pytest.mark.long
def test_samples_a_few_at_a_time_give_the_same_step():
    for joint in (False, True):
        few, whole = gradients(joint, sample_batch_size=2), gradients(joint)
        assert_trees_near(few, whole, atol=2e-5)


@pytest.mark.long
def test_samples_a_few_at_a_time_take_less_memory():
    params, batch = make_params(PRUNER), with_guide(make_batch((12,) * 8))

    def planned(at_once):
        policy = PolicyConfig(
            length_coef=1.0, num_samples=8, sample_batch_size=at_once, task_coef=1.0
        )

        def loss(params):
            return objective_of(
                params, batch, policy, key=jax.random.key(0), share_done=jnp.float32(0.0)
            )[0]

        return jax.jit(jax.grad(loss)).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert planned(1) < 0.5 * planned(0)


def test_imitation_ends_with_its_share_of_the_steps():
    params, batch = make_params(PRUNER), with_guide(make_batch())
    policy = PolicyConfig(length_coef=1.0, num_samples=2, imitation_ratio=0.5)

    @jax.jit
    def numbers(share_done):
        return objective_of(params, batch, policy, key=jax.random.key(1), share_done=share_done)[1][
            "nll"
        ]

    assert float(numbers(0.0)) == float(numbers(0.49)) != float(numbers(0.5)) == float(numbers(1.0))


@pytest.mark.long
@pytest.mark.parametrize("joint", [False, True])
def test_a_selector_step_trains_what_it_should(joint):
    params, batch = make_params(PRUNER), with_guide(make_batch())
    policy = PolicyConfig(length_coef=1.0, num_samples=3, task_coef=float(joint))
    main = allow_promotion(optax.adamw(1e-2, weight_decay=0.1))

    def objective(params, batch, step, key):
        return objective_of(params, batch, policy, key=key, share_done=step / 10)

    step_fn = jax.jit(make_selector_step(objective, main, joint=joint))
    state, numbers = step_fn(
        init_selector_state(params, main, joint=joint), batch, jax.random.key(0)
    )
    assert int(state.step) == 1 and float(numbers["grad_norm"]) > 0
    with pytest.raises(AssertionError):
        assert_trees_equal(state.params["pruner"], params["pruner"])
    for name in ("encoder", "head"):
        if joint:
            with pytest.raises(AssertionError):
                assert_trees_equal(state.params[name], params[name])
        else:
            assert_trees_equal(state.params[name], params[name])


@pytest.mark.long
def test_a_policy_step_takes_no_gradient_through_the_encoder():
    """Its arithmetic equals K forward passes: a backward pass doubles it."""
    params, batch = make_params(PRUNER), make_batch((12,) * 8)
    policy = PolicyConfig(length_coef=1.0, num_samples=1)

    def flops_of(function, *args):
        return jax.jit(function).lower(*args).compile().cost_analysis()["flops"]

    def objective(params):
        return objective_of(
            params,
            batch,
            policy,
            key=jax.random.key(0),
            share_done=jnp.float32(1.0),
            loop=ScanOptions(4),
        )[0]

    forward = flops_of(objective, params)
    selectors = flops_of(
        jax.grad(lambda selectors: objective(params | {"pruner": selectors})), params["pruner"]
    )
    assert selectors < 1.3 * forward < flops_of(jax.grad(objective), params)


# Importance


def test_importance_scores_say_what_a_skip_would_do():
    """First order: replacing H_r[t] by H_l[t] changes the loss by the product with the gradient."""
    params, batch = make_params(PRUNER), make_batch()
    scores_BJL, logits_BC = importance_scores(
        params, CONFIG, batch, layers=LAYERS, dtype=jnp.float32
    )
    assert scores_BJL.shape == (4, 2, 12) and not np.any(
        scores_BJL[~np.repeat(batch.valid_BL[:, None], 2, axis=1)]
    )
    expected, _ = full_width.forward(params | {"pruner": {}}, CONFIG, keep_all(), batch, slope=None)
    np.testing.assert_allclose(logits_BC, expected, atol=1e-5)
    assert np.all(scores_BJL[0] > 0)


@pytest.mark.parametrize(("num_layers", "layers"), [(3, (1,)), (2, (1,)), (6, (1, 5))])
def test_encoders_that_are_too_shallow_have_no_importance_scores(num_layers, layers):
    config = dataclasses.replace(CONFIG, num_layers=num_layers)
    with pytest.raises(
        ValueError, match=f"importance scores are undefined for {num_layers} layers"
    ):
        check_depth(config, layers)


def test_deep_enough_encoders_are_read_two_thirds_up():
    for num_layers, layer in ((12, 8), (6, 4), (4, 2)):
        config = dataclasses.replace(CONFIG, num_layers=num_layers)
        assert check_depth(config, (1, num_layers // 2)) == layer


def test_rank_targets_by_hand():
    importance_BJL = jnp.array([[[0.3, 0.9, 0.5, 7.0], [0.1, 0.2, 0.3, 7.0]]])
    found = rank_targets(importance_BJL, jnp.array([[True, True, True, False]]))
    np.testing.assert_allclose(found[0], [[1 / 3, 1, 2 / 3, 0], [1 / 3, 2 / 3, 1, 0]], rtol=1e-6)


def test_selectors_at_their_targets_have_nothing_to_learn():
    params, batch = make_params(PRUNER), make_batch(num_fillers=1)
    params["pruner"] = jax.tree.map(jnp.zeros_like, params["pruner"])
    half = jnp.full((5, 2, 12), 0.5)
    loss, _ = init_objective(params, CONFIG, PRUNER, batch, half, dtype=jnp.float32)
    assert float(loss) == 0.0
    loss, _ = init_objective(params, CONFIG, PRUNER, batch, half + 0.25, dtype=jnp.float32)
    assert math.isclose(float(loss), 2 * 0.25, rel_tol=1e-5)
