"""The paired error of a difference equals a direct bootstrap, and the sample formula of means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapler_jax.metrics import differences
from adapler_jax.metrics.classification import METRICS
from adapler_jax.metrics.differences import (
    class_difference_error,
    mean_difference_error,
    score_counts,
)

COUNTED = ("f1", "macro_f1", "matthews")


def drawn(num_examples, num_classes, seed=0):
    """Labels and two models' predictions, which are right in two thirds of the cases."""
    rng = np.random.default_rng(seed)
    label_B = rng.integers(0, num_classes, num_examples)
    predicted = [
        np.where(rng.random(num_examples) < 0.66, label_B, rng.permutation(label_B))
        for _ in range(2)
    ]
    return label_B, *predicted


def direct(metric, label_B, predicted_B, other_B, value_C=None):
    """Return the error of a bootstrap that draws examples one by one."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(1000):
        index = rng.integers(0, len(label_B), len(label_B))
        columns = [column[index] for column in (predicted_B, other_B, label_B)]
        if value_C is not None:
            columns = [value_C[column] for column in columns]
        found.append(METRICS[metric](columns[0], columns[2]) - METRICS[metric](*columns[1:]))
    return np.std(found, ddof=1)


def test_the_error_of_a_mean_is_the_sample_formula():
    assert mean_difference_error([1, 0, -1, 0]) == pytest.approx(np.sqrt(2 / 3) / 2)
    assert mean_difference_error([1.0]) is None
    assert class_difference_error("f1", [1], [1], [0]) is None


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("metric", COUNTED)
def test_the_error_is_of_a_bootstrap_over_examples(metric, num_classes):
    columns = drawn(200, num_classes)
    name = "macro_f1" if metric == "f1" and num_classes > 2 else metric
    assert class_difference_error(name, *columns) == pytest.approx(direct(name, *columns), rel=0.12)


def test_the_error_of_correlations_uses_the_numbers_of_the_classes():
    columns, value_C = drawn(60, 3), np.array([1.0, 2.0, 7.0])
    found = class_difference_error("pearson", *columns, value_C=value_C)
    assert found == pytest.approx(direct("pearson", *columns, value_C), rel=0.12)


def test_the_draws_have_a_seed_and_parts_do_not_change_them(monkeypatch):
    columns = drawn(50, 3)
    whole = class_difference_error("macro_f1", *columns)
    assert class_difference_error("macro_f1", *columns) == whole
    assert class_difference_error("macro_f1", *columns, seed=1) != whole
    monkeypatch.setattr(differences, "MAX_CELLS", 64)
    assert class_difference_error("macro_f1", *columns) == pytest.approx(whole, rel=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_scores_of_counts_are_the_scores_of_examples(pairs):
    label_B, predicted_B = np.array(pairs).T
    counts = [
        np.bincount(values, minlength=4)[None].astype(float)
        for values in (label_B[label_B == predicted_B], label_B, predicted_B)
    ]
    for metric in ("macro_f1", "matthews"):
        found = score_counts(metric, *counts)[0]
        assert found == pytest.approx(METRICS[metric](predicted_B, label_B), abs=1e-12)
    if max(label_B.max(), predicted_B.max()) < 2:
        expected = METRICS["f1"](predicted_B, label_B)
        assert score_counts("f1", *counts)[0] == pytest.approx(expected)
