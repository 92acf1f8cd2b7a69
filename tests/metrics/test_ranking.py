"""Scores of orders by hand, and scikit-learn's and scipy's."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from adapler_jax.metrics.ranking import (
    average_precision,
    check_number_metric,
    compare_orders,
    kendall_tau,
    ndcg,
    order_of,
    query_scores,
    random_overlap,
    recall,
    reciprocal_rank,
    rows_of_groups,
    top_overlap,
)

SCORES, GAINS = [0.1, 0.9, 0.5, 0.7], [1, 0, 2, 0]  # ranks of the relevant ones: 4 and 3


def test_metrics_of_a_query_by_hand():
    best = 2 / math.log2(2) + 1 / math.log2(3)
    assert ndcg(SCORES, GAINS) == pytest.approx((2 / math.log2(4) + 1 / math.log2(5)) / best)
    assert ndcg(SCORES, GAINS, k=3) == pytest.approx((2 / math.log2(4)) / best)
    missed = (3 + 2 / math.log2(3) + 1 / math.log2(4)) / (2 / math.log2(4) + 1 / math.log2(5))
    assert ndcg(SCORES, GAINS, all_gains=[1, 0, 2, 0, 3]) == pytest.approx(1 / missed)
    assert reciprocal_rank(SCORES, GAINS) == pytest.approx(1 / 3)
    assert reciprocal_rank(SCORES, GAINS, k=2) == 0.0
    assert average_precision(SCORES, GAINS) == pytest.approx((1 / 3 + 2 / 4) / 2)
    assert recall(SCORES, GAINS, k=3) == 0.5 and recall(SCORES, GAINS) == 1.0


def test_equal_scores_are_no_order_and_negative_gains_are_none():
    assert order_of([1.0, 2.0, 1.0]).tolist() == [1, 0, 2]
    for gains in ([0, 1], [1, 0]):
        assert ndcg([1.0, 1.0], gains) == pytest.approx(1 / math.log2(3))
        assert reciprocal_rank([1.0, 1.0], gains) == average_precision([2.0, 2.0], gains) == 0.5
        assert recall([1.0, 1.0], gains, k=1) == 0.0
    assert ndcg([3.0, 2.0], [-1, 1]) == pytest.approx(1 / math.log2(3))


@given(st.integers(2, 30), st.integers(0, 10_000))
def test_metrics_equal_those_of_scikit_learn(num_documents, seed):
    rng = np.random.default_rng(seed)
    score_X, gain_X = rng.permutation(num_documents), rng.integers(0, 4, num_documents)
    gain_X[0] = 1
    assert ndcg(score_X, gain_X) == pytest.approx(ndcg_score([gain_X], [score_X], k=10))
    expected = average_precision_score(gain_X > 0, score_X)
    assert average_precision(score_X, gain_X) == pytest.approx(expected)


def test_groups_need_not_be_neighbours():
    assert [rows.tolist() for rows in rows_of_groups([2, 0, 2, 1, 0])] == [[1, 4], [3], [0, 2]]
    assert rows_of_groups([]) == []


def test_queries_without_a_relevant_document_do_not_count():
    group_B, gain_B = [5, 7, 5, 7], [0, 0, 1, 0]
    assert query_scores("mrr@10", [1.0, 4.0, 0.5, 3.0], gain_B, group_B) == {5: 0.5}


def test_agreement_of_orders_by_hand():
    first = np.arange(12.0)
    other = first.copy()
    other[[0, 11]] = 20.0, -1.0  # the best of the first is the last of the other
    assert top_overlap(first, first) == 1.0 and top_overlap(first, other) == 0.9
    assert top_overlap([1.0, 2.0], [2.0, 1.0]) == 1.0
    assert kendall_tau(first, -first) == pytest.approx(-1.0)
    assert kendall_tau(first, other) == scipy.stats.kendalltau(first, other).statistic
    assert kendall_tau([1.0, 2.0], [3.0, 3.0]) == 0.0
    group_B = np.repeat([0, 1, 2], [12, 2, 1])
    found = compare_orders([*first, 1, 2, 3], [*other, 2, 1, 3], group_B)
    assert found.mean_top10_overlap == 0.9 and found.means() == {
        "kendall_tau": pytest.approx((kendall_tau(first, other) - 1.0) / 2),
        "top10_overlap": 0.9,
    }
    assert random_overlap(np.repeat([0, 1, 2], [20, 40, 10])) == pytest.approx((0.5 + 0.25) / 2)
    assert random_overlap([0, 0, 1]) is None
    alone = compare_orders([1.0, 2.0], [1.0, 2.0], [0, 1])
    assert alone.means() == {} and alone.mean_top10_overlap is None


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="config.data.metric: unknown metric of numbers 'ndcg'"):
        check_number_metric("ndcg")
