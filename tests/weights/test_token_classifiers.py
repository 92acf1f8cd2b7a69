"""Checkpoints that give tags to tokens, as transformers publishes them."""

import json

import jax
import numpy as np
import pytest

from adapler_jax.heads import CLASSIFICATION, TOKEN_CLASSIFICATION
from adapler_jax.weights.folders import describe_folder, load_folder
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.score_heads import head_of_checkpoint
from tests.tiny import assert_trees_equal

TAGS = ("O", "B-PER", "I-PER")
KEY = jax.random.key(0)


@pytest.fixture(name="raw")
def _raw(raw_config):
    """Return the config.json of a BERT for token classification."""
    names = {str(index): tag for index, tag in enumerate(TAGS)}
    return raw_config | {"architectures": ["BertForTokenClassification"], "id2label": names}


@pytest.fixture(name="checkpoint")
def _checkpoint(write_checkpoint, tensors, raw):
    """Write one with the pooler that older releases of transformers saved."""
    return write_checkpoint(tensors, raw)


def test_a_checkpoint_is_loaded_with_its_tags_and_length(checkpoint, tensors):
    (checkpoint / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    assert head_of_checkpoint(checkpoint) is TOKEN_CLASSIFICATION
    assert describe_folder(checkpoint)[:2] == (TOKEN_CLASSIFICATION, TAGS)
    saved = load_folder(checkpoint)
    assert saved.class_names == TAGS and saved.max_length == 9 and saved.pruner_name == "keep_all"
    assert saved.params["head"].keys() == {"classifier"}
    kernel = saved.params["head"]["classifier"]["kernel"]
    np.testing.assert_array_equal(kernel, tensors["classifier.weight"].T)


@pytest.mark.parametrize("length", [None, 10**30])
def test_a_tokenizer_without_a_length_gives_the_models_positions(checkpoint, length):
    settings = {} if length is None else {"model_max_length": length}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_folder(checkpoint).max_length == 12


def test_a_saved_model_comes_back_exactly(checkpoint, tmp_path):
    source = load_folder(checkpoint)
    directory = save_model(
        tmp_path / "model",
        source.params,
        source.config,
        head=source.head,
        class_names=TAGS,
        max_length=9,
    )
    assert json.loads((directory / "config.json").read_text())["architectures"] == [
        "BertForTokenClassification"
    ]
    saved = load_model(directory)
    assert saved.head is TOKEN_CLASSIFICATION and saved.class_names == TAGS
    assert_trees_equal(saved.params, source.params)
    assert load_folder(directory).max_length == 9
    card = (directory / "README.md").read_text()
    assert "pipeline_tag: token-classification" in card and "Tags, in the order of" in card
    assert "TokenClassifier.load(" in card and "`AutoModelForTokenClassification`" in card


def test_a_classifier_of_texts_is_not_used_for_tokens_nor_the_reverse(
    write_checkpoint, tensors, checkpoint
):
    of_texts = write_checkpoint(tensors, name="texts")
    found = load_pretrained(of_texts, KEY, head=TOKEN_CLASSIFICATION, num_classes=3)
    assert found.fresh == {"classifier": "the checkpoint's is for whole texts"}
    assert found.params["head"].keys() == {"classifier"} and found.class_names is None
    found = load_pretrained(checkpoint, KEY, head=CLASSIFICATION)
    assert found.fresh == {"classifier": "the checkpoint's gives tags to tokens"}


def test_a_classifier_of_other_tags_is_started_afresh(checkpoint):
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    found = load_pretrained(checkpoint, KEY, head=TOKEN_CLASSIFICATION, class_names=names)
    assert found.fresh["classifier"].startswith("the checkpoint's has 3 classes, 5 are needed")
    assert found.params["head"]["classifier"]["bias"].shape == (5,)
    names = ("I-PER", "O", "B-PER")
    found = load_pretrained(checkpoint, KEY, head=TOKEN_CLASSIFICATION, class_names=names)
    assert found.class_rows == (2, 0, 1) and found.class_names == names


def test_folders_of_other_models_are_named(write_checkpoint, tensors, raw, checkpoint):
    with pytest.raises(ValueError, match="It gives tags to tokens: load it with TokenClassifier"):
        load_model(checkpoint)
    encoder = {name: x for name, x in tensors.items() if not name.startswith("classifier")}
    with pytest.raises(ValueError, match="lacks a part of its head: classifier: the checkpoint ha"):
        load_folder(write_checkpoint(encoder, raw))
