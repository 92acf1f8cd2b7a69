"""Scores of classification on NumPy arrays. Filler rows are the caller's to leave out.

Every metric is a function of predicted and labelled class numbers. Correlations are in [-1, 1],
the others in [0, 1].
What is not defined, as a correlation with a constant, is 0: a score that models are chosen by is
always a number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

THRESHOLD = "decision_threshold"  # what a saved model calls its own
CONFIDENCE_BINS = 15  # of the expected calibration error
ORDERED = ("pearson", "spearman")  # metrics of classes that are numbers
THRESHOLD_METRICS = (
    "accuracy",
    "f1",
    "macro_f1",
    "matthews",
)  # that a decision threshold can be chosen for


def accuracy(predicted_B, label_B) -> float:
    """Share of equal entries, in [0, 1]. Raises ValueError on no examples."""
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    return float(np.mean(predicted_B == label_B))


def f1(predicted_B, label_B) -> float:
    """F1 of class 1 in two classes, as GLUE scores MRPC: 2 TP / (2 TP + FP + FN); 0 without any
    positive.

    Where a class above 1 is there it is `macro_f1`; `metric_name` says so by name.
    """
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    if max(np.max(predicted_B, initial=0), np.max(label_B, initial=0)) > 1:
        return macro_f1(predicted_B, label_B)
    true_positives = np.sum((predicted_B == 1) & (label_B == 1))
    wrong = np.sum(((predicted_B == 1) | (label_B == 1)) & (predicted_B != label_B))
    return float(2 * true_positives / max(1, 2 * true_positives + wrong))


def macro_f1(predicted_B, label_B) -> float:
    """Mean of the F1 of every class that is predicted or labelled, each of equal weight."""
    matrix_CC = confusion_matrix(predicted_B, label_B)
    scores = class_scores(matrix_CC)
    is_there_C = matrix_CC.sum(axis=0) + matrix_CC.sum(axis=1) > 0
    return float(np.mean(scores.f1_C[is_there_C])) if is_there_C.any() else 0.0


def matthews(predicted_B, label_B) -> float:
    """Matthews' correlation of predicted and labelled classes, two or more, as GLUE scores CoLA."""
    matrix_CC = confusion_matrix(predicted_B, label_B).astype(np.float64)
    predicted_C, labelled_C, total = matrix_CC.sum(axis=0), matrix_CC.sum(axis=1), matrix_CC.sum()
    covariance = np.trace(matrix_CC) * total - predicted_C @ labelled_C
    spread = (total**2 - predicted_C @ predicted_C) * (total**2 - labelled_C @ labelled_C)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def pearson(predicted_B, label_B) -> float:
    """Pearson's correlation of numbers."""
    predicted_B, label_B = (np.asarray(values, np.float64) for values in (predicted_B, label_B))
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    predicted_B, label_B = predicted_B - predicted_B.mean(), label_B - label_B.mean()
    spread = np.sqrt(np.sum(predicted_B**2) * np.sum(label_B**2))
    return float(np.clip(np.sum(predicted_B * label_B) / spread, -1.0, 1.0)) if spread > 0 else 0.0


def spearman(predicted_B, label_B) -> float:
    """Spearman's correlation of numbers: Pearson's of their ranks; equal ones share the mean
    rank."""
    return pearson(_mean_ranks(predicted_B), _mean_ranks(label_B))


def _mean_ranks(value_B) -> np.ndarray:
    """Return float64 ranks from 0; equal values have the mean of theirs."""
    _, place_B, count_V = np.unique(np.asarray(value_B), return_inverse=True, return_counts=True)
    return (np.cumsum(count_V) - (count_V + 1) / 2)[place_B]


METRICS: dict[str, Callable] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def metric_name(name: str, num_classes: int) -> str:
    """Return the name of what is computed: `f1` of more than two classes is `macro_f1`.

    Raises:
      ValueError: there is no such metric.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    return "macro_f1" if name == "f1" and num_classes > 2 else name


def class_values(class_names: Sequence[str], metric: str) -> np.ndarray:
    """Return the numbers that classes are named by, float64 [C], for a metric of ORDERED.

    Raises:
      ValueError: a name is not a finite number.
    """
    values = []
    for name in class_names:
        try:
            value = float(name)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise ValueError(
                f"metric {metric!r} takes classes that are numbers, as 1 to 5; found the class {name!r}: choose "
                "accuracy, macro_f1 or matthews as config.data.metric"
            )
        values.append(value)
    return np.array(values, np.float64)


def confusion_matrix(predicted_B, label_B, num_classes: int | None = None) -> np.ndarray:
    """Count examples by class, int64 [C labelled, C predicted]; num_classes: None for those up to
    the largest.

    Raises:
      ValueError: there are no examples.
    """
    predicted_B, label_B = np.asarray(predicted_B, np.int64), np.asarray(label_B, np.int64)
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    num_classes = num_classes or int(max(predicted_B.max(), label_B.max())) + 1
    counts = np.bincount(label_B * num_classes + predicted_B, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


class ClassScores(NamedTuple):
    """Scores of every class, float64 [C] in [0, 1], 0 where nothing is below the line; support:
    labelled examples."""

    precision_C: np.ndarray
    recall_C: np.ndarray
    f1_C: np.ndarray
    support_C: np.ndarray


def class_scores(matrix_CC: np.ndarray) -> ClassScores:
    """Return the scores of every class of a confusion matrix [C labelled, C predicted]."""
    right_C, predicted_C, labelled_C = (
        np.diag(matrix_CC),
        matrix_CC.sum(axis=0),
        matrix_CC.sum(axis=1),
    )
    return ClassScores(
        precision_C=right_C / np.maximum(1, predicted_C),
        recall_C=right_C / np.maximum(1, labelled_C),
        f1_C=2 * right_C / np.maximum(1, predicted_C + labelled_C),
        support_C=labelled_C,
    )


def majority_share(label_B) -> float:
    """Return the share of the most frequent class: the accuracy of always answering it."""
    label_B = np.asarray(label_B)
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    return float(np.unique(label_B, return_counts=True)[1].max() / label_B.size)


def expected_calibration_error(prob_BC, label_B, *, num_bins: int = CONFIDENCE_BINS) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their
    examples.

    Args:
      prob_BC: float [B, C], probabilities; the confidence is the largest.
      label_B: int [B].
      num_bins: bins (0, 1/n], (1/n, 2/n] ... of the confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 5.
    """
    prob_BC, label_B = np.asarray(prob_BC, np.float64), np.asarray(label_B)
    right_B = prob_BC.argmax(axis=-1) == label_B
    return calibration_error(prob_BC.max(axis=-1), right_B, num_bins=num_bins)


