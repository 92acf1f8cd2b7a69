"""Several labels of a text by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.heads import MULTI_LABEL
from tests.heads.rows import batch_of

# Logits whose sigmoids are 1/4 and 3/4, and 1/2 and 3/4.
LOGITS = jnp.log(jnp.array([[1 / 3, 3.0], [1.0, 3.0]]))
LABELS = [[0, 1], [1, 0]]


def batch(labels=LABELS, teacher=None):
    return batch_of([1] * len(labels), teacher=teacher, label_BC=labels)


def test_the_loss_is_the_mean_cross_entropy_of_the_labels():
    found = MULTI_LABEL.loss_fn(LOGITS, batch(), 0.0)
    expected = [math.log(4 / 3), (math.log(2) + math.log(4)) / 2]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_teacher_gives_soft_labels():
    teacher = jnp.log(jnp.array([[1.0, 1 / 3], [3.0, 1.0]]))  # 1/2, 1/4 and 3/4, 1/2
    whole = MULTI_LABEL.loss_fn(LOGITS, batch(teacher=teacher), 1.0)
    mixed = 0.5 * math.log(4) + 0.5 * math.log(4 / 3)
    first = (mixed + 0.25 * math.log(4 / 3) + 0.75 * math.log(4)) / 2
    np.testing.assert_allclose(whole, [first, (math.log(2) + mixed) / 2], rtol=1e-6)
    half = MULTI_LABEL.loss_fn(LOGITS, batch(teacher=teacher), 0.5)
    task = MULTI_LABEL.loss_fn(LOGITS, batch(), 0.0)
    np.testing.assert_allclose(half, (np.asarray(whole) + np.asarray(task)) / 2, rtol=1e-6)


def test_large_logits_have_finite_losses_and_gradients():
    logits = jnp.array([[1e4, -1e4]])
    loss, grad = jax.value_and_grad(
        lambda x: jnp.sum(MULTI_LABEL.loss_fn(x, batch([[0, 0]]), 0.0))
    )(logits)
    np.testing.assert_allclose([loss, *grad[0]], [5e3, 0.5, 0.0])


def test_saliency_is_of_the_right_answers():
    found = MULTI_LABEL.target_logit(LOGITS, batch())
    np.testing.assert_allclose(found, [math.log(3), -math.log(3) / 2], rtol=1e-6)


def test_a_text_is_right_where_all_its_labels_are():
    labels = [[0, 1], [1, 1]]
    assert MULTI_LABEL.accuracy_fn(LOGITS, batch(labels)).tolist() == [1.0, 1.0]
    assert MULTI_LABEL.accuracy_fn(LOGITS, batch()).tolist() == [1.0, 0.0]


def test_a_padding_example_has_no_label():
    padded = batch([[-1, -1], [-1, -1]])
    found = MULTI_LABEL.loss_fn(LOGITS, padded, 0.0)
    np.testing.assert_allclose(
        found, MULTI_LABEL.loss_fn(LOGITS, batch([[0, 0]] * 2), 0.0), rtol=1e-6
    )
