"""Rows of tensorflow-datasets become the same questions as files do."""

import numpy as np

from adapler_jax.data.qa.question_files import tfds_rows
from adapler_jax.data.qa.questions import Question, parse_question
from tests.data.qa.published import CONTEXT, MRQA, MRQA_QUESTIONS, QUESTION


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
