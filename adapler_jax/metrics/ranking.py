"""Score numbers: correlations over all examples, and orders of the documents of a query.

Relevance is a label; a document is relevant where its label is above 0, and the label is its gain.
The metrics of queries are means over the queries with a relevant document, and need one. Of equal
scores the least relevant document comes first, so that no order of a file helps. Kendall's tau
compares with any numbers, as the scores of another model.

    X documents of a query
    B examples
    G queries
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from adapler_jax.io.messages import explain_unknown
from adapler_jax.metrics.classification import pearson, spearman

TOP = 10  # documents of an overlap

CORRELATIONS: dict[str, Callable] = {"pearson": pearson, "spearman": spearman}


def order_of(score_X) -> np.ndarray:
    """Return the documents by falling score, int64 [X]; equal scores keep their order."""
    return np.argsort(-np.asarray(score_X, np.float64), kind="stable")


def ranked_gains(score_X, gain_X) -> np.ndarray:
    """Return gains by falling score, float64 [X]; of equal scores the smallest gain first."""
    score_X, gain_X = np.asarray(score_X, np.float64), np.asarray(gain_X, np.float64)
    return gain_X[np.lexsort((gain_X, -score_X))]


def ndcg(score_X, gain_X, *, k: int = TOP, all_gains=None) -> float:
    """Compute DCG of the first k over the DCG of the best order.

        DCG = sum_i gain_i / log2(i + 1),   i from 1

    Args:
      score_X: of the ranked documents.
      gain_X: of the ranked documents.
      k: first documents that count.
      all_gains: of all documents of the query, where some are not ranked; None for gain_X.

    Source: Jarvelin and Kekalainen, 2002, with linear gains, as trec_eval and BEIR score it.
    """
    found = ranked_gains(score_X, gain_X)
    best = np.sort(gain_X if all_gains is None else all_gains)[::-1]
    return _dcg(found[:k]) / _dcg(best[:k])


def _dcg(gain_X) -> float:
    """Compute the discounted cumulative gain of an order."""
    gain_X = np.maximum(np.asarray(gain_X, np.float64), 0.0)
    return float(np.sum(gain_X / np.log2(np.arange(2, len(gain_X) + 2))))


def reciprocal_rank(score_X, gain_X, *, k: int = TOP) -> float:
    """Compute 1 / the rank of the first relevant document; 0 where it is not in the first k."""
    rank_X = np.flatnonzero(ranked_gains(score_X, gain_X) > 0)
    return float(1.0 / (rank_X[0] + 1)) if rank_X[0] < k else 0.0


def average_precision(score_X, gain_X) -> float:
    """Compute the mean over relevant documents of the precision at their ranks."""
    is_relevant_X = ranked_gains(score_X, gain_X) > 0
    precision_X = np.cumsum(is_relevant_X) / np.arange(1, len(is_relevant_X) + 1)
    return float(precision_X[is_relevant_X].mean())


def recall(score_X, gain_X, *, k: int = TOP) -> float:
    """Compute the fraction of the relevant documents that are in the first k."""
    is_relevant_X = ranked_gains(score_X, gain_X) > 0
    return float(is_relevant_X[:k].sum() / is_relevant_X.sum())


def kendall_tau(score_X, other_X) -> float:
    """Compute Kendall's tau-b of two orders, in [-1, 1]; 0 where one has equal scores alone."""
    tau = scipy.stats.kendalltau(score_X, other_X).statistic
    return 0.0 if np.isnan(tau) else float(tau)


def mean_tau(score_BC, other_BC) -> float:
    """Compute Kendall's tau-b of two models' numbers, the mean over C numbers of an example."""
    outputs = zip(np.asarray(score_BC).T, np.asarray(other_BC).T, strict=True)
    return float(np.mean([kendall_tau(score_B, other_B) for score_B, other_B in outputs]))


QUERY_METRICS: dict[str, Callable] = {
    "ndcg@10": ndcg,
    "mrr@10": reciprocal_rank,
    "map": average_precision,
    "recall@10": recall,
    "recall@100": functools.partial(recall, k=100),
    "kendall_tau": kendall_tau,
}


def check_number_metric(name: str) -> None:
    """Raise ValueError unless there is such a metric of numbers."""
    known = (*CORRELATIONS, *QUERY_METRICS)
    if name not in known:
        raise ValueError(f"config.data.metric: {explain_unknown('metric of numbers', name, known)}")


