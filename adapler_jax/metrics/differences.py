"""Estimate the standard error of the difference between two models on the same examples.

Both models have the same examples, so the error is of the paired difference. It is smaller than
the error of each score, because easy and hard examples are the same for both.

    B examples
    C classes
    R resamples
    U distinct triples of label and both predictions
    3 label, prediction of the first and of the second model
"""

from collections.abc import Callable

import numpy as np

from adapler_jax.metrics.classification import METRICS, ORDERED

NUM_RESAMPLES = 1000
MAX_CELLS = 1 << 22  # numbers in memory at one time


def mean_difference_error(difference_B) -> float | None:
    """Compute sd(d) / sqrt(n) of the differences of examples, with n - 1 in the deviation.

    Returns:
      The standard error of the mean difference; None for fewer than two examples.
    """
    difference_B = np.asarray(difference_B, np.float64)
    if len(difference_B) < 2:
        return None
    return float(np.std(difference_B, ddof=1) / np.sqrt(len(difference_B)))


def class_difference_error(
    metric: str, label_B, predicted_B, other_B, *, value_C: np.ndarray | None = None, seed: int = 0
) -> float | None:
    """Estimate the error of a metric's difference by a paired bootstrap over the examples.

    A resample draws as many examples with replacement, and scores both models on them. It draws
    how often each triple (label, prediction, prediction) occurs, which takes the same time for
    any number of examples.

    Args:
      metric: one of METRICS, except accuracy, whose error `mean_difference_error` has.
      label_B: int, class numbers.
      predicted_B: int, class numbers, of the first model.
      other_B: int, class numbers, of the second model.
      value_C: numbers of the classes, for a metric of ORDERED.
      seed: of the draws.

    Returns:
      The standard deviation of the difference; None for fewer than two examples.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 6.
    """
    columns_3B = np.stack([np.asarray(x, np.int64) for x in (label_B, predicted_B, other_B)])
    num_examples = columns_3B.shape[1]
    if num_examples < 2:
        return None
    triple_3U, count_U = np.unique(columns_3B, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    score = _values_scorer(metric, value_C) if metric in ORDERED else _counts_scorer(metric)
    num_rows = max(1, MAX_CELLS // max(count_U.size, int(triple_3U.max()) + 1))
    found = []
    for start in range(0, NUM_RESAMPLES, num_rows):
        size = min(num_rows, NUM_RESAMPLES - start)
        weight_RU = generator.multinomial(num_examples, count_U / num_examples, size=size)
        label_U, first_U, second_U = triple_3U
        found.append(score(label_U, first_U, weight_RU) - score(label_U, second_U, weight_RU))
    return float(np.std(np.concatenate(found), ddof=1))


def number_difference_error(
    score: Callable, label_B, predicted_B, other_B, *, seed: int = 0
) -> float | None:
    """Estimate the error of a score's difference by a paired bootstrap over examples with numbers.

    Args:
      score: (numbers, labels) -> float.
      label_B: float.
      predicted_B: float, of the first model.
      other_B: float, of the second model.
      seed: of the draws.

    Returns:
      The standard deviation of the difference; None for fewer than two examples.
    """
    label_B, predicted_B, other_B = map(np.asarray, (label_B, predicted_B, other_B))
    if len(label_B) < 2:
        return None
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(NUM_RESAMPLES):
        rows = generator.integers(len(label_B), size=len(label_B))
        label_X = label_B[rows]
        found.append(score(predicted_B[rows], label_X) - score(other_B[rows], label_X))
    return float(np.std(found, ddof=1))


Score = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _counts_scorer(metric: str) -> Score:
    """Return a function (label_U, predicted_U, weight_RU) -> scores [R] of counts by class."""

    def score(label_U, predicted_U, weight_RU):
        num_classes = int(max(label_U.max(), predicted_U.max())) + 1
        is_right_U = label_U == predicted_U
        correct_RC = _totals(weight_RU * is_right_U, label_U, num_classes)
        labelled_RC = _totals(weight_RU, label_U, num_classes)
        predicted_RC = _totals(weight_RU, predicted_U, num_classes)
        return score_counts(metric, correct_RC, labelled_RC, predicted_RC)

    return score


def _totals(weight_RU: np.ndarray, class_U: np.ndarray, num_classes: int) -> np.ndarray:
    """Add the weights of each class, float64 [R, C]."""
    num_rows = len(weight_RU)
    index_RU = np.arange(num_rows)[:, None] * num_classes + class_U
    totals = np.bincount(index_RU.ravel(), weight_RU.ravel(), minlength=num_rows * num_classes)
    return totals.reshape(num_rows, num_classes)


def score_counts(
    metric: str, correct_RC: np.ndarray, labelled_RC: np.ndarray, predicted_RC: np.ndarray
) -> np.ndarray:
    """Return a metric of each row of counts, float64 [R].

    Args:
      metric: f1 of class 1, macro_f1 or matthews.
      correct_RC: examples that are labelled and predicted so.
      labelled_RC: labelled examples.
      predicted_RC: predicted examples.
    """
    if metric == "matthews":
        total_R = labelled_RC.sum(axis=1)
        covariance_R = correct_RC.sum(axis=1) * total_R - (labelled_RC * predicted_RC).sum(axis=1)
        spread_R = (total_R**2 - (labelled_RC**2).sum(axis=1)) * (
            total_R**2 - (predicted_RC**2).sum(axis=1)
        )
        return covariance_R / np.sqrt(np.where(spread_R > 0, spread_R, np.inf))
    both_RC = labelled_RC + predicted_RC
    f1_RC = 2 * correct_RC / np.maximum(1, both_RC)
    if metric == "f1":
        return f1_RC[:, 1] if f1_RC.shape[1] > 1 else np.zeros(len(f1_RC))
    return f1_RC.sum(axis=1) / np.maximum(1, (both_RC > 0).sum(axis=1))


def _values_scorer(metric: str, value_C: np.ndarray | None) -> Score:
    """Return a function (label_U, predicted_U, weight_RU) -> correlations [R] of class numbers."""
    assert value_C is not None, "a correlation needs the numbers of the classes"

    def score(label_U, predicted_U, weight_RU):
        correlate = METRICS[metric]
        return np.array(
            [
                correlate(
                    np.repeat(value_C[predicted_U], weight_U),
                    np.repeat(value_C[label_U], weight_U),
                )
                for weight_U in weight_RU
            ]
        )

    return score
