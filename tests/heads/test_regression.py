"""One number by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.heads import regression
from adapler_jax.heads.regression import with_list_loss
from tests.heads.rows import batch_of

# Logits whose sigmoids are 1/4, 3/4 and 1/2.
LOGITS = jnp.log(jnp.array([[1 / 3], [3.0], [1.0]]))
TARGETS = np.array([0.25, 1.0, 0.0], np.float32)


def batch(targets=TARGETS, teacher=None):
    return batch_of([1] * 3, teacher=teacher).replace(label_B=np.array(targets))


def test_a_sigmoid_is_trained_by_cross_entropy():
    found = regression("sigmoid").loss_fn(LOGITS, batch(), 0.0)
    mixed = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    np.testing.assert_allclose(found, [mixed, math.log(4 / 3), math.log(2)], rtol=1e-6)


def test_a_plain_number_is_trained_by_its_squared_error():
    found = regression().loss_fn(jnp.array([[1.0], [-2.0], [0.5]]), batch([3.0, -2.0, 0.0]), 0.0)
    np.testing.assert_allclose(found, [4.0, 0.0, 0.25])


@pytest.mark.parametrize("activation", ["identity", "sigmoid"])
def test_a_teacher_is_followed_in_logits(activation):
    head, teacher = regression(activation), jnp.array([[1.0], [2.0], [-3.0]])
    logits = jnp.array([[0.0], [2.0], [-1.0]])
    np.testing.assert_allclose(head.loss_fn(logits, batch(teacher=teacher), 1.0), [1.0, 0.0, 4.0])
    half = head.loss_fn(logits, batch(teacher=teacher), 0.5)
    task = head.loss_fn(logits, batch(), 0.0)
    np.testing.assert_allclose(half, 0.5 * np.asarray(task) + [0.5, 0.0, 2.0], rtol=1e-6)


def test_whole_numbers_are_labels_too():
    labels = batch(np.array([0, 1, 1], np.int32))
    found = regression("sigmoid").loss_fn(LOGITS, labels, 0.0)
    np.testing.assert_allclose(found, np.log([4 / 3, 4 / 3, 2.0]), rtol=1e-6)


def test_large_logits_have_finite_losses_and_gradients():
    head, logits = regression("sigmoid"), jnp.array([[1e4], [-1e4], [0.0]])
    loss, grad = jax.value_and_grad(
        lambda x: jnp.sum(head.loss_fn(x, batch([0.0, 0.0, 1.0]), 0.0))
    )(logits)
    np.testing.assert_allclose(loss, 1e4 + math.log(2), rtol=1e-6)
    np.testing.assert_allclose(grad, [[1.0], [0.0], [-0.5]])


def test_a_list_is_trained_by_the_shares_of_its_documents():
    """Two lists of two, and a list of padding examples, whose labels are 0."""
    head = with_list_loss(regression("sigmoid"), 2)
    logits = jnp.log(jnp.array([[3.0], [1.0], [1.0], [4.0], [1.0], [1.0]]))
    teacher = jnp.log(jnp.array([[1.0], [1.0], [1.0], [3.0], [1.0], [1.0]]))
    rows = batch_of([1] * 6, teacher=teacher, list_B=[0, 0, 1, 1, -1, -1])
    rows = rows.replace(label_B=np.float32([2.0, 6.0, 0.0, 5.0, 0.0, 0.0]))
    log = math.log
    labels = [-0.25 * log(0.75) - 0.75 * log(0.25), -log(0.8), 0.0]
    found = head.loss_fn(logits, rows, 0.0)
    np.testing.assert_allclose(found, np.repeat(labels, 2), rtol=1e-6)
    soft = [-0.5 * log(0.75) - 0.5 * log(0.25), -0.25 * log(0.2) - 0.75 * log(0.8), log(2)]
    found, mixed = head.loss_fn(logits, rows, 0.25), np.multiply(0.75, labels)
    np.testing.assert_allclose(found, np.repeat(mixed + np.multiply(0.25, soft), 2), rtol=1e-6)
    alone = rows.replace(head_slots=None)
    expected = regression("sigmoid").loss_fn(logits, alone, 0.25)
    np.testing.assert_array_equal(head.loss_fn(logits, alone, 0.25), expected)
    assert head.factory_kwargs == regression("sigmoid").factory_kwargs


def test_saliency_is_of_the_number():
    np.testing.assert_array_equal(regression().target_logit(LOGITS, batch()), LOGITS[:, 0])


def test_a_protected_query_is_the_first_text_with_its_special_tokens():
    rows = batch_of([4, 2]).replace(segment_BL=np.array([[0, 0, 1, 1], [0, 1, 0, 0]]))
    found = regression(protects_query=True).protected_tokens(rows)
    assert found.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert regression().protected_tokens(rows) is None


def test_equal_heads_are_one_object_and_others_are_named():
    assert regression("identity") is regression(activation="identity") is regression()
    assert regression("sigmoid") is not regression() is not regression(protects_query=True)
    with pytest.raises(ValueError, match="activation is 'tanh'; expected identity or sigmoid"):
        regression("tanh")


SEVERAL = jnp.log(jnp.array([[1 / 3, 1.0], [3.0, 1.0]]))  # sigmoids 1/4, 1/2 and 3/4, 1/2


def several(numbers, teacher=None):
    """Return a batch with several numbers a text."""
    rows = batch_of([1] * len(numbers), teacher=teacher)
    return rows.replace(head_slots={"number_BC": np.array(numbers, np.float32)})


def test_several_numbers_are_trained_by_their_mean_loss():
    head, logits = regression(num_outputs=2), jnp.array([[1.0, 0.0], [-2.0, 4.0]])
    batch = several([[3.0, 1.0], [-2.0, 0.0]])
    np.testing.assert_allclose(head.loss_fn(logits, batch, 0.0), [(4 + 1) / 2, (0 + 16) / 2])
    shares = regression("sigmoid", num_outputs=2)
    found = shares.loss_fn(SEVERAL, several([[0.25, 1.0], [1.0, 0.0]]), 0.0)
    mixed = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    expected = [(mixed + math.log(2)) / 2, (math.log(4 / 3) + math.log(2)) / 2]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_teacher_of_several_numbers_is_followed_in_each():
    head, logits = regression(num_outputs=2), jnp.array([[1.0, 0.0]])
    batch = several([[3.0, 1.0]], teacher=jnp.array([[0.0, 3.0]]))
    np.testing.assert_allclose(head.loss_fn(logits, batch, 1.0), [(1 + 9) / 2])
    half = 0.5 * (4 + 1) / 2 + 0.5 * (1 + 9) / 2
    np.testing.assert_allclose(head.loss_fn(logits, batch, 0.5), [half])


def test_saliency_of_several_numbers_counts_each_by_its_sign():
    logits = jnp.array([[3.0, -0.001], [-2.0, 4.0]])
    head = regression(num_outputs=2)
    np.testing.assert_allclose(head.target_logit(logits, several(logits)), [3.001 / 2, 3.0])
    grad = jax.grad(lambda x: jnp.sum(head.target_logit(x, several(logits))))(logits)
    np.testing.assert_array_equal(grad, [[0.5, -0.5], [-0.5, 0.5]])


def test_only_a_head_of_several_numbers_saves_how_many():
    assert regression(num_outputs=1) is regression()
    assert "num_outputs" not in dict(regression().factory_kwargs)
    head = regression("sigmoid", num_outputs=3)
    assert dict(head.factory_kwargs)["num_outputs"] == 3 and head.has_classes
    assert head.logits_shape(None, 8, 0) == (3,)
    for count in (0, True, 2.0):
        with pytest.raises(ValueError, match=f"num_outputs is {count}; expected a number from 1"):
            regression(num_outputs=count)