def rows_of_groups(group_B) -> list[np.ndarray]:
    """Return the rows of each group, int64 arrays, in the order of the groups' numbers."""
    group_B = np.asarray(group_B)
    order_B = np.argsort(group_B, kind="stable")
    ends = np.flatnonzero(np.diff(group_B[order_B])) + 1
    return [rows for rows in np.split(order_B, ends) if len(rows)]


def text_numbers(texts: Sequence[str]) -> np.ndarray:
    """Return the number of each text, int64, from 0 in their order; equal texts have the same."""
    number_of: dict[str, int] = {}
    return np.array([number_of.setdefault(text, len(number_of)) for text in texts], np.int64)


def query_numbers(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the number of the query of each pair; one for all where no query has two documents."""
    number_E = text_numbers([first for first, _ in pairs])
    return number_E if len(np.unique(number_E)) < len(pairs) else np.zeros_like(number_E)


def query_scores(metric: str, score_B, gain_B, group_B) -> dict[int, float]:
    """Return a metric of QUERY_METRICS by the number of the query.

    Queries without a relevant document, or for `kendall_tau` of equal labels, are left out.
    """
    score_B, gain_B, group_B = np.asarray(score_B), np.asarray(gain_B), np.asarray(group_B)
    return {
        int(group_B[rows[0]]): QUERY_METRICS[metric](score_B[rows], gain_B[rows])
        for rows in rows_of_groups(group_B)
        if (np.ptp(gain_B[rows]) > 0 if metric == "kendall_tau" else np.any(gain_B[rows] > 0))
    }


def top_overlap(score_X, other_X, *, k: int = TOP) -> float:
    """Return the fraction of the first k documents of one order that the other's first k has.

    Of fewer than k documents all are the first, and the overlap is 1.
    """
    first, other = (set(order_of(scores)[:k].tolist()) for scores in (score_X, other_X))
    return len(first & other) / len(first)


def num_documents(group_B) -> np.ndarray:
    """Return the documents of each query, int64, in the order of the groups' numbers."""
    return np.unique(np.asarray(group_B), return_counts=True)[1]


def shared_counts(score_B, other_B, group_B, *, smallest: int) -> np.ndarray:
    """Return how many of the first ten documents both orders have, int64 [G].

    Args:
      score_B: of one model.
      other_B: of another.
      group_B: numbers of the queries.
      smallest: documents of a query that counts, at least ten.
    """
    score_B, other_B = np.asarray(score_B), np.asarray(other_B)
    groups = [rows for rows in rows_of_groups(group_B) if len(rows) >= max(smallest, TOP)]
    overlaps = [top_overlap(score_B[rows], other_B[rows]) for rows in groups]
    return np.round(TOP * np.array(overlaps, np.float64)).astype(np.int64)


class Orders(NamedTuple):
    """How alike two models order the documents of each query."""

    tau_G: np.ndarray  # float64, Kendall's tau of each query of two documents or more
    overlap_G: np.ndarray  # float64, `top_overlap` of each query of more than ten

    @property
    def mean_top10_overlap(self) -> float | None:
        """Return the mean overlap; None without such a query."""
        return float(np.mean(self.overlap_G)) if len(self.overlap_G) else None

    def means(self) -> dict[str, float]:
        """Return `kendall_tau` and `top10_overlap`, each left out where there is no query."""
        named = {"kendall_tau": self.tau_G, "top10_overlap": self.overlap_G}
        return {name: float(np.mean(value_G)) for name, value_G in named.items() if len(value_G)}


def random_overlap(group_B) -> float | None:
    """Return the mean `top_overlap` of random orders with a model's, over queries of more than ten.

    Ten of n documents share 10 * 10 / n with ten others on average. None without such a query.
    """
    size_G = num_documents(group_B)
    size_G = size_G[size_G > TOP]
    return float(np.mean(TOP / size_G)) if len(size_G) else None


def compare_orders(score_B, other_B, group_B) -> Orders:
    """Compare two models' scores of the documents of each query; group_B numbers the queries."""
    score_B, other_B = np.asarray(score_B), np.asarray(other_B)
    groups = rows_of_groups(group_B)
    tau_G, overlap_G = (
        np.array([metric(score_B[rows], other_B[rows]) for rows in groups if len(rows) >= smallest])
        for metric, smallest in ((kendall_tau, 2), (top_overlap, TOP + 1))
    )
    return Orders(tau_G, overlap_G)
