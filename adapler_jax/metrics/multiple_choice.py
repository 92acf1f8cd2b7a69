"""Score multiple choice: one of several options is correct, and each option is one row.

R rows, one an option
Q questions
"""

import numpy as np

from adapler_jax.metrics.classification import accuracy


def best_options(score_R, question_R) -> np.ndarray:
    """Return the option of the highest score of each question; the first of equal ones.

    Args:
      score_R: float [R], one score an option.
      question_R: int [R], the question of each row: 0, 1, 2 ..., each at least once. Options count
        from 0 in the order of a question's rows, which need not be adjacent.

    Returns:
      int64 [Q], the index of the option among the options of its question.

    Raises:
      ValueError: lengths differ; a question has no rows; a score is NaN.
    """
    score_R, question_R = np.asarray(score_R), np.asarray(question_R).astype(np.int64)
    count_Q = _count_options(score_R, question_R)
    end_Q = np.cumsum(count_Q)
    adjacent_R = np.argsort(question_R, kind="stable")
    option_R = np.empty(len(question_R), np.int64)
    option_R[adjacent_R] = np.arange(len(question_R)) - np.repeat(end_Q - count_Q, count_Q)
    # Sorted by question, score and falling option, the last row of a question is its best.
    order_R = np.lexsort((-option_R, score_R, question_R))
    return option_R[order_R[end_Q - 1]]


def multiple_choice_accuracy(score_R, question_R, label_Q) -> float:
    """Return the fraction of questions whose correct option, label_Q, has the highest score.

    Raises:
      ValueError: `best_options` raises it, or the number of labels is not the number of questions.
    """
    best_Q = best_options(score_R, question_R)
    label_Q = np.asarray(label_Q)
    if label_Q.shape != best_Q.shape:
        raise ValueError(
            f"{label_Q.shape} labels for {len(best_Q)} questions; expected one a question"
        )
    return accuracy(best_Q, label_Q)


def _count_options(score_R: np.ndarray, question_R: np.ndarray) -> np.ndarray:
    """Count the options of each question; raise ValueError on rows that are no options."""
    if score_R.shape != question_R.shape or score_R.ndim != 1:
        raise ValueError(
            f"scores {score_R.shape} and questions {question_R.shape}; expected one of each a row"
        )
    is_nan_R = np.isnan(score_R)
    if is_nan_R.any():
        raise ValueError(f"the score of row {int(np.argmax(is_nan_R))} is NaN")
    if len(question_R) and question_R.min() < 0:
        row, question = int(np.argmin(question_R)), question_R.min()
        raise ValueError(f"row {row} is of question {question}; expected 0 or more")
    count_Q = np.bincount(question_R)
    if not count_Q.all():
        raise ValueError(
            f"question {int(np.argmin(count_Q))} of {len(count_Q)} has no options; "
            "expected a row or more"
        )
    return count_Q


def option_scores(logits_BC) -> np.ndarray:
    """Return the score of each option, float64 [B].

    Args:
      logits_BC: float [B, 1], which are the scores, or [B, 2], of which the score is the second
        logit minus the first.
    """
    logits_BC = np.asarray(logits_BC, np.float64)
    other = logits_BC[:, 0] if logits_BC.shape[1] > 1 else 0.0
    return logits_BC[:, -1] - other
