import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, heads, model_flops
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.pruning import keep_all
from adapler_jax.training.losses import LossConfig, compute_losses, saliency
from adapler_jax.training.optimizers import join_thresholds, split_thresholds
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch
from tests import plain_bert as encoder
from tests.tiny import CONFIG, NUM_CLASSES, PRUNER, assert_all_finite, make_batch, make_params

PARAMS = make_params()
CONTRIBUTION_COEF, LENGTH_COEF = 0.3, 0.2
LOSSES = LossConfig(
    (("main", "contribution", CONTRIBUTION_COEF), ("speedup", "length", LENGTH_COEF)),
    distil_coef=0.25,
)


# The task loss


def batch_of(labels, *, teacher=None, example_ids=None):
    """A Batch of which only these fields are read."""
    zeros_BL = np.zeros((len(labels), 1), np.int32)
    return Batch(
        token_BL=zeros_BL,
        segment_BL=zeros_BL,
        valid_BL=zeros_BL == 0,
        label_B=np.array(labels, np.int32),
        example_id_B=np.array(range(len(labels)) if example_ids is None else example_ids, np.int32),
        teacher_logits=teacher,
    )


LOGITS = jnp.log(jnp.array([[1.0, 3.0], [3.0, 1.0]]))  # probabilities 1/4 and 3/4


def test_cross_entropy_by_hand():
    found = CLASSIFICATION.loss_fn(LOGITS, batch_of([1, 1]), 0.0)
    np.testing.assert_allclose(found, [math.log(4 / 3), math.log(4)], rtol=1e-6)


def test_distillation_by_hand():
    """The teacher says 1/2 and 1/2; three quarters of the weight stay with the label."""
    teacher_BC = jnp.array([[7.0, 7.0], [7.0, 7.0]])
    found = CLASSIFICATION.loss_fn(LOGITS, batch_of([1, 1], teacher=teacher_BC), 0.25)
    soft = 0.5 * math.log(4 / 3) + 0.5 * math.log(4)
    expected = [0.75 * math.log(4 / 3) + 0.25 * soft, 0.75 * math.log(4) + 0.25 * soft]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_distillation_alone_does_not_look_at_labels():
    teacher_BC = jnp.array([[0.0, 1.0], [2.0, 0.0]])
    batches = [batch_of(labels, teacher=teacher_BC) for labels in ([0, 0], [1, 1])]
    found, expected = (CLASSIFICATION.loss_fn(LOGITS, batch, 1.0) for batch in batches)
    np.testing.assert_array_equal(found, expected)


def test_without_distillation_no_teacher_is_needed():
    assert batch_of([0]).teacher_logits is None
    assert np.all(np.isfinite(CLASSIFICATION.loss_fn(LOGITS[:1], batch_of([0]), 0.0)))


# Both objectives


@functools.cache
def jitted_objectives():
    def run(params, batch, slope):
        return compute_losses(
            params, CONFIG, PRUNER, batch, LOSSES, slope=slope, key=None, dtype=jnp.float32
        )

    return jax.jit(run)


@functools.cache
def jitted_gradients():
    """Gradients of the main and of the speed-up objective, each by weights and thresholds."""

    def run(params, batch, slope):
        def both(weights, thresholds):
            params = join_thresholds(weights, thresholds)
            return compute_losses(
                params, CONFIG, PRUNER, batch, LOSSES, slope=slope, key=None, dtype=jnp.float32
            )

        _, pull, _ = jax.vjp(both, *split_thresholds(params, PRUNER), has_aux=True)
        return pull((1.0, 0.0)), pull((0.0, 1.0))

    return jax.jit(run)


@functools.cache
def jitted_dense_objectives():
    def run(params, batch):
        return compute_losses(
            params, CONFIG, keep_all(), batch, LossConfig(), slope=None, key=None, dtype=jnp.float32
        )

    return jax.jit(run)


def numbers_of(batch):
    (main, speedup), numbers = jitted_objectives()(PARAMS, batch, jnp.float32(5.0))
    numbers = {name: float(value) for name, value in numbers.items()}
    assert numbers["main"] == float(main) and numbers["speedup"] == float(speedup)
    return numbers


def test_objectives_are_the_task_and_each_its_own_term():
    numbers = numbers_of(make_batch())
    main = numbers["task"] + CONTRIBUTION_COEF * numbers["contribution"]
    assert numbers["main"] == pytest.approx(main, rel=1e-6)
    assert numbers["speedup"] == pytest.approx(
        numbers["task"] + LENGTH_COEF * numbers["length"], rel=1e-6
    )
    assert numbers["contribution"] > 0 and 0 < numbers["length"] < 1


