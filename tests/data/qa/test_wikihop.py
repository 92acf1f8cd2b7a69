"""WikiHop's questions, by hand: markers of candidates, supporting texts over several rows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from adapler_jax.data.qa.wikihop import (
    WikihopQuestion,
    build_wikihop_rows,
    distribute_tokens,
    stream_wikihop,
    stream_wikihop_rows,
)
from tests.data.vocabulary import build_core, build_roberta_core, words_of

WORDS = ("born", "in", "ada", "rome", "paris")
ITEM = {
    "id": "WH_train_0",
    "query": "born ada",
    "answer": "Rome é",
    "candidates": ["paris", "Rome é"],
    "supports": ["Ada in 🎬", "b c d"],
}
QUESTION = WikihopQuestion("WH_train_0", "born ada", ("paris", "Rome é"), ("Ada in 🎬", "b c d"), 1)
PREFIX = ["[CLS]", "born", "ada", "[unused1]", "paris", "[unused1]", "rome", "é"]


def read(folder, item):
    (folder / "dev.json").write_text(json.dumps([item]), encoding="utf-8")
    (folder / "dev.masked.json").write_text("[]")
    return list(stream_wikihop(f"file:{folder}", split="validation"))


def test_the_published_form_is_read(tmp_path):
    assert read(tmp_path, ITEM) == [QUESTION]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, "item 1 has None as id; expected a text"),
        ({"query": ["a"]}, "as query; expected a text"),
        (
            {"candidates": "paris"},
            "'WH_train_0' has 'paris' as candidates; expected a list of texts",
        ),
        ({"supports": [1]}, "as supports; expected a list of texts"),
        (
            {"answer": "rome"},
            "'WH_train_0' has the answer 'rome', which is none of its 2 candidates",
        ),
    ],
)
def test_what_is_no_question_is_explained(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, {**ITEM, **change})


def test_an_item_without_names_is_explained(tmp_path):
    with pytest.raises(ValueError, match="item 1 is list; expected an object with named fields"):
        read(tmp_path, [])


def test_every_field_of_a_row():
    core = build_core(WORDS)
    rows = build_wikihop_rows([QUESTION], core, max_length=32, max_candidates=3)
    supports = ["[unused2]", "ada", "in", "🎬", "[unused2]", "b", "c", "d"]
    assert words_of(core, rows.tokens[0]) == [*PREFIX, *supports, "[SEP]"]
    assert rows.segments[0].tolist() == [0] * 17 and rows.marker_RC.tolist() == [[3, 5, -1]]
    assert (rows.labels.tolist(), rows.question.tolist(), rows.ids, len(rows)) == (
        [1],
        [0],
        ["WH_train_0"],
        1,
    )
    for array in (rows.tokens.values, rows.marker_RC, rows.labels, rows.question):
        assert array.dtype == np.int32


def test_supports_are_distributed_over_rows_that_repeat_query_and_candidates():
    core = build_core(WORDS)
    questions = [QUESTION, WikihopQuestion("2", "in", ("ada",), (), 0)]
    rows = build_wikihop_rows(
        questions, core, max_length=12, max_packed_questions=8, max_candidates=2
    )
    assert [words_of(core, rows.tokens[row]) for row in range(4)] == [
        [*PREFIX, "[unused2]", "ada", "in", "[SEP]"],
        [*PREFIX, "[unused2]", "🎬", "[SEP]"],
        [*PREFIX, "[unused2]", "b", "c", "[SEP]"],
        [*PREFIX, "[unused2]", "d", "[SEP]"],
    ]
    assert (
        words_of(core, rows.tokens[4]) == ["[CLS]", "in", "[unused1]", "ada", "[SEP]"]
        and len(rows) == 5
    )
    assert rows.marker_RC.tolist() == [[3, 5]] * 4 + [[2, -1]]
    assert rows.labels.tolist() == [1, 1, 1, 1, 0] and rows.question.tolist() == [0, 0, 0, 0, 1]
    fewer = build_wikihop_rows(
        questions, core, max_length=12, max_packed_questions=2, max_candidates=2
    )
    assert fewer.question.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(fewer.tokens[1], rows.tokens[1])


def test_a_text_continues_in_the_next_row_after_a_marker():
    prefix, marker = np.array([9]), np.array([0])
    texts = [np.array([1, 2, 3]), np.array([], int), np.array([4, 5, 6, 7, 8])]

    def distribute(num_slots, max_rows):
        rows = distribute_tokens(prefix, texts, marker, num_slots=num_slots, max_rows=max_rows)
        return [row.tolist() for row in rows]

    assert distribute(6, 9) == [[9, 0, 1, 2, 3], [9, 0, 4, 5, 6, 7], [9, 0, 8]]
    assert distribute(7, 9) == [[9, 0, 1, 2, 3, 0, 4], [9, 0, 5, 6, 7, 8]] and distribute(7, 1) == [
        [9, 0, 1, 2, 3, 0, 4]
    ]
    assert distribute(20, 1) == [[9, 0, 1, 2, 3, 0, 4, 5, 6, 7, 8]]
    assert distribute(2, 9) == distribute(1, 9) == [[9]]


@pytest.mark.parametrize(
    ("max_length", "found"),
    [
        (12, "[CLS] born ada [unused1] p ##a ##r [unused1] b ##a ##r [SEP]"),
        (11, "[CLS] born ada [unused1] p ##a [unused1] b ##a [SEP]"),
        (9, "[CLS] born ada [unused1] p [unused1] b [SEP]"),
        (6, "[CLS] born ada [unused1] [unused1] [SEP]"),
        (5, "[CLS] born [unused1] [unused1] [SEP]"),
        (4, "[CLS] [unused1] [unused1] [SEP]"),
    ],
)
def test_long_candidates_are_cut_alike_and_then_the_query(max_length, found):
    core = build_core(("born", "ada"))
    question = WikihopQuestion("1", "born ada", ("paris", "barbados"), (), 0)
    rows = build_wikihop_rows([question], core, max_length=max_length, max_candidates=2)
    assert words_of(core, rows.tokens[0]) == found.split()
    assert [core.id_to_token(int(rows.tokens[0][slot])) for slot in rows.marker_RC[0]] == [
        "[unused1]"
    ] * 2


def test_too_many_candidates_are_rejected():
    with pytest.raises(
        ValueError, match="'WH_train_0' has 2 candidates; expected at most 1: raise max_candidates"
    ):
        build_wikihop_rows([QUESTION], build_core(), max_candidates=1)
    with pytest.raises(
        ValueError,
        match="markers do not fit into a row of 1 tokens without the special ones; raise max_le",
    ):
        build_wikihop_rows([QUESTION], build_core(), max_length=3)


def test_markers_must_be_in_the_vocabulary():
    with pytest.raises(ValueError, match=r"the vocabulary has no '\[unused1\]'"):
        build_wikihop_rows([QUESTION], build_roberta_core())


def test_no_questions_are_no_rows():
    rows = build_wikihop_rows([], build_core())
    assert len(rows) == 0 and rows.marker_RC.shape == (0, 79) and rows.ids == []


TEXTS = strategies.text(alphabet="ab é🎬\u0301日\ud83c.\n", max_size=12)


@settings(deadline=None, max_examples=80)
@given(
    candidates=strategies.lists(TEXTS, min_size=1, max_size=6),
    supports=strategies.lists(TEXTS, max_size=5),
    length=strategies.integers(8, 40),
    max_packed_questions=strategies.integers(1, 4),
)
def test_rows_never_exceed_their_length_and_hold_every_marker(
    candidates, supports, length, max_packed_questions
):
    core = build_core()
    question = WikihopQuestion("q", "ab a", tuple(candidates), tuple(supports), 0)
    (rows,) = stream_wikihop_rows(
        [question], core, max_length=length, max_packed_questions=max_packed_questions
    )
    assert 1 <= len(rows) <= max_packed_questions and rows.tokens.lengths.max() <= length
    for row in range(len(rows)):
        words = words_of(core, rows.tokens[row])
        slots = rows.marker_RC[row][rows.marker_RC[row] >= 0]
        assert slots.tolist() == [slot for slot, word in enumerate(words) if word == "[unused1]"]
        assert len(slots) == len(candidates) and (words[0], words[-1]) == ("[CLS]", "[SEP]")
