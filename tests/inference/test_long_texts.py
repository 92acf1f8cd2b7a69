"""Long texts are cut where training cut them, or read in windows whose answers are merged."""

import json

import numpy as np
import pytest

from adapler_jax.data.tokenization.tokenizers import load_core, load_tokenizer
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.long_texts import encode_windows, merge_probs
from adapler_jax.inference.words import encode_tokens, encode_words
from tests.data.conftest import build_tokenizer
from tests.inference.test_classifier import WORDS, make_model

LONG = "a good film . " * 9 + "very bad film"
CORE = build_tokenizer(WORDS).backend_tokenizer


@pytest.fixture(scope="module", name="model_dir")
def _model_dir(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("saved") / "model", "adapler", max_length=14)


@pytest.fixture(scope="module", name="classifier")
def _classifier(model_dir):
    return Classifier.load(model_dir, buckets=(14,))


def _with_extra(directory, **extra):
    """The model with other settings of its own section."""
    path = directory / "config.json"
    content = json.loads(path.read_text())
    content["adapler_jax"]["extra"] = extra
    path.write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize("side", ["right", "left", "middle"])
def test_a_saved_model_cuts_texts_where_its_training_did(tmp_path, side):
    directory = _with_extra(make_model(tmp_path / "model", "keep_all"), truncation_side=side)
    (found,) = Classifier.load(directory).encode([LONG])
    assert found.is_cut and len(found.token_L) == 16
    words = [word.text for word in found.words]
    assert words[0] == ("good" if side == "left" else "a") and words[-1] == (
        "good" if side == "right" else "film"
    )
    assert (
        found.token_L.tolist()
        == encode_tokens(CORE, [LONG], None, max_length=16, truncation_side=side)[
            0
        ].token_L.tolist()
    )


def test_an_older_model_cuts_the_end_and_another_value_is_rejected(tmp_path):
    directory = _with_extra(make_model(tmp_path / "model", "keep_all"))
    assert Classifier.load(directory).truncation_side == "right"
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    assert Classifier.load(directory).truncation_side == "left"
    _with_extra(directory, truncation_side="right")
    assert Classifier.load(directory).truncation_side == "right"
    _with_extra(directory, truncation_side=["left"])
    with pytest.raises(
        ValueError,
        match=r"extra\['truncation_side'\] in config.json is \['left'\]; expected right, l",
    ):
        Classifier.load(directory)


def test_a_saved_model_whose_tokenizer_passes_its_table_is_rejected(tmp_path):
    directory = make_model(tmp_path / "model", "keep_all")
    state = json.loads((directory / "tokenizer.json").read_text())
    state["model"]["vocab"]["film"] = len(WORDS) + 5
    (directory / "tokenizer.json").write_text(json.dumps(state))
    with pytest.raises(
        ValueError, match=f"id {len(WORDS) + 5} .* embedding table has {len(WORDS)}"
    ):
        Classifier.load(directory)


def test_windows_cover_a_text_and_share_its_words():
    (windows,) = encode_windows(CORE, [LONG], None, max_length=16, stride=None)
    whole = encode_words(CORE, [LONG], None, max_length=100)[0]
    assert [window.token_L[1:-1].tolist() for window in windows] == [
        whole.token_L[1:-1][start : start + 14].tolist() for start in range(0, 30, 7)
    ]
    assert all(window.words == whole.words and not window.is_cut for window in windows)
    assert {word for window in windows for word in window.word_L.tolist()} == {
        -1,
        *range(len(whole.words)),
    }
    for window in windows:
        places = np.flatnonzero(window.word_L >= 0)
        words = [window.words[word].text for word in window.word_L[places]]
        assert [CORE.id_to_token(int(token)) for token in window.token_L[places]] == words


