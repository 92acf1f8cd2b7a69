import dataclasses
import json
import shutil
import time

import jax
import numpy as np
import pytest

from adapler_jax import heads
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import Explanation
from adapler_jax.inference.loading import threshold_of
from adapler_jax.inference.multiple_choice import ChoicePrediction
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.inference.words import Word, encode_words
from adapler_jax.pruning import make_pruner
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.save import load_model, save_model
from benchmarks.compilations import compilations
from tests import plain_bert as encoder
from tests.data.conftest import build_tokenizer
from tests.marks import mostly_long

SPECIAL = "[PAD] [UNK] [CLS] [SEP] [MASK]".split()
WORDS = [*SPECIAL, *"a good bad film ##s ##ly not but very 日 本 привет . ' don t".split()]
CONFIG = EncoderConfig(
    num_layers=4, num_heads=4, hidden_dim=16, ffn_dim=32, vocab_size=len(WORDS), num_positions=20
)
BUCKETS = (4, 16)
TEXTS = [
    "good films",
    "",
    "a very very bad film . not good",
    "日本 привет",
    "   \t\n",
    "don't",
    "zzz",
]


def make_model(directory, pruner_name, *, max_length=16):
    pruner = make_pruner(pruner_name, CONFIG)
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(0), 3)
    pruner_params = pruner.init(pruner_key, CONFIG)
    if pruner.sites:
        for name in ("hidden", "score"):
            pruner_params[name]["kernel"] = pruner_params[name]["kernel"] * 14.0
        pruner_params["threshold_N"] = pruner_params["threshold_N"] * 3.0
    params = {
        "encoder": encoder.init_encoder(encoder_key, CONFIG),
        "head": jax.tree.map(lambda leaf: leaf * 20, heads.init_classifier(head_key, CONFIG, 2)),
        "pruner": pruner_params,
    }
    save_model(
        directory,
        params,
        CONFIG,
        pruner_name=pruner_name,
        class_names=("neg", "pos"),
        max_length=max_length,
        tokenizer=build_tokenizer(WORDS),
    )
    return directory


@pytest.fixture(scope="module", name="model_dir")
def _model_dir(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("saved") / "model", "adapler")


@pytest.fixture(scope="module", name="classifier")
def _classifier(model_dir):
    return Classifier.load(model_dir, buckets=BUCKETS)


@pytest.fixture(scope="module", name="predictions")
def _predictions(classifier):
    return classifier.predict(TEXTS, batch_size=8)


def assert_same(found, expected):
    assert found.label == expected.label
    np.testing.assert_allclose(found.probability, expected.probability, atol=1e-5)
    assert found.words == expected.words
    assert found.num_tokens == expected.num_tokens
    np.testing.assert_array_equal(found.keep_NW, expected.keep_NW)


def test_no_texts_give_no_predictions(classifier):
    assert classifier.predict([]) == []
    assert classifier.predict_probs([]).shape == (0, 2)


@pytest.mark.parametrize(
    "texts", [TEXTS, [("good film", "not bad"), ("bad " * 30, ""), ("", "zzz")]]
)
def test_probabilities_alone_equal_those_in_predictions(classifier, texts):
    probs_NC = classifier.predict_probs(texts, batch_size=4)
    assert probs_NC.dtype == np.float32
    found = [dict(zip(classifier.class_names, prob_C.tolist())) for prob_C in probs_NC]
    assert found == [
        prediction.probabilities for prediction in classifier.predict(texts, batch_size=4)
    ]


def test_the_probability_belongs_to_the_label(predictions):
    for prediction in predictions:
        assert prediction.label in ("neg", "pos")
        assert prediction.probability == max(prediction.probabilities.values())
        assert prediction.probabilities[prediction.label] == prediction.probability
        np.testing.assert_allclose(sum(prediction.probabilities.values()), 1.0, atol=1e-5)


def test_predictions_have_the_order_of_the_texts(classifier, predictions):
    again = classifier.predict(TEXTS[::-1], batch_size=8)
    for found, expected in zip(again[::-1], predictions):
        assert_same(found, expected)


def test_batch_size_does_not_change_predictions(classifier, predictions):
    for found, expected in zip(classifier.predict(TEXTS, batch_size=2), predictions):
        assert_same(found, expected)


@pytest.mark.parametrize("driver", mostly_long(["masked", "packed", "bucketed"], quick=["masked"]))
def test_other_drivers_give_the_same_predictions(model_dir, predictions, driver):
    for found, expected in zip(
        Classifier.load(model_dir, driver=driver).predict(TEXTS), predictions
    ):
        assert_same(found, expected)


def test_pieces_are_merged_into_words_of_the_text(predictions):
    assert [word.text for word in predictions[0].words] == ["good", "films"]
    assert [word.text for word in predictions[3].words] == ["日", "本", "привет"]
    assert [word.text for word in predictions[5].words] == ["don", "'", "t"]


