"""Collections in BEIR's form."""

import gzip
import json

import pytest

from adapler_jax.data.ranking.collections import labelled_pairs, read_collection

DOCUMENTS = [
    {"_id": "7", "title": "Wings", "text": "lift of a wing"},
    {"_id": "b", "title": "", "text": "a plate"},
    {"_id": "3", "title": "Flow", "text": "Flow over a plate"},
    {"_id": "4", "title": "empty", "text": ""},
]
QUERIES = [{"_id": "q1", "text": "what is lift"}, {"_id": "2", "text": "no judgement"}]


def lines(rows):
    return "".join(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """A small collection."""
    (tmp_path / "corpus.jsonl").write_text(lines(DOCUMENTS))
    (tmp_path / "queries.jsonl").write_text(lines(QUERIES))
    write_relevance(tmp_path / "qrels.tsv")
    return tmp_path


def write_relevance(path, *rows):
    rows = rows or ("q1\t7\t2", "q1\tb\t0", "q1\t3\t1")
    path.parent.mkdir(exist_ok=True)
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{row}\n" for row in rows))


def test_a_collection_has_texts_with_titles_and_judged_queries(folder):
    found = read_collection(folder)
    assert found.documents == {
        "7": "Wings lift of a wing",
        "b": "a plate",
        "3": "Flow over a plate",
        "4": "empty",
    }
    assert found.queries == {"q1": "what is lift"}
    assert found.relevance == {"q1": {"7": 2.0, "b": 0.0, "3": 1.0}}
    assert found.relevant("q1") == ["7", "3"]


def test_splits_and_compressed_files_are_read(folder):
    (folder / "qrels.tsv").unlink()
    write_relevance(folder / "qrels" / "test.tsv")
    write_relevance(folder / "qrels" / "dev.tsv", "2\t4\t1")
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
        file.write((folder / "corpus.jsonl").read_text())
    (folder / "corpus.jsonl").unlink()
    assert list(read_collection(folder).queries) == ["q1"]
    assert read_collection(folder, split="dev").relevance == {"2": {"4": 1.0}}


def test_candidates_become_pairs_with_gains(folder):
    pairs = labelled_pairs(read_collection(folder), {"q1": ["b", "7", "4"]})
    assert pairs == [
        ("what is lift", "a plate", 0.0),
        ("what is lift", "Wings lift of a wing", 2.0),
        ("what is lift", "empty", 0.0),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "corpus.jsonl").unlink(), "has no corpus.jsonl; a collection"),
        (lambda folder: (folder / "qrels.tsv").unlink(), "has no qrels.tsv or qrels/test.tsv"),
        (
            lambda folder: write_relevance(folder / "qrels.tsv", "q1\t9\t1"),
            "judges document '9' for query 'q1'; expected ids",
        ),
        (
            lambda folder: write_relevance(folder / "qrels.tsv", "q1\t7\tnan"),
            "has the score 'nan'; expected a number",
        ),
        (
            lambda folder: (folder / "corpus.jsonl").write_text(lines([*DOCUMENTS, DOCUMENTS[0]])),
            "has the id '7' twice",
        ),
        (
            lambda folder: write_relevance(folder / "qrels.tsv", "q1\t7\tyes"),
            "has the score 'yes'; expected a number",
        ),
        (
            lambda folder: (folder / "queries.jsonl").write_text(lines([{"id": "1", "text": "a"}])),
            "has no columns _id; there are id, text",
        ),
    ],
)
def test_damaged_collections_are_named(folder, change, message):
    change(folder)
    with pytest.raises(ValueError, match=message):
        read_collection(folder)
