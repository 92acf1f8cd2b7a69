import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adapler_jax.pruning import keep_all
from adapler_jax.training.optimizers import (
    OptimizerConfig,
    decays,
    join_thresholds,
    main_optimizer,
    rate_schedule,
    slope_at,
    split_thresholds,
    threshold_optimizer,
)
from tests.tiny import PRUNER, assert_trees_equal, make_params

RATES = OptimizerConfig(
    learning_rate=0.1,
    predictor_learning_rate=0.3,
    threshold_learning_rate=0.02,
    weight_decay=0.0,
    adam_epsilon=1e-8,
    clip_norm=0.0,
    warmup_ratio=0.1,
)
NUM_STEPS = 10  # of which one warms up: rate 0 at step 0, the peak at step 1


# Schedules


def test_rate_schedule_by_hand():
    rate = rate_schedule(2.0, 0.2, 20)
    found = [float(rate(step)) for step in (0, 1, 2, 4, 5, 12, 16, 20, 25)]
    np.testing.assert_allclose(
        found, [0.0, 0.5, 1.0, 2.0, 2 * 15 / 16, 1.0, 0.5, 0.0, 0.0], atol=1e-6
    )


@pytest.mark.parametrize(("warmup_ratio", "num_steps"), [(0.0, 5), (0.06, 1), (0.06, 3), (1.0, 4)])
def test_rate_starts_at_zero_and_stays_in_range_for_short_runs(warmup_ratio, num_steps):
    rate = rate_schedule(2.0, warmup_ratio, num_steps)
    found = [float(rate(step)) for step in range(num_steps + 2)]
    assert found[0] == 0.0 and min(found) == 0.0 and max(found) <= 2.0


def slopes(schedule, num_epochs, *, steps_per_epoch=3, first=10.0, last=1000.0):
    run = jax.jit(
        functools.partial(
            slope_at,
            schedule=schedule,
            steps_per_epoch=steps_per_epoch,
            num_epochs=num_epochs,
            first=first,
            last=last,
        )
    )
    found = [run(jnp.int32(step)) for step in range(steps_per_epoch * num_epochs)]
    assert {slope.dtype for slope in found} == {jnp.dtype("float32")}
    return [float(slope) for slope in found]


@pytest.mark.parametrize(
    ("num_epochs", "expected"),
    [
        (3, [50.0, 2500.0, 125000.0]),
        (5, [10.0, 100.0, 1e3, 1e4, 1e5]),
        (4, [10.0, 100.0, 1e3, 1e4]),
        (10, [10.0 * 3**epoch for epoch in range(10)]),
    ],
)
def test_slope_of_the_epochs_lags_one_step(num_epochs, expected):
    """The first step of all uses 1000, the first step of an epoch the slope of the epoch before."""
    by_epoch = [slope for slope in expected for _ in range(3)]
    np.testing.assert_allclose(slopes("epochs", num_epochs), [1000.0, *by_epoch[:-1]], rtol=1e-6)


def test_geometric_slope_grows_by_one_factor_from_first_to_last():
    found = np.array(slopes("geometric", 2, first=10.0, last=320.0))
    np.testing.assert_allclose(found, [10.0, 20.0, 40.0, 80.0, 160.0, 320.0], rtol=1e-5)


def test_geometric_slope_of_a_single_step_is_the_first():
    assert slopes("geometric", 1, steps_per_epoch=1) == [10.0]


# Groups


def test_split_gives_the_speedup_loss_thresholds_and_cls_ratios_only():
    weights, thresholds = split_thresholds(make_params(), PRUNER)
    assert set(thresholds) == {"threshold_N", "cls_ratio_N"}
    assert set(weights) == {"encoder", "head", "pruner"} and set(weights["pruner"]) == {
        "hidden",
        "score",
    }


@pytest.mark.parametrize("pruner", [PRUNER, keep_all()], ids=lambda pruner: pruner.name)
def test_join_is_the_inverse_of_split(pruner):
    params = make_params(pruner)
    joined = join_thresholds(*split_thresholds(params, pruner))
    assert jax.tree.structure(joined) == jax.tree.structure(params)
    assert_trees_equal(joined, params)


def test_weight_decay_acts_on_kernels_and_tables_only():
    weights, _ = split_thresholds(make_params(), PRUNER)
    marks = {
        "/".join(entry.key for entry in path): mark
        for path, mark in jax.tree_util.tree_leaves_with_path(decays(weights))
    }
    linear = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
    decayed = {f"encoder/layers/{name}/kernel" for name in linear}
    decayed |= {f"encoder/embeddings/{name}" for name in ("token", "position", "segment")}
    decayed |= {
        "head/pooler/kernel",
        "head/classifier/kernel",
        "pruner/hidden/kernel",
        "pruner/score/kernel",
    }
    assert {name for name, mark in marks.items() if mark} == decayed
    assert len(marks) == len(jax.tree.leaves(weights))


# Steps by hand


WEIGHTS = {
    "encoder": {
        "query": {"kernel": jnp.array([[2.0]]), "bias": jnp.array([2.0])},
        "norm": {"scale": jnp.array([2.0])},
    },
    "head": {"classifier": {"kernel": jnp.array([[-4.0]])}},
    "pruner": {"hidden": {"kernel": jnp.array([[5.0]]), "bias": jnp.array([5.0])}},
}


