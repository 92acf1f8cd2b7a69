"""Dropout follows its key and its probabilities, in every layer and in the head."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.encoders import ENCODERS
from adapler_jax.pruning import keep_all
from tests import plain_bert as encoder
from tests.encoders.random_bert import KEY, LAYER, PARAMS, encode, encode_batch
from tests.tiny import CONFIG, NUM_CLASSES, make_batch


def test_dropout_keeps_the_mean_and_rescales_the_rest():
    x = jnp.full((200, 200), 3.0)
    found = np.asarray(encoder.dropout(KEY, x, 0.25))
    np.testing.assert_allclose(np.unique(found), [0.0, 4.0])
    assert abs((found == 0).mean() - 0.25) < 0.01
    assert abs(found.mean() - 3.0) < 0.04


@pytest.mark.parametrize(("key", "rate"), [(None, 0.5), (KEY, 0.0)])
def test_dropout_without_a_key_or_a_rate_is_the_identity(key, rate):
    x = jnp.arange(6.0)
    assert encoder.dropout(key, x, rate) is x


def test_dropout_follows_its_key():
    batch = make_batch()
    run = functools.partial(encode, PARAMS, batch.token_BL, batch.segment_BL, batch.valid_BL)
    first, again, other = run(jax.random.key(1)), run(jax.random.key(1)), run(jax.random.key(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2 and np.abs(first - encode_batch(batch)).max() > 1e-2


def test_every_layer_draws_its_own_dropout(monkeypatch):
    """With layers that add uniform noise of their key: four independent draws spread by 0.58,
    equal ones by 1.15."""

    def add_noise(layer, config, x, attended, *, key, dtype):
        return x + jax.random.uniform(key, x.shape)

    noisy = encoder.BERT._replace(
        attention_output=add_noise,
        feed_forward=lambda layer, config, x, *, key, dtype: x,
        embed=lambda params, config, *_, key: jnp.zeros((4, 12, 16)),
    )
    monkeypatch.setattr(encoder, "BERT", noisy)
    monkeypatch.setitem(ENCODERS, "bert", noisy)
    batch = make_batch()
    for forward in (
        lambda key: encoder.encode(
            PARAMS, CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL, key=key
        ),
        lambda key: full_width.forward_layers(
            {"encoder": PARAMS, "pruner": {}},
            CONFIG,
            keep_all(),
            jnp.zeros((4, 12, 16)),
            batch.valid_BL,
            slope=None,
            key=key,
            dtype=jnp.float32,
        )[0],
    ):
        assert np.std(forward(KEY)) == pytest.approx((4 / 12) ** 0.5, rel=0.1)


@pytest.mark.parametrize("name", ["hidden_dropout_prob", "attention_dropout_prob"])
def test_each_dropout_probability_acts_in_attention(name):
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_dropout_prob=0.0)
    hidden_BLD = jax.random.normal(KEY, (1, 3, CONFIG.hidden_dim))
    attend = jax.jit(encoder.attend, static_argnames="config")
    run = functools.partial(
        attend, LAYER, hidden_BLD=hidden_BLD, bias_BS=jnp.zeros((1, 3)), key=KEY
    )
    assert (
        np.abs(run(config=dataclasses.replace(config, **{name: 0.5})) - run(config=config)).max()
        > 1e-3
    )


def test_the_head_has_its_own_dropout_where_it_is_given():
    cls_BD, params = (
        jax.random.normal(KEY, (2, CONFIG.hidden_dim)),
        heads.init_classifier(KEY, CONFIG, NUM_CLASSES),
    )
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.5)

    def change(config):
        return np.abs(
            heads.classify(params, config, cls_BD, key=KEY) - heads.classify(params, config, cls_BD)
        ).max()

    assert change(config) > 1e-4
    assert change(dataclasses.replace(config, classifier_dropout_prob=0.0)) == 0.0
    assert (
        change(dataclasses.replace(config, hidden_dropout_prob=0.0, classifier_dropout_prob=0.5))
        > 1e-4
    )


def test_probabilities_of_zero_switch_dropout_off():
    config = dataclasses.replace(CONFIG, hidden_dropout_prob=0.0, attention_dropout_prob=0.0)
    batch = make_batch()
    found = encoder.encode(
        PARAMS, config, batch.token_BL, batch.segment_BL, batch.valid_BL, key=KEY
    )
    np.testing.assert_allclose(found, encode_batch(batch), rtol=0, atol=2e-6)
