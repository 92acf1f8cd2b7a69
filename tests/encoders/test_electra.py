"""ELECTRA without PyTorch: config.json, the names of tensors, and what it computes by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, model_flops
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.bert import BERT
from adapler_jax.encoders.electra import ELECTRA, from_published, to_published
from adapler_jax.heads import CLASSIFICATION, TOKEN_CLASSIFICATION, embedding, make_head
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.types import Batch
from adapler_jax.weights.config import config_json, encoder_config
from adapler_jax.weights.head_parts import drop_ignored
from adapler_jax.weights.rules import architecture_of, model_rules, name_with_prefix
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.encoders.made_families import MADE
from tests.encoders.made_modernbert import random_params

RAW = MADE["electra"].raw
CONFIG, EQUAL = (MADE[name].config for name in ("electra", "electra without projection"))


def test_a_written_config_is_the_same_encoder():
    for config in (CONFIG, EQUAL):
        raw = config_json(config, "ElectraModel", None)
        assert encoder_config(raw, "config.json") == config
        assert raw["model_type"] == "electra"
    assert CONFIG.family_options.embedding_dim == 12
    raw = {key: value for key, value in RAW.items() if key != "embedding_size"}
    assert encoder_config(raw, "config.json").family_options.embedding_dim == 128


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"embedding_size": 0}, "embedding_size is 0, expected a positive integer"),
        ({"embedding_size": "12"}, "embedding_size is '12', expected a positive integer"),
        ({"is_decoder": True}, "is_decoder is True, only False is supported"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute' is supported"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', expected one of gelu"),
        ({"hidden_act": ["gelu"]}, "hidden_act is ['gelu'], expected one of gelu"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        ({"classifier_dropout": 1}, "classifier_dropout is 1, expected a number in [0, 1) or null"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None, expected a number in [0, 1)"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is there"),
        (
            {"architectures": ["ElectraForMultipleChoice"], "summary_type": "mean"},
            "summary_type is 'mean', only 'first' is supported",
        ),
    ],
)
def test_a_config_that_cannot_be_computed_is_named_in_one_line(changes, found):
    with pytest.raises(ValueError, match="an encoder of family electra") as caught:
        encoder_config(RAW | changes, "config.json")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_summary_of_options_matters_to_options_alone():
    classes = {"architectures": ["ElectraForSequenceClassification"], "summary_type": "mean"}
    assert encoder_config(RAW | classes, "config.json").pooler_activation == "gelu"


def test_embeddings_are_those_of_bert_after_a_linear_map():
    embeddings = ELECTRA.init(jax.random.key(0), CONFIG)["embeddings"]
    projection = {
        name: np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for name, shape in (("kernel", (12, 16)), ("bias", (16,)))
    }
    arrays = jnp.array([[3, 7]]), jnp.array([[0, 1]]), jnp.array([[0, 1]])
    found_BLD = ELECTRA.embed(embeddings | {"projection": projection}, CONFIG, *arrays)
    inner_BLZ = BERT.embed(embeddings, CONFIG, *arrays)
    assert inner_BLZ.shape == (1, 2, 12)
    expected_BLD = np.asarray(inner_BLZ) @ projection["kernel"] + projection["bias"]
    np.testing.assert_allclose(found_BLD, expected_BLD, atol=1e-5)


def test_embeddings_of_the_size_of_the_states_have_no_linear_map():
    embeddings = encoder_of(EQUAL).init(jax.random.key(0), EQUAL)["embeddings"]
    assert embeddings.keys() == {"token", "position", "segment", "norm"}
    names = [
        {rule.name for rule in model_rules("keep_all", encoder=encoder_of(config))}
        for config in (CONFIG, EQUAL)
    ]
    assert names[0] - names[1] == {
        "electra.embeddings_project.weight",
        "electra.embeddings_project.bias",
    }
    assert names[1] < names[0]


@pytest.mark.parametrize(
    ("head", "pooler", "classifier"),
    [
        ("classification", "classifier.dense", "classifier.out_proj"),
        ("multi_label", "classifier.dense", "classifier.out_proj"),
        ("choice", "sequence_summary.summary", "classifier"),
    ],
)
def test_the_parts_of_heads_have_published_names(head, pooler, classifier):
    names = ("electra.pooler.dense.weight", "classifier.weight", "electra.embeddings.x")
    ours = {name: number for number, name in enumerate(names)}
    found = to_published(ours, head)
    assert list(found) == [f"{pooler}.weight", f"{classifier}.weight", "electra.embeddings.x"]
    assert from_published(found) == ours
    assert to_published({"classifier.weight": 1}, "token_classification") == {
        "classifier.weight": 1
    }


def test_two_classifiers_in_a_file_are_named():
    with pytest.raises(
        ValueError, match=r"classifier.bias twice, once as classifier.out_proj.bias"
    ):
        from_published({"classifier.bias": 1, "classifier.out_proj.bias": 2})


def test_old_and_wrapped_files_have_other_names_and_a_buffer():
    names = {
        "embeddings.LayerNorm.gamma": "electra.embeddings.LayerNorm.weight",
        "module.electra.encoder.layer.0.output.LayerNorm.beta": (
            "electra.encoder.layer.0.output.LayerNorm.bias"
        ),
        "model.electra.embeddings.LayerNorm.bias": "electra.embeddings.LayerNorm.bias",
        "module.model._orig_mod.embeddings_project.weight": "electra.embeddings_project.weight",
        "discriminator_predictions.dense.weight": "discriminator_predictions.dense.weight",
        "embeddings.position_ids": "electra.embeddings.position_ids",
    }
    found = [name_with_prefix(name, encoder=ELECTRA) for name in names]
    assert found == list(names.values())
    kept, notes = drop_ignored(dict.fromkeys(found), ELECTRA)
    assert list(kept) == found[:4]
    assert notes == ["ignored: discriminator_predictions.*"]


def test_a_saved_model_names_the_class_of_its_head():
    names = {
        "classification": "ElectraForSequenceClassification",
        "span": "ElectraForQuestionAnswering",
        "token_classification": "ElectraForTokenClassification",
    }
    for head, name in names.items():
        assert architecture_of(CONFIG, make_head(head)) == name
    assert architecture_of(CONFIG, make_head("choice", num_options=2)) == "ElectraForMultipleChoice"
    assert architecture_of(CONFIG, embedding(pooling="mean", normalizes=True)) == "ElectraModel"


@pytest.mark.parametrize("config", [CONFIG, EQUAL])
@pytest.mark.parametrize("head", [CLASSIFICATION, TOKEN_CLASSIFICATION])
def test_a_model_is_saved_and_loaded_bit_for_bit(config, head, tmp_path):
    params = random_params(config, head)
    folder = save_model(tmp_path / "model", params, config, head=head, class_names=("a", "b", "c"))
    saved = load_model(folder)
    assert saved.config == config
    tiny.assert_trees_equal(saved.params, params)
    assert not (folder / "modeling_adapler.py").exists()


def test_operations_by_hand():
    config = dataclasses.replace(CONFIG, num_layers=1)
    Z, D, F, n = 12, 16, 24, 5
    embedded = 2 * 2 * Z + 2 * Z + 7 * Z + 2  # one-hot product, two sums, norm
    norm = 7 * D + 2
    attention = 4 * (2 * D * D + D) + D + norm
    feed_forward = 2 * D * F + F + 5 * F + 2 * F * D + D + D + norm
    pairs = n * n * (4 * D + 7 * config.num_heads)
    head = 2 * D * D + D + 5 * D + 2 * D * 3 + 3
    head_flops = flops.pooled_flops(config, 3)
    assert head_flops == head
    expected = n * (embedded + 2 * Z * D + D + attention + feed_forward) + pairs + head
    assert model_flops.dense_flops(config, n, head=head_flops) == expected
    equal = dataclasses.replace(EQUAL, num_layers=1)
    without = 2 * 2 * D + 2 * D + norm
    assert model_flops.embedding_flops(equal, n) == n * without


@pytest.mark.long
def test_count_agrees_with_the_compiler():
    options = CONFIG.family_options._replace(embedding_dim=128)
    sizes = {"num_layers": 2, "num_heads": 4, "hidden_dim": 256, "ffn_dim": 384}
    config = dataclasses.replace(CONFIG, num_positions=64, family_options=options, **sizes)
    params = prepare_inference_params(random_params(config, CLASSIFICATION), config)
    token_BL = np.zeros((1, 64), np.int32)
    batch = Batch(token_BL, token_BL, np.ones((1, 64), bool), np.zeros(1, int), np.zeros(1, int))
    run = jax.jit(lambda params, batch: dense.forward(params, config, batch)[0])
    spent = run.lower(params, batch).compile().cost_analysis()["flops"]
    head = CLASSIFICATION.flops(params["head"], config, 64)
    counted = model_flops.dense_flops(config, 64, head=head, reads_first=True)
    np.testing.assert_allclose(counted, spent, rtol=0.02)
    projected = 64 * (2 * 128 * 256 + 256)
    assert projected > 0.03 * spent  # so that a forgotten projection would show
