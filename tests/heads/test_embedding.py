"""Vectors of texts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.heads import embedding
from adapler_jax.types import PADDING_EXAMPLE_ID
from tests.heads.rows import batch_of
from tests.tiny import CONFIG

STATES = jnp.zeros((2, 3, CONFIG.hidden_dim)).at[:, :, 0].set(jnp.array([[1.0, 3.0, 8.0]] * 2))
# Unit vectors at 0, 60, 90 and 0 degrees, of other lengths.
VECTORS = jnp.array([[2.0, 0.0], [0.5, 0.5 * 3**0.5], [0.0, 3.0], [1.0, 0.0]])


def test_the_mean_is_of_the_tokens_that_are_left():
    batch = batch_of([3, 2])
    head = embedding(normalizes=False)
    found = head.apply({}, CONFIG, STATES, batch)
    np.testing.assert_allclose(found[:, 0], [4.0, 2.0])
    left_BL = jnp.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])  # a pruner may count padding
    found = head.apply({}, CONFIG, STATES, batch.replace(survival_BL=left_BL))
    np.testing.assert_allclose(found[:, 0], [4.5, 1.0])
    half_BL = jnp.array([[1.0, 0.5, 0.0], [1.0, 0.5, 0.0]])
    found = head.apply({}, CONFIG, STATES, batch.replace(survival_BL=half_BL))
    np.testing.assert_allclose(found[:, 0], [2.5 / 1.5] * 2, rtol=1e-6)


def test_a_dense_layer_follows_the_pooling():
    head = embedding("cls", dense_dim=2, dense_activation="tanh")
    kernel = jnp.zeros((CONFIG.hidden_dim, 2)).at[0].set(jnp.array([0.5, -1.0]))
    params = {"dense": {"kernel": kernel, "bias": jnp.array([0.0, 1.0])}}
    assert not head.needs_all_states and embedding().needs_all_states
    found = head.apply(params, CONFIG, STATES[:, 0], None)
    np.testing.assert_allclose(found, np.tanh([[0.5, 0.0]] * 2), rtol=1e-6)
    plain = embedding("cls", dense_dim=2, dense_activation="identity")
    np.testing.assert_allclose(plain.apply(params, CONFIG, STATES[:, 0], None), [[0.5, 0.0]] * 2)


def test_a_pair_is_trained_to_its_similarity():
    batch = batch_of([1] * 4).replace(label_B=np.array([0.0, 0.0, -1.0, -1.0], np.float32))
    found = embedding().loss_fn(VECTORS, batch, 0.0)
    np.testing.assert_allclose(found, [0.25, 0.25, 1.0, 1.0], rtol=1e-6)


def test_a_teacher_is_followed_in_direction_and_in_similarities_without_padding():
    teacher = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    batch = batch_of([1] * 4, teacher=teacher)
    ids = np.array([0, 1, 2, PADDING_EXAMPLE_ID], np.int32)
    found = embedding().loss_fn(VECTORS, batch.replace(example_id_B=ids), 1.0)
    # similarities 1/2, 0, sqrt(3)/2 of the pairs (0,1), (0,2), (1,2); the teacher's are 1, 0, 0
    expected = [(0.25 + 0.0) / 2, 0.5 + (0.25 + 0.75) / 2, (0.0 + 0.75) / 2]
    np.testing.assert_allclose(found[:3], expected, atol=1e-6)
    mixed = embedding().loss_fn(VECTORS, batch.replace(example_id_B=ids), 0.5)
    task = embedding().loss_fn(VECTORS, batch, 0.0)
    np.testing.assert_allclose(mixed[:3], 0.5 * (np.array(expected) + task[:3]), atol=1e-6)


def test_the_saliency_is_of_the_length_in_the_vectors_direction():
    found = embedding().target_logit(VECTORS, batch_of([1] * 4))
    np.testing.assert_allclose(found, [2.0, 1.0, 3.0, 1.0], rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(embedding().target_logit(x, None)))(VECTORS)
    np.testing.assert_allclose(grad[:2], [[1.0, 0.0], [0.5, 0.5 * 3**0.5]], rtol=1e-6)
    assert not np.any(jax.grad(lambda x: embedding().target_logit(x, None)[0])(jnp.zeros((1, 2))))


def test_equal_heads_are_one_object_and_wrong_names_are_named():
    assert embedding("mean") is embedding(dense_activation="identity") is embedding()
    assert embedding("cls") is not embedding() is not embedding(normalizes=False)
    with pytest.raises(ValueError, match="pooling is 'max'; expected mean or cls"):
        embedding("max")
    with pytest.raises(ValueError, match="dense_activation is 'relu'; expected identity or tanh"):
        embedding(dense_dim=2, dense_activation="relu")
