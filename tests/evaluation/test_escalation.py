"""Uncertain texts run again with all tokens, and a certificate counts both runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler_jax.evaluation.escalation import (
    Candidate,
    MeasuredTexts,
    certify_escalation,
    order_candidates,
)
from adapler_jax.inference.calibration import FULL, OWN
from tests.evaluation.measured import make_texts, measured

FOUR = MeasuredTexts(
    {
        0.3: measured([0, 1, 1, 1], [0.1, 0.4, 0.2, 0.9], 30),
        1.0: measured([0, 0, 1, 1], [1] * 4, 100),
    },
    full_E=np.array([0, 0, 1, 1]),
)


def test_the_cost_counts_both_runs_of_a_text():
    plain, above = FOUR.outcome(Candidate(0.3, 0.0)), FOUR.outcome(Candidate(0.3, 0.5))
    assert plain.failed_E.tolist() == [False, True, False, False]
    assert plain.flops_speedup == pytest.approx(100 / 30)
    assert above.is_escalated_E.tolist() == [True, True, True, False]
    assert not above.failed_E.any()
    assert above.flops_speedup == pytest.approx(400 / (4 * 30 + 3 * 100))


def test_the_full_model_agrees_with_itself_at_the_dense_cost():
    other = FOUR._replace(full_E=np.array([0, 1, 1, 0]), escalates_to=FULL)
    found = other.outcome(Candidate(0.3, 0.5))
    assert found.failed_E.tolist() == [False, False, False, True]
    assert found.flops_speedup == pytest.approx(400 / (4 * 30 + 3 * 100))
    costly = other._replace(full_cost_E=np.full(4, 300))
    speedup = costly.outcome(Candidate(0.3, 0.5)).flops_speedup
    assert speedup == pytest.approx(400 / (4 * 30 + 3 * 300))
    own = other._replace(escalates_to=OWN).outcome(Candidate(0.3, 0.5))
    assert own.failed_E.tolist() == [False, True, False, True]


def test_with_labels_only_answers_that_become_wrong_are_failures():
    labelled = FOUR._replace(label_E=np.array([1, 1, 1, 1]))
    assert not labelled.outcome(Candidate(0.3, 0.0)).failed_E.any()  # the full model is wrong there
    assert labelled._replace(label_E=np.zeros(4)).outcome(Candidate(0.3, 0.0)).failed_E.sum() == 1
    assert [row["score"] for row in labelled.records()] == [0.75, 0.5]


@given(st.integers(0, 1000))
def test_candidates_rise_in_speed_and_in_failures(seed):
    texts = make_texts(50, seed)
    outcomes = [texts.outcome(candidate) for candidate in order_candidates(texts)]
    speeds = [found.flops_speedup for found in outcomes]
    failures = [found.failed_E.sum() for found in outcomes]
    assert speeds == sorted(set(speeds)) and failures == sorted(failures)


def test_a_fast_candidate_that_fails_leaves_the_safe_ones():
    """On the ordering texts all budgets are without a failure, on the others only budget 1."""
    first, second = make_texts(400, 0, rate=0.0), make_texts(400, 1, rate=1.0)
    found = certify_escalation(first, second, max_rate=0.01, confidence=0.95)
    assert found.budget == 1.0 and found.num_failures == 0


@given(st.integers(0, 1000), st.sampled_from([0.2, 0.5]))
def test_running_texts_again_never_adds_a_failure_where_the_full_model_is_the_same(seed, budget):
    texts = make_texts(50, seed)
    failures = [
        texts.outcome(Candidate(budget, margin)).failed_E.sum()
        for margin in (0.0, 0.1, 0.2, 0.5, 2.0)
    ]
    assert failures == sorted(failures, reverse=True) and failures[-1] == 0


def test_a_promise_that_no_budget_keeps_is_kept_by_running_texts_again():
    first, second = make_texts(2000, 0), make_texts(2000, 1)
    found = certify_escalation(first, second, max_rate=0.01, confidence=0.95)
    assert found.budget == 0.2 and found.margin > 0.1 and found.flops_speedup > 2.0
    assert found.num_failures <= 12  # of 2,000 at 1%
    assert found.escalated_share == pytest.approx(0.2, abs=0.06)


def test_the_bound_holds_over_draws_of_the_texts():
    """The share of certified candidates whose true rate is above the bound is at most 5%."""
    true, exceeded = make_texts(20_000, 12345), 0
    for seed in range(200):
        texts = make_texts(300, 2 * seed), make_texts(300, 2 * seed + 1)
        found = certify_escalation(*texts, max_rate=0.05, confidence=0.95)
        outcome = true.outcome(Candidate(found.budget, found.margin))
        exceeded += np.mean(outcome.failed_E) > 0.05
    assert exceeded <= 0.05 * 200
