"""Checkpoints that return numbers, as rerankers and models of ratings are published."""

import json

import jax
import numpy as np
import pytest

from adapler_jax.heads import CLASSIFICATION, regression
from adapler_jax.inference.reranker import Regressor
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import class_names_of, load_model, save_model
from adapler_jax.weights.score_heads import head_of_checkpoint
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.inference.test_reranker import save

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
    assert head_of(problem_type="single_label_classification") is CLASSIFICATION
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


NAMES = ("quality", "toxicity", "length")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id2label": dict(zip("012", NAMES))}, regression(num_outputs=3)),
        ({"id2label": None, "num_labels": 4}, regression(num_outputs=4)),
        ({"id2label": None}, regression(num_outputs=2)),
        (
            {"sentence_transformers": {"activation_fn": SIGMOID}},
            regression("sigmoid", num_outputs=3),
        ),
    ],
)
def test_a_regression_of_several_labels_is_several_numbers(head_of, changes, expected):
    labels = {"id2label": dict(zip("012", NAMES))}
    assert head_of(problem_type="regression", **(labels | changes)) is expected


@pytest.fixture(name="several")
def _several(tmp_path):
    """The directory of a saved model of three numbers."""
    return save(tmp_path / "several", regression(num_outputs=3), 3, class_names=NAMES)


def test_several_numbers_keep_their_names(several):
    raw = json.loads((several / "config.json").read_text())
    assert raw["problem_type"] == "regression" and raw["id2label"] == dict(zip("012", NAMES))
    assert raw["label2id"] == {name: index for index, name in enumerate(NAMES)}
    assert raw["adapler_jax"]["head_options"]["num_outputs"] == 3
    saved = load_model(several)
    assert saved.class_names == class_names_of(several) == NAMES
    assert head_of_checkpoint(several) is saved.head is regression(num_outputs=3)
    card = (several / "README.md").read_text()
    assert "from adapler_jax import Regressor" in card
    assert "- Numbers, in the order of the logits: quality, toxicity, length" in card
    assert "pipeline_tag: text-classification" in card


def test_the_rows_of_several_numbers_follow_the_names_of_the_data(several):
    kernel = np.asarray(load_model(several).params["head"]["classifier"]["kernel"])
    names, head = ("length", "quality", "toxicity"), regression(num_outputs=3)
    loaded = load_pretrained(several, jax.random.key(0), class_names=names, head=head)
    found = loaded.params["head"]["classifier"]["kernel"]
    np.testing.assert_array_equal(found, kernel[:, [2, 0, 1]])
    fewer = load_pretrained(
        several, jax.random.key(0), class_names=NAMES[:2], head=regression(num_outputs=2)
    )
    assert "classifier" in fewer.fresh
    assert fewer.params["head"]["classifier"]["kernel"].shape == (16, 2)


def test_another_number_of_outputs_is_named(several, tmp_path):
    with pytest.raises(ValueError, match="params has 2 outputs and the head regression has 3"):
        save(tmp_path / "two", regression(num_outputs=3), 2, class_names=NAMES[:2])
    path = several / "config.json"
    raw = json.loads(path.read_text())
    raw["adapler_jax"]["head_options"]["num_outputs"] = 2
    path.write_text(json.dumps(raw))
    with pytest.raises(ValueError, match="id2label has 3 outputs and the head regression has 2"):
        load_model(several)


@pytest.mark.compare
def test_transformers_gives_the_same_several_numbers(tmp_path):
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    config = transformers.BertConfig(
        vocab_size=tiny.CONFIG.vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        problem_type="regression",
        id2label=dict(enumerate(NAMES)),
    )
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(tmp_path / "theirs")
    head = head_of_checkpoint(tmp_path / "theirs")
    assert head is regression(num_outputs=3)
    loaded = load_pretrained(tmp_path / "theirs", jax.random.key(0), head=head)
    assert loaded.class_names == NAMES and not loaded.fresh
    ours = save_model(
        tmp_path / "ours",
        loaded.params | {"pruner": {}},
        loaded.config,
        head=head,
        class_names=NAMES,
        tokenizer=tmp_path / "theirs",
    )
    texts = ["a good film", "bad", "a film . good"]
    found = Regressor.load(ours).predict(texts)
    for folder in ("theirs", "ours"):
        model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / folder)
        assert model.config.problem_type == "regression"
        assert tuple(model.config.id2label.values()) == NAMES
        with torch.no_grad():
            logits = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)


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


@pytest.mark.parametrize("pooling", ["max", None, ["cls"]])
def test_an_unknown_pooling_is_named_with_its_file(head_of, pooling):
    with pytest.raises(ValueError, match="config.json: classifier_pooling is .*expected .* or "):
        head_of(model_type="modernbert", classifier_pooling=pooling)
    assert head_of(model_type="bert", classifier_pooling=pooling) is CLASSIFICATION
