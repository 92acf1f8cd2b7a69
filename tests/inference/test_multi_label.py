"""A saved model gives a text any number of labels, with JAX and without."""

import json
import pickle
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.inference.reranker import Reranker
from adapler_jax.metrics.label_sets import THRESHOLDS
from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.score_heads import head_of_checkpoint
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.inference.test_reranker import save

NAMES = ("sport", "war", "food")
TEXTS = ["a good film", "bad", "", "good good film " * 20, "a film ."]
PAIRS = [("a good", "film"), ("bad", "")]


def save_labels(directory, **changes):
    """Save the tiny model with three labels."""
    options = {"class_names": NAMES, "extra": {THRESHOLDS: [0.4, 0.5, 0.6]}}
    return save(directory, MULTI_LABEL, 3, **(options | changes))


@pytest.fixture(scope="module", name="directory")
def _directory(tmp_path_factory):
    return save_labels(tmp_path_factory.mktemp("labels") / "model")


@pytest.fixture(scope="module", name="classifier")
def _classifier(directory):
    return MultiLabelClassifier.load(directory, driver="masked")


@pytest.fixture(scope="module", name="plain")
def _plain(tmp_path_factory):
    """The classifier of the same weights, one class of which is right."""
    directory = tmp_path_factory.mktemp("plain") / "model"
    return Classifier.load(save(directory, CLASSIFICATION, 3, class_names=NAMES), driver="masked")


def test_probabilities_are_sigmoids_of_the_logits(classifier, plain):
    prob_MC = classifier.predict_probs(TEXTS)
    assert prob_MC.shape == (5, 3) and prob_MC.dtype == np.float32
    logits_MC = np.log(prob_MC / (1 - prob_MC))
    softmax_MC = np.exp(logits_MC) / np.exp(logits_MC).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax_MC, plain.predict_probs(TEXTS), atol=1e-5)


def test_labels_are_those_above_their_thresholds(classifier):
    prob_MC = classifier.predict_probs(TEXTS)
    predictions = classifier.predict(TEXTS, batch_size=2)
    for prediction, prob_C in zip(predictions, prob_MC, strict=True):
        np.testing.assert_allclose(list(prediction.probabilities.values()), prob_C, atol=1e-6)
        chosen = [name for name, p, t in zip(NAMES, prob_C, (0.4, 0.5, 0.6)) if p >= t]
        assert prediction.labels == tuple(chosen)
    assert [prediction.is_cut for prediction in predictions] == [False, False, False, True, False]


def test_predictions_have_the_words_of_a_classifier(classifier, plain):
    for found, expected in zip(classifier.predict(TEXTS), plain.predict(TEXTS), strict=True):
        assert found.words == expected.words and found.num_tokens == expected.num_tokens
        assert found.kept_words == expected.kept_words and found.texts == expected.texts
        assert json.dumps(found.to_dict())


@pytest.mark.long
def test_a_fast_driver_gives_the_same_labels(directory, classifier):
    found = MultiLabelClassifier.load(directory, driver="packed")
    expected = classifier.predict_probs(TEXTS)
    np.testing.assert_allclose(found.predict_probs(TEXTS), expected, atol=1e-5)
    assert found.predict(PAIRS)[0].texts == PAIRS[0]


def test_thresholds_are_the_callers_where_given(directory, classifier):
    everything = [prediction.labels for prediction in classifier.predict(TEXTS, threshold=0.0)]
    assert everything == [NAMES] * 5
    nothing = MultiLabelClassifier.load(directory, threshold=1.0)
    assert [prediction.labels for prediction in nothing.predict(TEXTS)] == [()] * 5
    some = MultiLabelClassifier.load(directory, threshold={"war": 0.0})
    assert some.thresholds == (0.4, 0.0, 0.6)
    assert all("war" in prediction.labels for prediction in some.predict(TEXTS))


def test_a_model_without_thresholds_takes_a_half(tmp_path):
    found = MultiLabelClassifier.load(save_labels(tmp_path / "model", extra={}))
    assert found.thresholds == (0.5,) * 3


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ({"sports": 0.5}, "unknown label 'sports'.*sport, war, food"),
        (1.5, "threshold of 'sport' is 1.5; expected a probability"),
        (True, "threshold of 'sport' is True"),
        ("0.5", "threshold of 'sport' is '0.5'"),
    ],
)
def test_a_threshold_that_is_none_is_named(classifier, threshold, message):
    with pytest.raises(ValueError, match=message):
        classifier.predict(TEXTS, threshold=threshold)


def test_saved_thresholds_fit_the_labels(tmp_path):
    directory = save_labels(tmp_path / "few", extra={THRESHOLDS: [0.5]})
    with pytest.raises(ValueError, match="1 thresholds as extra.label_thresholds for 3 labels"):
        MultiLabelClassifier.load(directory)
    with pytest.raises(ValueError, match="label_thresholds .*, expected numbers from 0 to 1"):
        save_labels(tmp_path / "wrong", extra={THRESHOLDS: [0.5, 2.0, 0.1]})


