"""Score classification on NumPy arrays. The caller leaves padding examples out.

Every metric is a function of predicted and labelled class numbers. Correlations are in [-1, 1],
other metrics in [0, 1]. An undefined value, such as the correlation with a constant, is 0, because
a score that selects a checkpoint must be a number.

    B examples
    C classes
    V distinct values
    T decision thresholds
    2 labels 0 and 1
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

THRESHOLD = "decision_threshold"  # field of a saved model
CONFIDENCE_BINS = 15  # of the expected calibration error
ORDERED = ("pearson", "spearman")  # metrics of classes that are numbers
# Metrics that a decision threshold can maximize.
THRESHOLD_METRICS = ("accuracy", "f1", "macro_f1", "matthews")


def accuracy(predicted_B, label_B) -> float:
    """Return the fraction of equal entries, in [0, 1].

    Raises:
      ValueError: there are no examples.
    """
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    _require_examples(label_B)
    return float(np.mean(predicted_B == label_B))


def f1(predicted_B, label_B) -> float:
    """Compute F1 of class 1 in two classes: 2 TP / (2 TP + FP + FN), 0 without positives.

    GLUE scores MRPC so. With a class above 1 the result is `macro_f1`, and `metric_name` returns
    that name.
    """
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    if max(np.max(predicted_B, initial=0), np.max(label_B, initial=0)) > 1:
        return macro_f1(predicted_B, label_B)
    true_positives = np.sum((predicted_B == 1) & (label_B == 1))
    wrong = np.sum(((predicted_B == 1) | (label_B == 1)) & (predicted_B != label_B))
    return float(2 * true_positives / max(1, 2 * true_positives + wrong))


def macro_f1(predicted_B, label_B) -> float:
    """Average the F1 of every class that is predicted or labelled, with equal weights."""
    matrix_CC = confusion_matrix(predicted_B, label_B)
    scores = class_scores(matrix_CC)
    is_used_C = matrix_CC.sum(axis=0) + matrix_CC.sum(axis=1) > 0
    return float(np.mean(scores.f1_C[is_used_C])) if is_used_C.any() else 0.0


def matthews(predicted_B, label_B) -> float:
    """Compute Matthews' correlation of two or more classes, as GLUE scores CoLA."""
    matrix_CC = confusion_matrix(predicted_B, label_B).astype(np.float64)
    predicted_C, labelled_C = matrix_CC.sum(axis=0), matrix_CC.sum(axis=1)
    total = matrix_CC.sum()
    covariance = np.trace(matrix_CC) * total - predicted_C @ labelled_C
    spread = (total**2 - predicted_C @ predicted_C) * (total**2 - labelled_C @ labelled_C)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def pearson(predicted_B, label_B) -> float:
    """Compute Pearson's correlation of numbers."""
    predicted_B, label_B = np.asarray(predicted_B, np.float64), np.asarray(label_B, np.float64)
    _require_examples(label_B)
    predicted_B, label_B = predicted_B - predicted_B.mean(), label_B - label_B.mean()
    spread = np.sqrt(np.sum(predicted_B**2) * np.sum(label_B**2))
    if spread <= 0:
        return 0.0
    return float(np.clip(np.sum(predicted_B * label_B) / spread, -1.0, 1.0))


def spearman(predicted_B, label_B) -> float:
    """Compute Spearman's correlation: Pearson's of the ranks; equal values have their mean rank."""
    return pearson(_mean_ranks(predicted_B), _mean_ranks(label_B))


def _mean_ranks(value_B) -> np.ndarray:
    """Return float64 ranks from 0; equal values have their mean rank."""
    _, index_B, count_V = np.unique(np.asarray(value_B), return_inverse=True, return_counts=True)
    rank_V = np.cumsum(count_V) - (count_V + 1) / 2
    return rank_V[index_B]


def _require_examples(label_B: np.ndarray) -> None:
    """Raise ValueError if there are no examples."""
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")


