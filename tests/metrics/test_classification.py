import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from adapler_jax.metrics import classification
from adapler_jax.metrics.classification import (
    METRICS,
    THRESHOLD_METRICS,
    accuracy,
    check_threshold,
    choose_threshold,
    class_scores,
    confusion_matrix,
    decide,
    expected_calibration_error,
    f1,
    macro_f1,
    majority_share,
    margins,
    metric_name,
)


def drawn(num_classes, seed=0, size=60):
    rng = np.random.default_rng(seed)
    label_B = rng.integers(0, num_classes, size)
    return np.where(rng.random(size) < 0.6, label_B, rng.integers(0, num_classes, size)), label_B


def test_accuracy_is_the_fraction_of_equal_entries():
    assert accuracy([0, 1, 2, 1], [0, 1, 1, 2]) == 0.5
    assert accuracy(np.array([3]), np.array([3])) == 1.0


@pytest.mark.parametrize(
    "score", [accuracy, macro_f1, METRICS["matthews"], METRICS["pearson"], METRICS["spearman"]]
)
def test_a_score_of_no_examples_is_rejected(score):
    with pytest.raises(ValueError, match="no examples"):
        score([], [])


def test_f1_by_hand():
    # 2 true positives, 1 false positive, 2 false negatives: precision 2/3, recall 2/4, F1 = 4/7
    assert f1([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0]) == pytest.approx(4 / 7)


def test_f1_is_of_class_one():
    assert f1([0, 0, 1], [0, 0, 0]) == 0.0
    assert f1([1, 1, 0], [1, 1, 1]) == pytest.approx(0.8)


def test_f1_without_positives_is_zero():
    assert f1([0, 0], [0, 0]) == 0.0


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_scores_equal_scikit_learn(num_classes):
    predicted_B, label_B = drawn(num_classes)
    average = "binary" if num_classes == 2 else "macro"
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(label_B, predicted_B),
        "f1": sklearn.metrics.f1_score(label_B, predicted_B, average=average),
        "macro_f1": sklearn.metrics.f1_score(label_B, predicted_B, average="macro"),
        "matthews": sklearn.metrics.matthews_corrcoef(label_B, predicted_B),
        "pearson": scipy.stats.pearsonr(predicted_B, label_B).statistic,
        "spearman": scipy.stats.spearmanr(predicted_B, label_B).statistic,
    }
    found = {name: metric(predicted_B, label_B) for name, metric in METRICS.items()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_macro_f1_leaves_out_classes_without_examples():
    predicted_B, label_B = [0, 3, 3, 1], [0, 3, 1, 1]
    assert macro_f1(predicted_B, label_B) == pytest.approx(
        sklearn.metrics.f1_score(label_B, predicted_B, average="macro")
    )


def test_f1_of_more_than_two_classes_is_macro_by_name():
    assert metric_name("f1", 2) == "f1" and metric_name("f1", 3) == "macro_f1"
    assert metric_name("accuracy", 3) == "accuracy"
    with pytest.raises(
        ValueError, match="unknown metric 'rouge'; there are accuracy, f1, macro_f1, matthews"
    ):
        metric_name("rouge", 2)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
def test_a_correlation_with_a_constant_is_zero_and_never_nan(name):
    for predicted_B, label_B in (([1, 1, 1], [0, 1, 2]), ([0, 1, 2], [1, 1, 1]), ([2, 2], [2, 2])):
        assert METRICS[name](predicted_B, label_B) == 0.0


def test_class_values_are_the_numbers_in_their_names():
    np.testing.assert_array_equal(
        classification.class_values(("1", "2.5", "-3"), "pearson"), [1, 2.5, -3]
    )
    for name in ("good", "nan", "inf"):
        with pytest.raises(
            ValueError, match=f"'pearson' takes classes that are numbers.*found the class '{name}'"
        ):
            classification.class_values(("1", name), "pearson")


def test_per_class_scores_equal_scikit_learn():
    predicted_B, label_B = drawn(5)
    matrix_CC = confusion_matrix(predicted_B, label_B)
    np.testing.assert_array_equal(matrix_CC, sklearn.metrics.confusion_matrix(label_B, predicted_B))
    expected = sklearn.metrics.precision_recall_fscore_support(label_B, predicted_B)
    np.testing.assert_allclose(class_scores(matrix_CC), expected, atol=1e-12)
    assert confusion_matrix([0], [0], 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_majority_share_is_the_accuracy_of_one_constant_class():
    assert majority_share([2, 0, 2, 2]) == 0.75


def test_calibration_error_by_hand():
    # Bins of a tenth: 0.95 and 0.91, one correct: |0.5 - 0.93| of 2; 0.6, correct: |1 - 0.6| of 1.
    prob_BC = [[0.95, 0.05], [0.09, 0.91], [0.6, 0.4]]
    expected = (2 * abs(0.5 - 0.93) + abs(1 - 0.6)) / 3
    assert expected_calibration_error(prob_BC, [0, 0, 0], num_bins=10) == pytest.approx(expected)
    assert expected_calibration_error([[1.0, 0.0]], [0]) == 0.0


def test_decide_takes_the_most_probable_class_or_applies_a_threshold():
    prob_BC = [[0.7, 0.3], [0.69, 0.31], [0.2, 0.8]]
    assert decide(prob_BC).tolist() == [0, 0, 1]
    assert decide(prob_BC, 0.31).tolist() == [0, 1, 1]


@pytest.mark.parametrize("metric", THRESHOLD_METRICS)
@pytest.mark.parametrize("seed", [0, 1])
def test_choose_threshold_finds_the_best_score(metric, seed):
    rng = np.random.default_rng(seed)
    label_B = (rng.random(40) < 0.3).astype(int)
    prob_B = np.round(np.clip(0.3 * label_B + 0.6 * rng.random(40), 0, 1), 2)  # equal ones too
    threshold, score = choose_threshold(prob_B, label_B, metric)
    found = METRICS[metric]((prob_B >= threshold).astype(int), label_B)
    every = [
        METRICS[metric]((prob_B >= value).astype(int), label_B)
        for value in np.linspace(0, 1.001, 500)
    ]
    assert score == pytest.approx(found) and score == pytest.approx(max(every))


def test_the_threshold_nearest_to_a_half_is_taken_of_equal_ones():
    assert choose_threshold([0.1, 0.5, 0.9], [0, 0, 1], "accuracy") == (pytest.approx(0.7), 1.0)
    assert choose_threshold([0.0, 1.0], [0, 1], "f1") == (0.5, 1.0)


@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, float("nan"), "0.5", True])
def test_values_outside_0_and_1_are_rejected_as_threshold(value):
    with pytest.raises(ValueError, match="expected a probability of the second class"):
        check_threshold(value, 2)


