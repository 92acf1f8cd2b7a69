"""Score SQuAD's answers by exact match and F1, and find the threshold for giving no answer.

All scores are in [0, 1]. Answers are texts; the empty text is "no answer".

    Q questions
    2 exact match and F1

Source: Rajpurkar et al., "SQuAD", EMNLP 2016, and Rajpurkar et al., ACL 2018 (SQuAD 2.0), with the
evaluation programs published with them.
"""

import collections
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

ALWAYS = 1e9  # the threshold above every difference: always give an answer
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """Return the text without case, ASCII punctuation, articles and repeated blanks.

    Punctuation goes before articles, as published.
    """
    words = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", words).split())


def exact_match(prediction: str, answer: str) -> float:
    """Return 1 if both texts are equal once normalized, else 0."""
    return float(normalize(prediction) == normalize(answer))


def token_overlap(prediction: str, answer: str) -> tuple[float, float, float]:
    """Compute F1, precision and recall of the normalized words.

    precision = common / words predicted; recall = common / words of the answer;
    F1 = 2 P R / (P + R). A word counts as often as it is in both texts. If a text has no words,
    all three are 1 if both have none, else 0. This is the rule of SQuAD 2.0; in 1.1 two empty texts
    score 0.
    """
    predicted, expected = normalize(prediction).split(), normalize(answer).split()
    if not predicted or not expected:
        is_same = float(predicted == expected)
        return is_same, is_same, is_same
    common = collections.Counter(predicted) & collections.Counter(expected)
    num_common = sum(common.values())
    if num_common == 0:
        return 0.0, 0.0, 0.0
    precision, recall = num_common / len(predicted), num_common / len(expected)
    return 2 * precision * recall / (precision + recall), precision, recall


def answer_f1(prediction: str, answer: str) -> float:
    """Return the F1 of `token_overlap`."""
    return token_overlap(prediction, answer)[0]


