r"""Train a reranker on a collection in BEIR's form, and compress it by its own scores.

    python -m benchmarks.rerank --data=DIR --task=cranfield --model=DIR --runs=runs/rerank \
        --json=benchmarks/results/rerank-cranfield.json

The queries are divided once: half for training, a tenth for validation, the others for the test.
BM25 gives the documents that are ranked for a query. The reranker is trained on the relevant
documents of the training queries and on others that BM25 found. It is compressed with the training
and validation queries' documents, without their labels.

Rows have the columns `method`, `flops_speedup` on true tokens, `ndcg10` against all judgements of
the query, and `top10_overlap` and `kendall_tau` with the dense model. All are means over the test
queries. `dense` is the trained reranker.
"""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.ranking.collections import Collection, labelled_pairs, read_collection
from adapler_jax.evaluation.passes import run_saved
from adapler_jax.evaluation.task_texts import batches_and_rows
from adapler_jax.inference.reranker import Reranker
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.io.records import print_table
from adapler_jax.io.terminal import print_note
from adapler_jax.metrics.ranking import compare_orders, ndcg, order_of
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.training.methods.adapler import calibration_name
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import target_name
from adapler_jax.weights.save import load_model
from benchmarks.methods import config_of, parse_changes
from benchmarks.records import Record
from configs import finetune

SHARES = {"train": 0.5, "validation": 0.1}  # of the queries; the others are the test's
SPLIT_SEED = 0
NUM_NEGATIVES = 20  # of a training query, drawn from its candidates
NUM_COMPRESSED = 30  # first candidates of a query that the reranker is compressed with
COLUMNS = {"text": "query", "text_pair": "document", "label": "relevance"}
TRAINED = "adapler"


class Candidates(NamedTuple):
    """The documents that BM25 finds for each query, the best first."""

    documents: dict[str, list[str]]  # ids by the query's id
    scores: dict[str, np.ndarray]  # of these documents


