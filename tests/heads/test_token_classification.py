"""Tags of tokens by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.heads import TOKEN_CLASSIFICATION as HEAD
from adapler_jax.heads.token_classification import dropout_rate
from tests.heads.rows import batch_of
from tests.tiny import CONFIG

# Two texts of three tokens; the odds of the two tags are 1:3, 1:1 and 3:1.
LOGITS = jnp.log(jnp.array([[[1.0, 3.0], [1.0, 1.0], [3.0, 1.0]]] * 2))
TEACHER = jnp.log(jnp.array([[[1.0, 1.0], [9.0, 1.0], [1.0, 1.0]]] * 2))
losses = jax.jit(HEAD.loss_fn, static_argnums=2)


def with_tags(*tags, lengths=(3, 3), teacher=None):
    return batch_of(lengths, tag_BL=tags, teacher=teacher)


def test_the_loss_is_the_mean_over_tagged_tokens():
    found = losses(LOGITS, with_tags([-1, 0, 0], [-100, -100, 1]), 0.0)
    expected = [(math.log(2) + math.log(4 / 3)) / 2, math.log(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_padding_and_texts_without_tags_have_no_loss():
    batch = with_tags([-1, 0, 0], [-1, -1, -1], lengths=(2, 3))
    np.testing.assert_allclose(losses(LOGITS, batch, 0.0), [math.log(2), 0.0], rtol=1e-6)
    grad = jax.grad(lambda x: jnp.sum(losses(x, batch, 0.0)))(LOGITS)
    assert np.any(grad[0, 1]) and not np.any(grad[0, [0, 2]]) and not np.any(grad[1])


def test_a_teacher_speaks_of_the_tagged_tokens():
    batch = with_tags([-1, 0, -1], [-1, 1, -1], teacher=TEACHER)
    np.testing.assert_allclose(losses(LOGITS, batch, 1.0), [math.log(2)] * 2, rtol=1e-6)
    batch = with_tags([-1, -1, 0], [1, -1, -1], teacher=TEACHER)
    soft = (math.log(4) + math.log(4 / 3)) / 2
    expected = (soft + math.log(4 / 3)) / 2
    np.testing.assert_allclose(losses(LOGITS, batch, 0.5), [expected] * 2, rtol=1e-6)


def test_the_saliency_is_of_the_mean_logit_of_the_right_tags():
    batch = with_tags([-1, 1, 0], [1, -1, -1])
    np.testing.assert_allclose(HEAD.target_logit(LOGITS, batch), [math.log(3) / 2, math.log(3)])
    grad = jax.grad(lambda x: jnp.sum(HEAD.target_logit(x, batch)))(LOGITS)
    np.testing.assert_allclose(grad[0], [[0, 0], [0, 0.5], [0.5, 0]])


def test_accuracy_is_the_share_of_right_tags():
    batch = with_tags([0, -1, 0], [1, -1, 0])
    np.testing.assert_allclose(HEAD.accuracy_fn(LOGITS, batch), [0.5, 1.0])


def test_the_rate_of_dropout_is_the_one_of_transformers():
    own = dataclasses.replace(CONFIG, classifier_dropout_prob=0.3)
    assert dropout_rate(own) == 0.3 and dropout_rate(CONFIG) == CONFIG.hidden_dropout_prob
    distilbert = dataclasses.replace(own, pooler_activation="relu")
    assert dropout_rate(distilbert) == CONFIG.hidden_dropout_prob


def test_each_token_has_logits_of_its_own_state_and_padding_has_none():
    params = HEAD.init(jax.random.key(0), CONFIG, 2)
    state_BLD = jax.random.normal(jax.random.key(1), (2, 3, CONFIG.hidden_dim))
    found = HEAD.apply(params, CONFIG, state_BLD, with_tags([0] * 3, [0] * 3, lengths=(3, 1)))
    kernel, bias = params["classifier"]["kernel"], params["classifier"]["bias"]
    expected = np.asarray(state_BLD[0]) @ np.asarray(kernel) + np.asarray(bias)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    assert np.any(found[1, 0]) and not np.any(found[1, 1:])
    dropped = HEAD.apply(params, CONFIG, state_BLD, with_tags([0] * 3, [0] * 3), jax.random.key(2))
    assert np.abs(dropped - found)[0].max() > 1e-3
