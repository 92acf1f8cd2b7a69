"""Exact match and F1 of SQuAD's answers, and the threshold that tells when to give none.

All scores lie in [0, 1]. Answers are texts; the empty text is "no answer". Sources: Rajpurkar et al., "SQuAD", EMNLP
2016, and "Know What You Don't Know", ACL 2018, with the evaluation programs published beside them.
"""

import collections
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

ALWAYS = 1e9  # as a threshold: give an answer, whatever the difference
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """The text as answers are compared: lower case, without ASCII punctuation and then articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """1 where both are the same once normalized, else 0."""
    return float(normalize(prediction) == normalize(answer))


def token_overlap(prediction: str, answer: str) -> tuple[float, float, float]:
    """F1, precision and recall of the normalized words, each counted as often as it stands in both.

    precision = common / words predicted; recall = common / words of the answer; F1 = 2 P R / (P + R). Where either text
    has no words, all three are 1 if both have none, else 0 (as SQuAD 2.0 has it; 1.1 gives 0 to two empty texts).
    """
    predicted, wanted = normalize(prediction).split(), normalize(answer).split()
    if not predicted or not wanted:
        same = float(predicted == wanted)
        return same, same, same
    common = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
    if common == 0:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall), precision, recall


def answer_f1(prediction: str, answer: str) -> float:
    """F1 of `token_overlap`."""
    return token_overlap(prediction, answer)[0]


def best_answer_scores(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of one prediction, each the highest over the accepted answers.

    Answers that normalize to nothing are left out; where none is left, the answer is the empty text.
    """
    wanted = [answer for answer in answers if normalize(answer)] or [""]
    return max(exact_match(prediction, answer) for answer in wanted), max(
        answer_f1(prediction, answer) for answer in wanted
    )


def squad_scores(
    predictions: Mapping[str, str],
    answers: Mapping[str, Sequence[str]],
    *,
    missing_scores_zero: bool = False,
) -> dict[str, float]:
    """Mean exact match and F1 over all questions.

    Args:
      predictions: by question id, the text that is answered; "" for no answer. Those of other questions are ignored.
      answers: by question id, the accepted texts; none for a question that has no answer.
      missing_scores_zero: whether a question without a prediction scores 0, as in the program of SQuAD 1.1, instead of
        being an error.

    Returns:
      exact, f1, total; and, where some questions have answers and some have none, the same of each kind:
      has_ans_exact, has_ans_f1, has_ans_total, no_ans_exact, no_ans_f1, no_ans_total. Shares in [0, 1].

    Raises:
      ValueError: there are no questions; predictions are missing.
    """
    score_Q2 = score_questions(predictions, answers, missing_scores_zero=missing_scores_zero)
    answerable_Q = np.array([len(accepted) > 0 for accepted in answers.values()])
    found = _means(score_Q2, "")
    if answerable_Q.any() and not answerable_Q.all():
        found |= _means(score_Q2[answerable_Q], "has_ans_") | _means(
            score_Q2[~answerable_Q], "no_ans_"
        )
    return found


def score_questions(
    predictions: Mapping[str, str],
    answers: Mapping[str, Sequence[str]],
    *,
    missing_scores_zero: bool = False,
) -> np.ndarray:
    """Exact match and F1 of each question, float64 [questions, 2] in the order of `answers`; else as `squad_scores`."""
    if not answers:
        raise ValueError("a score of no questions is not defined")
    if not missing_scores_zero:
        require_predictions(predictions, answers)
    rows = [
        best_answer_scores(predictions[key], answers[key]) if key in predictions else (0.0, 0.0)
        for key in answers
    ]
    return np.array(rows, np.float64)


def require_predictions(predictions: Mapping[str, object], questions: Iterable[str]) -> None:
    """Raises ValueError where a question has no prediction."""
    missing = [key for key in questions if key not in predictions]
    if missing:
        named = ", ".join(map(repr, missing[:3])) + (" ..." if len(missing) > 3 else "")
        raise ValueError(
            f"{len(missing)} questions have no prediction: {named}; expected one for each: predict them, or pass "
            "missing_scores_zero=True"
        )


def _means(score_Q2: np.ndarray, prefix: str) -> dict[str, float]:
    """Means over questions under the names that reports use."""
    exact, overlap = np.mean(score_Q2, axis=0).tolist()
    return {f"{prefix}exact": exact, f"{prefix}f1": overlap, f"{prefix}total": len(score_Q2)}


class Threshold(NamedTuple):
    """A rule for giving no answer: where the difference is above `value`. `score` is the mean that it reaches."""

    score: float
    value: float