def split_queries(queries: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of the queries of train, validation and test."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(queries)).tolist()
    parts, start = {}, 0
    for name, share in SHARES.items():
        end = start + round(share * len(queries))
        parts[name], start = [queries[index] for index in order[start:end]], end
    return parts | {"test": [queries[index] for index in order[start:]]}


def find_candidates(collection: Collection, num_candidates: int) -> Candidates:
    """Return the first documents by BM25 for every query."""
    import rank_bm25

    ids = list(collection.documents)
    index = rank_bm25.BM25Okapi([_words(collection.documents[key]) for key in ids])
    found = Candidates({}, {})
    for query, text in collection.queries.items():
        score_X = index.get_scores(_words(text))
        first = order_of(score_X)[:num_candidates].tolist()
        found.documents[query] = [ids[row] for row in first]
        found.scores[query] = score_X[first]
    return found


def _words(text: str) -> list[str]:
    """Return the words that BM25 counts."""
    return re.findall(r"\w+", text.lower())


def write_training(directory: pathlib.Path, collection: Collection, candidates: Candidates) -> None:
    """Write train.jsonl, validation.jsonl and test.jsonl; a relevant document has the label 1.

    The test has the candidates of its queries alone, in their order.
    """
    parts, rng = split_queries(list(collection.queries)), np.random.default_rng(SPLIT_SEED)
    directory.mkdir(parents=True, exist_ok=True)
    for split in parts:
        chosen = {}
        for query in parts[split]:
            if split == "test":
                chosen[query] = candidates.documents[query]
                continue
            relevant = collection.relevant(query)
            others = [key for key in candidates.documents[query] if key not in relevant]
            if split == "train":
                rows = rng.permutation(len(others))[:NUM_NEGATIVES]
                others = [others[row] for row in rows]
            chosen[query] = relevant + others[:NUM_COMPRESSED]
        rows = [
            dict(zip(COLUMNS.values(), (query, text, float(gain > 0))))
            for query, text, gain in labelled_pairs(collection, chosen)
        ]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        replace_text(directory / f"{split}.jsonl", text)


def pairs_to_compress(collection: Collection, candidates: Candidates) -> list[tuple[str, str]]:
    """Return pairs of the queries that are not the test's, without labels."""
    parts = split_queries(list(collection.queries))
    chosen = {
        query: candidates.documents[query][:NUM_COMPRESSED]
        for split in SHARES
        for query in parts[split]
    }
    return [(query, text) for query, text, _ in labelled_pairs(collection, chosen)]


class Scores(NamedTuple):
    """A model's scores of the test queries' documents, in their order."""

    score_E: np.ndarray  # logits
    flops_speedup: float


def score_pairs(directory, pairs: Sequence[tuple[str, str]]) -> Scores:
    """Score pairs by a saved reranker, and count its operations."""
    saved, reranker = load_model(directory), Reranker.load(directory, driver="packed")
    found = batches_and_rows(reranker, pairs, (reranker.max_length,))
    batches = [batch for _, batch in found]
    with Heartbeat(lambda: f"{directory}: scoring {len(pairs):,} pairs"):
        logits_E1, speedup = run_saved(saved, batches, driver="packed")
    score_E = np.zeros(len(pairs))
    score_E[np.concatenate([row_B for row_B, _ in found])] = logits_E1[:, 0]
    return Scores(score_E, speedup)


def mean_ndcg(
    collection: Collection, documents: Mapping[str, Sequence[str]], scores: Mapping[str, np.ndarray]
) -> float:
    """Return the mean NDCG@10 of the queries, against all their judgements."""
    found = [
        ndcg(
            scores[query],
            [collection.relevance[query].get(key, 0.0) for key in keys],
            all_gains=list(collection.relevance[query].values()),
        )
        for query, keys in documents.items()
        if collection.relevant(query)
    ]
    return float(np.mean(found))


def find_models(out: pathlib.Path, speedups: Sequence[float]) -> dict[str, pathlib.Path]:
    """Return the directories of the compressed models by method and speedup."""
    found = {}
    for speedup in speedups:
        for method in ("attention", "vocabulary"):
            found[f"{method}-{speedup:g}x"] = out / target_name(method, speedup)
        found[f"{TRAINED}-{speedup:g}x"] = out / "run" / calibration_name(speedup) / "model"
    return {name: path for name, path in found.items() if (path / "config.json").exists()}


def run_seed(options, changes: dict, seed: int, collection: Collection, *, log) -> list[dict]:
    """Train and compress a reranker, and return its rows."""
    candidates = find_candidates(collection, options.num_candidates)
    speedups = tuple(map(float, options.speedups))
    root = pathlib.Path(options.runs)
    write_training(root / "pairs", collection, candidates)
    fields = {
        "data.source": f"file:{root / 'pairs'}",
        "data.columns": COLUMNS,
        "data.activation": "sigmoid",
        "data.metric": "ndcg@10",
        "data.max_length": 256,
        "reinit_head": True,
    }
    config = config_of(finetune, "custom_scores", seed, fields | changes)
    workdir = root / f"seed{seed}"
    run_all(config, workdir, log=log)
    full = workdir / "finetune" / "model"
    pairs = pairs_to_compress(collection, candidates)
    for speedup in speedups:
        asked = CompressOptions(speedup, train=options.train, max_length=256)
        compress(full, pairs, workdir / "compressed", options=asked, log=log)
    models = {"dense": full} | find_models(workdir / "compressed", speedups)
    return measure_models(collection, candidates, models, task=options.task, seed=seed)


def measure_models(
    collection: Collection,
    candidates: Candidates,
    models: Mapping[str, pathlib.Path],
    *,
    task: str,
    seed: int,
) -> list[dict]:
    """Return a row for each model on the test queries; the first model is the dense one."""
    queries = split_queries(list(collection.queries))["test"]
    documents = {query: candidates.documents[query] for query in queries}
    pairs = [(query, text) for query, text, _ in labelled_pairs(collection, documents)]
    size_Q = [len(keys) for keys in documents.values()]
    group_E = np.repeat(np.arange(len(size_Q)), size_Q)
    bm25 = mean_ndcg(collection, documents, candidates.scores)
    rows: list[dict] = []
    dense_E = None
    for name, directory in models.items():
        found = score_pairs(directory, pairs)
        dense_E = found.score_E if dense_E is None else dense_E
        by_query = dict(zip(documents, np.split(found.score_E, np.cumsum(size_Q)[:-1])))
        score = mean_ndcg(collection, documents, by_query)
        row = {
            "task": task,
            "method": name,
            "seed": seed,
            "flops_speedup": found.flops_speedup,
            "ndcg10": score,
            "dense_ndcg10": rows[0]["ndcg10"] if rows else score,
            "bm25_ndcg10": bm25,
            "num_queries": len(queries),
            "num_pairs": len(pairs),
        }
        rows.append(row | compare_orders(found.score_E, dense_E, group_E).means())
        print_table(rows[-1:])
    return rows


def main(options):
    """Measure the seeds that the record lacks, and print its rows."""
    changes = {"model": options.model} | parse_changes(options.set)
    collection = read_collection(options.data)
    record = Record(
        options.json,
        {"task": options.task, "num_candidates": options.num_candidates} | changes,
        module="benchmarks.rerank",
    )
    there = {row["seed"] for row in record.rows}
    for seed in sorted(set(map(int, options.seeds)) - there):
        record.add(run_seed(options, changes, seed, collection, log=print_note))
    print_table(record.rows)


if __name__ == "__main__":
    flags.DEFINE_string("data", None, "folder of the collection")
    flags.DEFINE_string("task", None, "its name in the record")
    flags.DEFINE_string("model", "bert-base-uncased", "local directory or hub name of a BERT")
    flags.DEFINE_multi_string("set", [], "FIELD=VALUE of configs/finetune.py; may be given again")
    flags.DEFINE_string("runs", None, "folder of the workdirs")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "training seeds; the splits stay the same")
    flags.DEFINE_list("speedups", ["2", "3"], "FLOPs speedups to compress to")
    flags.DEFINE_integer("num_candidates", 100, "documents of a query, by BM25")
    flags.DEFINE_bool("train", True, "train AdapLeR too, not only the methods without training")
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.mark_flags_as_required(["data", "task", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
