"""A reranker's budgets are judged by the order of each query's documents."""

import numpy as np
import pytest

from adapler_jax.evaluation.certificate import NONE, Promise, max_failures
from adapler_jax.evaluation.order_calibration import (
    MeasuredOrders,
    MeasuredScores,
    certify_orders,
    check_orders,
    min_documents,
    split_queries,
)
from adapler_jax.metrics.ranking import num_documents, shared_counts

NUM_DOCUMENTS = 20


def scores_of(logits, cost):
    """Return the measurement of pairs whose dense pass costs 100."""
    size = len(logits)
    return MeasuredScores(
        kept_share=cost / 100,
        logit_M=np.asarray(logits, np.float32),
        share_M=np.full(size, cost / 100),
        dense_M=np.full(size, 100),
        pruned_M=np.full(size, cost),
    )


def moved(full, num_moved):
    """Return scores by which so many of the first ten documents are replaced by later ones."""
    logits = np.array(full, np.float64)
    order = np.argsort(-logits)
    logits[order[:num_moved]] = logits.min() - 1 - np.arange(num_moved)
    return logits


def make_orders(moves, *, sizes=None, min_shared=9):
    """Return made rankings.

    Args:
      moves: budget -> number of documents that leave the first ten, of each query.
      sizes: documents of each query; None for 20 each.
      min_shared: documents that must be shared.
    """
    num_queries = len(next(iter(moves.values())))
    sizes = [NUM_DOCUMENTS] * num_queries if sizes is None else sizes
    rng = np.random.default_rng(0)
    full = [rng.permutation(size).astype(np.float64) for size in sizes]
    measured = {
        budget: scores_of(
            np.concatenate([moved(*pair) for pair in zip(full, counts)]), round(100 * budget)
        )
        for budget, counts in moves.items()
    }
    group_M = np.repeat(np.arange(num_queries), sizes)
    return MeasuredOrders(measured, np.concatenate(full), group_M, min_shared)


def first(num_failing, num_queries=400, *, num_moved=2):
    """Return moves of which the first queries fail."""
    return np.where(np.arange(num_queries) < num_failing, num_moved, 1)


def test_shared_documents_are_counted_of_queries_with_enough_of_them():
    full = np.arange(12.0)
    group = np.repeat([0, 1, 2], (12, 12, 3))
    scores = np.concatenate([full, moved(full, 2), np.arange(3.0)])
    others = np.concatenate([full, full, np.arange(3.0)])
    assert shared_counts(scores, others, group, smallest=12).tolist() == [10, 8]
    assert shared_counts(scores, others, group, smallest=13).tolist() == []
    assert num_documents(group).tolist() == [12, 12, 3]


def test_the_certificate_is_of_the_fastest_budget_before_the_first_that_fails_too_often():
    limit = max_failures(400, 0.05, 0.95)
    orders = make_orders({1.0: first(0), 0.8: first(9), 0.5: first(limit), 0.3: first(limit + 1)})
    found = certify_orders(Promise(0.05), orders, (0.3, 0.5, 0.8, 1.0))
    assert (found.budget, found.num_failures, found.num_texts) == (0.5, limit, 400)
    assert found.flops_speedup == 2.0 and found.num_left_out == 0
    found = certify_orders(Promise(0.05), orders, (0.8, 1.0))
    assert found.sentence() == (
        "on queries like these, the first 10 documents share at least 9 with the full model's for "
        "at least 95% of queries (95% confidence, n = 400 queries, 9 differed)"
    )


def test_a_budget_after_one_that_fails_is_not_certified_however_well_it_does():
    orders = make_orders({1.0: first(0), 0.6: first(300), 0.3: first(0)})
    assert certify_orders(Promise(0.05), orders, (0.3, 0.6, 1.0)).budget == 1.0


def test_no_certificate_is_a_result():
    assert certify_orders(Promise(0.05), make_orders({1.0: first(300)}), (1.0,)) is None


def test_the_number_of_shared_documents_decides_what_fails():
    moves = {1.0: first(40, num_moved=3)}
    failed = {
        number: int(make_orders(moves, min_shared=number).failures()[1.0].sum())
        for number in (7, 8, 9, 10)
    }
    assert failed == {7: 0, 8: 40, 9: 40, 10: 400}


def test_queries_that_cannot_fail_are_no_evidence():
    """Of 11 documents, any two sets of ten share nine."""
    assert [min_documents(number) for number in (10, 9, 1)] == [11, 12, 20]
    sizes = [5] * 50 + [10] * 50 + [11] * 50 + [12] * 100
    counts = np.repeat([0, 0, 1, 1], (50, 50, 50, 100))
    orders = make_orders({1.0: counts, 0.5: counts}, sizes=sizes)
    found = certify_orders(Promise(0.05), orders, (0.5, 1.0))
    assert (found.num_texts, found.num_left_out, found.budget) == (100, 150, 0.5)
    assert found.left_out() == (
        "150 queries of fewer than 12 documents are not counted: their first 10 always share 9"
    )
    assert orders.counts() == {"num_queries": 250, "num_evidence": 100, "min_shared": 9}


