import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.evaluation.attribution import attention_scores, layer_saliency, pruner_scores
from adapler_jax.pruning import keep_all
from adapler_jax.training.losses import saliency
from tests import plain_bert as encoder
from tests import tiny

CONFIG = tiny.CONFIG
PARAMS = tiny.make_params()


@pytest.fixture(scope="module", name="batch")
def _batch():
    return tiny.make_batch()


def layers_of(params):
    return [
        jax.tree.map(lambda leaf: leaf[index], params["encoder"]["layers"])
        for index in range(CONFIG.num_layers)
    ]


def test_attention_probs_times_values_are_what_a_layer_mixes(batch):
    layer, bias_BL = layers_of(PARAMS)[0], encoder.attention_bias(batch.valid_BL)
    hidden_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    probs_BHLS = encoder.attention_probs(layer, CONFIG, hidden_BLD, bias_BL)
    parts = jnp.split(encoder.query_key_value(layer, CONFIG, hidden_BLD), 3, axis=-1)
    value_BHSK = encoder.split_heads(parts[2], CONFIG.num_heads)
    expected_BLD, _ = encoder.scaled_dot_product_attention(
        *parts, bias_BL, num_heads=CONFIG.num_heads
    )
    mixed_BLD = jnp.einsum("BHLS,BHSK->BLHK", probs_BHLS, value_BHSK).reshape(expected_BLD.shape)
    np.testing.assert_allclose(mixed_BLD, expected_BLD, atol=1e-6)
    np.testing.assert_allclose(probs_BHLS.sum(axis=-1), 1.0, atol=1e-6)


def test_attention_and_rollout_are_those_of_whole_maps(batch):
    """Return the same scores in NumPy, with all maps in memory at once."""
    found = attention_scores(PARAMS, CONFIG, batch)
    bias_BL = encoder.attention_bias(batch.valid_BL)
    hidden_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    rollout_BLL = np.eye(tiny.NUM_SLOTS)[None]
    for index, layer in enumerate(layers_of(PARAMS)):
        mean_BLL = np.asarray(encoder.attention_probs(layer, CONFIG, hidden_BLD, bias_BL)).mean(
            axis=1
        )
        added_BLL = mean_BLL + np.eye(tiny.NUM_SLOTS)
        rollout_BLL = (added_BLL / added_BLL.sum(axis=-1, keepdims=True)) @ rollout_BLL
        np.testing.assert_allclose(found.cls_NBL[index], mean_BLL[:, 0], atol=1e-6)
        np.testing.assert_allclose(found.rollout_NBL[index], rollout_BLL[:, 0], atol=1e-6)
        for row, length in enumerate(tiny.LENGTHS):
            expected_L = mean_BLL[row, :length].mean(axis=0)
            np.testing.assert_allclose(found.received_NBL[index, row], expected_L, atol=1e-6)
        hidden_BLD = encoder.feed_forward(
            layer, CONFIG, encoder.attend(layer, CONFIG, hidden_BLD, bias_BL)
        )


def test_attention_scores_are_shares_of_what_is_no_padding(batch):
    for score_NBL in jax.tree.leaves(attention_scores(PARAMS, CONFIG, batch)):
        np.testing.assert_allclose(score_NBL.sum(axis=-1), 1.0, atol=1e-5)
        assert np.all(np.asarray(score_NBL)[:, ~batch.valid_BL] == 0.0)


@pytest.mark.long
def test_saliency_in_front_of_the_first_layer_is_the_one_that_predictors_learn(batch):
    found_NBL, logits_BC = layer_saliency(PARAMS, CONFIG, batch)
    answered = batch.replace(label_B=np.argmax(logits_BC, axis=-1).astype(np.int32))
    expected_BL, expected_BC = saliency(PARAMS, CONFIG, answered)
    np.testing.assert_allclose(found_NBL[0], expected_BL, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)


@pytest.mark.long
def test_saliency_of_a_layer_is_the_gradient_at_its_input(batch):
    found_NBL, logits_BC = layer_saliency(PARAMS, CONFIG, batch)
    bias_BL, last = encoder.attention_bias(batch.valid_BL), layers_of(PARAMS)[-1]
    start_BLD = encoder.embed(
        PARAMS["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    _, _, hidden_NBLD = full_width.forward_layers(
        PARAMS | {"pruner": {}},
        CONFIG,
        keep_all(),
        start_BLD,
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=jnp.float32,
        collect_hidden=True,
    )

    def answer(hidden_BLD):
        hidden_BLD = encoder.feed_forward(
            last, CONFIG, encoder.attend(last, CONFIG, hidden_BLD, bias_BL)
        )
        return jnp.sum(jnp.max(heads.classify(PARAMS["head"], CONFIG, hidden_BLD[:, 0]), axis=-1))

    entering_BLD = hidden_NBLD[-2]
    expected_BL = jnp.linalg.norm(jax.grad(answer)(entering_BLD) * entering_BLD, axis=-1)
    np.testing.assert_allclose(
        found_NBL[-1], jnp.where(batch.valid_BL, expected_BL, 0.0), rtol=1e-4, atol=1e-5
    )


def test_scores_do_not_depend_on_the_padding(batch):
    longer = tiny.make_batch(num_slots=tiny.NUM_SLOTS + 3)
    for measure in (attention_scores, lambda *args: layer_saliency(*args)[0]):
        for few, many in zip(
            *(jax.tree.leaves(measure(PARAMS, CONFIG, each)) for each in (batch, longer))
        ):
            np.testing.assert_allclose(many[..., : tiny.NUM_SLOTS], few, atol=1e-5)


def test_a_pruners_scores_end_where_a_token_leaves(batch):
    score_NBL, keep_NBL = (np.asarray(x) for x in pruner_scores(PARAMS, CONFIG, tiny.PRUNER, batch))
    assert keep_NBL[-1].sum() < keep_NBL[0].sum() < batch.valid_BL.sum()
    np.testing.assert_array_equal(score_NBL[1:] > 0.0, keep_NBL[:-1])
    np.testing.assert_allclose(score_NBL.sum(axis=-1), 1.0, atol=1e-5)