def test_thresholds_need_two_classes():
    check_threshold(0.5, 2)
    check_threshold(None, 3)
    with pytest.raises(ValueError, match="for two classes; the model has 3"):
        check_threshold(0.5, 3)
    with pytest.raises(ValueError, match="class number 2"):
        choose_threshold([0.1], [2], "f1")
    with pytest.raises(ValueError, match="cannot be chosen for 'pearson'; there are accuracy"):
        choose_threshold([0.1], [1], "pearson")


PROBS = [[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.4, 0.2, 0.4]]


def test_a_margin_is_the_difference_of_the_two_largest_probabilities():
    np.testing.assert_allclose(margins(PROBS), [0.2, 0.7, 0.0], atol=1e-12)


def test_with_a_threshold_the_margin_is_the_distance_from_it():
    found = margins([[0.7, 0.3], [0.2, 0.8], [0.6, 0.4]], 0.4)
    np.testing.assert_allclose(found, [0.1, 0.4, 0.0], atol=1e-12)


@pytest.mark.parametrize("threshold", [None, 0.3, 0.5, 0.9])
def test_an_answer_with_a_margin_stands_against_smaller_changes(threshold):
    prob_BC = np.random.default_rng(0).dirichlet([1.0, 1.0], size=200)
    margin_B = margins(prob_BC, threshold)
    # Of two probabilities one loses what the other gains, so both change by half of a difference.
    change_B = 0.99 * margin_B * (0.5 if threshold is None else 1.0)
    for sign in (-1.0, 1.0):
        moved_BC = prob_BC + sign * change_B[:, None] * np.array([1.0, -1.0])
        np.testing.assert_array_equal(decide(moved_BC, threshold), decide(prob_BC, threshold))
