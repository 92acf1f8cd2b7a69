"""RoBERTa and DistilBERT become BERT: names and tables by hand."""

import numpy as np
import pytest

from adapler_jax.heads import classify
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.checkpoint_formats import as_bert_config, bert_tensors, position_offset
from adapler_jax.weights.config import encoder_config

ROBERTA = {
    "model_type": "roberta",
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 14,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "pad_token_id": 1,
}
DISTILBERT = {
    "model_type": "distilbert",
    "n_layers": 4,
    "n_heads": 2,
    "dim": 16,
    "hidden_dim": 24,
    "vocab_size": 50,
    "max_position_embeddings": 12,
    "dropout": 0.2,
    "attention_dropout": 0.3,
    "activation": "relu",
}


def names(found):
    return sorted(found)


def test_roberta_counts_positions_from_the_row_behind_its_padding():
    config = encoder_config(ROBERTA, "config.json")
    assert (config.num_positions, config.num_segments, config.pooler_activation) == (12, 1, "tanh")
    assert position_offset({}) == 2 and position_offset({"pad_token_id": 0}) == 1
    with pytest.raises(ValueError, match="pad_token_id None"):
        position_offset({"pad_token_id": None})
    table = np.arange(14.0)[:, None]
    found = bert_tensors({"roberta.embeddings.position_embeddings.weight": table}, ROBERTA)
    assert found["bert.embeddings.position_embeddings.weight"][:, 0].tolist() == list(range(2, 14))


def test_roberta_names_become_those_of_bert():
    tensors = dict.fromkeys(
        (
            "roberta.encoder.layer.3.output.dense.weight",
            "roberta.pooler.dense.bias",
            "lm_head.bias",
            "classifier.dense.weight",
            "classifier.out_proj.bias",
        ),
        0,
    )
    assert names(bert_tensors(tensors, ROBERTA)) == [
        "bert.encoder.layer.3.output.dense.weight",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "lm_head.bias",
    ]
    bare = {"encoder.layer.0.output.dense.weight": 0, "pooler.dense.bias": 0}
    assert names(bert_tensors(bare, ROBERTA)) == [
        "bert.encoder.layer.0.output.dense.weight",
        "bert.pooler.dense.bias",
    ]


def test_distilbert_has_sizes_of_its_own_and_a_segment_of_zeros():
    config = encoder_config(DISTILBERT, "config.json")
    assert config == EncoderConfig(
        num_layers=4,
        num_heads=2,
        hidden_dim=16,
        ffn_dim=24,
        vocab_size=50,
        num_positions=12,
        num_segments=1,
        activation="relu",
        hidden_dropout_prob=0.2,
        attention_dropout_prob=0.3,
        pooler_activation="relu",
        classifier_dropout_prob=0.2,
    )
    assert (
        encoder_config(
            DISTILBERT | {"seq_classif_dropout": 0.4}, "config.json"
        ).classifier_dropout_prob
        == 0.4
    )
    tensors = {
        "distilbert.embeddings.position_embeddings.weight": np.ones((12, 16)),
        "distilbert.transformer.layer.2.attention.q_lin.weight": 0,
        "distilbert.transformer.layer.2.sa_layer_norm.bias": 0,
        "transformer.layer.0.ffn.lin2.bias": 0,
        "pre_classifier.weight": 0,
        "classifier.bias": 0,
        "vocab_projector.bias": 0,
    }
    found = bert_tensors(tensors, DISTILBERT)
    assert names(found) == [
        "bert.embeddings.position_embeddings.weight",
        "bert.embeddings.token_type_embeddings.weight",
        "bert.encoder.layer.0.output.dense.bias",
        "bert.encoder.layer.2.attention.output.LayerNorm.bias",
        "bert.encoder.layer.2.attention.self.query.weight",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "vocab_projector.bias",
    ]
    assert found["bert.embeddings.token_type_embeddings.weight"].tolist() == [[0.0] * 16]


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_a_distilbert_with_the_tensors_of_a_bert_is_refused(prefix):
    tensors = {f"{prefix}encoder.layer.0.output.dense.bias": 0}
    with pytest.raises(
        ValueError, match=r"model.safetensors: .*'distilbert', but the tensor .*encoder"
    ):
        bert_tensors(tensors, DISTILBERT, "model.safetensors")


def test_bert_stays_as_it_is():
    raw, tensors = {"model_type": "bert", "hidden_size": 3}, {"bert.embeddings.LayerNorm.weight": 1}
    assert as_bert_config(raw) is raw and bert_tensors(tensors, raw) is tensors


def test_a_head_may_have_a_relu():
    params = {
        "pooler": {"kernel": np.float32([[1.0, -1.0]]), "bias": np.zeros(2, np.float32)},
        "classifier": {"kernel": np.eye(2, dtype=np.float32), "bias": np.zeros(2, np.float32)},
    }
    config = encoder_config(DISTILBERT, "config.json")
    assert classify(params, config, np.float32([[2.0]])).tolist() == [[2.0, 0.0]]


def test_other_models_and_poolers_are_refused_by_name():
    with pytest.raises(ValueError, match="model_type is 'gpt2', expected one of bert, roberta"):
        encoder_config({"model_type": "gpt2"}, "config.json")
    with pytest.raises(ValueError, match="pooler_activation is 'gelu', expected one of tanh, relu"):
        encoder_config(
            DISTILBERT | {"model_type": "bert", "pooler_activation": "gelu"}, "config.json"
        )
