"""Score texts with several labels on NumPy arrays. The caller leaves padding examples out.

Every metric is a function of predicted and right labels, bool [E, C], in [0, 1]. A ratio with
denominator 0 is 0, as in scikit-learn with `zero_division=0`.

Shape letters:

    E examples of a set
"""

from collections.abc import Callable

import numpy as np

from adapler_jax.metrics.classification import ClassScores, choose_threshold, count_scores

DEFAULT_THRESHOLD = 0.5  # of a label's probability
MIN_TEXTS = 5  # with a label, and as many without, that its threshold is chosen on
THRESHOLDS = "label_thresholds"  # field of a saved model: a threshold for each label


def label_scores(predicted_EC: np.ndarray, label_EC: np.ndarray) -> ClassScores:
    """Return precision, recall and F1 of every label."""
    predicted_EC, label_EC = np.asarray(predicted_EC, bool), np.asarray(label_EC, bool)
    return count_scores(
        np.sum(predicted_EC & label_EC, axis=0), predicted_EC.sum(axis=0), label_EC.sum(axis=0)
    )


def micro_f1(predicted_EC: np.ndarray, label_EC: np.ndarray) -> float:
    """Compute 2 TP / (2 TP + FP + FN) over all labels of all texts."""
    predicted_EC, label_EC = np.asarray(predicted_EC, bool), np.asarray(label_EC, bool)
    num_right = np.sum(predicted_EC & label_EC)
    return float(2 * num_right / max(1, predicted_EC.sum() + label_EC.sum()))


def macro_f1(predicted_EC: np.ndarray, label_EC: np.ndarray) -> float:
    """Average the F1 of every label with equal weights."""
    return float(np.mean(label_scores(predicted_EC, label_EC).f1_C))


def exact_match(predicted_EC: np.ndarray, label_EC: np.ndarray) -> float:
    """Compute the fraction of texts whose labels are all right, and no others."""
    equal_EC = np.asarray(predicted_EC, bool) == np.asarray(label_EC, bool)
    return float(np.mean(np.all(equal_EC, axis=-1)))


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "micro_f1": micro_f1,
    "macro_f1": macro_f1,
    "exact_match": exact_match,
}


def check_label_metric(metric: str) -> None:
    """Raise ValueError if there is no such metric for texts with several labels."""
    if metric not in METRICS:
        raise ValueError(
            f"config.data.metric is {metric!r}; for several labels a text there are "
            f"{', '.join(METRICS)}"
        )


def decide_labels(prob_EC: np.ndarray, threshold_C: np.ndarray | float) -> np.ndarray:
    """Return the labels whose probability is at least their threshold, bool [E, C]."""
    return np.asarray(prob_EC) >= threshold_C


def choose_label_thresholds(
    prob_EC: np.ndarray, label_EC: np.ndarray, default_C: np.ndarray | float = DEFAULT_THRESHOLD
) -> np.ndarray:
    """Return the threshold of each label that has its best F1, float64 [C].

    A label that fewer than MIN_TEXTS texts have, or lack, keeps its default: so few texts say
    little of others.

    Args:
      prob_EC: float, probabilities.
      label_EC: bool or 0 and 1.
      default_C: of each label, or of all.
    """
    prob_CE, label_CE = np.asarray(prob_EC).T, np.asarray(label_EC, np.int64).T
    threshold_C = np.array(np.broadcast_to(default_C, len(prob_CE)), np.float64)
    for number, (prob_E, label_E) in enumerate(zip(prob_CE, label_CE)):
        if MIN_TEXTS <= label_E.sum() <= len(label_E) - MIN_TEXTS:
            threshold_C[number], _ = choose_threshold(prob_E, label_E, "f1")
    return threshold_C
