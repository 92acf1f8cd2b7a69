"""Tags of tokens become entities, by hand."""

import numpy as np
import pytest

from adapler_jax.inference.entities import EntityJoiner
from adapler_jax.inference.text_tagger import tokenize_texts
from tests.data.vocabulary import build_core, build_roberta_core

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = ("new", "york", "saw", "ann", "lee")
CORE = build_core(WORDS)


def joined(text, tags, aggregation, core=CORE):
    """Return entities of (name, word, start, end) for a text whose tokens have these tags."""
    (row,) = tokenize_texts(core, [text], max_length=32)
    assert len(row.start_T) == len(tags)
    prob_TC = np.full((len(tags), len(TAGS)), 0.05, np.float32)
    for prob_C, tag in zip(prob_TC, tags):
        prob_C[TAGS.index(tag)] = 0.8
    found = EntityJoiner(core, TAGS, "[UNK]").entities(row, prob_TC, aggregation)
    assert all(entity["score"] == pytest.approx(0.8) for entity in found)
    name = "entity" if aggregation == "none" else "entity_group"
    return [tuple(entity[key] for key in (name, "word", "start", "end")) for entity in found]


def test_adjacent_tokens_of_one_kind_are_joined():
    tags = ["B-PER", "I-PER", "O", "I-LOC", "I-LOC"]
    assert joined("Ann Lee saw New York", tags, "simple") == [
        ("PER", "ann lee", 0, 7),
        ("LOC", "new york", 12, 20),
    ]
    assert joined("Ann Lee saw New York", tags, "none")[:2] == [
        ("B-PER", "ann", 0, 3),
        ("I-PER", "lee", 4, 7),
    ]


def test_an_entity_begins_anew_with_b_and_with_another_kind():
    assert joined("ann lee new", ["B-PER", "B-PER", "I-LOC"], "simple") == [
        ("PER", "ann", 0, 3),
        ("PER", "lee", 4, 7),
        ("LOC", "new", 8, 11),
    ]


def test_a_word_has_one_tag_but_for_simple():
    tags = ["B-PER", "I-LOC", "I-LOC", "O"]  # an, ##n ... as letters: o ##n ##e, then saw
    assert joined("one saw", tags, "simple") == [("PER", "o", 0, 1), ("LOC", "##ne", 1, 3)]
    assert joined("one saw", tags, "first") == [("PER", "one", 0, 3)]
    assert joined("one saw", tags, "max") == [("PER", "one", 0, 3)]


def test_the_mean_of_a_words_probabilities_decides():
    (row,) = tokenize_texts(CORE, ["one"], max_length=32)
    prob_TC = np.array([[0.4, 0.5, 0.1, 0, 0], [0.1, 0.3, 0.6, 0, 0], [0.2, 0.1, 0.7, 0, 0]])
    joiner = EntityJoiner(CORE, TAGS, "[UNK]")
    (found,) = joiner.entities(row, prob_TC.astype(np.float32), "average")
    assert found["entity_group"] == "PER" and found["score"] == pytest.approx(1.4 / 3)
    (found,) = joiner.entities(row, prob_TC.astype(np.float32), "max")
    assert found["score"] == pytest.approx(0.7)
    (found,) = joiner.entities(row, prob_TC.astype(np.float32), "first")
    assert found["score"] == pytest.approx(0.5)


def test_an_unknown_word_has_its_characters():
    assert joined("Ann ☃ saw", ["O", "B-LOC", "O"], "first") == [("LOC", "☃", 4, 5)]


def test_words_of_a_tokenizer_of_bytes_begin_after_blanks():
    core = build_roberta_core()
    found = joined("an or", ["B-PER", "I-LOC", "O", "B-LOC", "O"], "first", core)
    assert found == [("PER", "an", 0, 2), ("LOC", "or", 3, 5)]
    found = joined("an é", ["O", "O", "B-LOC", "I-LOC", "I-LOC"], "simple", core)
    assert [entity[:2] for entity in found] == [("LOC", " é")]


def test_each_given_word_has_the_tag_of_its_first_token():
    rows = tokenize_texts(CORE, [["one", "", "Ann", "saw", "new"]], max_length=7)
    prob_TC = np.full((5, 5), 0.1, np.float32)
    for token, tag in enumerate([1, 0, 0, 2, 0]):
        prob_TC[token, tag] = 0.6
    found = EntityJoiner(CORE, TAGS, "[UNK]").word_tags(rows[0], prob_TC)
    assert rows[0].is_cut and [tag["entity"] for tag in found] == [
        "B-PER",
        None,
        "I-PER",
        "O",
        None,
    ]
    assert [tag["word"] for tag in found] == ["one", "", "Ann", "saw", "new"]
    assert [(tag["start"], tag["end"]) for tag in found][2:] == [(5, 8), (9, 12), (13, 16)]
    assert [tag["score"] for tag in found] == pytest.approx([0.6, 0.0, 0.6, 0.6, 0.0])
