"""Questions are read as a stream from files of every public form."""

import gzip
import json
import lzma

import pytest

from adapler_jax.data.qa.questions import Question, question_splits, stream_questions
from adapler_jax.data.sources import json_values
from tests.data.qa.published import (
    CONTEXT,
    FLAT,
    MRQA,
    MRQA_QUESTIONS,
    NESTED,
    NESTED_QUESTIONS,
    QUESTION,
    answer,
    lines,
    read,
)


@pytest.mark.parametrize("name", ["train.jsonl", "any name.json"])
def test_flat_rows_are_read(tmp_path, name):
    other = FLAT | {
        "id": 2,
        "answers": [answer(" Ada ", 0)],
        "context": " Ada wrote",
        "title": "more",
    }
    empty = {"id": "3", "question": "", "context": "", "answers": {"text": [], "answer_start": []}}
    assert read(tmp_path / name, lines(FLAT, other, empty)) == [
        QUESTION,
        Question("2", "Where?", " Ada wrote", ("Ada",), ((1, 4),)),
        Question("3", "", "", (), ()),
    ]


def test_the_flag_of_the_unanswerable_goes_before_their_answers(tmp_path):
    for row in (FLAT | {"is_impossible": True}, FLAT | {"answers": None}):
        assert read(tmp_path / "a.jsonl", lines(row)) == [Question("1", "Where?", CONTEXT, (), ())]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [40, 47, 1 << 20])
def test_published_articles_are_read_in_chunks_of_any_size(tmp_path, monkeypatch, indent, size):
    monkeypatch.setattr(json_values, "CHARACTERS", size)
    for content in (NESTED, {"data": NESTED["data"], "version": "1.1"}, NESTED["data"]):
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        assert read(tmp_path / "train-v2.0.json", text) == NESTED_QUESTIONS


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    for name, content in (("a.json", json.dumps(NESTED)), ("a.jsonl", lines(*NESTED["data"]))):
        assert read(tmp_path / name, "\ufeff" + content) == NESTED_QUESTIONS


def test_the_first_questions_come_before_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_values, "CHARACTERS", 1000)
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"data": NESTED["data"][:1]})[:-2] + ", " + " " * 5000 + "broken")
    questions = stream_questions(f"file:{path}", split="train")
    assert [next(questions), next(questions)] == NESTED_QUESTIONS[:2]
    with pytest.raises(ValueError, match=r"train.json: item 2 is not JSON: Expecting value"):
        next(questions)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_mrqa_lines_are_read_and_their_spans_end_with_their_last_character(tmp_path, ending):
    content = lines(*MRQA).encode()
    path = tmp_path / f"NewsQA{ending}"
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    assert list(stream_questions(f"file:{path}", split="train")) == MRQA_QUESTIONS
    assert [MRQA_QUESTIONS[0].context[start:end] for start, end in MRQA_QUESTIONS[0].spans] == [
        "Ada",
        "Ada",
    ]


@pytest.mark.parametrize(
    ("value", "is_impossible"),
    [
        *((value, True) for value in (True, "True", "yes", 1, "1", 1.0, " TRUE ")),
        *((value, False) for value in (False, "False", "no", 0, "0.0", None, "", float("nan"))),
    ],
)
def test_truth_values_are_read_in_every_form(tmp_path, value, is_impossible):
    (found,) = read(tmp_path / "a.jsonl", lines(FLAT | {"is_impossible": value}))
    assert (found.answers == ()) == is_impossible


@pytest.mark.parametrize("start", [16.0, "16", "16.0", 16])
def test_whole_numbers_are_read_in_every_form(tmp_path, start):
    row = FLAT | {
        "id": 1.0,
        "answers": {"text": ["London", "in London"], "answer_start": [start, 13]},
    }
    assert read(tmp_path / "a.jsonl", lines(row)) == [QUESTION]
    spans = [{"text": "London", "char_spans": [[start, float(21)]]}]
    detected = {
        "qid": "1",
        "question": "Where?",
        "context": CONTEXT,
        "answers": ["London"],
        "detected_answers": spans,
    }
    assert read(tmp_path / "a.jsonl", lines(detected))[0].spans == ((16, 22),)


