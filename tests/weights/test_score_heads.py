"""Checkpoints that return one number, as rerankers are published."""

import json

import jax
import numpy as np
import pytest

from adapler_jax.heads import CLASSIFICATION, regression
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import class_names_of, load_model, save_model
from adapler_jax.weights.score_heads import head_of_checkpoint

ONE = {"id2label": {"0": "LABEL_0"}}
SIGMOID = "torch.nn.modules.activation.Sigmoid"
IDENTITY = "torch.nn.modules.linear.Identity"


@pytest.fixture
def head_of(write_config, raw_config):
    """Return the head of a config.json with some changes."""
    return lambda **changes: head_of_checkpoint(write_config(raw_config | changes))


@pytest.mark.parametrize(
    ("changes", "activation"),
    [
        ({}, "sigmoid"),
        ({"problem_type": "regression"}, "identity"),
        ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.0.1"}}, "identity"),
        ({"sbert_ce_default_activation_function": IDENTITY}, "identity"),
        ({"sbert_ce_default_activation_function": None}, "sigmoid"),
        ({"sbert_ce_default_activation_function": "torch.nn.Sigmoid"}, "sigmoid"),
        (
            {"problem_type": "regression", "sentence_transformers": {"activation_fn": SIGMOID}},
            "sigmoid",
        ),
        (
            {
                "sbert_ce_default_activation_function": SIGMOID,
                "sentence_transformers": {"activation_fn": IDENTITY},
            },
            "identity",
        ),
    ],
)
def test_one_output_is_a_number_with_the_activation_of_the_file(head_of, changes, activation):
    assert head_of(**ONE, **changes) is regression(activation)


def test_several_classes_and_options_are_no_number(head_of):
    assert head_of() is CLASSIFICATION
    assert head_of(problem_type="regression") is CLASSIFICATION
    assert head_of(architectures=["BertForMultipleChoice"], **ONE) is CLASSIFICATION


def test_the_file_of_newer_cross_encoders_comes_first(write_config, raw_config):
    directory = write_config(raw_config | ONE | {"sbert_ce_default_activation_function": SIGMOID})
    (directory / "config_sentence_transformers.json").write_text(
        json.dumps({"activation_fn": IDENTITY, "model_type": "CrossEncoder"})
    )
    assert head_of_checkpoint(directory) is regression("identity")


@pytest.mark.parametrize(
    "name", ["torch.nn.modules.activation.Tanh", "my.module.Sigmoid", 3, ["torch.nn.Sigmoid"], ""]
)
def test_another_activation_is_named(head_of, name):
    with pytest.raises(ValueError, match=r"activation_fn is .*; expected torch.nn.*Identity or "):
        head_of(**ONE, sentence_transformers={"activation_fn": name})


@pytest.fixture
def one_output(write_checkpoint, raw_config, tensors):
    """The directory of a checkpoint with one output."""
    kept = {name: tensors[name][:1] for name in ("classifier.weight", "classifier.bias")}
    raw_config |= ONE | {"sbert_ce_default_activation_function": IDENTITY}
    return write_checkpoint(tensors | kept, raw_config)


def test_a_checkpoint_of_one_number_is_read_with_its_head(one_output, tensors):
    loaded = load_pretrained(one_output, jax.random.key(0), head=head_of_checkpoint(one_output))
    assert not loaded.fresh and not loaded.notes and loaded.class_names is None
    kernel = loaded.params["head"]["classifier"]["kernel"]
    np.testing.assert_array_equal(kernel, tensors["classifier.weight"][:1].T)


def test_a_saved_model_of_one_number_is_a_reranker_for_others_too(one_output, tmp_path):
    head = head_of_checkpoint(one_output)
    loaded = load_pretrained(one_output, jax.random.key(0), head=head)
    directory = save_model(tmp_path / "model", loaded.params, loaded.config, head=head)
    raw = json.loads((directory / "config.json").read_text())
    assert raw["id2label"] == {"0": "LABEL_0"} and raw["label2id"] == {"LABEL_0": 0}
    assert raw["sentence_transformers"] == {"activation_fn": IDENTITY}
    assert raw["architectures"] == ["BertForSequenceClassification"]
    assert head_of_checkpoint(directory) is load_model(directory).head is head
    assert class_names_of(directory) is None and load_model(directory).class_names == ()
    card = (directory / "README.md").read_text()
    assert "from adapler_jax import Reranker" in card and "pipeline_tag: text-ranking" in card


def test_a_damaged_activation_of_a_saved_model_is_named(one_output, tmp_path):
    head = regression("sigmoid")
    loaded = load_pretrained(one_output, jax.random.key(0), head=head)
    directory = save_model(tmp_path / "model", loaded.params, loaded.config, head=head)
    path = directory / "config.json"
    path.write_text(path.read_text().replace('"activation": "sigmoid"', '"activation": ["tanh"]'))
    with pytest.raises(ValueError, match=r"activation \['tanh'\], expected identity or sigmoid"):
        load_model(directory)