def test_each_budget_has_the_agreement_of_the_orders():
    half = make_orders({1.0: first(0), 0.5: first(100, num_moved=4)})
    slow, fast = half.records()
    assert slow["top10_overlap"] == pytest.approx(0.9) and slow["alike_queries"] == 1.0
    assert fast["top10_overlap"] == pytest.approx((300 * 0.9 + 100 * 0.6) / 400)
    assert fast["alike_queries"] == 0.75 and fast["kendall_tau"] < slow["kendall_tau"] < 1.0
    assert (fast["budget"], fast["flops_speedup"], fast["kept_share"]) == (0.5, 2.0, 0.5)
    (short,) = make_orders({1.0: [0, 0]}, sizes=[3, 4]).records()
    assert short["kendall_tau"] == 1.0 and not {"top10_overlap", "alike_queries"} & short.keys()


def test_the_bound_is_exceeded_at_most_as_often_as_promised():
    """A certificate is wrong if the true rate of its budget, known here, is above the bound."""
    rng, rates = np.random.default_rng(0), {1.0: 0.01, 0.8: 0.1005, 0.5: 0.5}
    full, wrong = np.arange(12.0), 0
    kept, gone = moved(full, 1), moved(full, 2)
    for _ in range(200):
        measured = {
            budget: scores_of(
                np.concatenate([gone if is_gone else kept for is_gone in rng.random(60) < rate]), 50
            )
            for budget, rate in rates.items()
        }
        orders = MeasuredOrders(measured, np.tile(full, 60), np.repeat(np.arange(60), 12), 9)
        found = certify_orders(Promise(0.1), orders, tuple(rates))
        wrong += found is not None and rates[found.budget] > 0.1
    assert 0 < wrong <= 0.05 * 200 + 2 * np.sqrt(200 * 0.05 * 0.95)


def make_pairs(num_queries, num_documents):
    return [(f"q{q}", f"d{d} of {q}") for q in range(num_queries) for d in range(num_documents)]


def test_whole_queries_calibrate_or_measure():
    pairs = make_pairs(50, 8)
    parts = split_queries(pairs * 2, seed=0)
    queries = [{query for query, _ in part} for part in parts]
    assert [len(found) for found in queries] == [10, 40] and not queries[0] & queries[1]
    assert sorted(parts[0] + parts[1]) == sorted(pairs)
    assert split_queries(pairs, seed=0) == parts != split_queries(pairs, seed=1)
    assert len({query for query, _ in parts[0][:8]}) > 1  # a sample is of several queries


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (make_pairs(9, 11), "the pairs are 99 different ones; a calibration needs at least 100"),
        (make_pairs(1, 200), "the pairs have 1 queries, and 0 of them with 0 pairs"),
        (["a text"] * 200, "text 0 is 'a text'; expected pairs .*--column=query,document"),
    ],
)
def test_pairs_that_cannot_be_split_are_named(pairs, message):
    with pytest.raises(ValueError, match=message):
        split_queries(pairs, seed=0)


@pytest.mark.parametrize(
    ("promise", "labels", "message"),
    [
        (Promise(0.05), None, "40 queries of 12 documents or more .* at least 59, so give 74 such"),
        (Promise(0.3, min_shared=10), [1], "labels are for classifiers, and the model is a rerank"),
        (Promise(0.3, needs_labels=True), None, "leave out --label and --max_drop"),
        (Promise(0.3, escalates_to="full"), None, "escalates_to is 'full', and a reranker runs no"),
        (Promise(0.3, min_shared=11), None, "min_shared is 11; expected 1 to 10"),
        (Promise(0.3, min_shared=0), None, "min_shared is 0; expected 1 to 10"),
        (Promise(0.3, min_shared=8), None, "0 queries of 13 documents or more cannot prove"),
    ],
)
def test_promises_that_queries_cannot_prove_are_named(promise, labels, message):
    with pytest.raises(ValueError, match=message):
        check_orders(make_pairs(40, 12), promise, labels=labels, fraction=0.8)


def test_enough_queries_prove_a_promise():
    check_orders(make_pairs(59, 12), Promise(0.05, escalates_to=NONE), labels=None, fraction=0.8)
    with pytest.raises(ValueError, match="58 queries"):
        check_orders(make_pairs(58, 12), Promise(0.05), labels=None, fraction=0.8)