def test_kept_words_are_words_of_the_text_and_never_come_back(predictions):
    for text, prediction in zip(TEXTS, predictions):
        assert len(prediction.kept_words) == len(prediction.num_tokens) == CONFIG.num_layers
        for word in prediction.words:
            assert text[word.start : word.end] == word.text
        assert np.all(np.diff(prediction.keep_NW.astype(int), axis=0) <= 0)
        for kept, num_tokens in zip(prediction.kept_words, prediction.num_tokens):
            assert len(kept) < num_tokens  # [CLS] is always there
    assert any(prediction.num_tokens[-1] < len(prediction.words) for prediction in predictions)


def test_an_empty_text_has_a_prediction_without_words(predictions):
    assert predictions[1].words == () and predictions[1].kept_words == [[]] * CONFIG.num_layers
    assert_same(predictions[4], predictions[1])


def test_a_long_text_is_cut_to_the_models_length(classifier):
    text = " ".join(["a very bad film"] * 25_000)
    start = time.perf_counter()
    found, expected = classifier.predict([text, "a very bad film " * 4])
    assert time.perf_counter() - start < 60
    assert len(found.words) == 14
    assert_same(found, expected)


def test_a_cut_text_says_so(classifier, predictions):
    (long,) = classifier.predict(["good " * 100])
    assert long.is_cut and not any(prediction.is_cut for prediction in predictions)
    (pair,) = classifier.predict([("good", "bad " * 100)])
    assert pair.is_cut and not pair.truncated_text(0) and pair.truncated_text(1).startswith("bad")


@pytest.mark.parametrize(
    "end", ["\ufe0f", "\u200b", "\u00ad", " \u200f", "\u0301", "\x00\x01 ", " \n"]
)
def test_characters_without_tokens_after_the_last_word_are_no_cut(classifier, end):
    (found,) = classifier.predict(["a good film" + end])
    assert not found.is_cut and found.truncated_text(0) == ""
    assert not classifier.encode_tokens(["a good film" + end])[0].is_cut


def test_tokens_alone_say_that_a_text_was_cut_too(classifier):
    texts = ["good", "good " * 14, "good " * 15, "good " * 31, "good " * 32, "good " * 33]
    assert [tokens.is_cut for tokens in classifier.encode_tokens(texts)] == 2 * [False] + 4 * [True]
    assert [found.is_cut for found in classifier.predict(texts)] == 2 * [False] + 4 * [True]


def test_a_classifier_prints_no_weights(classifier):
    assert len(repr(classifier)) < 500


def test_pairs_have_words_of_both_texts(classifier):
    (found,) = classifier.predict([("good film", "not bad")])
    assert [(word.text, word.part) for word in found.words] == [
        ("good", 0),
        ("film", 0),
        ("not", 1),
        ("bad", 1),
    ]


@pytest.mark.parametrize(
    "texts",
    [
        "good",
        b"good",
        {"good": 1},
        None,
        3,
        ["good", ("good", "bad")],
        [("a", "b", "c")],
        [None],
        [3],
    ],
)
def test_anything_but_a_list_of_texts_is_rejected(classifier, texts):
    with pytest.raises(TypeError, match=r"expected all strings|expected a list of texts"):
        classifier.predict(texts)


@pytest.mark.parametrize("batch_size", ["4", 2.0, True, None])
def test_a_batch_size_that_is_no_whole_number_is_named(classifier, batch_size):
    for predict in (classifier.predict, classifier.predict_probs, classifier.explain_all):
        with pytest.raises(
            TypeError, match=f"batch_size is {batch_size!r}; expected a whole number"
        ):
            predict(["good"], batch_size=batch_size)


def test_thresholds_are_numbers_of_numpy_too(model_dir):
    saved = load_model(model_dir)
    saved = dataclasses.replace(saved, class_names=("a", "b"))
    assert threshold_of(saved, np.float32(0.25)) == 0.25
    for wrong in (True, "0.3", np.float32(1.0), np.float64("nan"), np.bool_(True)):
        with pytest.raises(ValueError, match=r"threshold is .*; expected a probability"):
            threshold_of(saved, wrong)


