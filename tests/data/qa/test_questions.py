"""Questions are read as a stream from every public form, and bad rows are named."""

import gzip
import json
import lzma
import re

import numpy as np
import pytest

from adapler_jax.data.qa.question_files import tfds_rows
from adapler_jax.data.qa.questions import (
    Question,
    ReadStats,
    find_answers,
    parse_question,
    question_splits,
    stream_questions,
)
from adapler_jax.data.sources import json_values

CONTEXT = "Ada wrote it in London, in 1843."
FLAT = {
    "id": "1",
    "question": "Where?",
    "context": CONTEXT,
    "answers": {"text": ["London", "in London", "London"], "answer_start": [16, 13, 16]},
}
QUESTION = Question("1", "Where?", CONTEXT, ("London", "in London"), ((16, 22), (13, 22)))


def answer(text, start):
    """An answer as SQuAD publishes it."""
    return {"text": text, "answer_start": start}


NESTED = {
    "version": "v2.0",
    "data": [
        {
            "title": "Ada [Lovelace]",
            "paragraphs": [
                {
                    "qas": [
                        {
                            "question": "Where?",
                            "id": "1",
                            "answers": [answer("London", 16), answer("in London", 13)],
                        },
                        {
                            "question": "Who else?",
                            "id": "2",
                            "answers": [],
                            "plausible_answers": [answer("Ada", 0)],
                            "is_impossible": True,
                        },
                    ],
                    "context": CONTEXT,
                }
            ],
        },
        {
            "title": "Ö",
            "paragraphs": [
                {
                    "context": "Ä ö",
                    "qas": [{"question": "?", "id": "3", "answers": [answer("ö", 2)]}],
                }
            ],
        },
    ],
}
NESTED_QUESTIONS = [
    QUESTION,
    Question("2", "Who else?", CONTEXT, (), ()),
    Question("3", "?", "Ä ö", ("ö",), ((2, 3),)),
]

MRQA = [
    {"header": {"dataset": "NewsQA", "split": "train"}},
    {
        "id": "",
        "context": "[DOC] [TLE] Ada [PAR] In London, Ada wrote.",
        "context_tokens": [["[DOC]", 0]],
        "qas": [
            {
                "qid": "a",
                "question": "Who?",
                "answers": ["Ada", "Ada Lovelace"],
                "detected_answers": [
                    {"text": "ada", "char_spans": [[12, 14], [33, 35]], "token_spans": [[2, 2]]}
                ],
            },
            {"qid": "b", "question": "When?", "answers": ["1843"], "detected_answers": []},
        ],
    },
]
MRQA_QUESTIONS = [
    Question("a", "Who?", MRQA[1]["context"], ("Ada", "Ada Lovelace"), ((12, 15), (33, 36))),
    Question("b", "When?", MRQA[1]["context"], ("1843",), ()),
]


def lines(*rows):
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read(path, content, **options):
    """The questions of a file with this content."""
    path.write_text(content, encoding="utf-8")
    return list(stream_questions(f"file:{path}", split="train", **options))


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


def test_a_damaged_gzip_is_named(tmp_path):
    path = tmp_path / "train.jsonl.gz"
    for content in (gzip.compress(lines(*MRQA).encode())[:-20], b"plain"):
        path.write_bytes(content)
        with pytest.raises(
            ValueError, match=r"train.jsonl.gz is not a whole gzip file: .*; fetch it again"
        ):
            list(stream_questions(f"file:{path}", split="train"))


