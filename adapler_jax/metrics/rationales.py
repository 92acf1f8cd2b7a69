"""How well scores of words agree with the words that humans pointed at, and how much a model's answer rests on them.

All on NumPy arrays of one text: score_W float, the larger the more important; rationale_W and chosen_W bool. Special
tokens are no words, and a word has the largest score of its pieces (`inference.explanation.pool_words`). Sources:
Modarressi et al., "AdapLeR", ACL 2022, the analysis of rationales (average precision, false positive rate at the
uniform level); DeYoung et al., "ERASER", ACL 2020 (the others).
"""

from collections.abc import Sequence

import numpy as np

BINS = (
    0.01,
    0.05,
    0.1,
    0.2,
    0.5,
)  # shares of the words that are taken away or left, ERASER section 4.2


def average_precision(score_W, rationale_W) -> float:
    """Area under the steps of precision over recall: sum_k (R_k - R_(k-1)) P_k over falling distinct scores, in [0, 1].

    Words of equal score are taken together. NaN where no word is in the rationale.
    """
    precision, recall = precision_recall(score_W, rationale_W)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision)) if len(recall) else float("nan")


def area_under_precision_recall(score_W, rationale_W) -> float:
    """ERASER's AUPRC: trapezoids between the points of precision over recall, from (0, 1), in [0, 1].

    NaN where no word is in the rationale.
    """
    precision, recall = precision_recall(score_W, rationale_W)
    area = np.trapezoid(np.append(1.0, precision), np.append(0.0, recall))
    return float(area) if len(recall) else float("nan")


def precision_recall(score_W, rationale_W) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the words that score at least s, for every distinct score s from the highest down."""
    score_W, rationale_W = checked(score_W, rationale_W)
    order = np.argsort(-score_W, kind="stable")
    last = np.flatnonzero(
        np.append(np.diff(score_W[order]) != 0.0, np.ones(min(1, len(order)), bool))
    )
    hits = np.cumsum(rationale_W[order])[last]
    with np.errstate(invalid="ignore"):
        return hits / (last + 1), hits / np.sum(rationale_W)


def above_uniform(score_W) -> np.ndarray:
    """The words that have more than the uniform share: score / sum > 1 / W. None where all scores are 0."""
    score_W = np.asarray(score_W, np.float64)
    return score_W * len(score_W) > np.sum(score_W)


def false_positive_rate(chosen_W, rationale_W) -> float:
    """Share of the words outside of the rationale that are chosen, FP / (FP + TN); NaN where there is none outside."""
    chosen_W, rationale_W = checked(chosen_W, rationale_W)
    outside = np.sum(~rationale_W)
    return float(np.sum(chosen_W & ~rationale_W) / outside) if outside else float("nan")


def choose_top(score_W, share: float) -> np.ndarray:
    """The ceil(share * W) words of the highest scores, at least one; the earlier of equal ones. Raises ValueError on a
    share outside of (0, 1]."""
    if not 0.0 < share <= 1.0:
        raise ValueError(f"share is {share}; expected more than 0, at most 1")
    score_W = np.asarray(score_W)
    chosen_W = np.zeros(len(score_W), bool)
    # A hair less, for shares that are no binary fractions: a fifth of five words is one word.
    chosen_W[np.argsort(-score_W, kind="stable")[: int(np.ceil(share * len(score_W) - 1e-9))]] = (
        True
    )
    return chosen_W


def token_f1(chosen_W, rationale_W) -> float:
    """F1 of the chosen words, 2 TP / (2 TP + FP + FN); 1 where nothing is chosen and nothing wanted."""
    chosen_W, rationale_W = checked(chosen_W, rationale_W)
    both = int(np.sum(chosen_W)) + int(np.sum(rationale_W))
    return 2.0 * float(np.sum(chosen_W & rationale_W)) / both if both else 1.0


def spans_of(chosen_W) -> list[tuple[int, int]]:
    """Start and end of every unbroken run of chosen words."""
    edges = np.diff(np.concatenate([[0], np.asarray(chosen_W, np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()))


def matched_spans(chosen_W, rationale_W, *, min_iou: float = 0.5) -> tuple[float, float]:
    """Share of the chosen spans that overlap a human one by intersection over union of min_iou or more; and the number
    of those over the number of human spans, as ERASER counts its precision and recall. 0 of no spans is 0."""
    chosen, wanted = spans_of(chosen_W), spans_of(rationale_W)
    hits = sum(
        max((iou(span, other) for other in wanted), default=0.0) >= min_iou for span in chosen
    )
    return hits / max(1, len(chosen)), hits / max(1, len(wanted))


def iou(span: tuple[int, int], other: tuple[int, int]) -> float:
    """Intersection over union of two spans (start, end)."""
    inside = max(0, min(span[1], other[1]) - max(span[0], other[0]))
    return inside / (span[1] - span[0] + other[1] - other[0] - inside)


def iou_f1(matches: Sequence[tuple[float, float]]) -> float:
    """ERASER's IOU F1 of a data set: harmonic mean of the mean precision and the mean recall of `matched_spans`. Raises
    ValueError on no texts."""
    if not matches:
        raise ValueError("a score of no texts is not defined")
    precision, recall = np.mean(matches, axis=0)
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def comprehensiveness(prob: float, without_K) -> float:
    """What the probability of the model's answer loses when the most important words go: prob - mean over the BINS of
    without_K, the probabilities then. The larger the better."""
    return float(prob - np.mean(without_K))


def sufficiency(prob: float, alone_K) -> float:
    """What it loses when they alone stay: prob - mean over the BINS of alone_K. The smaller the better."""
    return float(prob - np.mean(alone_K))


def checked(values_W, rationale_W) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays. Raises ValueError where their lengths differ or a value is no number."""
    values_W, rationale_W = np.asarray(values_W), np.asarray(rationale_W, bool)
    if values_W.shape != rationale_W.shape or values_W.ndim != 1:
        raise ValueError(
            f"{values_W.shape} values for {rationale_W.shape} words of a rationale; expected one a word"
        )
    if np.isnan(values_W).any():
        raise ValueError("a score is NaN")
    return values_W, rationale_W
