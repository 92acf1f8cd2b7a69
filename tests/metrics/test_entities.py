"""Entities of tags by hand, as CoNLL's program counts them."""

import numpy as np
import pytest

from adapler_jax.metrics.entities import (
    EntityCounts,
    add_counts,
    check_tag_metric,
    count_entities,
    entity_f1,
    find_entities,
    has_entities,
    word_accuracy,
)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-PER I-PER O", [("PER", 1, 2)]),
        ("I-PER I-PER", [("PER", 0, 1)]),  # IOB1, and broken IOB2
        ("B-PER B-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-PER I-LOC", [("PER", 0, 0), ("LOC", 1, 1)]),
        ("B-PER O I-PER", [("PER", 0, 0), ("PER", 2, 2)]),
        ("B-PER I-PER E-PER S-PER", [("PER", 0, 2), ("PER", 3, 3)]),
        ("E-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("S-PER I-PER", [("PER", 0, 0), ("PER", 1, 1)]),
        ("B-A L-A U-A", [("A", 0, 1), ("A", 2, 2)]),
        ("PER PER LOC O", [("PER", 0, 1), ("LOC", 2, 2)]),
        ("B-A-B I-A-B", [("A-B", 0, 1)]),
        ("X-Y", [("X-Y", 0, 0)]),
        ("B I O I B", [("_", 0, 1), ("_", 3, 3), ("_", 4, 4)]),  # one kind, without a name
        ("B- I- E- S-", [("_", 0, 2), ("_", 3, 3)]),
        ("B-PER M-PER E-PER S-PER", [("PER", 0, 2), ("PER", 3, 3)]),  # BMES
        ("O O", []),
        ("", []),
    ],
)
def test_entities_of_a_sentence(tags, expected):
    assert [tuple(entity) for entity in find_entities(tags.split())] == expected


def test_an_entity_counts_if_its_kind_and_both_ends_are_right():
    right = "B-PER I-PER O B-LOC O B-LOC".split()
    found = "B-PER I-PER O B-PER O B-LOC".split()
    counts = count_entities(found, right)
    assert counts == {"LOC": EntityCounts(1, 1, 2), "PER": EntityCounts(1, 2, 1)}
    assert counts["LOC"].precision == 1.0 and counts["LOC"].recall == 0.5
    assert counts["PER"].f1 == pytest.approx(2 / 3)
    short = count_entities("B-PER O O B-LOC O B-LOC".split(), right)
    assert short["PER"] == EntityCounts(0, 1, 1) and short["PER"].f1 == 0.0
    total = add_counts([counts, short])
    assert total == {"LOC": EntityCounts(3, 3, 4), "PER": EntityCounts(1, 3, 2)}


def test_the_example_in_the_documents_of_seqeval_has_its_score():
    right = ["O O O B-MISC I-MISC I-MISC O".split(), "B-PER I-PER O".split()]
    found = ["O O B-MISC I-MISC I-MISC I-MISC O".split(), "B-PER I-PER O".split()]
    counts = [count_entities(*pair) for pair in zip(found, right)]
    total = add_counts(counts)
    assert total == {"MISC": EntityCounts(0, 1, 1), "PER": EntityCounts(1, 1, 1)}
    assert entity_f1(np.array([list(count) for count in total.values()])) == 0.5


def test_scores_are_of_all_sentences_together():
    assert entity_f1(np.array([[2, 3, 3], [0, 1, 0]])) == pytest.approx(4 / 7)
    assert entity_f1(np.zeros((2, 3))) == 0.0
    assert word_accuracy(np.array([[3, 4], [0, 1]])) == pytest.approx(3 / 5)


def test_parts_of_speech_are_no_entities():
    assert not has_entities(["NOUN", "VERB"]) and not has_entities(["I", "B", "NOUN"])
    assert has_entities(["PER", "O"]) and has_entities(["B-PER", "I-PER"])
    check_tag_metric("entity_f1")
    with pytest.raises(ValueError, match="is 'f1'; for tags of words there are entity_f1 and word"):
        check_tag_metric("f1")
