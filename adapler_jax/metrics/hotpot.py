"""HotpotQA's scores of answers, of supporting sentences, and of both at once. All lie in [0, 1].

Source: Yang et al., "HotpotQA", EMNLP 2018, section 5 and the evaluation program published beside it.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from adapler_jax.metrics.squad import exact_match, normalize, require_predictions, token_overlap

SupportingFact = tuple[str, int]  # title of a paragraph, index of a sentence in it
_WHOLE = {"yes", "no", "noanswer"}  # answers that are right as a whole or not at all


class HotpotScores(NamedTuple):
    """HotpotScores of one question in one respect."""

    em: float
    f1: float
    precision: float
    recall: float


_ZERO = HotpotScores(0.0, 0.0, 0.0, 0.0)


def score_answer(prediction: str, answer: str) -> HotpotScores:
    """Exact match and overlap of words; no overlap counts where either is yes, no or noanswer and the other differs.

    Two texts without words have em 1 and the rest 0, as published.
    """
    em = exact_match(prediction, answer)
    texts = normalize(prediction), normalize(answer)
    if not all(texts) or (_WHOLE.intersection(texts) and not em):
        return HotpotScores(em, 0.0, 0.0, 0.0)
    return HotpotScores(em, *token_overlap(prediction, answer))


def score_facts(
    predicted: Collection[SupportingFact], wanted: Collection[SupportingFact]
) -> HotpotScores:
    """Precision, recall and F1 of the set of supporting sentences; em is 1 where the sets are the same.

    A ratio without anything below it is 0.
    """
    predicted, wanted = set(map(tuple, predicted)), set(map(tuple, wanted))
    common = len(predicted & wanted)
    precision, recall = common / max(1, len(predicted)), common / max(1, len(wanted))
    return HotpotScores(
        float(predicted == wanted), _harmonic_mean(precision, recall), precision, recall
    )


def joint_scores(answer: HotpotScores, facts: HotpotScores) -> HotpotScores:
    """Both at once: products of em, precision and recall; F1 of the products."""
    precision, recall = answer.precision * facts.precision, answer.recall * facts.recall
    return HotpotScores(answer.em * facts.em, _harmonic_mean(precision, recall), precision, recall)


def _harmonic_mean(precision: float, recall: float) -> float:
    """2 P R / (P + R), 0 where both are 0."""
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def hotpot_scores(
    predictions: Mapping[str, str],
    facts: Mapping[str, Collection[SupportingFact]],
    answers: Mapping[str, str],
    wanted_facts: Mapping[str, Collection[SupportingFact]],
    *,
    missing_scores_zero: bool = False,
) -> dict[str, float]:
    """Means over all questions.

    Args:
      predictions: by question id, the answer given.
      facts: by question id, the sentences said to support it: (title, index of the sentence).
      answers: by question id, the right answer.
      wanted_facts: by question id, the sentences that support it.
      missing_scores_zero: whether what is not predicted scores 0 there and jointly, as published, instead of being an
        error.

    Returns:
      em, f1, precision, recall of the answers, the same after `sp_` for the supporting sentences and after `joint_` for
      both at once; total.

    Raises:
      ValueError: there are no questions; a question has no wanted_facts; predictions or facts are missing.
    """
    if not answers:
        raise ValueError("a score of no questions is not defined")
    if answers.keys() != wanted_facts.keys():
        key = sorted(answers.keys() ^ wanted_facts.keys())[0]
        raise ValueError(
            f"question {key!r} is only in one of answers and wanted_facts; expected it in both"
        )
    if not missing_scores_zero:
        require_predictions(predictions, answers)
        require_predictions(facts, answers)
    rows = []
    for key, answer in answers.items():
        of_answer = score_answer(predictions[key], answer) if key in predictions else _ZERO
        of_facts = score_facts(facts[key], wanted_facts[key]) if key in facts else _ZERO
        rows.append((of_answer, of_facts, joint_scores(of_answer, of_facts)))
    mean_34 = np.mean(rows, axis=0)
    found = {
        f"{prefix}{name}": float(value)
        for prefix, means in zip(("", "sp_", "joint_"), mean_34)
        for name, value in zip(HotpotScores._fields, means)
    }
    return found | {"total": len(rows)}