METRICS: dict[str, Callable] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def metric_name(name: str, num_classes: int) -> str:
    """Return the name of the computed metric: `f1` of more than two classes is `macro_f1`.

    Raises:
      ValueError: there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    return "macro_f1" if name == "f1" and num_classes > 2 else name


def class_values(class_names: Sequence[str], metric: str) -> np.ndarray:
    """Return the classes' names as numbers, float64 [C], for a metric of ORDERED.

    Raises:
      ValueError: a name is not a finite number.
    """
    values = [_to_number(name) for name in class_names]
    for name, value in zip(class_names, values):
        if not np.isfinite(value):
            raise ValueError(
                f"metric {metric!r} takes classes that are numbers, as 1 to 5; found the class "
                f"{name!r}: choose accuracy, macro_f1 or matthews as config.data.metric"
            )
    return np.array(values, np.float64)


def _to_number(text: str) -> float:
    """Return the number that a text spells, else NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def confusion_matrix(predicted_B, label_B, num_classes: int | None = None) -> np.ndarray:
    """Count examples by class.

    Args:
      predicted_B: int [B], class numbers.
      label_B: int [B], class numbers.
      num_classes: C; None for the largest class number plus 1.

    Returns:
      int64 [C labelled, C predicted].

    Raises:
      ValueError: there are no examples.
    """
    predicted_B, label_B = np.asarray(predicted_B, np.int64), np.asarray(label_B, np.int64)
    _require_examples(label_B)
    num_classes = num_classes or int(max(predicted_B.max(), label_B.max())) + 1
    counts = np.bincount(label_B * num_classes + predicted_B, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


class ClassScores(NamedTuple):
    """Scores of every class, float64 [C] in [0, 1]. A ratio with denominator 0 is 0."""

    precision_C: np.ndarray
    recall_C: np.ndarray
    f1_C: np.ndarray
    support_C: np.ndarray  # int64, labelled examples


def class_scores(matrix_CC: np.ndarray) -> ClassScores:
    """Return the scores of every class of a confusion matrix [C labelled, C predicted]."""
    return count_scores(np.diag(matrix_CC), matrix_CC.sum(axis=0), matrix_CC.sum(axis=1))


def count_scores(
    correct_C: np.ndarray, predicted_C: np.ndarray, labelled_C: np.ndarray
) -> ClassScores:
    """Return the scores of every class by its counts of examples, int [C]."""
    return ClassScores(
        precision_C=correct_C / np.maximum(1, predicted_C),
        recall_C=correct_C / np.maximum(1, labelled_C),
        f1_C=2 * correct_C / np.maximum(1, predicted_C + labelled_C),
        support_C=labelled_C,
    )


def majority_share(label_B) -> float:
    """Return the fraction of the most frequent class: the accuracy of always predicting it."""
    label_B = np.asarray(label_B)
    _require_examples(label_B)
    _, count_C = np.unique(label_B, return_counts=True)
    return float(count_C.max() / label_B.size)


def expected_calibration_error(prob_BC, label_B, *, num_bins: int = CONFIDENCE_BINS) -> float:
    """Compute the mean distance between confidence and accuracy over bins, weighted by examples.

    Args:
      prob_BC: float [B, C], probabilities; the confidence is the largest one.
      label_B: int [B].
      num_bins: number n of bins of equal width: (0, 1/n], (1/n, 2/n] ... of the confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 5.
    """
    prob_BC, label_B = np.asarray(prob_BC, np.float64), np.asarray(label_B)
    correct_B = prob_BC.argmax(axis=-1) == label_B
    return calibration_error(prob_BC.max(axis=-1), correct_B, num_bins=num_bins)


def calibration_error(confidence_B, correct_B, *, num_bins: int = CONFIDENCE_BINS) -> float:
    """Compute `expected_calibration_error` from confidences in [0, 1] and correctness.

    Args:
      confidence_B: float [B] in [0, 1].
      correct_B: bool [B], True if the prediction is correct.
      num_bins: number of bins of the confidence.
    """
    confidence_B, correct_B = np.asarray(confidence_B, np.float64), np.asarray(correct_B)
    _require_examples(correct_B)
    bin_B = np.ceil(confidence_B * num_bins).astype(np.int64) - 1
    bin_B = np.clip(bin_B, 0, num_bins - 1)
    gaps = np.bincount(bin_B, weights=correct_B - confidence_B, minlength=num_bins)
    return float(np.abs(gaps).sum() / correct_B.size)


def softmax(logits_BC: np.ndarray) -> np.ndarray:
    """Return probabilities [..., C] of the logits' dtype, by NumPy, which compiles nothing."""
    exp_BC = np.exp(logits_BC - logits_BC.max(axis=-1, keepdims=True))
    return exp_BC / exp_BC.sum(axis=-1, keepdims=True)


def sigmoid(logits_BC: np.ndarray) -> np.ndarray:
    """Return probabilities of the logits' dtype, by NumPy, without an overflow."""
    logits_BC = np.asarray(logits_BC)
    small_BC = np.exp(-np.abs(logits_BC))
    return np.where(logits_BC < 0, small_BC, np.ones_like(small_BC)) / (1 + small_BC)


def decide(prob_BC, threshold: float | None = None) -> np.ndarray:
    """Return the class numbers of probabilities, int64 [B].

    Args:
      prob_BC: float [B, C].
      threshold: for two classes, predict class 1 if its probability is at least this; None
        predicts the most probable class.
    """
    prob_BC = np.asarray(prob_BC)
    if threshold is None:
        return prob_BC.argmax(axis=-1)
    return (prob_BC[..., 1] >= threshold).astype(np.int64)


def margins(prob_BC, threshold: float | None = None) -> np.ndarray:
    """Return how near each text is to another class, float64 [B]; 0 is on the border.

    It is the difference of the two largest probabilities, or with a decision threshold the distance
    of the second class's probability from it.

    Args:
      prob_BC: float [B, C].
      threshold: as in `decide`.
    """
    prob_BC = np.asarray(prob_BC, np.float64)
    if threshold is not None:
        return np.abs(prob_BC[:, 1] - threshold)
    largest_B2 = np.sort(prob_BC, axis=-1)[:, -2:]
    return largest_B2[:, -1] - largest_B2[:, 0]


def check_threshold(threshold: float | None, num_classes: int) -> None:
    """Raise ValueError if a decision threshold is outside (0, 1), or there are not two classes."""
    if threshold is None:
        return
    if num_classes != 2:
        raise ValueError(
            f"a decision threshold is for two classes; the model has {num_classes}: "
            "leave threshold out"
        )
    is_number = isinstance(threshold, int | float | np.floating)
    if isinstance(threshold, bool) or not is_number or not 0.0 < threshold < 1.0:
        raise ValueError(
            f"threshold is {threshold!r:.40}; expected a probability of the second class, "
            "above 0 and below 1"
        )


def choose_threshold(prob_B, label_B, metric: str) -> tuple[float, float]:
    """Return the decision threshold for class 1 that has the best score, and this score.

    Thresholds are halfway between neighbouring probabilities, so that rounding changes no decision.
    Of equal scores the threshold nearest to 1/2 is taken.

    Args:
      prob_B: float [B], probability of class 1.
      label_B: int [B], 0 or 1.
      metric: one of THRESHOLD_METRICS.

    Raises:
      ValueError: the metric is none of THRESHOLD_METRICS, there are no examples, or an example is
        of a third class.
    """
    prob_B, label_B = np.asarray(prob_B, np.float64), np.asarray(label_B)
    _check_threshold_data(label_B, metric)
    value_V, index_B = np.unique(prob_B, return_inverse=True)
    middle_T = np.convolve([0.0, *value_V, 1.0], [0.5, 0.5], mode="valid")
    threshold_T = np.clip(middle_T, 1e-6, 1 - 1e-6)
    count_2V = [np.bincount(index_B[label_B == label], minlength=len(value_V)) for label in (0, 1)]
    below_2T = np.cumsum(np.pad(count_2V, ((0, 0), (1, 0))), axis=1)
    score_T = _score_of_counts(metric, below_2T, below_2T[:, -1:] - below_2T)
    best = np.lexsort((np.abs(threshold_T - 0.5), -score_T))[0]
    return float(threshold_T[best]), float(score_T[best])


def _check_threshold_data(label_B: np.ndarray, metric: str) -> None:
    """Raise ValueError if no decision threshold can be chosen."""
    if metric not in THRESHOLD_METRICS:
        raise ValueError(
            f"a threshold cannot be chosen for {metric!r}; there are {', '.join(THRESHOLD_METRICS)}"
        )
    if label_B.size == 0:
        raise ValueError("a threshold from no examples is not defined")
    if label_B.max() > 1:
        raise ValueError(
            f"a decision threshold is for two classes; found the class number {label_B.max()}"
        )


def _score_of_counts(metric: str, below_2T: np.ndarray, above_2T: np.ndarray) -> np.ndarray:
    """Return a metric of two classes at each threshold, float64 [T].

    Args:
      metric: one of THRESHOLD_METRICS.
      below_2T: int, examples that are predicted as class 0, by their label.
      above_2T: int, examples that are predicted as class 1, by their label.
    """
    (true_0, false_0), (false_1, true_1) = below_2T.astype(float), above_2T.astype(float)
    wrong = false_0 + false_1
    if metric == "accuracy":
        return (true_0 + true_1) / (true_0 + true_1 + wrong)
    if metric == "matthews":
        predicted = (true_1 + false_1) * (true_0 + false_0)
        labelled = (true_1 + false_0) * (true_0 + false_1)
        covariance = true_1 * true_0 - false_1 * false_0
        return covariance / np.sqrt(np.maximum(predicted * labelled, 1.0))
    f1_0 = 2 * true_0 / np.maximum(1.0, 2 * true_0 + wrong)
    f1_1 = 2 * true_1 / np.maximum(1.0, 2 * true_1 + wrong)
    return f1_1 if metric == "f1" else (f1_0 + f1_1) / 2
