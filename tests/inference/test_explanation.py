import dataclasses
import html.parser
import json

import numpy as np
import pytest

from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.explanation import Explanation, pool_words
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.words import Word
from tests.inference.test_classifier import BUCKETS, CONFIG, TEXTS, assert_same, make_model


@pytest.fixture(scope="module", name="classifier")
def _classifier(tmp_path_factory):
    return Classifier.load(
        make_model(tmp_path_factory.mktemp("saved") / "model", "adapler"), buckets=BUCKETS
    )


def explanation_of(text, words, layers, *, part_texts=None):
    """Of two layers with a site each: scores are halves and tenths."""
    texts = part_texts or (text,)
    keep_NW = np.array([[ran > layer for ran in layers] for layer in range(2)])
    word_L = np.array([-1, *range(len(words)), -1])
    keep_NL = np.pad(keep_NW, ((0, 0), (1, 1)), constant_values=True)
    prediction = Prediction(
        texts=texts,
        label="<b>pos</b>",
        probability=0.75,
        probabilities={"<b>pos</b>": 0.75},
        words=tuple(words),
        keep_NW=keep_NW,
        num_tokens=tuple(keep_NL.sum(axis=-1)),
        is_cut=texts[-1].endswith("more"),
    )
    score_NL = np.where(keep_NL, np.array([[0.5], [0.1]]), 0.0).astype(np.float32)
    return Explanation(
        prediction,
        tuple("t" * len(word_L)),
        word_L=word_L,
        keep_NL=keep_NL,
        score_NL=score_NL,
        site_layers=(0, 1),
    )


class Text(html.parser.HTMLParser):
    """The text of a page and its tags."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.titles = "", [], []
        self.feed(page)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.titles += [value for name, value in attrs if name == "title"]


@pytest.mark.long
def test_an_explanation_holds_the_prediction(classifier):
    for text, expected in zip(TEXTS, classifier.predict(TEXTS)):
        assert_same(classifier.explain(text).prediction, expected)


def test_scores_of_adapler_sum_to_1_over_the_tokens_that_are_left(classifier):
    found = classifier.explain(TEXTS[2])
    assert found.score_NL.shape == found.keep_NL.shape == (CONFIG.num_layers, len(found.tokens))
    assert not np.all(found.keep_NL[:-1])
    np.testing.assert_array_equal(found.score_NL[1:] > 0.0, found.keep_NL[:-1])
    np.testing.assert_allclose(found.score_NL.sum(axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.score_L.sum(), 1.0, atol=1e-5)
    assert found.score_L.dtype == np.float32 and found.score_L.shape == (len(found.tokens),)


def test_scores_do_not_depend_on_the_batch(classifier):
    alone = classifier.explain(TEXTS[2])
    together = classifier.explain_all(TEXTS)[2]
    np.testing.assert_allclose(together.score_NL, alone.score_NL, atol=1e-5)
    np.testing.assert_array_equal(together.keep_NL, alone.keep_NL)


def test_tokens_are_the_tokenizers(classifier):
    assert classifier.explain("good films").tokens == ("[CLS]", "good", "film", "##s", "[SEP]")


def test_words_take_the_largest_score_of_their_pieces():
    score_XL = np.array([[9.0, 1.0, 3.0, 2.0, 9.0], [9.0, 5.0, 0.0, 4.0, 9.0]])
    pooled_XW = pool_words(score_XL, np.array([-1, 0, 0, 1, -1]), 3)
    np.testing.assert_array_equal(pooled_XW, [[3.0, 2.0, 0.0], [5.0, 4.0, 0.0]])


def test_one_score_is_the_mean_over_the_layers_with_a_site():
    found = explanation_of("a b", [Word("a", 0, 0, 1), Word("b", 0, 2, 3)], layers=[2, 1])
    np.testing.assert_allclose(found.score_W, [0.3, 0.25])
    np.testing.assert_array_equal(found.layers_W, [2, 1])
    half = dataclasses.replace(found, site_layers=(1,))
    np.testing.assert_allclose(half.score_W, [0.1, 0.0])


def test_predictions_and_explanations_print_no_arrays(classifier):
    (prediction,) = classifier.predict(["good films"])
    assert "keep_NW" not in repr(prediction) and len(repr(prediction)) < 250
    found = classifier.explain("good films")
    assert repr(found).endswith("2 words, 5 tokens)") and len(repr(found)) < 80


def test_texts_stay_text_in_html():
    text = '<script>alert("1")</script> & so'
    found = explanation_of(text, [Word("<script>", 0, 0, 8), Word("so", 0, 30, 32)], layers=[2, 0])
    page = Text(found.to_html())
    assert text in page.text and "<b>pos</b> (75%)" in page.text
    assert set(page.tags) == {"div", "b", "span"}
    assert page.titles == [
        "ran through 2 of 2 layers; scores 0.500 0.100",
        "ran through 0 of 2 layers; scores 0.000 0.000",
    ]


def test_pairs_and_cut_texts_are_shown_with_their_break():
    words = [Word("a", 0, 0, 1), Word("b", 1, 0, 1)]
    found = explanation_of("", words, layers=[2, 2], part_texts=("a", "b and more"))
    assert Text(found.to_html()).text == "<b>pos</b> (75%): a | b …"


def test_a_text_without_words_is_explained(classifier):
    found = classifier.explain("")
    assert found.tokens == ("[CLS]", "[SEP]") and found.score_W.shape == (0,)
    assert Text(found.to_html()).text


def test_a_model_that_drops_nothing_has_nothing_to_explain(tmp_path):
    dense = Classifier.load(make_model(tmp_path / "model", "keep_all"))
    with pytest.raises(ValueError, match="drops no tokens"):
        dense.explain("good")


def test_an_explanation_is_plain_json(classifier):
    explanation = classifier.explain("a good film")
    found = json.loads(json.dumps(explanation.to_dict(), allow_nan=False))
    assert found == explanation.to_dict() and found["tokens"] == list(explanation.tokens)
    assert found["prediction"] == explanation.prediction.to_dict()
    for name in ("keep_NL", "score_NL", "score_L", "score_W", "layers_W", "word_L"):
        np.testing.assert_array_equal(found[name], getattr(explanation, name))
