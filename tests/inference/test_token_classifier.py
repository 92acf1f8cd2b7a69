"""A token classifier's entities depend on their text alone, whatever drops the tokens."""

import functools
import json
import pickle
import shutil

import numpy as np
import pytest

from adapler_jax import TokenClassifier, calibrate_model, export_model
from adapler_jax import onnx as runtime
from adapler_jax.cli.export import check_is_measured
from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.inference.classifier import Classifier
from adapler_jax.weights.save import load_model
from benchmarks.compilations import compilations
from tests.export.onnx_models import feeds_of, open_session, run_engine, save_tiny
from tests.tiny import make_batch

TEXTS = ["w1 w2 w3", "w4", "", "w5 w6 " * 20, "w7 w8 w9 w10 w11", "w4"]
TAGS = ("O", "B-PER", "I-PER", "LOC")


@pytest.fixture(scope="module", name="models")
def _models(tmp_path_factory):
    """Folders of a dense and of a pruned model."""
    root = tmp_path_factory.mktemp("taggers")
    for method in ("keep_all", "adapler"):
        options = {"class_names": TAGS, "max_length": 12, "threshold": 1.2}
        save_tiny(root / method, method, head=TOKEN_CLASSIFICATION, **options)
    save_tiny(root / "texts", "keep_all", max_length=12)
    return root


@pytest.fixture(scope="module", name="load")
def _load(models):
    """Load a model once for each driver."""

    @functools.cache
    def load(name="keep_all", driver="masked"):
        return TokenClassifier.load(models / name, driver=driver)

    return load


def plain(found):
    """Return entities with rounded scores."""
    return [
        [entity | {"score": round(entity["score"], 4)} for entity in entities] for entities in found
    ]


def test_entities_depend_on_their_text_alone(load):
    found = load().predict(TEXTS)
    assert found[1] == found[5] and found[2] == [] and any(found)
    assert plain(load().predict(iter(TEXTS), batch_size=2)) == plain(found)
    assert plain([load().predict(text) for text in TEXTS]) == plain(found)
    assert load().predict([]) == []
    for text, entities in zip(TEXTS, found):
        for entity in entities:
            assert entity["entity_group"] in ("PER", "LOC") and 0.25 < entity["score"] <= 1
            assert text[entity["start"] : entity["end"]].split() == entity["word"].split()


def test_a_long_text_is_cut_and_its_row_says_so(load):
    rows = load().encode(TEXTS)
    assert [row.is_cut for row in rows] == [False, False, False, True, False, False]
    tags = load().predict([TEXTS[3].split()])[0]
    assert len(tags) == 40 and [tag["entity"] is None for tag in tags] == [False] * 10 + [True] * 30


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "driver"), [("keep_all", "packed"), ("adapler", "packed"), ("adapler", "bucketed")]
)
def test_every_driver_gives_the_same_tags_dropped_tokens_included(load, name, driver):
    model, rows = load(name), load(name).encode(TEXTS)
    expected = dict(model.tag_probs(rows, 8))
    found = dict(load(name, driver).tag_probs(rows, 8))
    for row, text in enumerate(rows):
        count = len(text.token_L)
        np.testing.assert_allclose(found[row][:count], expected[row][:count], atol=1e-5)
    if name == "adapler":
        assert load_model(model.origin.directory).pruner_name == "adapler"
        dense = dict(load().tag_probs(rows, 8))
        assert np.abs(dense[4] - expected[4]).max() > 1e-3


def test_lists_of_words_have_one_tag_each_or_entities(load):
    words = [["w1", "w2"], ["w3"], []]
    found = load().predict(words)
    assert [len(tags) for tags in found] == [2, 1, 0]
    tokens = load().predict(["w1 w2", "w3", ""], aggregation="none")
    for tags, entities in zip(found, tokens):
        outside = [tag["entity"] for tag in tags if tag["entity"] != "O"]
        assert outside == [entity["entity"] for entity in entities]
    simple = load().predict(words, aggregation="simple")
    assert plain(simple) == plain(load().predict(["w1 w2", "w3", ""]))


