"""MPNet without PyTorch: config.json, the names of tensors, and what it computes by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, model_flops
from adapler_jax import forward as full_width
from adapler_jax.encoders.attention import scaled_dot_product_attention
from adapler_jax.encoders.base import attend, layer_bias, layers_of, with_shared
from adapler_jax.encoders.bert import BERT
from adapler_jax.encoders.modernbert import MODERNBERT
from adapler_jax.encoders.mpnet import MPNET, buckets_of, from_published, pair_bias, to_published
from adapler_jax.evaluation.budgets import calibrate_budgets
from adapler_jax.heads import CLASSIFICATION, TOKEN_CLASSIFICATION, embedding, make_head
from adapler_jax.inference.drivers import bucketed, dense, packed
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.types import Batch
from adapler_jax.weights.config import config_json, encoder_config
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.rules import architecture_of, name_with_prefix
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.encoders.made_families import MADE, make_batch
from tests.encoders.made_modernbert import random_params

RAW, CONFIG = MADE["mpnet"].raw, MADE["mpnet"].config
LENGTHS = (12, 7, 1, 9)


def test_a_written_config_is_the_same_encoder():
    assert (CONFIG.num_positions, CONFIG.num_segments) == (16, 1)
    raw = config_json(CONFIG, "MPNetModel", None)
    assert encoder_config(raw, "config.json") == CONFIG
    assert (raw["max_position_embeddings"], raw["pad_token_id"]) == (18, 1)
    assert "type_vocab_size" not in raw
    raw = config_json(CONFIG, "MPNetModel", None, special={"pad_token_id": 5})
    assert raw["pad_token_id"] == 5


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        (
            {"relative_attention_num_buckets": 64},
            "relative_attention_num_buckets is 64, only 32 is supported",
        ),
        ({"max_position_embeddings": 2}, "max_position_embeddings is 2, expected more than 2"),
        ({"max_position_embeddings": None}, "max_position_embeddings is None, expected a positive"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', expected one of gelu"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        ({"is_decoder": True}, "is_decoder is True, only False is supported"),
    ],
)
def test_a_config_that_cannot_be_computed_is_named_in_one_line(changes, found):
    with pytest.raises(ValueError, match="an encoder of family mpnet") as caught:
        encoder_config(RAW | changes, "config.json")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_buckets_by_hand():
    before_X = -np.array([0, 1, 7, 8, 11, 12, 15, 16, 22, 23, 31, 32, 63, 64, 90, 91, 500])
    bucket_X = [0, 1, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 13, 14, 14, 15, 15]
    assert buckets_of(before_X).tolist() == bucket_X
    after_X = [0] + [16 + bucket for bucket in bucket_X[1:]]
    assert buckets_of(-before_X).tolist() == after_X


def layer_of(seed=0):
    """The first layer of a random encoder, with the bias."""
    layers = layers_of(MPNET, MPNET.init(jax.random.key(seed), CONFIG))
    return jax.tree.map(lambda leaf: leaf[0], layers)


def test_the_bias_of_a_pair_is_of_its_original_positions():
    layer, position_BL = layer_of(), jnp.array([[0, 3, 4, 15], [0, 1, 2, 9]])
    table_ZH = layer["relative"]["bias"]
    found_BHLS = pair_bias(layer, CONFIG, position_BL, position_BL)
    assert found_BHLS.shape == (2, 2, 4, 4)
    for text, query, key in ((0, 0, 3), (0, 3, 1), (1, 2, 2), (1, 3, 0)):
        distance = int(position_BL[text, key] - position_BL[text, query])
        bucket = int(buckets_of(np.array([distance]))[0])
        np.testing.assert_array_equal(found_BHLS[text, :, query, key], table_ZH[bucket])
    all_BHLS = layer_bias(MPNET, layer, CONFIG, jnp.int32(0), position_BL)
    first_BH1S = layer_bias(MPNET, layer, CONFIG, jnp.int32(0), position_BL, num_queries=1)
    np.testing.assert_array_equal(all_BHLS, found_BHLS)
    np.testing.assert_array_equal(first_BH1S, found_BHLS[:, :, :1])


def attended(positions):
    """States after the attention half of a layer, of three tokens at some positions."""
    hidden_BLD = jax.random.normal(jax.random.key(0), (1, 3, CONFIG.hidden_dim))
    options = {"index": jnp.int32(0), "position_BL": jnp.array([positions])}
    found, _ = attend(MPNET, layer_of(), CONFIG, hidden_BLD, jnp.zeros((1, 3)), **options)
    return found


def test_kept_tokens_have_the_distances_that_they_had():
    np.testing.assert_allclose(attended([0, 1, 2]), attended([3, 4, 5]), atol=1e-6)
    assert np.max(np.abs(attended([0, 1, 2]) - attended([0, 4, 15]))) > 1e-3


def test_each_head_adds_a_bias_of_its_own():
    rng = np.random.default_rng(0)
    query_BLD, key_BLD, value_BLD = rng.normal(size=(3, 2, 3, 4)).astype(np.float32)
    bias_BHLL = rng.normal(size=(2, 2, 3, 3)).astype(np.float32)
    no_bias_BL = np.zeros((2, 3), np.float32)
    found_BLD, _ = scaled_dot_product_attention(
        query_BLD, key_BLD, value_BLD, no_bias_BL, bias_BHLL, num_heads=2
    )
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        logits_BLL = query_BLD[..., part] @ key_BLD[..., part].transpose(0, 2, 1)
        prob_BLL = np.exp(logits_BLL + bias_BHLL[:, head])
        prob_BLL = prob_BLL / prob_BLL.sum(-1, keepdims=True)
        expected_BLK = prob_BLL @ value_BLD[..., part]
        np.testing.assert_allclose(found_BLD[..., part], expected_BLK, atol=1e-5)


def test_layers_share_one_table():
    tree = MPNET.init(jax.random.key(0), CONFIG)
    layers = layers_of(MPNET, tree)
    for bias_ZH in layers["relative"]["bias"]:
        np.testing.assert_array_equal(bias_ZH, tree["relative"]["bias"])
    again = layers_of(MPNET, tree | {"layers": layers})
    tiny.assert_trees_equal(again, layers)
    apart = prepare_inference_params({"encoder": tree}, CONFIG)["encoder"]
    assert layers_of(MPNET, apart) is apart["layers"]
    assert layers_of(BERT, {"layers": tree["layers"]}) is tree["layers"]
    params = {"encoder": tree, "head": {}}
    assert with_shared(BERT, params) is params
    tiny.assert_trees_equal(with_shared(MPNET, params)["encoder"]["layers"], layers)


@pytest.mark.long
def test_a_gradient_of_the_table_is_the_sum_over_the_layers():
    params = random_params(CONFIG, CLASSIFICATION) | {"pruner": {}}
    batch = jax.tree.map(jnp.asarray, make_batch("mpnet", LENGTHS))

    def loss(encoder):
        logits_BC, _ = full_width.forward(
            params | {"encoder": encoder}, CONFIG, keep_all(), batch, slope=None
        )
        return jnp.sum(logits_BC[:, 0])

    tree = params["encoder"]
    total = jax.grad(loss)(tree)["relative"]["bias"]
    apart = {name: part for name, part in tree.items() if name != "relative"}
    by_layer = jax.grad(loss)(apart | {"layers": layers_of(MPNET, tree)})["layers"]
    np.testing.assert_allclose(total, jnp.sum(by_layer["relative"]["bias"], 0), atol=1e-5)
    assert np.any(np.abs(total) > 1e-4)


@pytest.mark.long
def test_drivers_take_layers_that_are_stacked():
    pruner = adapler(CONFIG, predictor_dim=8)
    params = random_params(CONFIG, CLASSIFICATION, pruner=pruner)
    params["pruner"]["threshold_N"] = jnp.full((4,), 0.8)
    batch = jax.tree.map(jnp.asarray, make_batch("mpnet", LENGTHS))
    expected_BC, _ = full_width.forward(params, CONFIG, pruner, batch, slope=None)
    for driver in (bucketed, packed):
        found_BC, _ = driver.forward(params, CONFIG, pruner, batch, buckets=(4, 8, 12))
        np.testing.assert_allclose(found_BC, expected_BC, atol=2e-5)


@pytest.mark.long
def test_thresholds_of_budgets_are_found_on_its_layers():
    pruner = adapler(CONFIG, predictor_dim=8)
    params = random_params(CONFIG, CLASSIFICATION, pruner=pruner)
    batches = [make_batch("mpnet", LENGTHS)]
    found_NK = calibrate_budgets(params, CONFIG, pruner, batches, budgets=(0.5, 1.0))
    tiny.assert_all_finite(found_NK)


@pytest.mark.parametrize(
    ("head", "pooler", "classifier"),
    [
        ("classification", "classifier.dense", "classifier.out_proj"),
        ("regression", "classifier.dense", "classifier.out_proj"),
        ("choice", "mpnet.pooler.dense", "classifier"),
    ],
)
def test_files_have_published_names_and_two_more_positions(head, pooler, classifier):
    table_XD = np.ones((3, 4), np.float32)
    positions = "mpnet.embeddings.position_embeddings.weight"
    ours = {positions: table_XD, "mpnet.pooler.dense.bias": 1, "classifier.bias": 2}
    found = to_published(ours, head)
    assert found.keys() == {positions, f"{pooler}.bias", f"{classifier}.bias"}
    assert found[positions].shape == (5, 4) and not np.any(found[positions][:2])
    again = from_published(found)
    np.testing.assert_array_equal(again.pop(positions), table_XD)
    assert again == {"mpnet.pooler.dense.bias": 1, "classifier.bias": 2}


def test_a_bare_encoder_may_have_a_pooler():
    names = {
        "pooler.dense.bias": "mpnet.pooler.dense.bias",
        "encoder.relative_attention_bias.weight": "mpnet.encoder.relative_attention_bias.weight",
        "classifier.dense.bias": "classifier.dense.bias",
    }
    found = [name_with_prefix(name, encoder=MPNET) for name in names]
    assert found == list(names.values())
    assert name_with_prefix("head.dense.weight", encoder=MODERNBERT) == "head.dense.weight"
    expected = "model.embeddings.norm.weight"
    assert name_with_prefix("embeddings.norm.weight", encoder=MODERNBERT) == expected


def test_the_layer_of_a_classifier_takes_the_place_of_the_pooler():
    found = from_published({"mpnet.pooler.dense.bias": 1, "classifier.dense.bias": 2})
    assert found == {"mpnet.pooler.dense.bias": 2}


def test_a_saved_model_names_the_class_of_its_head():
    assert architecture_of(CONFIG, CLASSIFICATION) == "MPNetForSequenceClassification"
    assert architecture_of(CONFIG, make_head("choice", num_options=2)) == "MPNetForMultipleChoice"
    assert architecture_of(CONFIG, embedding(pooling="mean", normalizes=True)) == "MPNetModel"


@pytest.mark.parametrize("head", [CLASSIFICATION, TOKEN_CLASSIFICATION])
def test_a_model_is_saved_and_loaded_bit_for_bit(head, tmp_path):
    params = random_params(CONFIG, head)
    folder = save_model(tmp_path / "model", params, CONFIG, head=head, class_names=("a", "b", "c"))
    saved = load_model(folder)
    assert saved.config == CONFIG
    tiny.assert_trees_equal(saved.params, params)
    assert not (folder / "modeling_adapler.py").exists()
    longer = load_pretrained(folder, jax.random.key(0), head=head, num_positions=20)
    position_XD = params["encoder"]["embeddings"]["position"]
    expected_XD = np.concatenate([position_XD, position_XD[:4]])
    np.testing.assert_array_equal(longer.params["encoder"]["embeddings"]["position"], expected_XD)


def test_operations_by_hand():
    config = dataclasses.replace(CONFIG, num_layers=1)
    D, F, n = 16, 24, 5
    norm = 7 * D + 2
    attention = 4 * (2 * D * D + D) + D + norm
    feed_forward = 2 * D * F + F + 5 * F + 2 * F * D + D + D + norm
    pairs = n * n * (4 * D + 8 * config.num_heads)  # one more sum than BERT
    head = flops.pooled_flops(config, 3)
    expected = n * (D + norm + attention + feed_forward) + pairs + head
    assert model_flops.dense_flops(config, n, head=head) == expected
    bert = dataclasses.replace(config, family="bert")
    pair = model_flops.pair_flops
    assert pair(config, 7) - pair(bert, 7) == 7 * config.num_heads


@pytest.mark.long
def test_count_agrees_with_the_compiler():
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 256, "ffn_dim": 384}
    config = dataclasses.replace(CONFIG, num_positions=64, **sizes)
    params = prepare_inference_params(random_params(config, CLASSIFICATION), config)
    token_BL = np.zeros((1, 64), np.int32)
    batch = Batch(token_BL, token_BL, np.ones((1, 64), bool), np.zeros(1, int), np.zeros(1, int))
    run = jax.jit(lambda params, batch: dense.forward(params, config, batch)[0])
    spent = run.lower(params, batch).compile().cost_analysis()["flops"]
    head = CLASSIFICATION.flops(params["head"], config, 64)
    counted = model_flops.dense_flops(config, 64, head=head, reads_first=True)
    np.testing.assert_allclose(counted, spent, rtol=0.02)
