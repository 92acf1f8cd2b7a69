"""The encoder's states depend on live tokens alone, and its parameters on their key."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax import heads
from adapler_jax.types import EncoderConfig
from tests import plain_bert as encoder
from tests.encoders.random_bert import EMBEDDINGS, KEY, PARAMS, encode, encode_batch
from tests.tiny import CONFIG, NUM_CLASSES, assert_trees_equal, make_batch

# Relations


def test_content_of_padding_does_not_change_live_states():
    batch = make_batch()
    found, expected = encode_batch(make_batch(padding=7)), encode_batch(batch)
    np.testing.assert_array_equal(found[batch.valid_BL], expected[batch.valid_BL])


def test_segments_of_padding_do_not_change_live_states():
    batch = make_batch()
    changed = batch.replace(
        segment_BL=np.where(batch.valid_BL, batch.segment_BL, 1).astype(np.int32)
    )
    np.testing.assert_array_equal(
        encode_batch(changed)[batch.valid_BL], encode_batch(batch)[batch.valid_BL]
    )


def test_width_of_padding_does_not_change_live_states():
    narrow, wide = make_batch(), make_batch(num_slots=CONFIG.num_positions)
    np.testing.assert_allclose(
        encode_batch(wide)[wide.valid_BL], encode_batch(narrow)[narrow.valid_BL], rtol=0, atol=1e-5
    )


def test_batch_equals_one_by_one():
    batch = make_batch()
    together = encode_batch(batch)
    for row in range(len(batch.label_B)):
        alone = encode_batch(jax.tree.map(lambda leaf: leaf[row : row + 1], batch))
        valid_L = batch.valid_BL[row]
        np.testing.assert_allclose(alone[0, valid_L], together[row, valid_L], rtol=0, atol=1e-5)


def test_order_of_examples_does_not_matter():
    batch = make_batch()
    backwards = jax.tree.map(lambda leaf: leaf[::-1], batch)
    np.testing.assert_allclose(
        encode_batch(backwards)[::-1], encode_batch(batch), rtol=0, atol=2e-6
    )


@pytest.mark.parametrize("field", ["token_BL", "segment_BL"])
def test_a_live_token_changes_every_state_of_its_example_only(field):
    batch = make_batch()
    value_BL = getattr(batch, field).copy()
    value_BL[1, 2] = 1 - value_BL[1, 2] if field == "segment_BL" else value_BL[1, 2] % 40 + 3
    change = np.abs(encode_batch(batch.replace(**{field: value_BL})) - encode_batch(batch)).max(
        axis=-1
    )
    assert np.all(change[1, :7] > 1e-4)
    assert np.all(change[[0, 2, 3]] == 0)


def test_order_of_tokens_matters():
    batch = make_batch((6,))
    swapped = batch.replace(token_BL=batch.token_BL[:, [0, 2, 1, *range(3, 12)]])
    assert np.abs(encode_batch(swapped) - encode_batch(batch))[0, 0].max() > 1e-3


def test_jit_equals_eager():
    batch = make_batch()
    eager = encoder.encode(PARAMS, CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL)
    assert eager.dtype == jnp.float32
    np.testing.assert_allclose(encode_batch(batch), eager, rtol=0, atol=2e-6)


def test_the_scan_equals_a_loop_over_layers():
    batch = make_batch()
    hidden_BLD = encoder.embed(EMBEDDINGS, CONFIG, batch.token_BL, batch.segment_BL)

    @jax.jit
    def run_layer(layer, hidden_BLD):
        hidden_BLD = encoder.attend(
            layer, CONFIG, hidden_BLD, encoder.attention_bias(batch.valid_BL)
        )
        return encoder.feed_forward(layer, CONFIG, hidden_BLD)

    for index in range(CONFIG.num_layers):
        hidden_BLD = run_layer(
            jax.tree.map(lambda leaf, index=index: leaf[index], PARAMS["layers"]), hidden_BLD
        )
    np.testing.assert_allclose(encode_batch(batch), hidden_BLD, rtol=0, atol=2e-6)


def test_one_compilation_a_shape():
    encode_batch(make_batch())
    num_compiled = encode._cache_size()
    for lengths in [(12, 1, 2, 3), (3, 3, 3, 3), (7, 12, 5, 8)]:
        encode_batch(make_batch(lengths, seed=lengths[0]))
    assert encode._cache_size() == num_compiled
    encode_batch(make_batch((3, 4), num_slots=8))
    assert encode._cache_size() == num_compiled + 1


def test_bfloat16_operands_stay_near_float32_and_return_float32():
    batch = make_batch()
    found = encoder.encode(
        PARAMS, CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL, dtype=jnp.bfloat16
    )
    assert found.dtype == jnp.float32
    difference = np.abs(found - encode_batch(batch))[batch.valid_BL]
    assert 0 < difference.max() < 0.2 and difference.mean() < 0.02


def test_gradients_are_finite_and_reach_every_layer():
    batch = make_batch()

    @jax.jit
    def gradient(params):
        def total(params):
            hidden_BLD = encoder.encode(
                params, CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
            )
            return jnp.sum(jnp.sin(hidden_BLD[:, 0]))

        return jax.grad(total)(params)

    grads = gradient(PARAMS)
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert np.all(np.isfinite(leaf)), name
        if (
            "'layers'" in name and "['key']['bias']" not in name
        ):  # softmax does not see a shift of all its logits
            assert np.all(np.abs(leaf).reshape(CONFIG.num_layers, -1).max(axis=-1) > 1e-6), name
    unread = sorted(
        set(range(CONFIG.vocab_size)) - set(batch.token_BL[batch.valid_BL].tolist()) - {0}
    )
    assert np.all(np.asarray(grads["embeddings"]["token"])[unread] == 0)
    assert np.all(np.asarray(grads["embeddings"]["position"])[12:] == 0)


def test_ranks_and_types_are_never_promoted_implicitly():
    batch = jax.tree.map(jnp.asarray, make_batch())
    head = heads.init_classifier(KEY, CONFIG, NUM_CLASSES)

    def total(params, head, key, dtype):
        hidden_BLD = encoder.encode(
            params, CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL, key=key, dtype=dtype
        )
        return jnp.sum(heads.classify(head, CONFIG, hidden_BLD[:, 0], key=key))

    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        for key in (None, KEY):
            for dtype in (jnp.float32, jnp.bfloat16):
                jax.make_jaxpr(
                    jax.grad(functools.partial(total, key=key, dtype=dtype), argnums=(0, 1))
                )(PARAMS, head)


# Parameters and errors


def test_fresh_parameters():
    layers = PARAMS["layers"]
    assert {leaf.shape[0] for leaf in jax.tree.leaves(layers)} == {CONFIG.num_layers}
    for path, leaf in jax.tree_util.tree_leaves_with_path(PARAMS):
        name = path[-1].key
        assert leaf.dtype == jnp.float32
        if name in ("bias", "scale"):
            assert np.all(leaf == float(name == "scale"))
        else:
            assert np.abs(leaf).max() <= 2 * CONFIG.init_std
            assert np.all(np.abs(np.mean(leaf)) < 0.2 * CONFIG.init_std) or leaf.size < 100
    assert np.abs(layers["query"]["kernel"] - layers["key"]["kernel"]).max() > 0.1
    assert np.abs(layers["query"]["kernel"][0] - layers["query"]["kernel"][1]).max() > 0.1


def test_fresh_parameters_follow_their_key():
    assert_trees_equal(encoder.init_encoder(KEY, CONFIG), PARAMS)
    other = encoder.init_encoder(jax.random.key(1), CONFIG)
    assert np.abs(other["embeddings"]["token"] - EMBEDDINGS["token"]).max() > 0.1


def test_config_is_hashable_and_knows_the_head_size():
    assert hash(CONFIG) == hash(dataclasses.replace(CONFIG))
    config = EncoderConfig(
        num_layers=1, num_heads=3, hidden_dim=12, ffn_dim=1, vocab_size=1, num_positions=1
    )
    assert config.head_dim == 4


def test_a_batch_longer_than_the_positions_is_refused():
    token_BL = jnp.zeros((1, 17), jnp.int32)
    with pytest.raises(
        ValueError, match="a batch of 17 token slots does not fit the encoder's 16 positions"
    ):
        encoder.embed(EMBEDDINGS, CONFIG, token_BL, token_BL)


# Properties


@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=4, max_size=4),
    padding=st.integers(0, 49),
    seed=st.integers(0, 99),
)
def test_padding_never_matters_for_any_batch(lengths, padding, seed):
    batch = make_batch(lengths, seed=seed)
    found = encode_batch(make_batch(lengths, seed=seed, padding=padding))
    np.testing.assert_array_equal(found[batch.valid_BL], encode_batch(batch)[batch.valid_BL])
