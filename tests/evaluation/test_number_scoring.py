"""Scores of heads that return a number."""

import numpy as np
import pytest
import scipy.stats

from adapler_jax.evaluation.number_scoring import NumberScorer
from adapler_jax.evaluation.scoring import difference_se
from adapler_jax.metrics.differences import number_difference_error
from adapler_jax.metrics.ranking import CORRELATIONS
from tests.heads.rows import batch_of

GROUPS = np.array([0, 0, 1, 1, 1])
LABELS = [1.0, 0.0, 0.0, 0.5, 0.0]
LOGITS = [2.0, 1.0, 3.0, 0.0, -1.0]  # the relevant documents have ranks 1 and 2


def scorer_of(metric, logits=LOGITS, *, activation="identity", order=(3, 0, 4, 1, 2)):
    """Return a scorer of the five rows in another order, after a padding example."""
    found = NumberScorer(metric, activation=activation, group_E=GROUPS)
    rows = list(order)
    for part in (rows[:2], rows[2:]):
        batch = batch_of([1] * (len(part) + 1)).replace(
            label_B=np.array([9.0, *(LABELS[row] for row in part)], np.float32),
            example_id_B=np.array([0, *part], np.int32),
        )
        logits_B1 = np.array([[7.0], *([logits[row]] for row in part)], np.float32)
        found.add(logits_B1, batch, np.array([False] + [True] * len(part)))
    return found


def test_a_metric_of_queries_is_the_mean_over_queries():
    found = scorer_of("mrr@10")
    assert found.scores()["score"] == pytest.approx(0.75)
    assert found.example_scores() == {0: 1.0, 1: 0.5}


def test_a_correlation_is_of_the_activated_numbers():
    share_E = 1 / (1 + np.exp(-np.array(LOGITS)))
    found = scorer_of("pearson", activation="sigmoid").scores()
    assert found["score"] == pytest.approx(np.corrcoef(share_E, LABELS)[0, 1], abs=1e-5)
    assert found["mse"] == pytest.approx(np.mean((share_E - LABELS) ** 2), abs=1e-6)
    plain = scorer_of("spearman").scores()["score"]
    assert plain == scorer_of("spearman", activation="sigmoid").scores()["score"]


def test_the_error_of_a_difference_is_paired():
    other = scorer_of("mrr@10", [1.0, 2.0, 3.0, 4.0, 5.0])  # ranks 2 and 2
    assert difference_se(scorer_of("mrr@10"), other) == pytest.approx(0.25)
    again = scorer_of("spearman", order=(0, 1, 2, 3, 4))
    assert difference_se(scorer_of("spearman"), again) == 0.0
    assert difference_se(scorer_of("spearman"), scorer_of("spearman", LABELS)) > 0.01


def test_the_error_of_a_correlation_is_that_of_a_formula():
    rng = np.random.default_rng(0)
    label_B, noise_B = rng.normal(size=(2, 400))
    # Fisher: the error of one correlation r of n pairs of normal numbers is (1 - r^2) / sqrt(n);
    # the constant model has none.
    found = number_difference_error(
        CORRELATIONS["pearson"], label_B, label_B + noise_B, np.zeros(400)
    )
    assert found == pytest.approx((1 - 0.5) / np.sqrt(400), rel=0.15)
    assert number_difference_error(CORRELATIONS["pearson"], [1.0], [1.0], [2.0]) is None


def test_agreement_is_with_the_other_models_order():
    other = [2.0, 1.0, -1.0, 0.0, 3.0]
    found = scorer_of("mrr@10").agreement(scorer_of("mrr@10", other))
    assert found == {"kendall_tau": pytest.approx(0.0)}
    whole = scorer_of("pearson").agreement(scorer_of("pearson", other))
    assert whole == {"kendall_tau": pytest.approx(scipy.stats.kendalltau(LOGITS, other)[0])}


def test_orders_are_of_logits_where_numbers_are_equal():
    logits = [50.0, 40.0, 60.0, 40.0, 30.0]  # all sigmoids are 1 in float32
    found = scorer_of("mrr@10", logits, activation="sigmoid").scores()
    assert found["score"] == pytest.approx(0.75)


def test_damaged_numbers_and_missing_relevance_are_named():
    with pytest.raises(ValueError, match="1 of 5 texts scores that are not numbers"):
        scorer_of("spearman", [2.0, np.nan, 3.0, 0.0, -1.0]).scores()
    empty = NumberScorer("map", activation="identity", group_E=GROUPS)
    batch = batch_of([1, 1]).replace(label_B=np.zeros(2, np.float32))
    empty.add(np.zeros((2, 1), np.float32), batch, np.array([True, True]))
    with pytest.raises(ValueError, match="no query has documents whose labels rank them, so map"):
        empty.scores()


def scorer_of_two(logits, labels, metric="spearman"):
    """Return a scorer of rows with two numbers each, after a padding example."""
    found = NumberScorer(
        metric, activation="identity", group_E=np.arange(len(labels)), names=("joy", "fear")
    )
    batch = batch_of([1] * (1 + len(labels))).replace(
        head_slots={"number_BC": np.array([[9, 9], *labels], np.float32)},
        example_id_B=np.array([0, *range(len(labels))], np.int32),
    )
    is_real_B = np.arange(1 + len(labels)) > 0
    found.add(np.array([[7, 7], *logits], np.float32), batch, is_real_B)
    return found


def test_the_score_of_several_numbers_is_the_mean_over_them():
    logits = [[1, 3], [2, 2], [3, 1]]  # one order is right, the other is turned
    found = scorer_of_two(logits, [[0, 0], [1, 1], [5, 5]])
    assert found.scores() == pytest.approx({"score": 0.0, "mse": 32 / 6})
    assert found.example_scores() == {0: -5.0, 1: -1.0, 2: -10.0}
    rows = [{"name": "joy", "score": 1.0}, {"name": "fear", "score": -1.0}]
    assert found.details() == {"numbers": [pytest.approx(row) for row in rows]}
    assert scorer_of("spearman").details() == {}
    right = scorer_of_two([[1, 1], [2, 2], [3, 3]], [[0, 0], [1, 1], [5, 5]])
    assert right.scores()["score"] == 1.0
    assert right.agreement(found) == pytest.approx({"kendall_tau": 0.0})
    assert difference_se(right, right) == 0.0 < difference_se(right, found)
