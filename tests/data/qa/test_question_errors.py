"""Damaged files and bad rows of questions are named, or skipped and counted when asked."""

import gzip
import json
import re

import pytest

from adapler_jax.data.qa.questions import ReadStats, parse_question, stream_questions
from tests.data.qa.published import CONTEXT, FLAT, MRQA, NESTED, QUESTION, answer, lines, read


def test_a_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    for content in (gzip.compress(lines(*MRQA).encode())[:-20], b"plain"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"train.jsonl.gz is not a whole gzip file: .*; fetch it again"
        ):
            list(stream_questions(f"file:{path}", split="train"))


def test_values_that_are_no_truth_value_are_rejected_by_field(tmp_path):
    for value in ("maybe", 2, [True], 0.5):
        with pytest.raises(
            ValueError, match=r"line 1 \(id 1\) has .* as 'is_impossible'; expected true or false"
        ):
            read(tmp_path / "a.jsonl", lines(FLAT | {"is_impossible": value}))


@pytest.mark.parametrize("start", [16.5, "x", None, True, [16], "1" * 5000])
def test_values_that_are_no_whole_number_are_rejected_and_never_skipped(tmp_path, start):
    row = FLAT | {"answers": {"text": ["London"], "answer_start": [start]}}
    with pytest.raises(ValueError, match=r"has .* as 'answer_start'; expected a whole number"):
        read(tmp_path / "a.jsonl", lines(row), skip_mismatched=True)


@pytest.mark.parametrize(
    "content",
    [
        '{"paragraphs": ' * 300 + "[]" + "}" * 300,
        '[{"id": ' + "[" * 5000,
        '{"id": "1", "question": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_nesting_of_any_depth_is_rejected_in_a_line(tmp_path, content):
    for name in ("a.json", "a.jsonl"):
        with pytest.raises(ValueError, match=r"^[^\n]{1,1000}$"):
            read(tmp_path / name, content)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("squad", "source of questions 'squad'; expected file:PATH or tfds:NAME"),
        ("file:", "source of questions 'file:'"),
        ("file:gone.json", "no file or folder 'gone.json'"),
        ("file:.", "expected train, validation or test files ending in .jsonl, .jsonl.gz, .json"),
        ("file:train.csv", "unknown file kind '.csv'"),
    ],
)
def test_what_is_no_source_is_explained(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.csv").write_text("a")
    with pytest.raises(ValueError, match=message):
        next(stream_questions(source, split="train"))


WRONG = FLAT | {"answers": {"text": ["Paris"], "answer_start": [16]}}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            WRONG,
            r"line 2 \(id 1\): the text has 'Londo' at answer_start 16, not the answer 'Paris'",
        ),
        (
            FLAT | {"answers": [answer("London", -1)]},
            "the text has '' at answer_start -1, not the answer 'London'",
        ),
        (
            FLAT | {"answers": [answer("London", 1.5)]},
            "has 1.5 as 'answer_start'; expected a whole number",
        ),
        (
            FLAT | {"answers": [answer("1843.", 31)]},
            "the text has '.' at answer_start 31, not the answer '1843.'",
        ),
        (
            FLAT | {"answers": [answer(" ", 3)]},
            "the text has ' ' at answer_start 3, not the answer ' '",
        ),
        (
            FLAT | {"answers": {"text": ["a"], "answer_start": []}},
            "expected as many 'text' as 'answer_start'",
        ),
        (FLAT | {"answers": ["London"]}, "'answers'; expected as many 'text'"),
        (FLAT | {"answers": [answer(None, 0)]}, "has None as 'answers'; expected text"),
        (
            {key: value for key, value in FLAT.items() if key != "id"},
            "line 2 has None as its id; give every question",
        ),
        (FLAT | {"context": None}, r"line 2 \(id 1\) has None as 'context'; expected text"),
        ({"id": "1", "context": ""}, "has None as 'question'; expected text"),
        (
            {"id": "1", "context": "", "question": "", "answer": {}},
            r"line 2 \(id 1\) has no 'answers'; give them",
        ),
        (
            {"id": "1", "context": "", "question": "", "aliases": None},
            "has None as 'aliases'; expected a list of texts",
        ),
        (
            {"id": "1", "context": "", "question": "", "detected_answers": []},
            "has None as 'answers'; expected a list of texts",
        ),
        ([1], "line 2 is list; expected an object with named fields"),
        ({"paragraphs": [1]}, "line 2, paragraph 1 is int; expected an object"),
        ({"context": CONTEXT, "qas": [FLAT | {"id": ""}]}, "line 2, question 1 has '' as its id"),
        (
            {"id": "1", "qas": [{"qid": "a", "question": "?"}]},
            r"line 2, question 1 \(id a\) has None as 'context'",
        ),
    ],
)
def test_bad_rows_are_named(tmp_path, row, message):
    with pytest.raises(ValueError, match=r"train.jsonl: ") as error:
        read(tmp_path / "train.jsonl", lines(FLAT | {"id": "0"}, row))
    error.match(message)


