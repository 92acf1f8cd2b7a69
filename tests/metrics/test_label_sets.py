"""Scores of several labels a text, by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from adapler_jax.metrics.classification import sigmoid
from adapler_jax.metrics.label_sets import (
    METRICS,
    check_label_metric,
    choose_label_thresholds,
    decide_labels,
    label_scores,
)

PREDICTED = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], bool)
LABELS = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], bool)


def test_scores_by_hand():
    found = {name: metric(PREDICTED, LABELS) for name, metric in METRICS.items()}
    assert found == pytest.approx(
        {"micro_f1": 2 / 3, "macro_f1": (2 / 3 + 1) / 3, "exact_match": 2 / 3}
    )
    scores = label_scores(PREDICTED, LABELS)
    np.testing.assert_allclose(scores.precision_C, [0.5, 1.0, 0.0])
    np.testing.assert_allclose(scores.recall_C, [1.0, 1.0, 0.0])
    assert scores.support_C.tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    predicted, labels = (rng.random((40, 6)) < rng.random(6) ** 2 for _ in range(2))
    for average in ("micro", "macro"):
        expected = sklearn_metrics.f1_score(labels, predicted, average=average, zero_division=0)
        assert METRICS[f"{average}_f1"](predicted, labels) == pytest.approx(expected)
    expected = sklearn_metrics.accuracy_score(labels, predicted)
    assert METRICS["exact_match"](predicted, labels) == pytest.approx(expected)


def test_each_label_gets_the_threshold_of_its_best_f1():
    prob_E = np.linspace(0.05, 0.95, 20)
    prob_EC = np.stack([prob_E, prob_E, prob_E, 1 - prob_E], axis=1)
    label_EC = np.stack([prob_E > 0.3, prob_E > 0.8, prob_E > 9, prob_E < 0.4], axis=1)
    threshold_C = choose_label_thresholds(prob_EC, label_EC)
    assert threshold_C[1:3].tolist() == [0.5, 0.5]  # 4 texts, and none: too few to choose on
    kept_C = choose_label_thresholds(prob_EC, label_EC, np.array([0.1, 0.2, 0.3, 0.4]))
    assert kept_C.tolist() == [threshold_C[0], 0.2, 0.3, threshold_C[3]]
    decided_EC = decide_labels(prob_EC, threshold_C)
    np.testing.assert_array_equal(decided_EC[:, [0, 3]], label_EC[:, [0, 3]])


def test_a_probability_at_its_threshold_is_a_label():
    assert decide_labels(np.array([[0.5, 0.4]]), np.array([0.5, 0.5])).tolist() == [[True, False]]


def test_sigmoids_do_not_overflow():
    found = sigmoid(np.array([-1e4, -1.0, 0.0, 1.0, 1e4], np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [0.0, 0.26894143, 0.5, 0.7310586, 1.0], rtol=1e-6)


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="config.data.metric is 'accuracy'; .* micro_f1, macro_f1"):
        check_label_metric("accuracy")