def test_objectives_are_means_over_examples():
    batch = make_batch()
    alone = []
    for row in range(4):
        ids = np.where(np.arange(4) == row, batch.example_id_B, PADDING_EXAMPLE_ID).astype(np.int32)
        alone.append(numbers_of(batch.replace(example_id_B=ids)))
    together = numbers_of(batch)
    head = flops.pooled_flops(CONFIG, NUM_CLASSES)
    dense_B = model_flops.dense_flops(CONFIG, batch.valid_BL.sum(-1), head=head, reads_first=True)
    pruned_B = dense_B / [numbers.pop("flops_speedup") for numbers in alone]
    assert together.pop("flops_speedup") == pytest.approx(
        flops.speedup(dense_B, pruned_B), rel=1e-5
    )
    for name, value in together.items():
        assert value == pytest.approx(np.mean([numbers[name] for numbers in alone]), rel=1e-5), name


def test_filler_rows_change_no_number():
    """Neither their number nor their tokens change a loss."""
    expected = numbers_of(make_batch((12, 7)))
    assert numbers_of(make_batch((12, 7), num_fillers=2)) == pytest.approx(expected, rel=1e-6)
    other = make_batch((12, 7), num_fillers=2, filler=9)
    other = other.replace(label_B=other.label_B + np.array([0, 0, 1, 1], np.int32))
    assert numbers_of(other) == pytest.approx(expected, rel=1e-6)


@pytest.mark.long
def test_filler_rows_do_not_change_the_gradients():
    batch = make_batch((12, 7), num_fillers=2)
    other = make_batch((12, 7), num_fillers=2, filler=9)
    saliency_BL = other.saliency_BL.copy()
    saliency_BL[2:] = 3.0
    other = other.replace(
        label_B=np.array([*batch.label_B[:2], 2, 2], np.int32), saliency_BL=saliency_BL
    )
    found, expected = (jitted_gradients()(PARAMS, b, jnp.float32(5.0)) for b in (other, batch))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), found, expected
    )


def test_a_batch_of_fillers_costs_nothing():
    numbers = numbers_of(make_batch((), num_fillers=4))
    assert numbers.pop("flops_speedup") == 1.0
    assert set(numbers.values()) == {0.0}


def test_filler_rows_without_any_token_are_harmless():
    batch = make_batch((12, 7), num_fillers=2)
    empty = batch.replace(
        valid_BL=batch.valid_BL & (batch.example_id_B != PADDING_EXAMPLE_ID)[:, None]
    )
    assert numbers_of(empty) == pytest.approx(numbers_of(batch), rel=1e-6)


def test_accuracy_counts_examples_that_are_no_filler():
    """Labels are set to what the model says, but for one of three."""
    batch = make_batch((12, 7, 3), num_fillers=1)
    params = PARAMS | {"pruner": {}}
    chosen_B = np.argmax(saliency_of(batch)[1], axis=-1).astype(np.int32)
    label_B = np.array(
        [chosen_B[0], (chosen_B[1] + 1) % 3, chosen_B[2], (chosen_B[3] + 1) % 3], np.int32
    )
    _, numbers = jitted_dense_objectives()(params, batch.replace(label_B=label_B))
    assert float(numbers["accuracy"]) == pytest.approx(2 / 3)


def test_dense_objectives_are_both_the_task():
    (main, speedup), numbers = jitted_dense_objectives()(PARAMS | {"pruner": {}}, make_batch())
    assert main == speedup == numbers["task"]
    assert set(numbers) == {"task", "main", "speedup", "accuracy"}


@pytest.mark.long
def test_gradients_of_both_objectives_are_finite():
    for slope in (5.0, 1e3):
        assert_all_finite(jitted_gradients()(PARAMS, make_batch(), jnp.float32(slope)))


