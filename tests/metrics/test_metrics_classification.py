import numpy as np
import pytest

from adapler_jax.metrics.classification import METRICS, accuracy, f1


def test_accuracy_is_the_share_of_equal_entries():
    assert accuracy([0, 1, 2, 1], [0, 1, 1, 2]) == 0.5
    assert accuracy(np.array([3]), np.array([3])) == 1.0


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no examples"):
        accuracy([], [])


def test_f1_by_hand():
    # 2 true positives, 1 false positive, 2 false negatives: precision 2/3, recall 2/4, F1 = 4/7
    assert f1([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0]) == pytest.approx(4 / 7)


def test_f1_is_of_class_one():
    assert f1([0, 0, 1], [0, 0, 0]) == 0.0
    assert f1([1, 1, 0], [1, 1, 1]) == pytest.approx(0.8)


def test_f1_without_positives_is_zero():
    assert f1([0, 0], [0, 0]) == 0.0


def test_metrics_are_found_by_the_names_of_the_task_table():
    assert set(METRICS) == {"accuracy", "f1"}
