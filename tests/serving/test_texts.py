"""All texts of a file, with a column of labels where one is named."""

import json

import pytest

from adapler_jax.serving.texts import Texts, read_texts
from tests.training.runs import silent

ROWS = [
    {"text": "a good film", "stars": "good", "id": 1},
    {"text": "a bad film", "stars": "bad", "id": 2},
    {"text": "films", "stars": None, "id": 3},
]


@pytest.fixture(name="lines")
def _lines(tmp_path):
    path = tmp_path / "reviews.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return str(path)


def test_texts_without_a_column_of_labels_have_none(lines):
    assert read_texts(None, lines, log=silent) == Texts([row["text"] for row in ROWS], None)


def test_labels_are_in_the_order_of_the_texts(lines):
    found = read_texts(None, lines, label_column="stars", log=silent)
    assert found.texts == [row["text"] for row in ROWS]
    assert found.labels == ["good", "bad", "None"]  # no class of a model, which then says so


def test_labels_may_be_numbers(lines):
    assert read_texts(None, lines, label_column="id", log=silent).labels == ["1", "2", "3"]


@pytest.mark.parametrize(("ending", "between"), [("csv", ","), ("tsv", "\t")])
def test_tables_have_labels_too(tmp_path, ending, between):
    path = tmp_path / f"reviews.{ending}"
    rows = [("review", "label"), ("a film", "good"), ("films", "bad")]
    path.write_text("".join(f"{between.join(row)}\n" for row in rows))
    found = read_texts(None, str(path), columns=["review"], label_column="label", log=silent)
    assert found == Texts(["a film", "films"], ["good", "bad"])


def test_pairs_have_labels_too(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("one,other,label\na,b,yes\nc,d,no\n")
    found = read_texts(None, str(path), columns=["one", "other"], label_column="label", log=silent)
    assert found == Texts([("a", "b"), ("c", "d")], ["yes", "no"])


def test_a_column_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,stars\na film,good\n")
    with pytest.raises(ValueError, match="has no column label; it has text, stars"):
        read_texts(None, str(path), label_column="label", log=silent)


def test_text_lines_have_no_labels(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("a film\n")
    with pytest.raises(ValueError, match="text lines have no columns, so no column label"):
        read_texts(None, str(path), label_column="label", log=silent)