def test_questions_as_pandas_writes_them_are_read(tmp_path):
    columns = {field: {"0": FLAT[field], "1": FLAT[field]} for field in FLAT} | {
        "id": {"0": "1", "1": "2"}
    }
    for value in (columns, {field: list(values.values()) for field, values in columns.items()}):
        for name in ("a.json", "a.jsonl"):
            assert [found.id for found in read(tmp_path / name, json.dumps(value))] == ["1", "2"]


def test_questions_are_read_packed_and_in_utf_16(tmp_path):
    for name, pack in (("train.json.gz", gzip.compress), ("train.json.xz", lzma.compress)):
        (tmp_path / name).write_bytes(pack(json.dumps(NESTED, ensure_ascii=False).encode("utf-16")))
        assert list(stream_questions(f"file:{tmp_path / name}", split="train")) == NESTED_QUESTIONS


def test_folders_have_the_splits_that_their_files_name(tmp_path):
    names = ("train-v1.1.json", "dev-v1.1.json", "test.jsonl.gz", "README.md", "notes.txt")
    for name in names:
        (tmp_path / name).write_text(lines(FLAT | {"id": name}))
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(lines(FLAT).encode()))
    source = f"file:{tmp_path}"
    assert question_splits(source) == ("validation", "test", "train")
    assert [
        next(stream_questions(source, split=split)).id for split in ("train", "validation", "test")
    ] == ["train-v1.1.json", "dev-v1.1.json", "1"]
    with pytest.raises(ValueError, match="unknown split 'valid'; did you mean 'validation'"):
        stream_questions(source, split="valid")
    (tmp_path / "train-v2.0.json").write_text(lines(FLAT))
    with pytest.raises(ValueError, match=r"'train-v2.0.json' are both the split 'train'; keep one"):
        question_splits(source)


def test_a_single_file_is_any_split(tmp_path):
    read(tmp_path / "dev.jsonl", lines(FLAT))
    assert question_splits(f"file:{tmp_path / 'dev.jsonl'}") == ("validation",)
    assert question_splits(f"file:{tmp_path}") == ("validation",)
    assert list(stream_questions(f"file:{tmp_path}", split="test")) == [QUESTION]


def test_other_fields_may_be_before_or_after_the_list_of_articles(tmp_path):
    around = {"id": "all", "data": NESTED["data"], "version": "v2.0", "more": {"a": [1]}}
    for indent in (None, 2):
        assert read(tmp_path / "a.json", json.dumps(around, indent=indent)) == NESTED_QUESTIONS


def test_a_blank_after_an_answer_at_the_end_of_its_text_is_no_mismatch(tmp_path):
    (question,) = read(tmp_path / "a.jsonl", lines(FLAT | {"answers": [answer("1843. ", 27)]}))
    assert question.answers == ("1843.",) and question.spans == ((27, 32),)


def test_lone_surrogates_are_replaced_and_offsets_stay(tmp_path):
    row = {
        "id": "1",
        "question": "\ud83d?",
        "context": "a\ud83d b",
        "answers": [answer("a\ud83d", 0)],
    }
    (question,) = read(tmp_path / "a.jsonl", lines(row))
    assert question == Question("1", "\ufffd?", "a\ufffd b", ("a\ufffd",), ((0, 2),))


def test_characters_beyond_the_first_plane_count_once(tmp_path):
    row = {
        "id": "1",
        "question": "?",
        "context": "🎬 e\u0301 日本",
        "answers": [answer("日", 5), answer("e\u0301", 2)],
    }
    assert read(tmp_path / "a.jsonl", lines(row))[0].spans == ((5, 6), (2, 4))