def calibration_error(confidence_B, right_B, *, num_bins: int = CONFIDENCE_BINS) -> float:
    """Return `expected_calibration_error` of confidences in [0, 1] and whether each answer is
    right."""
    confidence_B, right_B = np.asarray(confidence_B, np.float64), np.asarray(right_B)
    if right_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    bin_B = np.clip(np.ceil(confidence_B * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    gaps = np.bincount(bin_B, weights=right_B - confidence_B, minlength=num_bins)
    return float(np.abs(gaps).sum() / right_B.size)


def softmax(logits_BC: np.ndarray) -> np.ndarray:
    """Return probabilities [..., C] of the logits' dtype; in NumPy, which compiles nothing."""
    power_BC = np.exp(logits_BC - logits_BC.max(axis=-1, keepdims=True))
    return power_BC / power_BC.sum(axis=-1, keepdims=True)


def decide(prob_BC, threshold: float | None = None) -> np.ndarray:
    """Return the class numbers of probabilities, int64 [B].

    Args:
      prob_BC: float [B, C].
      threshold: of two classes, class 1 where its probability is at least this; None: the
        likeliest class.
    """
    prob_BC = np.asarray(prob_BC)
    if threshold is None:
        return prob_BC.argmax(axis=-1)
    return (prob_BC[..., 1] >= threshold).astype(np.int64)


def check_threshold(threshold: float | None, num_classes: int) -> None:
    """Raise ValueError where a decision threshold is not a number in (0, 1), or there are not two
    classes."""
    if threshold is None:
        return
    if num_classes != 2:
        raise ValueError(
            f"a decision threshold is for two classes; the model has {num_classes}: leave threshold out"
        )
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, int | float | np.floating)
        or not 0.0 < threshold < 1.0
    ):
        raise ValueError(
            f"threshold is {threshold!r:.40}; expected a probability of the second class, above 0 and below 1"
        )


def choose_threshold(prob_B, label_B, metric: str) -> tuple[float, float]:
    """Return the decision threshold on the probability of class 1 with the best score, and that
    score.

    Thresholds are in the middle between neighbouring probabilities, so that rounding moves no
    example across. Of equal
    scores the threshold nearest to 1/2 is taken.

    Raises:
      ValueError: the metric is none of THRESHOLD_METRICS, there are no examples, or one is of a
        third class.
    """
    prob_B, label_B = np.asarray(prob_B, np.float64), np.asarray(label_B)
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
    value_V, place_B = np.unique(prob_B, return_inverse=True)
    outer = [0.0, *value_V, 1.0]
    threshold_T = np.clip(np.convolve(outer, [0.5, 0.5], mode="valid"), 1e-6, 1 - 1e-6)
    count_2V = [np.bincount(place_B[label_B == label], minlength=len(value_V)) for label in (0, 1)]
    below_2T = np.cumsum(np.pad(count_2V, ((0, 0), (1, 0))), axis=1)  # by label
    score_T = _score_of_counts(metric, below_2T, below_2T[:, -1:] - below_2T)
    best = max(
        range(len(threshold_T)), key=lambda place: (score_T[place], -abs(threshold_T[place] - 0.5))
    )
    return float(threshold_T[best]), float(score_T[best])


def _score_of_counts(metric: str, below_2T: np.ndarray, above_2T: np.ndarray) -> np.ndarray:
    """Return a metric of two classes, float64 [T].

    Args:
      metric: one of THRESHOLD_METRICS.
      below_2T: int, examples that are predicted as class 0, by their label.
      above_2T: int, those that are predicted as class 1.
    """
    (true_0, false_0), (false_1, true_1) = below_2T.astype(float), above_2T.astype(float)
    wrong = false_0 + false_1
    if metric == "accuracy":
        return (true_0 + true_1) / (true_0 + true_1 + wrong)
    if metric == "matthews":
        columns, rows = (
            (true_1 + false_1) * (true_0 + false_0),
            (true_1 + false_0) * (true_0 + false_1),
        )
        spread = columns * rows
        return (true_1 * true_0 - false_1 * false_0) / np.sqrt(np.maximum(spread, 1.0))
    f1_1, f1_0 = (2 * right / np.maximum(1.0, 2 * right + wrong) for right in (true_1, true_0))
    return f1_1 if metric == "f1" else (f1_0 + f1_1) / 2
