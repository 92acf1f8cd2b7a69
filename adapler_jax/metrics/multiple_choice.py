"""Accuracy where one of several options is right and each option is a row of its own."""

import numpy as np

from adapler_jax.metrics.classification import accuracy


def best_options(score_R, group_R, *, last_of_ties: bool = False) -> np.ndarray:
    """The option of the highest score of each question.

    Args:
      score_R: float [rows], one score an option.
      group_R: int [rows], the question of the row: 0, 1, 2 ..., each at least once. Options count from 0 in the order
        of a question's rows; the rows need not lie together.
      last_of_ties: whether the last of several highest options is taken, as TR-BERT's released program for RACE does,
        instead of the first.

    Returns:
      int64 [questions], the index of the option among those of its question.

    Raises:
      ValueError: lengths differ; a question has no rows; NaN.
    """
    score_R, group_R = np.asarray(score_R), np.asarray(group_R).astype(np.int64)
    count_Q = _count_options(score_R, group_R)
    first_Q = np.cumsum(count_Q) - count_Q
    together = np.argsort(group_R, kind="stable")
    option_R = np.empty(len(group_R), np.int64)
    option_R[together] = np.arange(len(group_R)) - np.repeat(first_Q, count_Q)
    # The last row of a question is its best: the highest score, and of equal ones the first or last option.
    order = np.lexsort((option_R if last_of_ties else -option_R, score_R, group_R))
    return option_R[order[first_Q + count_Q - 1]]


def multiple_choice_accuracy(score_R, group_R, label_Q, *, last_of_ties: bool = False) -> float:
    """Share of questions whose right option, label_Q, has the highest score. Raises ValueError as `best_options`, and
    where the labels are not as many as the questions."""
    chosen_Q, label_Q = (
        best_options(score_R, group_R, last_of_ties=last_of_ties),
        np.asarray(label_Q),
    )
    if label_Q.shape != chosen_Q.shape:
        raise ValueError(
            f"{label_Q.shape} labels for {len(chosen_Q)} questions; expected one a question"
        )
    return accuracy(chosen_Q, label_Q)


def _count_options(score_R: np.ndarray, group_R: np.ndarray) -> np.ndarray:
    """The number of options of each question. Raises ValueError on rows that are no options."""
    if score_R.shape != group_R.shape or score_R.ndim != 1:
        raise ValueError(
            f"scores {score_R.shape} and questions {group_R.shape}; expected one of each a row"
        )
    if np.isnan(score_R).any():
        raise ValueError(f"the score of row {int(np.argmax(np.isnan(score_R)))} is NaN")
    if len(group_R) and group_R.min() < 0:
        raise ValueError(
            f"row {int(np.argmin(group_R))} is of question {group_R.min()}; expected 0 or more"
        )
    count_Q = np.bincount(group_R)
    if not count_Q.all():
        raise ValueError(
            f"question {int(np.argmin(count_Q))} of {len(count_Q)} has no options; expected a row or more"
        )
    return count_Q


def option_scores(logits_BC) -> np.ndarray:
    """Scores of options, float64 [B]: the one logit of each, or of two classes the second's less the first's."""
    logits_BC = np.asarray(logits_BC, np.float64)
    return logits_BC[:, -1] - (logits_BC[:, 0] if logits_BC.shape[1] > 1 else 0.0)
