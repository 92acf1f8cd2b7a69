import dataclasses
import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax import forward as full_width
from adapler_jax import heads, nn
from adapler_jax.encoders import ENCODERS
from adapler_jax.pruning import keep_all
from adapler_jax.types import MASK_BIAS, EncoderConfig
from tests import plain_bert as encoder
from tests.tiny import CONFIG, NUM_CLASSES, assert_trees_equal, make_batch

KEY = jax.random.key(0)
PARAMS = encoder.init_encoder(KEY, CONFIG)
EMBEDDINGS = PARAMS["embeddings"]
LAYER = jax.tree.map(lambda leaf: leaf[1], PARAMS["layers"])


@jax.jit
def encode(params, token_BL, segment_BL, valid_BL, key=None):
    return encoder.encode(params, CONFIG, token_BL, segment_BL, valid_BL, key=key)


def encode_batch(batch):
    return np.asarray(encode(PARAMS, batch.token_BL, batch.segment_BL, batch.valid_BL))


def float64(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


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


# Hand-computed values


def test_layer_norm_by_hand():
    params = {"scale": jnp.array([2.0, 10.0]), "bias": jnp.array([0.5, -1.0])}
    np.testing.assert_allclose(
        encoder.layer_norm(params, jnp.array([[1.0, 5.0], [7.0, 7.0]]), 0.0 + 1e-12),
        [[-1.0 * 2.0 + 0.5, 1.0 * 10.0 - 1.0], [0.5, -1.0]],
        atol=1e-6,
    )


def test_epsilon_stands_under_the_root():
    params = encoder.init_norm((2,))
    np.testing.assert_allclose(
        encoder.layer_norm(params, jnp.array([[-1.0, 1.0]]), 3.0), [[-0.5, 0.5]]
    )


def test_linear_by_hand():
    params = {
        "kernel": jnp.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]),
        "bias": jnp.array([0.5, 0.0, -0.5]),
    }
    np.testing.assert_array_equal(
        encoder.linear(params, jnp.array([[1.0, -1.0]])), [[-8.5, -18.0, -27.5]]
    )


def test_bfloat16_linear_and_its_gradients_are_float32_within_rounding():
    key_kernel, attention_bias, key_x, key_cotangent = jax.random.split(jax.random.key(3), 4)
    params = {
        "kernel": jax.random.normal(key_kernel, (8, 5)),
        "bias": jax.random.normal(attention_bias, (5,)),
    }
    x_BLD, cotangent_BLF = (
        jax.random.normal(key_x, (3, 4, 8)),
        jax.random.normal(key_cotangent, (3, 4, 5)),
    )

    def gradients(dtype):
        value, pull = jax.vjp(
            lambda params, x_BLD: encoder.linear(params, x_BLD, dtype), params, x_BLD
        )
        return value, *pull(cotangent_BLF)

    found, expected = gradients(jnp.bfloat16), gradients(jnp.float32)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    chex.assert_trees_all_close(found, expected, rtol=0.02, atol=0.1)
    assert float(jnp.max(jnp.abs(found[0] - expected[0]))) > 0.0


def test_weight_gradients_of_cpus_are_those_of_all_devices():
    x_MI = jax.random.normal(jax.random.key(4), (7, 3)).astype(jnp.bfloat16)
    cotangent_MO = jax.random.normal(jax.random.key(5), (7, 2)).astype(jnp.bfloat16)
    found, expected = (f(x_MI, cotangent_MO) for f in (nn._weight_grads_on_cpu, nn._weight_grads))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-6)


def test_key_bias_by_hand():
    found = encoder.attention_bias(jnp.array([[True, False]]))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [[0.0, MASK_BIAS]])
    assert np.exp(np.float32(MASK_BIAS)) == 0.0


def test_mixed_values_by_hand():
    """One head of size 4: a query of 1 meets each key with its own first entry, logits ln 1, ln 2,
    ln 3, and the values
    are unit vectors, so that what comes out are the probabilities."""
    query_LK = jnp.zeros((3, 4)).at[:, 0].set(1.0)
    key_SK = jnp.zeros((3, 4)).at[:, 0].set(jnp.log(jnp.array([1.0, 2.0, 3.0])))
    qkv_BLX = jnp.concatenate([query_LK, key_SK, jnp.eye(3, 4)], axis=-1)[None]
    for bias, expected in [
        ([0.0, 0.0, 0.0], [1 / 6, 2 / 6, 3 / 6]),
        ([0.0, 0.0, MASK_BIAS], [1 / 3, 2 / 3, 0.0]),
        ([0.0, math.log(0.5), 0.0], [1 / 5, 1 / 5, 3 / 5]),
    ]:
        found, _ = encoder.scaled_dot_product_attention(qkv_BLX, jnp.array([bias]), num_heads=1)
        np.testing.assert_allclose(found[0, :, :3], [expected] * 3, rtol=1e-6, atol=0)


