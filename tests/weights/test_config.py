"""config.json gives the sizes of an encoder, and an unsupported field is named."""

import dataclasses

import pytest

from adapler_jax.types import EncoderConfig
from adapler_jax.weights.config import config_json, encoder_config, read_class_names, read_config

SIZES_ONLY = {
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 12,
}


def test_every_field_comes_from_the_file(write_config, raw_config):
    raw = raw_config | {
        "type_vocab_size": 1,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-5,
        "initializer_range": 0.5,
    }
    config, found = read_config(write_config(raw))
    assert found == raw
    assert config == EncoderConfig(
        num_layers=4,
        num_heads=2,
        hidden_dim=16,
        ffn_dim=24,
        vocab_size=50,
        num_positions=12,
        num_segments=1,
        activation="relu",
        norm_epsilon=1e-5,
        hidden_dropout_prob=0.1,
        attention_dropout_prob=0.2,
        init_std=0.5,
    )


def test_old_files_with_sizes_alone_have_the_defaults_of_bert():
    config = encoder_config(SIZES_ONLY, "config.json")
    assert (config.num_segments, config.activation, config.norm_epsilon) == (2, "gelu", 1e-12)


def test_written_config_reads_back_equal():
    config = EncoderConfig(
        4, 2, 16, 24, 50, 12, num_segments=1, activation="gelu_new", norm_epsilon=3e-7, init_std=0.3
    )
    assert (
        encoder_config(config_json(config, "BertForSequenceClassification", ()), "config.json")
        == config
    )
    config = dataclasses.replace(config, classifier_dropout_prob=0.25)
    raw = config_json(config, "BertForSequenceClassification", ("no", "yes"))
    assert encoder_config(raw, "config.json") == config
    assert read_class_names(raw, "config.json") == ("no", "yes")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "albert"}, "model_type is 'albert', expected one of bert, roberta"),
        ({"hidden_act": "mish"}, "hidden_act is 'mish', expected one of gelu, gelu_new"),
        ({"hidden_act": ["gelu"]}, "hidden_act is \\['gelu'\\]"),
        (
            {"position_embedding_type": "relative_key"},
            "position_embedding_type is 'relative_key', only 'absolute'",
        ),
        ({"is_decoder": True}, "is_decoder is True, only False"),
        ({"hidden_size": 15}, "hidden_size 15 is not a multiple of num_attention_heads 2"),
        ({"hidden_size": "16"}, "hidden_size is '16', expected a positive integer"),
        ({"vocab_size": True}, "vocab_size is True, expected a positive integer"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small', expected a number"),
        (
            {"hidden_dropout_prob": 1.0},
            "hidden_dropout_prob is 1.0, expected a number in \\[0, 1\\)",
        ),
        (
            {"classifier_dropout": "some"},
            "classifier_dropout is 'some', expected a number in \\[0, 1\\) or null",
        ),
    ],
)
def test_what_is_not_plain_bert_is_refused_by_name(raw_config, change, message):
    with pytest.raises(ValueError, match=message):
        encoder_config(raw_config | change, "config.json")


def test_all_problems_of_a_config_come_in_one_error():
    with pytest.raises(ValueError) as caught:
        encoder_config(
            {"hidden_act": "mish", "hidden_size": 0, "position_embedding_type": "rotary"},
            "config.json",
        )
    for part in (
        "hidden_act",
        "hidden_size is 0",
        "position_embedding_type",
        "vocab_size is missing",
    ):
        assert part in str(caught.value)


def test_missing_or_damaged_config_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"config.json does not exist"):
        read_config(tmp_path)
    for content, message in (
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[]", "JSON list"),
    ):
        (tmp_path / "config.json").write_bytes(content)
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path)


def test_class_names_follow_their_numbers_and_gaps_are_refused():
    assert read_class_names({}, "c") is None
    assert (
        read_class_names({"id2label": {str(i): f"n{i}" for i in (10, *range(10))}}, "c")[-1]
        == "n10"
    )
    for labels in ({"0": "a", "2": "b"}, ["a", "b"]):
        with pytest.raises(ValueError, match="id2label"):
            read_class_names({"id2label": labels}, "c")