def best_threshold(difference_Q, score_Q, answerable_Q, *, as_published: bool = False) -> Threshold:
    """The threshold on the difference that maximises the mean score.

    A question is answered where its difference is at most the threshold. It then has its score; unanswered, it has 1 if
    it has no answer, else 0. Starting from none answered, questions are added in the order of their differences, and
    the first of the best places is taken. The threshold lies in the middle between the last difference that is answered
    and the next, so that rounding moves no question across it.

    Args:
      difference_Q: float [questions], score of no answer minus that of the best span; +inf where there is no span.
      score_Q: float [questions] in [0, 1], exact match or F1 of the best span.
      answerable_Q: bool [questions], whether the question has an answer.
      as_published: search as the program of SQuAD 2.0 does, which takes thresholds between questions of one difference
        for possible, gives the last difference that is answered, and 0 where nothing should be answered (right for
        probabilities only).

    Returns:
      The maximum and the threshold. Where nothing should be answered, the threshold is at most 0 and below every
      difference; where every question has an answer, ALWAYS, which is above any.

    Raises:
      ValueError: no questions; lengths differ; NaN.
    """
    difference_Q, score_Q = np.asarray(difference_Q, np.float64), np.asarray(score_Q, np.float64)
    answerable_Q = np.asarray(answerable_Q, bool)
    _check_questions(difference_Q, score_Q, answerable_Q)
    order = np.argsort(difference_Q, kind="stable")
    sorted_Q = difference_Q[order]
    total_Q = np.cumsum(
        np.append(np.sum(~answerable_Q), (score_Q - ~answerable_Q)[order])
    )  # after 0, 1, ... answered
    if not as_published:
        total_Q[1:-1][sorted_Q[1:] == sorted_Q[:-1]] = -np.inf
    best = int(np.argmax(total_Q))
    score = float(total_Q[best] / len(order))
    if as_published:
        return Threshold(score, float(sorted_Q[best - 1]) if best else 0.0)
    if answerable_Q.all():
        return Threshold(score, ALWAYS)
    if best == 0:
        return Threshold(score, min(0.0, float(sorted_Q[0]) - 1.0))
    last, behind = float(sorted_Q[best - 1]), float(np.append(sorted_Q, np.inf)[best])
    return Threshold(score, (last + behind) / 2 if np.isfinite(behind) else last + 1.0)


def _check_questions(
    difference_Q: np.ndarray, score_Q: np.ndarray, answerable_Q: np.ndarray
) -> None:
    """Refuses what no threshold can be found for."""
    shapes = difference_Q.shape, score_Q.shape, answerable_Q.shape
    if len(set(shapes)) != 1 or difference_Q.ndim != 1:
        raise ValueError(
            f"shapes {shapes} of differences, scores, answerable; expected one number a question in each"
        )
    if len(difference_Q) == 0:
        raise ValueError("a threshold from no questions is not defined")
    if np.isnan(difference_Q).any() or np.isnan(score_Q).any():
        raise ValueError("a difference or a score is NaN")


def find_thresholds(
    predictions: Mapping[str, str],
    differences: Mapping[str, float],
    answers: Mapping[str, Sequence[str]],
) -> dict[str, Threshold]:
    """The best thresholds, "exact" for exact match and "f1" for F1, of questions by id.

    Args:
      predictions: the text of the best span of every question, whatever its difference; "" where there is no span.
      differences: score of no answer minus that of the best span.
      answers: the accepted texts; none for a question that has no answer.

    Raises:
      ValueError: a prediction or a difference is missing; as `best_threshold`.
    """
    _require_differences(differences, answers)
    score_Q2 = score_questions(predictions, answers)
    difference_Q = [differences[key] for key in answers]
    answerable_Q = [len(accepted) > 0 for accepted in answers.values()]
    return {
        name: best_threshold(difference_Q, score_Q, answerable_Q)
        for name, score_Q in zip(("exact", "f1"), score_Q2.T)
    }


def apply_threshold(
    predictions: Mapping[str, str], differences: Mapping[str, float], threshold: float
) -> dict[str, str]:
    """The predictions, with "" (no answer) where the difference is above the threshold. Raises ValueError where a
    difference is missing."""
    _require_differences(differences, predictions)
    return {
        key: "" if float(differences[key]) > threshold else text
        for key, text in predictions.items()
    }


def _require_differences(differences: Mapping[str, float], questions: Iterable[str]) -> None:
    """Raises ValueError where a question has no difference."""
    missing = [key for key in questions if key not in differences]
    if missing:
        raise ValueError(
            f"{len(missing)} questions have no difference, {missing[0]!r} first; expected one for each"
        )