@pytest.mark.parametrize(
    ("detected", "message"),
    [
        (
            [{"text": "Ada", "char_spans": [[13, 15]]}],
            "the text has 'da ' at char_spans 13 to 15, not 'Ada'",
        ),
        ([{"text": "Ada", "char_spans": [[12, 99]]}], "the text has .* at char_spans 12 to 99"),
        ([{"text": "Ada", "char_spans": [[-2, 3]]}], "the text has .* at char_spans -2 to 3"),
        (
            [{"text": "Ada", "char_spans": [12]}],
            r"has \[12\] as 'char_spans'; expected a list of \[first, last\]",
        ),
        ([{"text": "Ada"}], "'detected_answers'; expected as many 'text' as 'char_spans'"),
    ],
)
def test_bad_spans_of_mrqa_are_named(detected, message):
    row = {
        "qid": "a",
        "question": "?",
        "context": MRQA[1]["context"],
        "answers": [],
        "detected_answers": detected,
    }
    with pytest.raises(ValueError, match=message):
        parse_question(row, "x: line 1")


def test_mismatched_rows_are_skipped_and_counted_when_asked(tmp_path):
    stats = ReadStats()
    rows = [WRONG | {"id": "0"}, FLAT, WRONG | {"id": "2"}]
    assert read(tmp_path / "a.jsonl", lines(*rows), skip_mismatched=True, stats=stats) == [QUESTION]
    assert (stats.num_questions, stats.num_skipped) == (1, 2)
    (note,) = stats.notes()
    assert (
        note.startswith("skipped 2 of 3 questions; the first: ")
        and "a.jsonl: line 1 (id 0)" in note
    )
    assert ReadStats(num_questions=3).notes() == ()
    with pytest.raises(ValueError, match="has None as 'question'"):
        read(tmp_path / "a.jsonl", lines(FLAT | {"question": None}), skip_mismatched=True)
    with pytest.raises(ValueError, match="has no questions; skipped 1 of 1"):
        read(tmp_path / "a.jsonl", lines(WRONG), skip_mismatched=True)


def test_a_repeated_id_is_rejected(tmp_path):
    rows = [FLAT | {"id": name} for name in ("a", "b", "c", "b")]
    with pytest.raises(
        ValueError, match=r"a.jsonl: questions 2 and 4, skipped ones not counted, have one id; give"
    ):
        read(tmp_path / "a.jsonl", lines(*rows))


@pytest.mark.parametrize("content", ["", "\n\n", "[]", '{"data": []}', lines(MRQA[0])])
def test_a_file_without_questions_is_rejected(tmp_path, content):
    with pytest.raises(ValueError, match=r"a.json has no questions; it has no rows"):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize(("name", "start"), [("a.json", b'[{"id'), ("a.jsonl", b"x")])
def test_a_file_that_is_not_utf_8_is_named(tmp_path, name, start):
    (tmp_path / name).write_bytes(start + b"\xff\xfe")
    with pytest.raises(ValueError, match=f"{name}.* is not UTF-8"):
        list(stream_questions(f"file:{tmp_path / name}", split="train"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (json.dumps(NESTED) + json.dumps(NESTED), "}{"),
        (json.dumps(NESTED) + " ]", "} ]"),
        (json.dumps(NESTED)[:-1], ""),
        (json.dumps([FLAT]) + json.dumps([FLAT]), "[{"),
    ],
)
def test_a_file_that_continues_after_its_list_is_rejected(tmp_path, content, found):
    with pytest.raises(ValueError, match=r"a.json continues after its list with") as error:
        read(tmp_path / "a.json", content)
    error.match(re.escape(found))
