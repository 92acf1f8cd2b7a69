import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adapler_jax import heads
from adapler_jax.pruning import keep_all
from adapler_jax.training.calibration import jitter_thresholds
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import OptimizerConfig, main_optimizer, threshold_optimizer
from adapler_jax.training.steps import init_state, make_train_step
from tests import plain_bert as encoder
from tests.tiny import (
    CONFIG,
    PRUNER,
    assert_all_finite,
    assert_trees_equal,
    make_batch,
    make_params,
    with_pruner_params,
)

PARAMS = make_params()
KEY = jax.random.key(7, impl="rbg")
RATES = OptimizerConfig(
    learning_rate=1e-3,
    predictor_learning_rate=1e-2,
    threshold_learning_rate=1e-2,
    weight_decay=0.01,
    adam_epsilon=1e-8,
    clip_norm=1.0,
    warmup_ratio=0.1,
)
MAIN, THRESHOLDS = main_optimizer(RATES, 100), threshold_optimizer(RATES, 100)


num_traces = collections.Counter()


def double_at(params, found):
    """Steers the thresholds to twice the speedup that it is given."""
    return with_pruner_params(params, threshold_N=2.0 * found * params["pruner"]["threshold_N"])


@functools.cache
def jitted_step(steered=False, spread=0.0):
    """Run one AdapLeR step; coefficients and slope are arguments, for one compilation."""

    def run(state, batch, key, kl_coef, length_coef, slope_growth):
        num_traces[steered, spread] += 1
        losses = LossConfig((("main", "contribution", kl_coef), ("speedup", "length", length_coef)))
        step_fn = make_train_step(
            CONFIG,
            PRUNER,
            losses,
            MAIN,
            THRESHOLDS,
            slope_fn=lambda step: 5.0 + slope_growth * step.astype(jnp.float32),
            dtype=jnp.float32,
            threshold_controller=double_at if steered else None,
            threshold_noise=functools.partial(jitter_thresholds, spread=spread) if spread else None,
        )
        return step_fn(state, batch, key)

    return jax.jit(run)


def start(params=PARAMS, *, step=10):
    """A state in the middle of a run, where rates are not 0."""
    state = init_state(params, PRUNER, MAIN, THRESHOLDS)
    count = jnp.int32(step)

    def advance(tree):
        is_count = functools.partial(jnp.issubdtype, arg2=jnp.integer)
        return jax.tree.map(lambda leaf: count if is_count(leaf.dtype) else leaf, tree)

    return state.replace(
        step=count,
        main_state=advance(state.main_state),
        threshold_state=advance(state.threshold_state),
    )


def step(
    state,
    batch,
    key=KEY,
    *,
    kl_coef=0.3,
    length_coef=0.2,
    slope_growth=0.0,
    steered=False,
    spread=0.0,
):
    numbers = (jnp.float32(number) for number in (kl_coef, length_coef, slope_growth))
    return jitted_step(steered, spread)(state, batch, key, *numbers)