def test_no_texts_have_no_predictions(classifier):
    assert classifier.predict([]) == [] and classifier.predict_probs([]).shape == (0, 3)


@pytest.mark.long
def test_a_model_warms_up_and_travels(directory):
    model = MultiLabelClassifier.load(directory)
    assert model.warm_up(2) >= 0
    expected = model.predict_probs(TEXTS)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_probs(TEXTS), expected)


def test_models_of_other_heads_name_their_class(directory, tmp_path):
    for other in (Classifier, Reranker):
        with pytest.raises(ValueError, match="load it with MultiLabelClassifier"):
            other.load(directory)
    plain = save(tmp_path / "plain", CLASSIFICATION, 3, class_names=NAMES)
    with pytest.raises(ValueError, match="does not give several labels to a text; .* Classifier"):
        MultiLabelClassifier.load(plain)


def test_a_saved_model_says_its_problem_type(directory):
    config = json.loads((directory / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"] == dict(zip("012", NAMES))
    assert load_model(directory).class_names == NAMES
    assert head_of_checkpoint(directory) is MULTI_LABEL
    card = (directory / "README.md").read_text()
    assert "MultiLabelClassifier.load" in card and "- Labels, in the order of the logits" in card
    assert "`label_thresholds`" in card and "pipeline_tag: text-classification" in card


@pytest.fixture(scope="module", name="exported")
def _exported(directory, tmp_path_factory):
    """A copy of the model with its ONNX file."""
    copy = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(directory, copy)
    adapler_jax.export_onnx(copy)
    return copy


def test_an_exported_file_gives_the_same_labels(exported, classifier):
    found = runtime.MultiLabelClassifier.load(exported)
    np.testing.assert_allclose(
        found.predict_probs(TEXTS), classifier.predict_probs(TEXTS), atol=1e-5
    )
    for one, other in zip(found.predict(TEXTS), classifier.predict(TEXTS), strict=True):
        assert one.labels == other.labels and one.num_tokens == other.num_tokens
    half = found.predict(TEXTS, threshold=0.5)
    assert [one.labels for one in half] == [
        one.labels for one in classifier.predict(TEXTS, threshold=0.5)
    ]
    with pytest.raises(ValueError, match="several labels; load it with MultiLabelClassifier"):
        runtime.Classifier.load(exported)
    measured = adapler_jax.measure_export(exported / "onnx" / "model.onnx", TEXTS * 3)
    assert measured.agreement == 1.0


def test_an_exported_classifier_gives_no_label_sets(tmp_path):
    plain = save(tmp_path / "plain", CLASSIFICATION, 3, class_names=NAMES)
    adapler_jax.export_onnx(plain)
    with pytest.raises(ValueError, match="does not give a text several labels"):
        runtime.MultiLabelClassifier.load(plain)


def test_exported_labels_need_no_jax(exported):
    code = (
        "import sys; from adapler_jax.onnx import MultiLabelClassifier as M; "
        f"print(M.load({str(exported)!r}).predict(['a good film'])[0].labels); "
        "assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.compare
def test_a_model_of_transformers_gives_equal_probabilities(tmp_path):
    torch, transformers = map(pytest.importorskip, ("torch", "transformers"))
    config = transformers.BertConfig(
        vocab_size=tiny.CONFIG.vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        problem_type="multi_label_classification",
        id2label=dict(enumerate(NAMES)),
    )
    torch.manual_seed(0)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    build_tokenizer().save_pretrained(tmp_path / "theirs")
    assert head_of_checkpoint(tmp_path / "theirs") is MULTI_LABEL
    loaded = load_pretrained(tmp_path / "theirs", jax.random.key(0), head=MULTI_LABEL)
    assert loaded.class_names == NAMES and not loaded.fresh
    ours = save_model(
        tmp_path / "ours",
        loaded.params | {"pruner": {}},
        loaded.config,
        head=MULTI_LABEL,
        class_names=NAMES,
        tokenizer=tmp_path / "theirs",
    )
    found = MultiLabelClassifier.load(ours).predict_probs(TEXTS[:3])
    for folder in ("theirs", "ours"):
        pipeline = transformers.pipeline("text-classification", str(tmp_path / folder), top_k=None)
        for prob_C, expected in zip(found, pipeline(TEXTS[:3]), strict=True):
            by_name = {row["label"]: row["score"] for row in expected}
            np.testing.assert_allclose(prob_C, [by_name[name] for name in NAMES], atol=1e-5)


def test_one_right_class_is_not_several_labels(directory):
    with pytest.raises(ValueError, match="several labels a text are for the task custom_multi_la"):
        load_pretrained(directory, jax.random.key(0), head=CLASSIFICATION)
