"""The benchmark of rerankers at a small size."""

import json

import numpy as np
import pytest

from adapler_jax.data.ranking.collections import Collection
from adapler_jax.heads import regression
from adapler_jax.inference.reranker import Reranker
from adapler_jax.metrics.ranking import order_of
from benchmarks import rerank
from tests.inference.test_reranker import save

WORDS = ["good", "bad", "film", "a"]
DOCUMENTS = {f"d{number}": f"{WORDS[number % 4]} film {number % 3 * 'a '}." for number in range(24)}
QUERIES = {f"q{number}": f"{WORDS[number % 2]} {number * 'a '}" for number in range(20)}
COLLECTION = Collection(
    DOCUMENTS, QUERIES, {query: {"d0": 2.0, "d1": 0.0, "d2": 1.0} for query in QUERIES}
)
SCORED = np.linspace(1.0, 0.0, 24)
CANDIDATES = rerank.Candidates(
    {query: list(DOCUMENTS) for query in QUERIES}, dict.fromkeys(QUERIES, SCORED)
)


def test_queries_are_in_one_part_each():
    parts = rerank.split_queries(list(QUERIES))
    assert {name: len(keys) for name, keys in parts.items()} == {
        "train": 10,
        "validation": 2,
        "test": 8,
    }
    assert sorted([key for keys in parts.values() for key in keys]) == sorted(QUERIES)
    assert parts == rerank.split_queries(list(QUERIES))


def test_training_pairs_are_the_relevant_documents_and_others(tmp_path):
    rerank.write_training(tmp_path, COLLECTION, CANDIDATES)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 10 * (2 + rerank.NUM_NEGATIVES)
    labels = [row["relevance"] for row in rows if row["query"] == rows[0]["query"]]
    assert labels == [1.0, 1.0] + [0.0] * rerank.NUM_NEGATIVES
    parts = rerank.split_queries(list(QUERIES))
    test = {QUERIES[query] for query in parts["test"]}
    tested = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len(tested) == 8 * 24 and {row["query"] for row in tested} == test
    assert not test & {row["query"] for row in rows}
    pairs = rerank.pairs_to_compress(COLLECTION, CANDIDATES)
    assert len(pairs) == 12 * 24 and not test & {query for query, _ in pairs}


def test_a_missed_document_costs_ndcg():
    perfect = rerank.mean_ndcg(COLLECTION, {"q0": ["d0", "d2"]}, {"q0": np.array([2.0, 1.0])})
    missed = rerank.mean_ndcg(COLLECTION, {"q0": ["d0", "d1"]}, {"q0": np.array([2.0, 1.0])})
    assert perfect == 1.0
    assert missed == pytest.approx(2.0 / (2.0 + 1.0 / np.log2(3)))


@pytest.mark.compare
def test_bm25_finds_the_words_of_a_query():
    pytest.importorskip("rank_bm25")
    found = rerank.find_candidates(COLLECTION, 5)
    assert [len(keys) for keys in found.documents.values()] == [5] * 20
    assert all("bad" in DOCUMENTS[key] for key in found.documents["q1"])


@pytest.mark.long
def test_rows_compare_every_model_with_the_first(tmp_path):
    dense = save(tmp_path / "dense", regression(), pruner_name="keep_all")
    pruned = save(tmp_path / "pruned", regression())
    models = {"dense": dense, "adapler-2x": pruned}
    first, second = rerank.measure_models(COLLECTION, CANDIDATES, models, task="tiny", seed=0)
    assert first["flops_speedup"] == first["top10_overlap"] == 1.0
    assert first["kendall_tau"] == pytest.approx(1.0)
    assert first["num_queries"] == 8 and first["num_pairs"] == 8 * 24
    assert first["bm25_ndcg10"] == second["bm25_ndcg10"] > 0.8
    assert second["flops_speedup"] > 1.0 and second["dense_ndcg10"] == first["ndcg10"]
    overlaps = []
    for query in rerank.split_queries(list(QUERIES))["test"]:
        pairs = [(QUERIES[query], text) for text in DOCUMENTS.values()]
        tops = [order_of(Reranker.load(path).predict(pairs))[:10] for path in (dense, pruned)]
        overlaps.append(len(set(tops[0].tolist()) & set(tops[1].tolist())) / 10)
    assert second["top10_overlap"] == pytest.approx(np.mean(overlaps), abs=0.03)  # near ties
