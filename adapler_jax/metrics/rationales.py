"""Compare word scores with human rationales, and measure how predictions depend on the words.

All functions take NumPy arrays of one text: score_W float, larger is more important; rationale_W
and chosen_W bool. Special tokens are no words. A word has the largest score of its pieces
(`inference.explanation.pool_words`).

    W words of a text
    K the fractions BINS

Source: Modarressi et al., "AdapLeR", ACL 2022, analysis of rationales (average precision, false
positive rate at the uniform level); DeYoung et al., "ERASER", ACL 2020 (all other functions).
"""

from collections.abc import Sequence

import numpy as np

# Fractions of the words that are removed or kept, ERASER section 4.2.
BINS = (0.01, 0.05, 0.1, 0.2, 0.5)


def average_precision(score_W, rationale_W) -> float:
    """Compute sum_k (R_k - R_(k-1)) P_k over falling distinct scores, in [0, 1].

    Words of equal score are taken together. The result is NaN if no word is in the rationale.
    """
    precision, recall = precision_recall(score_W, rationale_W)
    if not len(recall):
        return float("nan")
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def area_under_precision_recall(score_W, rationale_W) -> float:
    """Compute ERASER's AUPRC: trapezoids of precision over recall from (0, 1), in [0, 1].

    The result is NaN if no word is in the rationale.
    """
    precision, recall = precision_recall(score_W, rationale_W)
    area = np.trapezoid(np.append(1.0, precision), np.append(0.0, recall))
    return float(area) if len(recall) else float("nan")


def precision_recall(score_W, rationale_W) -> tuple[np.ndarray, np.ndarray]:
    """Compute precision and recall of the words that score at least s, for each falling score s."""
    score_W, rationale_W = _check_arrays(score_W, rationale_W)
    order_W = np.argsort(-score_W, kind="stable")
    is_last_W = np.ones(len(order_W), bool)
    is_last_W[:-1] = np.diff(score_W[order_W]) != 0.0
    last = np.flatnonzero(is_last_W)
    hits = np.cumsum(rationale_W[order_W])[last]
    with np.errstate(invalid="ignore"):
        return hits / (last + 1), hits / np.sum(rationale_W)


def above_uniform(score_W) -> np.ndarray:
    """Choose the words with more than the uniform score: score / sum > 1 / W.

    No word is chosen if all scores are 0.
    """
    score_W = np.asarray(score_W, np.float64)
    return score_W * len(score_W) > np.sum(score_W)


def false_positive_rate(chosen_W, rationale_W) -> float:
    """Compute FP / (FP + TN) of the chosen words; NaN if every word is in the rationale."""
    chosen_W, rationale_W = _check_arrays(chosen_W, rationale_W)
    num_outside = np.sum(~rationale_W)
    if not num_outside:
        return float("nan")
    return float(np.sum(chosen_W & ~rationale_W) / num_outside)


def choose_top(score_W, fraction: float) -> np.ndarray:
    """Choose the ceil(fraction * W) words of the highest scores; the earlier of equal ones.

    Raises:
      ValueError: the fraction is outside (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction is {fraction}; expected more than 0, at most 1")
    score_W = np.asarray(score_W)
    # The margin is for fractions that binary numbers round up: a fifth of five words is one word.
    num_words = int(np.ceil(fraction * len(score_W) - 1e-9))
    chosen_W = np.zeros(len(score_W), bool)
    chosen_W[np.argsort(-score_W, kind="stable")[:num_words]] = True
    return chosen_W


def token_f1(chosen_W, rationale_W) -> float:
    """Compute 2 TP / (2 TP + FP + FN) of the chosen words; 1 if nothing is chosen or expected."""
    chosen_W, rationale_W = _check_arrays(chosen_W, rationale_W)
    total = int(np.sum(chosen_W)) + int(np.sum(rationale_W))
    return 2.0 * float(np.sum(chosen_W & rationale_W)) / total if total else 1.0


def spans_of(chosen_W) -> list[tuple[int, int]]:
    """Return [start, end) of every unbroken run of chosen words."""
    edges = np.diff(np.concatenate([[0], np.asarray(chosen_W, np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist()))


def matched_spans(chosen_W, rationale_W, *, min_iou: float = 0.5) -> tuple[float, float]:
    """Match chosen spans with human spans by intersection over union of at least min_iou.

    Returns:
      ERASER's precision, matches over chosen spans, and its recall, matches over human spans; 0 if
      there are no spans.
    """
    chosen, human = spans_of(chosen_W), spans_of(rationale_W)
    best = [max((iou(span, other) for other in human), default=0.0) for span in chosen]
    num_matches = sum(value >= min_iou for value in best)
    return num_matches / max(1, len(chosen)), num_matches / max(1, len(human))


def iou(span: tuple[int, int], other: tuple[int, int]) -> float:
    """Compute the intersection over union of two spans [start, end)."""
    intersection = max(0, min(span[1], other[1]) - max(span[0], other[0]))
    return intersection / (span[1] - span[0] + other[1] - other[0] - intersection)


def iou_f1(matches: Sequence[tuple[float, float]]) -> float:
    """Compute ERASER's IOU F1: the harmonic mean of mean precision and mean recall over texts.

    Args:
      matches: precision and recall of each text, from `matched_spans`.

    Raises:
      ValueError: there are no texts.
    """
    if not matches:
        raise ValueError("a score of no texts is not defined")
    precision, recall = np.mean(matches, axis=0)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def comprehensiveness(prob: float, without_K) -> float:
    """Compute the loss of probability when the most important words are removed; larger is better.

    Args:
      prob: probability of the predicted class on the whole text.
      without_K: float [K], the probability without each fraction of BINS.
    """
    return float(prob - np.mean(without_K))


def sufficiency(prob: float, alone_K) -> float:
    """Compute the loss of probability when only the most important words stay; smaller is better.

    Args:
      prob: probability of the predicted class on the whole text.
      alone_K: float [K], the probability of each fraction of BINS alone.
    """
    return float(prob - np.mean(alone_K))


def _check_arrays(values_W, rationale_W) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raise ValueError if their lengths differ or a value is NaN."""
    values_W, rationale_W = np.asarray(values_W), np.asarray(rationale_W, bool)
    if values_W.shape != rationale_W.shape or values_W.ndim != 1:
        raise ValueError(
            f"{values_W.shape} values for {rationale_W.shape} words of a rationale; "
            "expected one a word"
        )
    if np.isnan(values_W).any():
        raise ValueError("a score is NaN")
    return values_W, rationale_W