def test_every_weight_gets_a_gradient_from_the_main_objective():
    """All but biases that a softmax cannot see: of keys, and of the predictors' scores."""
    (weights, _), _ = jitted_gradients()(PARAMS, make_batch(), jnp.float32(5.0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        name = "/".join(entry.key for entry in path)
        size = np.abs(leaf).max()
        if name in ("encoder/layers/key/bias", "pruner/score/bias"):
            assert size < 1e-4, name
        else:
            assert size > 1e-5, name


def test_every_threshold_gets_a_gradient_from_the_speedup_objective_but_the_first_cls_ratio():
    _, (_, thresholds) = jitted_gradients()(PARAMS, make_batch(), jnp.float32(5.0))
    assert np.all(np.abs(thresholds["threshold_N"]) > 1e-5)
    assert np.all(np.abs(thresholds["cls_ratio_N"][1:]) > 1e-6)
    assert thresholds["cls_ratio_N"][0] == 0


@pytest.mark.parametrize(
    ("option", "value"), [("numpy_rank_promotion", "raise"), ("numpy_dtype_promotion", "strict")]
)
def test_objectives_promote_nothing_implicitly(option, value):
    batch = jax.tree.map(jnp.asarray, make_batch())
    with getattr(jax, option)(value):
        jax.make_jaxpr(
            lambda params: compute_losses(
                params,
                CONFIG,
                PRUNER,
                batch,
                LOSSES,
                slope=jnp.float32(5.0),
                key=None,
                dtype=jnp.float32,
            )
        )(PARAMS)


def test_dense_objectives_promote_nothing_implicitly():
    batch = jax.tree.map(jnp.asarray, make_batch())
    losses = LossConfig(distil_coef=0.5)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        jax.make_jaxpr(
            lambda params: compute_losses(
                params, CONFIG, keep_all(), batch, losses, slope=None, key=None, dtype=jnp.float32
            )
        )(PARAMS | {"pruner": {}})


# Saliency


@functools.cache
def jitted_saliency(dtype):
    return jax.jit(lambda params, batch: saliency(params, CONFIG, batch, dtype=dtype))


def saliency_of(batch, dtype=jnp.float32):
    saliency_BL, logits_BC = jitted_saliency(dtype)(PARAMS | {"pruner": {}}, batch)
    return np.asarray(saliency_BL), np.asarray(logits_BC)


def test_saliency_is_the_norm_of_gradient_times_input():
    """Against central differences of the true label's logit by every entry of three states."""
    batch = jax.tree.map(lambda leaf: leaf[:1], make_batch())
    params, label = PARAMS["encoder"], int(batch.label_B[0])
    hidden_BLD = encoder.embed(params["embeddings"], CONFIG, batch.token_BL, batch.segment_BL)
    still = dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_dropout_prob=0.0)

    @jax.jit
    @jax.vmap
    def true_logit(shift_LD):
        hidden = hidden_BLD + shift_LD[None]
        for index in range(CONFIG.num_layers):
            layer = jax.tree.map(lambda leaf: leaf[index], params["layers"])
            hidden = encoder.attend(layer, still, hidden, jnp.zeros(hidden.shape[:2]))
            hidden = encoder.feed_forward(layer, still, hidden)
        return heads.classify(PARAMS["head"], still, hidden[:, 0])[0, label]

    slots, D, step = (0, 1, 11), CONFIG.hidden_dim, 1e-2
    shifts = np.zeros((len(slots), D, *hidden_BLD.shape[1:]), np.float32)
    for row, slot in enumerate(slots):
        shifts[row, np.arange(D), slot, np.arange(D)] = step
    shifts = shifts.reshape(-1, *hidden_BLD.shape[1:])
    gradient = (np.asarray(true_logit(shifts)) - np.asarray(true_logit(-shifts))) / (2 * step)
    expected = np.linalg.norm(
        gradient.reshape(len(slots), D) * np.asarray(hidden_BLD)[0, list(slots)], axis=-1
    )
    found, _ = saliency_of(make_batch())
    np.testing.assert_allclose(found[0, list(slots)], expected, rtol=0.02)


def test_saliency_is_zero_on_padding_and_positive_elsewhere():
    batch = make_batch()
    found, _ = saliency_of(batch)
    assert np.all(found[~batch.valid_BL] == 0) and np.all(found[batch.valid_BL] > 0)


def test_saliency_does_not_look_at_padding():
    found, expected = saliency_of(make_batch(padding=9)), saliency_of(make_batch())
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_saliency_in_bfloat16_stays_near_float32():
    found, expected = saliency_of(make_batch(), jnp.bfloat16)[0], saliency_of(make_batch())[0]
    distance_B = np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert np.all(distance_B > 0) and np.all(distance_B < 0.05), distance_B


def test_saliency_belongs_to_the_true_label():
    batch = make_batch()
    label_B = (batch.label_B + np.array([0, 1, 1, 1])) % 3
    found, _ = saliency_of(batch.replace(label_B=label_B.astype(np.int32)))
    expected, _ = saliency_of(batch)
    np.testing.assert_array_equal(found[0], expected[0])
    assert np.all(np.abs(found - expected)[1:].max(axis=-1) > 1e-3)


def test_saliency_comes_with_the_logits_of_plain_bert():
    batch = make_batch()
    hidden_BLD = encoder.encode(
        PARAMS["encoder"], CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
    )
    expected_BC = heads.classify(PARAMS["head"], CONFIG, hidden_BLD[:, 0])
    np.testing.assert_allclose(saliency_of(batch)[1], expected_BC, rtol=0, atol=5e-6)
