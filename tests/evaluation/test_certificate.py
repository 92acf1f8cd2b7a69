"""A certificate holds with its confidence, and says so in one sentence."""

import numpy as np
import pytest

from adapler_jax.evaluation.certificate import (
    Certificate,
    Promise,
    accepted,
    allowance,
    certify,
    max_failures,
    min_texts,
)
from adapler_jax.inference.calibration import FULL

LIMITS = {
    500: (1, 4, 8, 16),
    1000: (4, 12, 20, 38),
    2000: (12, 29, 47, 83),
    5000: (38, 83, 129, 224),
}


@pytest.mark.parametrize("num_texts", LIMITS)
def test_the_allowed_failures_are_those_of_the_table(num_texts):
    found = [max_failures(num_texts, rate, 0.95) for rate in (0.01, 0.02, 0.03, 0.05)]
    assert tuple(found) == LIMITS[num_texts]


@pytest.mark.parametrize(("rate", "confidence"), [(0.02, 0.95), (0.3, 0.5), (0.001, 0.999)])
def test_the_smallest_number_of_texts_allows_no_failure_and_one_less_proves_nothing(
    rate, confidence
):
    enough = min_texts(rate, confidence)
    assert max_failures(enough, rate, confidence) == 0
    assert max_failures(enough - 1, rate, confidence) == -1


def failing(num_failures, num_texts=1000):
    return np.arange(num_texts) < num_failures


def test_the_allowed_failures_are_said_in_words():
    assert allowance(2000, Promise(0.02)) == (
        "2,000 texts will test the promise of 2%: at most 29 of them may fail"
    )


def test_the_walk_ends_at_the_first_budget_that_fails_too_often():
    failures = {0.4: failing(2), 1.0: failing(0), 0.6: failing(13), 0.8: failing(12)}
    found = certify(failures, max_rate=0.02, confidence=0.95)
    assert found == Certificate(0.8, 0.02, 0.95, 1000, 12)
    assert found.sentence() == (
        "on texts like these, at most 2.0% of answers differ from the full model's (95% "
        "confidence, n = 1,000, 12 differed)"
    )


def test_no_certificate_is_a_result():
    assert certify({0.5: failing(500)}, max_rate=0.02, confidence=0.95) is None


def test_too_few_texts_are_an_error_with_the_number_that_suffices():
    with pytest.raises(ValueError, match="100 texts cannot prove a rate of 0.02 .* at least 149"):
        certify({0.5: failing(0, 100)}, max_rate=0.02, confidence=0.95)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_promise_outside_of_0_to_1_is_rejected(value):
    with pytest.raises(ValueError, match="the rate of a promise is"):
        max_failures(100, value, 0.95)
    with pytest.raises(ValueError, match="confidence is"):
        min_texts(0.1, value)


def test_the_bound_is_exceeded_at_most_as_often_as_promised():
    """A certificate is wrong if the true rate of its budget, known here, is above the bound."""
    rng, rates = np.random.default_rng(0), {1.0: 0.0, 0.8: 0.015, 0.6: 0.0201, 0.4: 0.03, 0.2: 0.1}
    wrong = 0
    for _ in range(2000):
        failures = {budget: rng.random(1000) < rate for budget, rate in rates.items()}
        wrong += rates[certify(failures, max_rate=0.02, confidence=0.95).budget] > 0.02
    assert wrong <= 0.05 * 2000 + 2 * np.sqrt(2000 * 0.05 * 0.95)
    assert wrong > 0  # so that the test can fail: the rate of 0.0201 is nearly allowed


def test_the_sequence_ends_at_the_first_candidate_that_fails_too_often():
    failures = [failing(0), failing(12), failing(13), failing(0)]
    assert accepted(failures, max_rate=0.02, confidence=0.95) == 2
    assert accepted(failures[2:], max_rate=0.02, confidence=0.95) == 0
    assert accepted(failures[:1], max_rate=0.02, confidence=0.95) == 1


def test_the_order_of_candidates_decides():
    """A sequence that starts with a risky candidate proves nothing about a safe one."""
    assert accepted([failing(500), failing(0)], max_rate=0.02, confidence=0.95) == 0
    assert accepted([failing(0), failing(500)], max_rate=0.02, confidence=0.95) == 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "budget 0.5"),
        ({"flops_speedup": 2.345}, "budget 0.5, 2.35x"),
        ({"margin": 0.2, "escalated_share": 0.0}, "; 0.0% of the texts run again with all tokens"),
        (
            {"margin": 0.2, "escalated_share": 0.125, "flops_speedup": 1.8},
            "budget 0.5, 1.80x; 12.5% of the texts run again with all tokens",
        ),
        (
            {"margin": 0.2, "escalated_share": 0.125, "escalates_to": FULL},
            "budget 0.5; 12.5% of the texts run again on the full model",
        ),
    ],
)
def test_a_speed_counts_the_texts_that_run_again(fields, words):
    assert words in Certificate(0.5, 0.02, 0.95, 1000, 12, **fields).speed()