def split(params):
    """(weights, thresholds) of a state's parameters as flat dicts by name."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    named = {"/".join(entry.key for entry in path): np.asarray(leaf) for path, leaf in leaves}
    thresholds = {
        name: leaf for name, leaf in named.items() if name.endswith(("threshold_N", "cls_ratio_N"))
    }
    return {name: leaf for name, leaf in named.items() if name not in thresholds}, thresholds


def assert_all_moved(found, expected):
    for name, leaf in found.items():
        assert np.abs(leaf - expected[name]).max() > 0, name


def test_a_step_moves_every_group():
    state, numbers = step(start(), make_batch())
    assert int(state.step) == 11
    (weights, thresholds), (old_weights, old_thresholds) = split(state.params), split(PARAMS)
    assert_all_moved(weights, old_weights)
    assert_all_moved(thresholds, old_thresholds)
    assert thresholds["pruner/cls_ratio_N"][0] == 1.0
    assert_all_finite(numbers)
    assert set(numbers) == {
        "task",
        "contribution",
        "length",
        "main",
        "speedup",
        "accuracy",
        "grad_norm",
        "flops_speedup",
    }


def test_the_first_step_of_a_run_moves_nothing():
    """Its rate is 0."""
    state, _ = step(init_state(PARAMS, PRUNER, MAIN, THRESHOLDS), make_batch())
    assert_trees_equal(state.params, PARAMS)
    assert int(state.step) == 1


def test_the_main_loss_does_not_move_thresholds():
    found, expected = (step(start(), make_batch(), kl_coef=coef)[0].params for coef in (9.0, 0.3))
    for name, leaf in split(found)[1].items():
        np.testing.assert_allclose(leaf, split(expected)[1][name], rtol=0, atol=1e-7, err_msg=name)
    assert_all_moved(found["pruner"]["hidden"], expected["pruner"]["hidden"])


def test_the_length_loss_moves_thresholds_only():
    found, expected = (step(start(), make_batch(), length_coef=coef)[0] for coef in (9.0, 0.0))
    for name, leaf in split(found.params)[0].items():
        np.testing.assert_allclose(
            leaf, split(expected.params)[0][name], rtol=0, atol=1e-7, err_msg=name
        )
    slow, fast = expected.threshold_state, found.threshold_state
    assert any(
        np.abs(a - b).max() > 1e-4 for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(slow))
    )


def test_a_heavy_length_loss_raises_every_threshold():
    state, _ = step(start(), make_batch(), length_coef=100.0)
    assert np.all(state.params["pruner"]["threshold_N"] > PARAMS["pruner"]["threshold_N"])


def test_thresholds_stay_in_their_range():
    state = start(with_pruner_params(PARAMS, threshold_N=jnp.ones(4)))
    for _ in range(3):
        state, _ = step(state, make_batch(), length_coef=100.0)
        assert np.all(state.params["pruner"]["threshold_N"] == 1.0)


@pytest.mark.long
def test_steered_thresholds_follow_the_batch_alone_and_weights_train_as_before():
    batch, params = make_batch(), with_pruner_params(PARAMS, threshold_N=jnp.full(4, 0.4))
    steered, numbers = step(start(params), batch, steered=True)
    trained, expected = step(start(params), batch)
    (weights, thresholds), (trained_weights, _) = split(steered.params), split(trained.params)
    found = float(numbers["flops_speedup"])
    assert 0.9 < found < 1.25 and found != 1.0
    np.testing.assert_allclose(thresholds["pruner/threshold_N"], 0.4 * 2.0 * found, rtol=1e-6)
    np.testing.assert_array_equal(thresholds["pruner/cls_ratio_N"], 1.0)
    assert_trees_equal(steered.threshold_state, start(params).threshold_state)
    for name, leaf in weights.items():
        # Adam's first step is the sign of the gradient, which is noise where a gradient is zero in
        # exact arithmetic.
        if name not in ("encoder/layers/key/bias", "pruner/score/bias"):
            assert np.mean(np.abs(leaf - trained_weights[name]) < 1e-6) > 0.99, name
    for name, value in numbers.items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-5)


@pytest.mark.long
def test_a_spread_draws_the_thresholds_of_the_step_and_keeps_its_own():
    params = with_pruner_params(PARAMS, threshold_N=jnp.array([0.3, 0.35, 0.4, 0.45]))
    spread, numbers = step(start(params), make_batch(), spread=0.7)
    drawn = jitter_thresholds(params, jax.random.fold_in(KEY, 10), 0.7)
    _, expected = step(start(drawn), make_batch())
    _, without = step(start(params), make_batch())
    for name in ("task", "length", "contribution", "flops_speedup"):
        assert float(numbers[name]) == pytest.approx(float(expected[name]), rel=1e-5)
    assert abs(float(numbers["length"]) - float(without["length"])) > 1e-3
    own, at_step = (np.asarray(tree["pruner"]["threshold_N"]) for tree in (params, spread.params))
    assert np.all(np.abs(at_step - own) < 0.02)  # two rates of Adam
    assert np.all(np.abs(np.asarray(drawn["pruner"]["threshold_N"]) - own) > 0.02)


def test_same_key_and_step_give_the_same_numbers():
    first, again = (step(start(), make_batch()) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_another_step_or_key_gives_another_dropout():
    cases = [(10, KEY), (11, KEY), (10, jax.random.key(8, impl="rbg")), (10, KEY)]
    tasks = [float(step(start(step=number), make_batch(), key)[1]["task"]) for number, key in cases]
    assert (
        tasks[3] == tasks[0] and abs(tasks[1] - tasks[0]) > 1e-4 and abs(tasks[2] - tasks[0]) > 1e-4
    )


def test_the_slope_is_that_of_the_step():
    """Steeper by step 10, fewer tokens are left."""
    flat, steep = (
        float(step(start(), make_batch(), slope_growth=growth)[1]["length"])
        for growth in (0.0, 10.0)
    )
    assert steep < flat
    zero, same = (
        float(step(start(step=0), make_batch(), slope_growth=growth)[1]["length"])
        for growth in (0.0, 10.0)
    )
    assert zero == same


@functools.cache
def jitted_dense_step():
    """Return a step of plain BERT without dropout, by plain descent."""
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_dropout_prob=0.0)
    return jax.jit(
        make_train_step(
            config,
            keep_all(),
            LossConfig(),
            optax.sgd(1.0),
            optax.sgd(1.0),
            slope_fn=lambda step: None,
            dtype=jnp.float32,
        )
    )


def dense_start():
    return init_state(PARAMS | {"pruner": {}}, keep_all(), optax.sgd(1.0), optax.sgd(1.0))


def test_a_dense_step_has_no_pruner_and_both_objectives_are_the_task():
    state, numbers = jitted_dense_step()(dense_start(), make_batch(), KEY)
    assert state.params["pruner"] == {} and int(state.step) == 1
    assert set(numbers) == {"task", "main", "speedup", "accuracy", "grad_norm"}
    assert numbers["task"] == numbers["main"] == numbers["speedup"]
    assert_all_moved(state.params["head"]["classifier"], PARAMS["head"]["classifier"])


def test_a_dense_step_is_one_gradient_step_of_plain_bert():
    """The gradient of the classifier equals a computation by hand."""
    batch = make_batch((12, 7, 3), num_fillers=1)
    state, numbers = jitted_dense_step()(dense_start(), batch, KEY)
    hidden_BLD = encoder.encode(
        PARAMS["encoder"], CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
    )
    pooled_BD = np.tanh(encoder.linear(PARAMS["head"]["pooler"], hidden_BLD[:, 0]))[:3]
    logits_BC = heads.classify(PARAMS["head"], CONFIG, hidden_BLD[:, 0])[:3]
    error_BC = np.asarray(jax.nn.softmax(logits_BC)) - np.eye(3)[batch.label_B[:3]]
    moved = jax.tree.map(
        lambda old, new: old - new, PARAMS["head"]["classifier"], state.params["head"]["classifier"]
    )
    np.testing.assert_allclose(moved["kernel"], pooled_BD.T @ error_BC / 3, rtol=0, atol=5e-6)
    np.testing.assert_allclose(moved["bias"], error_BC.sum(axis=0) / 3, rtol=0, atol=5e-6)
    everything = jax.tree.map(lambda old, new: old - new, PARAMS | {"pruner": {}}, state.params)
    squares = sum(float(np.sum(np.square(leaf))) for leaf in jax.tree.leaves(everything))
    assert float(numbers["grad_norm"]) == pytest.approx(squares**0.5, rel=1e-4)


def test_filler_rows_do_not_change_a_step():
    """Neither their number nor their tokens change a step."""
    batch, other = (make_batch((12, 7), num_fillers=2, filler=token) for token in (0, 9))
    other = other.replace(label_B=np.array([*batch.label_B[:2], 1, 2], np.int32))
    found, fewer, expected = (
        jitted_dense_step()(dense_start(), b, KEY) for b in (other, make_batch((12, 7)), batch)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6), fewer, expected
    )


def test_all_steps_of_one_shape_are_one_compilation():
    """Further steps compile nothing."""
    state, counts = init_state(PARAMS, PRUNER, MAIN, THRESHOLDS), []
    for number, lengths in enumerate([(12, 7, 3, 1), (2, 2, 2, 2), (12, 12, 12, 12)]):
        state, _ = step(state, make_batch(lengths, seed=number), jax.random.key(number, impl="rbg"))
        counts.append(num_traces[False, 0.0])
    assert int(state.step) == 3
    assert len(set(counts)) == 1  # other tests may have steps of other shapes


def test_a_fresh_state_holds_both_optimizers():
    state = init_state(PARAMS, PRUNER, MAIN, THRESHOLDS)
    assert state.step.dtype == jnp.int32 and int(state.step) == 0
    moments = [leaf.shape for leaf in jax.tree.leaves(state.threshold_state) if leaf.ndim]
    assert moments == [(4,)] * 4  # mean and square of thresholds and of [CLS] ratios