def test_triviaqas_files_give_a_question_a_document(tmp_path):
    answers = {
        "Value": "London",
        "Aliases": ["Londres", "Lon-don"],
        "NormalizedAliases": ["londres"],
    }
    pages = [{"Filename": "Ada.txt"}, {"Filename": "gone.txt"}, {"Title": "no file"}]
    rows = [
        {"QuestionId": "tc_1", "Question": "Where?", "Answer": answers, "EntityPages": pages},
        {"QuestionId": "tc_2", "Question": "Where?", "SearchResults": [{"Filename": "1/1.txt"}]},
    ]
    for name, text in (
        ("wikipedia/Ada.txt", "Ada in LONDON,\nnot in Londonderry"),
        ("web/1/1.txt", ""),
    ):
        (tmp_path / "evidence" / name).parent.mkdir(parents=True)
        (tmp_path / "evidence" / name).write_text(text, encoding="utf-8")
    (tmp_path / "qa").mkdir()
    path, stats = tmp_path / "qa" / "wikipedia-train.json", ReadStats()
    content = json.dumps({"Data": rows, "Domain": "Wikipedia", "Version": 1.0}, indent=4)
    aliases = ("Londres", "Lon-don", "London")
    assert read(path, content, skip_mismatched=True, stats=stats) == [
        Question(
            "tc_1--Ada.txt", "Where?", "Ada in LONDON,\nnot in Londonderry", aliases, ((7, 13),)
        ),
        Question("tc_2--1/1.txt", "Where?", "", (), ()),
    ]
    assert (stats.num_questions, stats.num_skipped) == (2, 1) and "gone.txt" in stats.first_skipped
    with pytest.raises(ValueError, match=r"item 1 \(id tc_1--gone.txt\): there is no document"):
        read(path, content)


@pytest.mark.parametrize(
    "name",
    [
        "../../../outside.txt",
        "/etc/hostname",
        "link.txt",
        "folder/../../../../outside.txt",
        "..",
        "a\0b",
        3,
        "",
    ],
)
def test_documents_outside_of_their_folder_are_rejected(tmp_path, name):
    (tmp_path / "evidence" / "web").mkdir(parents=True)
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "evidence" / "web" / "link.txt").symlink_to(tmp_path / "outside.txt")
    (tmp_path / "qa").mkdir()
    row = {
        "QuestionId": "q",
        "Question": "?",
        "Answer": {"Aliases": ["secret"]},
        "SearchResults": [{"Filename": name}],
    }
    with pytest.raises(
        ValueError,
        match=r"train.json: item 1, SearchResults 1 names the file .*(outside of|expected)",
    ):
        read(tmp_path / "qa" / "train.json", json.dumps({"Data": [row]}), skip_mismatched=True)


def test_a_folder_of_documents_that_is_a_link_out_is_rejected(tmp_path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "1.txt").write_text("secret")
    (tmp_path / "evidence" / "web").symlink_to(tmp_path / "away")
    row = {"QuestionId": "q", "Question": "?", "Answer": {"Aliases": ["secret"]}}
    row["SearchResults"] = [{"Filename": "1.txt"}]
    (tmp_path / "qa").mkdir()
    with pytest.raises(ValueError, match="names the file 'web', which is outside of"):
        read(tmp_path / "qa" / "train.json", json.dumps({"Data": [row]}), skip_mismatched=True)


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


def test_values_that_are_no_truth_value_are_rejected_by_field(tmp_path):
    for value in ("maybe", 2, [True], 0.5):
        with pytest.raises(
            ValueError, match=r"line 1 \(id 1\) has .* as 'is_impossible'; expected true or false"
        ):
            read(tmp_path / "a.jsonl", lines(FLAT | {"is_impossible": value}))


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


def test_aliases_are_found_as_whole_words_the_longest_first():
    text = "New  York City, new york; Newyork. NEW\nYORK? C++ (USA) usa"
    found = find_answers(
        text, ["New York", "New York City", "C++", "(USA)", "usa", " ", "New York"]
    )
    assert [text[start:end] for start, end in found] == [
        "New  York City",
        "new york",
        "NEW\nYORK",
        "C++",
        "(USA)",
        "usa",
    ]
    assert find_answers("text", []) == find_answers("text", [" "]) == []


def texts(*values):
    """Strings as tensorflow-datasets gives them."""
    return np.asarray([value.encode() for value in values], object)


