"""The files of MS MARCO, and rows of a query with relevant documents and others."""

import gzip
import json

import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.ranking.msmarco import read_msmarco, read_triples


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A small copy of the published files."""
    (tmp_path / "collection.tsv").write_text('0\tA "quoted wing\n1\tplate\n2\tflow\n')
    (tmp_path / "queries.dev.tsv").write_text("10\twhat is lift\n11\tno judgement\n\n")
    (tmp_path / "qrels.dev.tsv").write_text("10\t0\t0\t1\n10\t0\t2\t0\n")
    return tmp_path


def test_passages_queries_and_judgements_are_read(folder):
    found = read_msmarco(folder)
    assert found.documents == {"0": 'A "quoted wing', "1": "plate", "2": "flow"}
    assert found.queries == {"10": "what is lift"}
    assert found.relevance == {"10": {"0": 1.0, "2": 0.0}} and found.relevant("10") == ["0"]


def test_compressed_files_and_other_splits_are_read(folder):
    with gzip.open(folder / "collection.tsv.gz", "wt") as file:
        file.write((folder / "collection.tsv").read_text())
    (folder / "collection.tsv").unlink()
    for name in ("queries", "qrels"):
        (folder / f"{name}.dev.tsv").rename(folder / f"{name}.train.tsv")
    assert len(read_msmarco(folder, split="train").documents) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("collection.tsv", "0\ta\n0\tb\n", "has the id '0' twice"),
        ("collection.tsv", "0\ta\tb\n", "line 1 has 3 columns; expected 2 with tabs"),
        ("qrels.dev.tsv", "10\t0\t9\t1\n", "judges document '9' for query '10'; expected ids"),
        ("qrels.dev.tsv", "10\t0\t0\tgood\n", "has the score 'good'; expected a number"),
        ("qrels.dev.tsv", "", "qrels.dev.tsv judges no document; expected one"),
        ("queries.dev.tsv", None, "has no queries.dev.tsv; MS MARCO has collection.tsv"),
    ],
)
def test_a_malformed_file_is_named(folder, name, text, message):
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_msmarco(folder)


def test_triples_are_read_line_by_line(tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("q\tgood\tbad\nq\tfine\n")
    found = read_triples(path)
    assert next(found) == ("q", "good", "bad")
    with pytest.raises(ValueError, match="line 2 has 2 columns; expected 3"):
        next(found)
    with pytest.raises(ValueError, match="does not exist; give a file of triples"):
        next(read_triples(tmp_path / "none.tsv"))


CONTRASTS = {"text": "query", "positive": "good", "negative": "bad"}
ROWS = [
    {"query": "a", "good": "a1", "bad": ["a2", "a3"]},
    {"query": "b", "good": ["b1", "b2"], "bad": None},
    {"query": "a", "good": "a4", "bad": "a5"},
]


def load(path, rows, columns):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return load_task("custom_scores", source=f"file:{path}", columns=columns, split_fractions={})


def test_relevant_documents_and_others_are_pairs_with_numbers(tmp_path):
    train = load(tmp_path / "train.jsonl", ROWS, CONTRASTS).split("train")
    assert list(zip(*zip(*train.inputs), train.labels.tolist())) == [
        ("a", "a2", 0.0),
        ("a", "a3", 0.0),
        ("a", "a5", 0.0),
        ("a", "a1", 1.0),
        ("a", "a4", 1.0),
        ("b", "b1", 1.0),
        ("b", "b2", 1.0),
    ]


def test_a_document_has_one_number_for_a_query(tmp_path):
    rows = [
        {"query": "a", "good": "a1", "bad": "a2"},
        {"query": "a", "good": "a1", "bad": '["a1", "a3"]'},
    ]
    train = load(tmp_path / "train.jsonl", rows, CONTRASTS).split("train")
    assert dict(zip(train.text_pairs, train.labels.tolist())) == {"a1": 1.0, "a2": 0.0, "a3": 0.0}
    assert len(train) == 3


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (ROWS, {"text": "query", "positive": "good"}, "expected text, positive and negative"),
        (ROWS, CONTRASTS | {"label": "x"}, "expected text, positive and negative, or text, text"),
        (ROWS, CONTRASTS | {"negative": "worse"}, "unknown column 'worse'"),
        ([{"query": ["a"], "good": "b", "bad": "c"}], CONTRASTS, "row 1 has .* in column 'query'"),
        ([{"query": "a", "good": 3, "bad": "b"}], CONTRASTS, "row 1 has 3 in column 'good'"),
    ],
)
def test_rows_that_do_not_fit_are_named(tmp_path, rows, columns, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "train.jsonl", rows, columns)


def test_tasks_of_classes_have_no_relevant_documents(tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n')
    with pytest.raises(ValueError, match="unknown column role 'positive'"):
        load_task("custom", source=f"file:{path}", columns={"positive": "text"})
