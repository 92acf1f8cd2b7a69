"""Folders that other programs wrote are opened as they are, with all their tokens."""

import json

import numpy as np
import pytest
import safetensors.numpy

from adapler_jax import Classifier, MultiLabelClassifier, Regressor, Reranker
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL, regression
from adapler_jax.inference.embedder import Embedder
from adapler_jax.inference.token_classifier import TokenClassifier
from adapler_jax.weights.folders import describe_folder, load_folder
from adapler_jax.weights.save import load_model
from tests.foreign import NAMES, PAIRS, TEXTS, save_foreign
from tests.tiny import assert_trees_equal

LABELS = tuple(f"LABEL_{number}" for number in range(3))


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """The folder of a classifier of three classes."""
    return save_foreign(tmp_path / "folder")


def test_a_classifier_is_loaded_with_its_names_and_length(folder):
    before = (folder / "config.json").read_bytes()
    saved = load_folder(folder)
    assert saved.head is CLASSIFICATION and saved.class_names == NAMES
    assert saved.pruner_name == "keep_all" and saved.max_length == 12 and saved.directory == folder
    classifier = Classifier.load(str(folder))
    assert classifier.class_names == NAMES and classifier.site_layers == ()
    assert [found.label in NAMES for found in classifier.predict(TEXTS)] == [True] * 4
    assert (folder / "config.json").read_bytes() == before
    assert not (folder / "README.md").exists()


def test_a_tokenizer_without_a_length_gives_the_models_positions(folder):
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"model_max_length": 10**30}
    path.write_text(json.dumps(settings))
    assert load_folder(folder).max_length == 16


def test_classes_without_names_have_the_names_of_transformers(tmp_path):
    folder = save_foreign(tmp_path / "folder", id2label=None, label2id=None, num_labels=3)
    assert describe_folder(folder).class_names == load_folder(folder).class_names == LABELS


@pytest.mark.parametrize(
    ("head", "names", "changes", "is_for_pairs"),
    [
        (MULTI_LABEL, NAMES, {}, False),
        (regression("sigmoid"), (), {}, True),
        (regression("identity"), (), {"problem_type": "regression"}, False),
        (regression(num_outputs=3), NAMES, {}, False),
    ],
)
def test_the_files_say_the_head(tmp_path, head, names, changes, is_for_pairs):
    folder = save_foreign(tmp_path / "folder", head=head, class_names=names, **changes)
    found, saved = describe_folder(folder), load_folder(folder)
    assert found == (head, names or None, None, {}, is_for_pairs)
    assert saved.head is head and saved.class_names == names


def test_each_class_opens_its_folders(tmp_path):
    of_labels = save_foreign(tmp_path / "labels", head=MULTI_LABEL)
    labeller = MultiLabelClassifier.load(of_labels)
    assert labeller.class_names == NAMES and labeller.thresholds == (0.5,) * 3
    of_pairs = save_foreign(tmp_path / "pairs", head=regression("sigmoid"), class_names=())
    scores = Reranker.load(of_pairs).predict(PAIRS)
    np.testing.assert_array_equal(scores, Regressor.load(of_pairs).predict(PAIRS))
    assert np.all((0 < scores) & (scores < 1))
    numbers = save_foreign(tmp_path / "numbers", head=regression(num_outputs=3))
    assert Regressor.load(numbers).predict(TEXTS).shape == (4, 3)
    for kind, folder, loader in (
        (Classifier, of_labels, "MultiLabelClassifier"),
        (Classifier, of_pairs, "Reranker"),
        (TokenClassifier, of_labels, "MultiLabelClassifier"),
    ):
        with pytest.raises(ValueError, match=f"load it with {loader} "):
            kind.load(folder)


def test_a_saved_model_is_loaded_as_it_is(saved):
    directory = saved()
    assert_trees_equal(load_folder(directory).params, load_model(directory).params)
    found = describe_folder(directory)
    assert found[:3] == (CLASSIFICATION, LABELS, None) and found.extra == {}


def change(folder, **changes):
    """Change the contents of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", ["BertModel", "BertForMaskedLM", "BertForMultipleChoice", None])
def test_another_class_is_named_before_any_work(folder, name):
    change(folder, architectures=name and [name])
    (folder / "model.safetensors").unlink()  # nobody reads it
    for open_it in (Classifier.load, Reranker.load, load_folder, describe_folder):
        with pytest.raises(ValueError, match="`adapler compress --model=.*`adapler train") as error:
            open_it(folder)
        message = str(error.value)
        assert "\n" not in message and f"It names {[name] if name else None}" in message


def test_a_missing_classifier_is_named(folder):
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    encoder = {name: x for name, x in tensors.items() if not name.startswith("classifier")}
    safetensors.numpy.save_file(encoder, path)
    with pytest.raises(ValueError, match="classifier: the checkpoint has none; give a fine-tuned"):
        Classifier.load(folder)


def test_a_missing_tokenizer_is_named(folder):
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no tokenizer; expected tokenizer.json or vocab"):
        Classifier.load(folder)


def test_a_model_with_all_its_tokens_has_one_speed(folder, tmp_path):
    pairs = save_foreign(tmp_path / "pairs", head=regression("sigmoid"), class_names=())
    for model, texts in ((Classifier.load(folder), TEXTS), (Reranker.load(pairs), PAIRS)):
        for request in ({"budget": 0.5}, {"speedup": 2.0}, {"certified": True}):
            with pytest.raises(ValueError, match="keeps all tokens, so it has one .*compress`"):
                model.predict(texts, **request)


def test_load_model_names_the_class(folder):
    with pytest.raises(ValueError, match="for whole texts: load it with Classifier, Multi"):
        load_model(folder)


def test_a_classifier_of_texts_gives_vectors_where_a_pooling_is_named(folder):
    assert Embedder.load(folder, pooling="mean").encode(TEXTS).shape == (4, 16)