def questions_of(*rows):
    """The questions of rows of tensorflow-datasets."""
    return [parse_question(row, where) for where, row in tfds_rows(rows, "tfds:x train")]


def test_rows_of_tensorflow_datasets_squad_are_read():
    row = {
        "id": b"1",
        "title": b"t",
        "question": b"Where?",
        "context": CONTEXT.encode(),
        "answers": {
            "text": texts("London", "in London"),
            "answer_start": np.asarray([16, 13], np.int32),
        },
    }
    nothing = {"text": np.zeros(0, object), "answer_start": np.zeros(0, np.int32)}
    impossible = row | {
        "id": b"2",
        "answers": nothing,
        "plausible_answers": row["answers"],
        "is_impossible": True,
    }
    assert questions_of(row, impossible) == [QUESTION, Question("2", "Where?", CONTEXT, (), ())]


def test_rows_of_tensorflow_datasets_mrqa_are_read():
    ragged = {"start": [np.asarray([12, 33])], "end": [np.asarray([14, 35])]}
    row = {
        "qid": b"a",
        "question": b"Who?",
        "context": MRQA[1]["context"].encode(),
        "detected_answers": {"text": texts("Ada"), "char_spans": ragged, "token_spans": ragged},
        "answers": texts("Ada", "Ada Lovelace"),
    }
    assert questions_of(row) == MRQA_QUESTIONS[:1]


def test_rows_of_tensorflow_datasets_trivia_qa_give_a_question_a_document():
    row = {
        "question_id": b"tc_1",
        "question": b"Where?",
        "answer": {
            "aliases": texts("London"),
            "value": b"London",
            "normalized_aliases": texts("london"),
        },
        "entity_pages": {
            "filename": texts("Ada.txt"),
            "wiki_context": texts("in london"),
            "title": texts("Ada"),
        },
        "search_results": {"filename": texts("1.txt"), "search_context": texts("Paris")},
    }
    unknown = row | {"answer": {"aliases": np.zeros(0, object), "value": b"<unk>"}}
    assert questions_of(row) == [
        Question("tc_1--Ada.txt", "Where?", "in london", ("London",), ((3, 9),)),
        Question("tc_1--1.txt", "Where?", "Paris", ("London",), ()),
    ]
    assert [question.answers for question in questions_of(unknown)] == [(), ()]


def test_a_document_that_triviaqa_has_in_several_files_is_one_question(tmp_path):
    (tmp_path / "evidence/wikipedia").mkdir(parents=True)
    (tmp_path / "evidence/wikipedia/Ada.txt").write_text("in London")
    (tmp_path / "qa").mkdir()
    row = {"Question": "Where?", "QuestionId": "tc_1", "Answer": {"Value": "London", "Aliases": []}}
    row |= {"EntityPages": [{"Filename": "Ada.txt"}]}
    (question,) = read(tmp_path / "qa/train.jsonl", lines(row, row))
    assert (question.id, question.answers) == ("tc_1--Ada.txt", ("London",))
    flat = {"id": "1", "question": "Where?", "context": "in London", "aliases": ["London"]}
    with pytest.raises(ValueError, match=r"questions 1 and 2, .* have one id"):
        read(tmp_path / "flat.jsonl", lines(flat, flat | {"context": "in Paris"}))


def test_mrqas_spans_are_columns_in_tensorflow_datasets():
    """Each of several detected answers has its own list of starts and of ends."""
    row = {
        "qid": b"a",
        "question": b"?",
        "context": b"x y x",
        "detected_answers": {
            "text": texts("x", "y"),
            "char_spans": {
                "start": [np.asarray([0, 4]), np.asarray([2])],
                "end": [np.asarray([0, 4]), np.asarray([2])],
            },
        },
        "answers": texts("x", "y"),
    }
    assert questions_of(row)[0].spans == ((0, 1), (4, 5), (2, 3))


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
