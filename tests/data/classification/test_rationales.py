import json

import numpy as np
import pytest
from hypothesis import given, strategies

from adapler_jax.data.classification.rationales import (
    AnnotatedText,
    cut_chunks,
    find_evidences,
    load_movie_rationales,
)

REVIEW = {
    "review": "it is good , a good film\nand not bad .",
    "label": 1,
    "evidences": ["a good film", "not bad"],
    "evidence_spans": [[4, 7], [8, 10]],
}


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"file:{path}"


def text_of(words, rationale):
    return AnnotatedText(
        tuple(words.split()), np.array([letter == "x" for letter in rationale]), label=1, document=0
    )


def test_spans_of_movie_reviews_are_rationales(tmp_path):
    (found,) = load_movie_rationales(write_rows(tmp_path / "train.jsonl", [REVIEW]))["train"]
    assert [
        word for word, selected in zip(found.words, found.rationale_W) if selected
    ] == "a good film not bad".split()
    assert (found.label, found.document) == (1, 0)
    assert found.text == "it is good , a good film and not bad ."


def test_evidences_without_spans_are_located_by_their_words(tmp_path):
    row = {name: value for name, value in REVIEW.items() if name != "evidence_spans"}
    (found,) = load_movie_rationales(write_rows(tmp_path / "train.jsonl", [row]))["train"]
    assert np.flatnonzero(found.rationale_W).tolist() == [4, 5, 6, 8, 9]
    assert find_evidences("a b a b c".split(), ["a b", "b c", "a  b c", "b d", ""]) == [
        (0, 2),
        (3, 5),
        (2, 5),
    ]
    assert find_evidences("abc a".split(), ["a"]) == [(1, 2)]  # words, not parts of them


def test_a_text_without_a_rationale_has_an_empty_one(tmp_path):
    row = REVIEW | {"evidences": [], "evidence_spans": []}
    (found,) = load_movie_rationales(write_rows(tmp_path / "test.jsonl", [row]))["test"]
    assert not found.rationale_W.any() and len(found.rationale_W) == len(found.words)


@pytest.mark.parametrize(
    "row", [{}, {"evidences": None}, {"evidences": None, "evidence_spans": None}]
)
def test_a_row_without_evidences_has_an_empty_rationale(tmp_path, row):
    bare = {"review": "a film", "label": "POS"}
    source = write_rows(tmp_path / "train.jsonl", [REVIEW | {"evidence_spans": None}, bare | row])
    assert [found.rationale_W.any() for found in load_movie_rationales(source)["train"]] == [
        True,
        False,
    ]


def test_labels_are_numbers_or_names_of_classes(tmp_path):
    source = write_rows(
        tmp_path / "train.jsonl", [REVIEW | {"label": label} for label in ("POS", "NEG", "1", 0)]
    )
    assert [found.label for found in load_movie_rationales(source)["train"]] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"label": None}, "row 2 has the label None, which is none of the 2 classes NEG, POS"),
        ({"label": "good"}, "row 2 has the label 'good'"),
        ({"review": None}, "row 2 has None as 'review'; expected a text"),
        (
            {"evidences": "good", "evidence_spans": None},
            "row 2 has 'good' as 'evidences'; expected a list of texts",
        ),
        ({"evidences": [["good"]]}, "row 2 has .* as 'evidences'"),
        (
            {"evidence_spans": [3, 4]},
            "row 2 has .*3, 4.* as 'evidence_spans'; expected a list of .first word, end",
        ),
        ({"evidence_spans": [[0, "1"]]}, "row 2 has .* as 'evidence_spans'"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_movie_rationales(write_rows(tmp_path / "train.jsonl", [REVIEW, REVIEW | wrong]))


@pytest.mark.parametrize("span", [[9, 12], [-1, 2], [3, 3]])
def test_a_span_outside_of_its_text_is_rejected(tmp_path, span):
    source = write_rows(tmp_path / "train.jsonl", [REVIEW, REVIEW | {"evidence_spans": [span]}])
    with pytest.raises(
        ValueError, match=r"row 2: the rationale .* outside of its text of 11 words"
    ):
        load_movie_rationales(source)


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match="'review'"):
        load_movie_rationales(write_rows(tmp_path / "train.jsonl", [{"text": "a", "label": 0}]))


def test_a_chunk_ends_before_a_rationale_that_does_not_fit():
    text = text_of("a b c d e f g", "..xx..x")
    chunks = cut_chunks(text, [1] * 7, 3)
    assert [chunk.text for chunk in chunks] == ["a b", "c d e", "f g"]
    assert [chunk.rationale_W.tolist() for chunk in chunks] == [
        [False] * 2,
        [True, True, False],
        [False, True],
    ]
    assert {(chunk.label, chunk.document) for chunk in chunks} == {(1, 0)}


def test_a_rationale_longer_than_a_chunk_is_cut():
    chunks = cut_chunks(text_of("a b c d e f", ".xxxxx"), [1] * 6, 2)
    assert [chunk.text for chunk in chunks] == ["a", "b c", "d e", "f"]


def test_words_are_never_cut():
    chunks = cut_chunks(text_of("a b c d", "...."), [2, 2, 9, 1], 3)
    assert [chunk.text for chunk in chunks] == ["a", "b", "c", "d"]


@given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, 4), strategies.booleans()), max_size=40
    ),
    strategies.integers(4, 12),
)
def test_chunks_hold_every_word_once_and_cut_no_rationale_that_fits(words, max_pieces):
    pieces_W = np.array([pieces for pieces, _ in words], int)
    rationale_W = np.array([selected for _, selected in words], bool)
    text = AnnotatedText(
        tuple(f"w{index}" for index in range(len(words))), rationale_W, label=0, document=3
    )
    chunks = cut_chunks(text, pieces_W, max_pieces)
    assert tuple(word for chunk in chunks for word in chunk.words) == text.words
    edges = np.cumsum([len(chunk.words) for chunk in chunks])
    for start, end in zip(np.append(0, edges[:-1]), edges):
        assert end - start == 1 or pieces_W[start:end].sum() <= max_pieces
    for edge in edges[:-1]:
        if rationale_W[edge - 1] and rationale_W[edge]:
            run_start = edge - 1
            while run_start and rationale_W[run_start - 1]:
                run_start -= 1
            assert run_start in (0, *edges)  # the run starts a chunk, and fills it


def test_chunks_of_no_pieces_are_rejected():
    with pytest.raises(ValueError, match="chunks of 0 pieces"):
        cut_chunks(text_of("a", "."), [1], 0)
