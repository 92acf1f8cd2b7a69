"""Scores of classification on NumPy arrays. Filler rows are the caller's to leave out."""

import numpy as np


def accuracy(predicted_B, label_B) -> float:
    """Share of equal entries, in [0, 1]. Raises ValueError on no examples."""
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    if label_B.size == 0:
        raise ValueError("a score of no examples is not defined")
    return float(np.mean(predicted_B == label_B))


def f1(predicted_B, label_B) -> float:
    """F1 of class 1 in two classes, as GLUE scores MRPC: 2 TP / (2 TP + FP + FN); 0 without any positive."""
    predicted_B, label_B = np.asarray(predicted_B), np.asarray(label_B)
    true_positives = np.sum((predicted_B == 1) & (label_B == 1))
    wrong = np.sum(((predicted_B == 1) | (label_B == 1)) & (predicted_B != label_B))
    return float(2 * true_positives / max(1, 2 * true_positives + wrong))


METRICS = {"accuracy": accuracy, "f1": f1}