@pytest.mark.long
def test_a_pickled_model_is_the_same_and_compiles_nothing_after_a_warm_up(load):
    model = load("adapler", "packed")
    again = pickle.loads(pickle.dumps(model))
    assert model.warm_up(2) > 0
    with compilations() as found:
        again.predict(TEXTS, batch_size=2, aggregation="average")
        model.predict([["w1", "w9"]], batch_size=2)
    assert found == []


@pytest.mark.parametrize("name", ["keep_all", "adapler"])
def test_an_exported_file_gives_equal_tags(load, models, tmp_path, name):
    directory = shutil.copytree(models / name, tmp_path / "model")
    export_onnx(directory)
    exported, model = runtime.TokenClassifier.load(directory, num_threads=1), load(name)
    rows = model.encode(TEXTS)
    found, expected = dict(exported.tag_probs(rows, 4)), dict(model.tag_probs(rows, 8))
    for row, text in enumerate(rows):
        count = len(text.token_L)
        np.testing.assert_allclose(found[row][:count], expected[row][:count], atol=1e-5)
    assert plain(exported.predict(TEXTS, 4, "max")) == plain(model.predict(TEXTS, 4, "max"))
    assert exported.predict([]) == []
    with pytest.raises(ValueError, match="does not classify texts; load it with TokenClassifier"):
        runtime.Classifier.load(directory)


def test_logits_of_padding_and_of_empty_texts_are_zero(load, models, tmp_path):
    directory = shutil.copytree(models / "adapler", tmp_path / "model")
    session = open_session(export_onnx(directory, operators="standard"))
    batch = make_batch((7, 3))
    feeds = feeds_of(batch)
    feeds["attention_mask"][1] = 0
    logits_BLC, _ = session.run(None, feeds)
    expected = run_engine(directory, batch)[0]
    assert logits_BLC.shape == (2, 12, 4) and not logits_BLC[1].any()
    np.testing.assert_allclose(logits_BLC[0], expected[0], atol=1e-5)
    assert not expected[0][7:].any()


def test_a_folder_of_transformers_is_exported(load, models, tmp_path):
    directory = shutil.copytree(models / "keep_all", tmp_path / "model")
    raw = json.loads((directory / "config.json").read_text())
    del raw["adapler_jax"]
    (directory / "config.json").write_text(json.dumps(raw))
    (directory / "README.md").unlink()
    export_onnx(directory)
    found = runtime.TokenClassifier.load(directory).predict(TEXTS)
    assert plain(found) == plain(load().predict(TEXTS))


@pytest.mark.parametrize(
    ("texts", "options", "error", "message"),
    [
        ([3], {}, TypeError, "text 0 is 3, of type int; expected all strings, or all lists of wo"),
        (["a", ["b"]], {}, TypeError, r"text 1 is \['b'\], of type list; expected all strings"),
        ([["a", 2]], {}, TypeError, r"text 0 is \['a', 2\], of type list; expected all strings"),
        (None, {}, TypeError, "expected a list of texts, not None"),
        (["a"], {"batch_size": 0}, ValueError, "batch_size is 0"),
        (["a"], {"aggregation": "mean"}, ValueError, "aggregation is 'mean'; expected one of none"),
    ],
)
def test_wrong_input_is_named(load, texts, options, error, message):
    with pytest.raises(error, match=message):
        load().predict(texts, **options)


def test_models_of_other_kinds_are_named(models):
    with pytest.raises(ValueError, match="'token_classification'.* load it with TokenClassifier"):
        Classifier.load(models / "keep_all")
    with pytest.raises(ValueError, match="which gives no tags to tokens; load it with Classifier"):
        TokenClassifier.load(models / "texts")


def test_commands_for_classifiers_name_the_class(models):
    with pytest.raises(ValueError, match="exported programs need a classifier; load it with Token"):
        export_model(models / "adapler")
    many = [f"w{number} w{number % 7}" for number in range(120)]
    with pytest.raises(ValueError, match="needs? a classifier; load it with TokenClassifier"):
        calibrate_model(models / "adapler", many)
    with pytest.raises(ValueError, match="returns tags of tokens, which --data does not measure"):
        check_is_measured(str(models / "adapler"))