def attend_by_loops(layer, config, hidden_LD, bias_L):
    """One head, one query at a time, in float64."""
    layer, hidden_LD = float64(layer), np.asarray(hidden_LD, np.float64)
    project = {
        name: hidden_LD @ layer[name]["kernel"] + layer[name]["bias"]
        for name in ("query", "key", "value")
    }
    mixed_LD = np.zeros_like(hidden_LD)
    for head in range(config.num_heads):
        part = slice(head * config.head_dim, (head + 1) * config.head_dim)
        for query in range(len(hidden_LD)):
            logit_S = [project["query"][query, part] @ key for key in project["key"][:, part]]
            weight_S = np.exp(np.array(logit_S) / math.sqrt(config.head_dim) + bias_L)
            mixed_LD[query, part] = (weight_S / weight_S.sum()) @ project["value"][:, part]
    summed_LD = (
        hidden_LD
        + mixed_LD @ layer["attention_output"]["kernel"]
        + layer["attention_output"]["bias"]
    )
    return norm_by_hand(layer["attention_norm"], summed_LD)


def norm_by_hand(params, x_LD):
    scaled = (x_LD - x_LD.mean(-1, keepdims=True)) / x_LD.std(-1, keepdims=True)
    return scaled * params["scale"] + params["bias"]


def randomised(tree, seed=0):
    """Norms and biases too, which start at ones and zeros."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), tree)


def test_attend_equals_loops_over_heads_and_queries():
    layer = randomised(LAYER)
    hidden_BLD = jax.random.normal(KEY, (1, 3, CONFIG.hidden_dim))
    bias_BL = jnp.array([[0.0, -0.7, MASK_BIAS]])
    found = jax.jit(encoder.attend, static_argnums=1)(layer, CONFIG, hidden_BLD, bias_BL)
    expected = attend_by_loops(layer, CONFIG, hidden_BLD[0], np.array([0.0, -0.7, -np.inf]))
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=2e-5)


def test_masked_keys_are_never_read():
    hidden_BLD = jax.random.normal(KEY, (1, 3, CONFIG.hidden_dim))
    bias_BL = encoder.attention_bias(jnp.array([[True, True, False]]))
    changed_BLD = hidden_BLD.at[0, 2].add(100.0)
    found, expected = (
        encoder.attend(LAYER, CONFIG, x, bias_BL)[0, :2] for x in (changed_BLD, hidden_BLD)
    )
    np.testing.assert_array_equal(found, expected)


def test_embed_by_hand():
    params = randomised(EMBEDDINGS)
    found = encoder.embed(params, CONFIG, jnp.array([[4, 9, 4]]), jnp.array([[0, 1, 1]]))
    table = float64(params)
    summed_LD = (
        table["token"][[4, 9, 4]] + table["position"][[0, 1, 2]] + table["segment"][[0, 1, 1]]
    )
    np.testing.assert_allclose(found[0], norm_by_hand(table["norm"], summed_LD), rtol=0, atol=1e-5)


SQRT_2_PI = math.sqrt(2 / math.pi)
FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
    "gelu_new": lambda x: 0.5 * x * (1 + math.tanh(SQRT_2_PI * (x + 0.044715 * x**3))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1 + math.tanh(SQRT_2_PI * (x + 0.044715 * x**3))),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


def test_every_activation_has_a_formula_here():
    assert set(FORMULAS) == set(encoder.ACTIVATIONS)


@pytest.mark.parametrize("name", FORMULAS)
def test_activation_equals_its_formula(name):
    xs = [-4.0, -1.0, -0.1, 0.0, 0.3, 1.0, 2.5]
    found = encoder.ACTIVATIONS[name](jnp.array(xs))
    np.testing.assert_allclose(found, [FORMULAS[name](x) for x in xs], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_feed_forward_uses_the_activation_of_the_config(name):
    layer = randomised(LAYER)
    hidden_BLD = jax.random.normal(KEY, (1, 2, CONFIG.hidden_dim))
    config = dataclasses.replace(CONFIG, activation=name)
    found = jax.jit(encoder.feed_forward, static_argnums=1)(layer, config, hidden_BLD)
    by_hand, hidden_LD = float64(layer), np.asarray(hidden_BLD[0], np.float64)
    inner_LF = np.vectorize(FORMULAS[name])(
        hidden_LD @ by_hand["ffn_in"]["kernel"] + by_hand["ffn_in"]["bias"]
    )
    summed_LD = hidden_LD + inner_LF @ by_hand["ffn_out"]["kernel"] + by_hand["ffn_out"]["bias"]
    np.testing.assert_allclose(
        found[0], norm_by_hand(by_hand["ffn_norm"], summed_LD), rtol=0, atol=2e-5
    )


def test_classify_by_hand():
    head = randomised(heads.init_classifier(KEY, CONFIG, NUM_CLASSES))
    cls_BD = jax.random.normal(KEY, (2, CONFIG.hidden_dim))
    by_hand = float64(head)
    pooled_BD = np.tanh(
        np.asarray(cls_BD, np.float64) @ by_hand["pooler"]["kernel"] + by_hand["pooler"]["bias"]
    )
    expected = pooled_BD @ by_hand["classifier"]["kernel"] + by_hand["classifier"]["bias"]
    np.testing.assert_allclose(heads.classify(head, CONFIG, cls_BD), expected, rtol=0, atol=2e-5)


def test_split_heads_gives_each_head_neighbouring_entries():
    x_BLD = jnp.arange(2 * 3 * 4).reshape(2, 3, 4)
    found = encoder.split_heads(x_BLD, 2)
    assert found.shape == (2, 2, 3, 2)
    np.testing.assert_array_equal(found[1, 1, 2], x_BLD[1, 2, 2:])


# Dropout


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