def test_predictions_are_equal_if_all_fields_are(classifier):
    kept = np.ones((2, 1), bool)
    words = (Word("good", 0, 0, 4),)
    found = [
        Prediction(("good",), "a", 0.9, {"a": 0.9}, words, kept.copy(), (3, 3)) for _ in range(2)
    ]
    assert found[0] == found[1] and len(set(found)) == 1
    assert found[0] != dataclasses.replace(found[0], keep_NW=~kept)
    assert found[0] != dataclasses.replace(found[0], probabilities={"a": 0.8}) and found[0] != 1
    shown = [
        Explanation(found[0], ("good",), np.zeros(1, np.int32), kept, scores, (0,))
        for scores in (np.zeros((2, 1)), np.zeros((2, 1)), np.ones((2, 1)))
    ]
    assert shown[0] == shown[1] != shown[2]
    fields = {"words": words, "keep_NW": kept, "is_cut": False}
    readings = [
        QAPrediction("q", "good", "good", score, 1.0, 0, 4, (), **fields)
        for score in (1.0, 1.0, 2.0)
    ]
    assert readings[0] == readings[1] != readings[2]
    chosen = [
        ChoicePrediction("a", "q", ("x", "y"), 0, "x", (0.5, prob), **fields)
        for prob in (0.5, 0.5, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert classifier != dataclasses.replace(classifier, threshold=None)


def test_bad_batch_size_is_rejected(classifier):
    for predict in (classifier.predict, classifier.predict_probs):
        with pytest.raises(ValueError, match="batch_size is 0"):
            predict(["good"], batch_size=0)


def test_all_lengths_share_one_compilation(model_dir):
    classifier = Classifier.load(model_dir, buckets=(16,))
    classifier.predict(["a"] * 3, batch_size=4)
    with compilations() as found:
        for texts in (["a film"] * 4, [" ".join(["bad"] * 30)] * 4):
            classifier.predict(texts, batch_size=4)
    assert not found


def test_plain_bert_keeps_every_word(tmp_path):
    classifier = Classifier.load(make_model(tmp_path / "model", "keep_all"))
    (found,) = classifier.predict(["a good film"])
    assert found.kept_words == [["a", "good", "film"]] * CONFIG.num_layers
    assert found.num_tokens == (5,) * CONFIG.num_layers


def test_a_model_that_answers_questions_is_rejected(tmp_path):
    key = jax.random.key(0)
    params = {
        "encoder": encoder.init_encoder(key, CONFIG),
        "head": heads.SPAN.init(key, CONFIG, 0),
        "pruner": {},
    }
    directory = save_model(
        tmp_path / "model",
        params,
        CONFIG,
        head=heads.SPAN,
        tokenizer=build_tokenizer(WORDS),
        max_length=16,
    )
    with pytest.raises(
        ValueError,
        match=r"with the head 'span'; Classifier and .*; load it with QuestionAnswerer",
    ):
        Classifier.load(directory)


def test_words_have_their_characters():
    (row,) = encode_words(
        build_tokenizer(WORDS).backend_tokenizer, ["so  films"], None, max_length=16
    )
    assert [dataclasses.astuple(word) for word in row.words] == [
        ("so", 0, 0, 2),
        ("films", 0, 4, 9),
    ]
    assert row.word_L.tolist() == [-1, 0, 1, 1, -1]


def test_half_characters_are_read_as_unknown_ones():
    """A lone surrogate, as cut JSON escapes leave it, keeps its place and can be printed."""
    core = build_tokenizer(WORDS).backend_tokenizer
    (row,) = encode_words(core, ["so \ud83d films"], None, max_length=16)
    assert row.texts == ("so \ufffd films",)
    assert [word.text for word in row.words][-1] == "films"
    assert row.words[-1].start == 5


def test_buckets_that_cannot_hold_the_model_are_rejected_at_once(model_dir):
    with pytest.raises(ValueError, match="bucket 8 cannot hold 16 kept tokens"):
        Classifier.load(model_dir, buckets=(4, 8))


def test_a_threshold_moves_labels_and_leaves_probabilities(classifier, predictions, model_dir):
    probs = sorted(prediction.probabilities["pos"] for prediction in predictions)
    threshold = (probs[1] + probs[2]) / 2
    moved = classifier.predict(TEXTS, batch_size=8, threshold=threshold)
    for found, before in zip(moved, predictions, strict=True):
        assert found.probabilities == before.probabilities
        assert found.label == ("pos" if found.probabilities["pos"] >= threshold else "neg")
        assert found.probability == found.probabilities[found.label]
    assert sum(found.label == "neg" for found in moved) == 2
    assert classifier.threshold is None and classifier.predict([]) == []
    assert Classifier.load(model_dir, threshold=threshold).threshold == threshold


def test_a_saved_threshold_is_taken_unless_another_is_given(model_dir, tmp_path):
    shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    for value in (0.3, "0.3", 2):
        config["adapler_jax"]["extra"]["decision_threshold"] = value
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        if value == 0.3:
            assert Classifier.load(tmp_path / "model").threshold == 0.3
            assert Classifier.load(tmp_path / "model", threshold=0.6).threshold == 0.6
        else:
            with pytest.raises(
                ValueError, match=r"config.json: extra.decision_threshold: threshold is .* expected"
            ):
                Classifier.load(tmp_path / "model")


def test_a_prediction_is_plain_json(predictions):
    for prediction in predictions:
        found = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
        assert found == prediction.to_dict() and found["label"] == prediction.label
        assert found["probabilities"] == prediction.probabilities
        assert found["kept_words"] == prediction.kept_words
        assert found["words"] == [dataclasses.asdict(word) for word in prediction.words]
        np.testing.assert_array_equal(
            np.array(found["keep_NW"]).reshape(prediction.keep_NW.shape), prediction.keep_NW
        )
    broken = dataclasses.replace(
        predictions[0], probability=np.float32("nan"), probabilities={"neg": np.inf}
    )
    found = json.loads(json.dumps(broken.to_dict(), allow_nan=False))
    assert found["probability"] is None and found["probabilities"] == {"neg": None}