@pytest.mark.parametrize("stride", [1, 3, 14, 1000])
def test_a_stride_is_where_windows_start_and_none_leaves_a_token_out(stride):
    (windows,) = encode_windows(CORE, [LONG], None, max_length=16, stride=stride)
    assert len(windows) == 1 + -(-(39 - 14) // min(stride, 14))
    assert {word for window in windows for word in window.word_L.tolist()} == {-1, *range(39)}


def test_of_a_pair_the_longer_text_has_windows_next_to_the_shorter():
    ((first, *_), (second, *_)) = encode_windows(
        CORE, ["very bad", LONG], [LONG, "very bad"], max_length=16, stride=None
    )
    assert first.token_L.tolist()[:4] == [
        2,
        *CORE.encode("very bad", add_special_tokens=False).ids,
        3,
    ]
    assert second.token_L.tolist()[-4:] == [
        3,
        *CORE.encode("very bad", add_special_tokens=False).ids,
        3,
    ]
    assert (
        first.segment_L.tolist() == [0] * 4 + [1] * 12
        and second.segment_L.tolist() == [0] * 13 + [1] * 3
    )
    (both,) = encode_windows(CORE, [LONG], [LONG + " a"], max_length=16, stride=None)
    assert both[0].is_cut and len(both) > 1 and all(len(window.token_L) <= 16 for window in both)


@pytest.mark.long
def test_a_text_that_fits_has_the_prediction_of_predict(classifier):
    texts = ["a good film", "", "very bad"]
    for how in ("mean", "max"):
        for found, expected in zip(
            classifier.predict(texts, long_texts=how), classifier.predict(texts)
        ):
            assert found.label == expected.label and found.words == expected.words
            np.testing.assert_allclose(
                list(found.probabilities.values()), list(expected.probabilities.values())
            )
            np.testing.assert_array_equal(found.keep_NW, expected.keep_NW)
            assert found.num_tokens == expected.num_tokens and not found.is_cut


@pytest.mark.long
def test_a_long_text_has_the_mean_of_its_windows_or_the_surest_of_them(classifier):
    (windows,) = encode_windows(CORE, [LONG], None, max_length=14, stride=5)
    answers = classifier.predict_encoded(windows, num_rows=4)
    probs = np.array([list(answer.probabilities.values()) for answer in answers])
    (mean,), (best,) = (
        classifier.predict([LONG], long_texts=how, stride=5, batch_size=4)
        for how in ("mean", "max")
    )
    np.testing.assert_allclose(list(mean.probabilities.values()), probs.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(
        list(best.probabilities.values()), probs[np.argmax(probs.max(axis=1))], atol=1e-5
    )
    np.testing.assert_array_equal(
        mean.keep_NW, np.any([answer.keep_NW for answer in answers], axis=0)
    )
    assert mean.num_tokens == tuple(
        np.sum([answer.num_tokens for answer in answers], axis=0).tolist()
    )
    assert not mean.is_cut and mean.truncated_text(0) == "" and mean.texts == (LONG,)
    assert classifier.predict([], long_texts="mean") == []


def test_the_surest_window_need_not_agree_with_the_mean():
    probs = np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])
    assert merge_probs(probs, "mean").argmax() == 1 and merge_probs(probs, "max").tolist() == [
        0.9,
        0.1,
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"long_texts": "best"}, "long_texts is 'best'; expected truncate, mean, max"),
        (
            {"long_texts": "mean", "stride": 0},
            "stride is 0; expected a number of tokens of at least 1",
        ),
        ({"long_texts": "mean", "stride": 2.5}, "stride is 2.5"),
        ({"stride": 4}, "long_texts='truncate' has no windows"),
    ],
)
def test_other_ways_are_rejected(classifier, options, said):
    with pytest.raises(ValueError, match=said):
        classifier.predict([LONG], **options)


def test_special_tokens_in_a_text_are_text_where_the_saved_tokenizer_says_so(tmp_path):
    build_tokenizer(WORDS).save_pretrained(tmp_path / "as_control")
    tokenizer = load_tokenizer(tmp_path / "as_control", split_special_tokens=True)
    tokenizer.save_pretrained(tmp_path / "as_text")
    text = "a [SEP] film"
    for folder, number in (("as_control", 5), ("as_text", 7)):
        core = load_core(tmp_path / folder)
        (row,) = encode_words(core, [text], None, max_length=16)
        assert (
            len(row.token_L) == number == len(load_tokenizer(tmp_path / folder)(text)["input_ids"])
        )
        assert core.token_to_id("[SEP]") == row.token_L[-1]
        assert (core.token_to_id("[SEP]") in row.token_L[:-1]) == (folder == "as_control")
