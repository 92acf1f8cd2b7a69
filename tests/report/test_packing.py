"""Explained texts are unpacked from the page without a change."""

import dataclasses
import json

import numpy as np
import pytest

from adapler_jax.inference.words import Word
from adapler_jax.report.explorer import build_explorer, kept_fraction
from adapler_jax.report.packing import SHOWN_UNREAD, move_bytes, pack_chunk, score_levels
from tests.report.explained import CLASSES, NUM_LAYERS, SITES, explain, unpack

LEVELS = 63
TEXTS = {
    "plain": "a good film .",
    "blanks": "  two \n\n lines\tand   gaps ",
    "far apart": "near" + 700 * " " + "far",
    "long word": 1000 * "x" + " y",
    "emoji": "😀 is 👩‍👩‍👧 and 🇩🇪 done 𝒳",  # noqa: RUF001  # a letter of two UTF-16 units
    "right to left": "سلام דנה 12 عالم",
    "markup": '</script><script>alert("1")</script> &amp; <b>',
    "chinese": "电影 很好看。 naïve Ελλάδα",
    "control": "a\x00b \u200b c\u00a0d \x1b[1m",
    "combining": "e\u0301te\u0301 na\u0308her",
}


def check(explanation, parts):
    for part, found in enumerate(parts):
        places = [
            place for place, word in enumerate(explanation.prediction.words) if word.part == part
        ]
        assert found["words"] == [explanation.prediction.words[place].text for place in places]
        assert found["layers"] == explanation.layers_W[places].tolist()
        for site, scores in zip(explanation.site_layers, found["scores"]):
            expected = explanation.score_NW[site, places]
            np.testing.assert_allclose(np.cbrt(scores), np.cbrt(expected), atol=0.52 / LEVELS)


@pytest.mark.parametrize("name", TEXTS)
def test_words_layers_and_scores_come_back(name):
    explanation = explain(TEXTS[name])
    ((found,),) = unpack(pack_chunk([explanation], num_levels=LEVELS))
    assert (found["text"], found["unread"]) == (TEXTS[name], 0)
    check(explanation, [found])


def test_many_examples_and_pairs_come_back():
    explanations = [explain(text, seed=seed) for seed, text in enumerate(TEXTS.values())]
    explanations += [
        explain("a question ?", "😀 an answer", seed=8),
        explain("", "only a second"),
        explain(""),
    ]
    found = unpack(pack_chunk(explanations, num_levels=LEVELS))
    assert len(found) == len(explanations)
    for explanation, parts in zip(explanations, found):
        assert tuple(part["text"] for part in parts) == explanation.prediction.texts
        check(explanation, parts)


def test_methods_with_few_sites_pack_the_scores_of_those():
    explanation = explain("some words that leave", sites=(1, 3))
    ((found,),) = unpack(pack_chunk([explanation], num_levels=LEVELS), sites=(1, 3))
    check(explanation, [found])


def test_no_example_is_a_chunk_too():
    assert unpack(pack_chunk([], num_levels=LEVELS)) == []


def test_a_text_of_50000_words_costs_what_was_read_of_it():
    text = " ".join(f"word{place}" for place in range(50_000))
    chunk = pack_chunk([explain(text, num_words=500)], num_levels=LEVELS)
    ((found,),) = unpack(chunk)
    assert len(found["words"]) == 500 and len(chunk) < 10_000
    read = text.index("word499") + len("word499")
    assert found["text"] == text[: read + SHOWN_UNREAD]
    assert found["unread"] == len(text) - read - SHOWN_UNREAD


@pytest.mark.long
def test_50000_words_that_were_read_come_back():
    explanation = explain(" ".join(f"w{place}" for place in range(50_000)))
    ((found,),) = unpack(pack_chunk([explanation], num_levels=LEVELS))
    check(explanation, [found])


def test_numbers_from_127_on_take_more_bytes():
    assert move_bytes(np.array([0, 1, -1, 127, -128, 350])) == bytes(
        [0, 2, 1, 254, 255, 0, 255, 255, 190]
    )


def test_words_inside_a_run_and_spans_that_overlap_come_back():
    explanation = explain("it's over-lapping 电影好")
    spans = [(0, 2), (2, 3), (3, 4), (5, 9), (9, 10), (10, 17), (18, 19), (19, 21), (20, 21)]
    words = tuple(
        Word(explanation.prediction.texts[0][start:end], 0, start, end) for start, end in spans
    )
    keep_NW = np.ones((NUM_LAYERS, len(words)), bool)
    prediction = dataclasses.replace(explanation.prediction, words=words, keep_NW=keep_NW)
    explanation = dataclasses.replace(
        explanation,
        prediction=prediction,
        word_L=np.arange(-1, len(words)),
        keep_NL=np.ones((NUM_LAYERS, 10), bool),
        score_NL=np.full((NUM_LAYERS, 10), 0.5, np.float32),
    )
    ((found,),) = unpack(pack_chunk([explanation], num_levels=LEVELS))
    assert found["words"] == [word.text for word in words[:-1]] + [""]  # its character is taken


def test_scores_keep_their_third_root_and_order():
    found = score_levels(np.array([0.0, 1e-6, 0.001, 0.125, 0.5, 1.0, -0.1]), 1.0, LEVELS)
    assert found.tolist() == [0, 1, 6, 32, 50, 63, 0]
    assert score_levels(np.zeros(2), 0.0, LEVELS).tolist() == [0, 0]


def test_meta_tells_what_examples_are_filtered_by():
    chunks = [
        [explain("a b c", label="bad"), explain("d", label="good")],
        [explain("e f", label="good")],
    ]
    found = build_explorer(
        iter(chunks),
        [1, 1, 0],
        model="adapler",
        class_names=CLASSES,
        num_layers=NUM_LAYERS,
        site_layers=SITES,
    )
    assert len(found.chunks) == 2
    assert found.meta["label"] == [1, 1, 0] and found.meta["predicted"] == [0, 1, 1]
    assert found.meta["percent"] == [75, 75, 75]
    fractions = [kept_fraction(one) for chunk in chunks for one in chunk]
    assert found.meta["kept"] == [round(100 * fraction) for fraction in fractions]
    json.dumps(found.meta)


def test_the_kept_fraction_is_of_tokens_over_all_layers():
    explanation = explain("one")  # stays, as [CLS] and [SEP] do
    assert kept_fraction(explanation) == 1.0
    explanation = explain("one two", seed=3)
    ran = explanation.layers_W.sum() + 2 * NUM_LAYERS
    assert kept_fraction(explanation) == pytest.approx(ran / (4 * NUM_LAYERS))