def second_update(optimizer, tree, grads):
    """The update of step 1 after the same gradient at step 0, whose rate is 0; flat, by name."""
    state = optimizer.init(tree)
    first, state = optimizer.update(grads, state, tree)
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(first))
    second, _ = optimizer.update(grads, state, tree)
    leaves = jax.tree_util.tree_leaves_with_path(second)
    return {
        "/".join(entry.key for entry in path): float(jnp.ravel(leaf)[0]) for path, leaf in leaves
    }


def gradients_like(tree, value):
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, value), tree)


def test_adam_moves_by_the_rate_and_predictors_by_their_own():
    found = second_update(main_optimizer(RATES, NUM_STEPS), WEIGHTS, gradients_like(WEIGHTS, -7.0))
    for name, update in found.items():
        assert update == pytest.approx(0.3 if name.startswith("pruner") else 0.1, rel=1e-4), name


def test_weight_decay_is_decoupled_and_scaled_by_each_rate():
    """-rate * (sign of the gradient + 0.5 * weight), the second part on kernels only."""
    rates = RATES._replace(weight_decay=0.5)
    found = second_update(main_optimizer(rates, NUM_STEPS), WEIGHTS, gradients_like(WEIGHTS, 3.0))
    expected = {
        "encoder/query/kernel": -0.1 * (1 + 0.5 * 2),
        "encoder/query/bias": -0.1,
        "encoder/norm/scale": -0.1,
        "head/classifier/kernel": -0.1 * (1 - 0.5 * 4),
        "pruner/hidden/kernel": -0.3 * (1 + 0.5 * 5),
        "pruner/hidden/bias": -0.3,
    }
    assert found == pytest.approx(expected, rel=1e-4)


def test_one_norm_clips_weights_and_predictors_together():
    """Gradients 3 and 4 become 0.6 and 0.8; an epsilon of 1 shows their size: 0.6 / 1.6 and 0.8 /
    1.8."""
    tree = {"head": {"kernel": jnp.zeros(1)}, "pruner": {"kernel": jnp.zeros(1)}}
    grads = {"head": {"kernel": jnp.array([3.0])}, "pruner": {"kernel": jnp.array([4.0])}}
    rates = RATES._replace(adam_epsilon=1.0, clip_norm=1.0)
    found = second_update(main_optimizer(rates, NUM_STEPS), tree, grads)
    expected = {"head/kernel": -0.1 * 0.6 / 1.6, "pruner/kernel": -0.3 * 0.8 / 1.8}
    assert found == pytest.approx(expected, rel=1e-4)
    unclipped = second_update(main_optimizer(rates._replace(clip_norm=0.0), NUM_STEPS), tree, grads)
    assert unclipped == pytest.approx(
        {"head/kernel": -0.1 * 3 / 4, "pruner/kernel": -0.3 * 4 / 5}, rel=1e-4
    )


def test_thresholds_move_by_their_rate_without_decay():
    thresholds = {"threshold_N": jnp.array([0.5]), "cls_ratio_N": jnp.array([1.0])}
    grads = {"threshold_N": jnp.array([1e-3]), "cls_ratio_N": jnp.array([-5.0])}
    rates = RATES._replace(weight_decay=0.5)
    found = second_update(threshold_optimizer(rates, NUM_STEPS), thresholds, grads)
    assert found == pytest.approx({"threshold_N": -0.02, "cls_ratio_N": 0.02}, rel=1e-4)


def test_one_norm_clips_both_kinds_of_thresholds():
    thresholds = {"threshold_N": jnp.array([0.5]), "cls_ratio_N": jnp.array([1.0])}
    grads = {"threshold_N": jnp.array([3.0]), "cls_ratio_N": jnp.array([4.0])}
    rates = RATES._replace(adam_epsilon=1.0, clip_norm=1.0)
    found = second_update(threshold_optimizer(rates, NUM_STEPS), thresholds, grads)
    assert found == pytest.approx(
        {"threshold_N": -0.02 * 0.6 / 1.6, "cls_ratio_N": -0.02 * 0.8 / 1.8}, rel=1e-4
    )


def test_zero_gradients_move_nothing_without_decay():
    grads = gradients_like(WEIGHTS, 0.0)
    assert set(second_update(main_optimizer(RATES, NUM_STEPS), WEIGHTS, grads).values()) == {0.0}


def test_adam_follows_its_moments_over_changing_gradients():
    """Gradients 1 then -2: moments 0.1 * -2 + 0.9 * 0.1 and 0.001 * 4 + 0.999 * 0.001, corrected
    for two steps."""
    optimizer = threshold_optimizer(RATES, NUM_STEPS)
    tree = {"threshold_N": jnp.array([0.5])}
    state = optimizer.init(tree)
    _, state = optimizer.update({"threshold_N": jnp.array([1.0])}, state, tree)
    update, _ = optimizer.update({"threshold_N": jnp.array([-2.0])}, state, tree)
    mean = (0.9 * 0.1 - 0.1 * 2) / (1 - 0.9**2)
    square = (0.999 * 0.001 + 0.001 * 4) / (1 - 0.999**2)
    found = float(optax.apply_updates(tree, update)["threshold_N"][0])
    assert found == pytest.approx(0.5 - 0.02 * mean / square**0.5, rel=1e-4)