def best_answer_scores(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Return exact match and F1 of one prediction, each the highest over the accepted answers.

    Answers that normalize to nothing are left out. If none is left, the answer is the empty text.
    """
    expected = [answer for answer in answers if normalize(answer)] or [""]
    exact = max(exact_match(prediction, answer) for answer in expected)
    overlap = max(answer_f1(prediction, answer) for answer in expected)
    return exact, overlap


def squad_scores(
    predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Average exact match and F1 over all questions.

    Args:
      predictions: the predicted text by question id, "" for no answer. Predictions for other
        questions are ignored.
      answers: the accepted texts by question id; empty for a question without an answer.

    Returns:
      exact, f1 and total. If some questions have answers and some have none, also the scores of
      both kinds: has_ans_exact, has_ans_f1, has_ans_total, no_ans_exact, no_ans_f1, no_ans_total.

    Raises:
      ValueError: there are no questions; predictions are missing.
    """
    score_Q2 = score_questions(predictions, answers)
    answerable_Q = np.array([len(accepted) > 0 for accepted in answers.values()])
    found = _means(score_Q2, "")
    if answerable_Q.any() and not answerable_Q.all():
        found |= _means(score_Q2[answerable_Q], "has_ans_")
        found |= _means(score_Q2[~answerable_Q], "no_ans_")
    return found


def score_questions(
    predictions: Mapping[str, str], answers: Mapping[str, Sequence[str]]
) -> np.ndarray:
    """Compute exact match and F1 of each question.

    Returns:
      float64 [Q, 2] in the order of `answers`.

    Raises:
      ValueError: there are no questions; predictions are missing.
    """
    if not answers:
        raise ValueError("a score of no questions is not defined")
    require_predictions(predictions, answers)
    rows = [best_answer_scores(predictions[key], accepted) for key, accepted in answers.items()]
    return np.array(rows, np.float64)


def require_predictions(predictions: Mapping[str, object], questions: Iterable[str]) -> None:
    """Raise ValueError if a question has no prediction."""
    missing = [key for key in questions if key not in predictions]
    if missing:
        more = " ..." if len(missing) > 3 else ""
        raise ValueError(
            f"{len(missing)} questions have no prediction: {', '.join(map(repr, missing[:3]))}"
            f"{more}; expected one for each question"
        )


def _means(score_Q2: np.ndarray, prefix: str) -> dict[str, float]:
    """Return means over questions under the names that reports use."""
    exact, overlap = np.mean(score_Q2, axis=0).tolist()
    return {f"{prefix}exact": exact, f"{prefix}f1": overlap, f"{prefix}total": len(score_Q2)}


class Threshold(NamedTuple):
    """A rule for giving no answer: the difference is above `value`; `score` is the mean score."""

    score: float
    value: float


def best_threshold(difference_Q, score_Q, answerable_Q) -> Threshold:
    """Return the threshold on the difference that maximizes the mean score.

    A question is answered if its difference is at most the threshold. Its score is then score_Q.
    An unanswered question scores 1 if it has no answer, else 0. Of equal means the smallest
    threshold is taken. The threshold is halfway between the last difference that is answered and
    the next one, so that rounding changes no decision.

    Args:
      difference_Q: float [Q], the score of no answer minus the score of the best span; +inf if
        there is no span.
      score_Q: float [Q] in [0, 1], exact match or F1 of the best span.
      answerable_Q: bool [Q], True if the question has an answer.

    Returns:
      The maximum and its threshold. If answering nothing is best, the threshold is at most 0 and
      below every difference. If every question has an answer, it is ALWAYS.

    Raises:
      ValueError: there are no questions; lengths differ; a value is NaN.

    Source: the program of SQuAD 2.0. It also separates questions of equal difference, and returns
    the last difference that is answered.
    """
    difference_Q, score_Q = np.asarray(difference_Q, np.float64), np.asarray(score_Q, np.float64)
    answerable_Q = np.asarray(answerable_Q, bool)
    _check_questions(difference_Q, score_Q, answerable_Q)
    order_Q = np.argsort(difference_Q, kind="stable")
    sorted_Q = difference_Q[order_Q]
    total = _totals(score_Q[order_Q], answerable_Q[order_Q])
    # No threshold separates questions of equal difference.
    total[1:-1][sorted_Q[1:] == sorted_Q[:-1]] = -np.inf
    num_answered = int(np.argmax(total))
    mean = float(total[num_answered] / len(sorted_Q))
    if answerable_Q.all():
        return Threshold(mean, ALWAYS)
    return Threshold(mean, _threshold_after(sorted_Q, num_answered))


def _totals(score_Q: np.ndarray, answerable_Q: np.ndarray) -> np.ndarray:
    """Return the total score if the first 0, 1, ... questions are answered, float64 [Q + 1]."""
    null_score_Q = (~answerable_Q).astype(np.float64)
    return np.cumsum(np.append(np.sum(null_score_Q), score_Q - null_score_Q))


def _threshold_after(sorted_Q: np.ndarray, num_answered: int) -> float:
    """Return a threshold above the first num_answered of the sorted differences only."""
    if num_answered == 0:
        return min(0.0, float(sorted_Q[0]) - 1.0)
    last = float(sorted_Q[num_answered - 1])
    following = float(np.append(sorted_Q, np.inf)[num_answered])
    return (last + following) / 2 if np.isfinite(following) else last + 1.0


def _check_questions(
    difference_Q: np.ndarray, score_Q: np.ndarray, answerable_Q: np.ndarray
) -> None:
    """Raise ValueError if no threshold can be computed."""
    shapes = difference_Q.shape, score_Q.shape, answerable_Q.shape
    if len(set(shapes)) != 1 or difference_Q.ndim != 1:
        raise ValueError(
            f"shapes {shapes} of differences, scores, answerable; "
            "expected one number a question in each"
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
    """Return the best thresholds for exact match ("exact") and F1 ("f1").

    Args:
      predictions: the text of the best span by question id, whatever its difference; "" if there
        is no span.
      differences: the score of no answer minus the score of the best span, by question id.
      answers: the accepted texts by question id; empty for a question without an answer.

    Raises:
      ValueError: a prediction or a difference is missing, or `best_threshold` raises it.
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
    """Return the predictions, with "" (no answer) if the difference is above the threshold.

    Raises:
      ValueError: a difference is missing.
    """
    _require_differences(differences, predictions)
    return {
        key: "" if float(differences[key]) > threshold else text
        for key, text in predictions.items()
    }


def _require_differences(differences: Mapping[str, float], questions: Iterable[str]) -> None:
    """Raise ValueError if a question has no difference."""
    missing = [key for key in questions if key not in differences]
    if missing:
        raise ValueError(
            f"{len(missing)} questions have no difference, {missing[0]!r} first; "
            "expected one for each question"
        )
