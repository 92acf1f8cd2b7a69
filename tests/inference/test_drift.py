"""Texts that keep other shares, or have other margins, than the calibration's are noticed once."""

import tracemalloc
import warnings

import numpy as np
import pytest

from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.drift import MIN_TEXTS, QUERY_NAMES, DriftMonitor, query_means

ROWS = [
    {
        "budget": budget,
        "flops_speedup": 1.0 / budget,
        "text_share": budget,
        "text_share_sd": 0.1,
        "margin": 0.8 + 0.1 * budget,
        "margin_sd": 0.2,
    }
    for budget in (0.4, 0.6, 1.0)
]


@pytest.fixture(name="monitor")
def _monitor():
    return DriftMonitor(ROWS, num_texts=1000)


def add(monitor, num_texts, *, budget=0.4, share=0.4, margin=0.84, seed=0):
    """Show a monitor texts with these means and the calibrated deviations."""
    rng = np.random.default_rng(seed)
    monitor.add(
        np.full(num_texts, budget),
        share + 0.1 * rng.normal(size=num_texts),
        margin + 0.2 * rng.normal(size=num_texts),
    )


@pytest.fixture(name="no_warnings")
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_texts_like_the_calibrations_are_no_drift(monitor, no_warnings):
    for seed in range(100):
        add(monitor, 37, seed=seed)


def test_between_two_budgets_the_measurements_are_interpolated(monitor, no_warnings):
    for seed in range(100):
        add(monitor, 37, budget=0.5, share=0.5, margin=0.85, seed=seed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 0.5}, "mean share of tokens kept is 0.50, there it was 0.40"),
        ({"share": 0.3}, "mean share of tokens kept is 0.30, there it was 0.40"),
        ({"margin": 0.6}, "mean margin between the two likeliest classes is 0.60, there it was 0"),
    ],
)
def test_another_mean_is_drift(monitor, changes, message):
    with pytest.warns(UserWarning, match=message):
        add(monitor, 1000, **changes)


def test_it_is_said_once(monitor):
    with pytest.warns(UserWarning, match="calibrate again with texts of now"):
        add(monitor, 200, share=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            add(monitor, 200, share=0.9)


def test_few_texts_prove_nothing(monitor, no_warnings):
    add(monitor, MIN_TEXTS - 1, share=0.9)


def test_texts_count_over_calls(monitor):
    with pytest.warns(UserWarning, match=f"the {MIN_TEXTS} texts so far are unlike"):
        for seed in range(MIN_TEXTS):
            add(monitor, 1, share=0.9, seed=seed)


def test_a_small_difference_is_no_drift_however_many_texts_there_are(monitor, no_warnings):
    for seed in range(20):
        add(monitor, 5000, share=0.41, seed=seed)


def test_a_calibration_of_few_texts_has_a_wider_band(no_warnings):
    add(DriftMonitor(ROWS, num_texts=20), 1000, share=0.46)


def test_texts_without_a_budget_do_not_count(monitor, no_warnings):
    add(monitor, 1000, budget=np.nan, share=0.9)


def make_calibration(rows):
    return Calibration(
        budgets=tuple(row["budget"] for row in rows),
        values=((2.0, 1.0, 0.0),),
        rows=tuple(rows),
        num_texts=10,
        num_held_out=10,
    )


def test_a_calibration_of_an_earlier_release_has_no_monitor():
    earlier = [{name: row[name] for name in ("budget", "flops_speedup")} for row in ROWS]
    assert make_calibration(earlier).monitor() is None
    assert make_calibration(ROWS).monitor() is not None


def test_a_querys_pairs_count_once():
    """Pairs of a query are alike, so many of them prove no more than one."""
    rows = [
        {"budget": budget, "flops_speedup": 1.0 / budget}
        | {"query_share": budget, "query_share_sd": 0.1, "query_logit": 0.0, "query_logit_sd": 1.0}
        for budget in (0.4, 1.0)
    ]
    monitor = DriftMonitor(rows, num_texts=1000, names=QUERY_NAMES, unit="queries")
    queries = [f"query {index}" for index in range(MIN_TEXTS - 1) for _ in range(30)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.add(
            *query_means(queries, *np.full((2, len(queries)), 0.4), np.full(len(queries), 5.0))
        )
    message = (
        f"the {MIN_TEXTS} queries so far are unlike.*their mean logit is 5.00, there it was 0.00"
    )
    with pytest.warns(UserWarning, match=message):
        monitor.add(*query_means(["last"] * 2, *np.full((2, 2), 0.4), np.array([4.0, 6.0])))


def test_means_of_queries_are_sorted_by_query():
    means = query_means(["b", "a", "b"], np.array([1.0, 5.0, 2.0]), np.array([0.0, 4.0, 3.0]))
    np.testing.assert_array_equal(means, [[5.0, 1.5], [4.0, 1.5]])
    means = query_means(["a", "a\0"], np.array([1.0, 5.0]))
    np.testing.assert_array_equal(means, [[1.0, 5.0]])


def test_a_long_query_is_not_copied_for_each_of_its_pairs():
    queries = ["long " * 20_000] * 1_000
    tracemalloc.start()
    try:
        query_means(queries, np.ones(len(queries)))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
