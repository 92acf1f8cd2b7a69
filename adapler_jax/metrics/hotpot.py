"""Score answers, supporting sentences and both jointly, as HotpotQA does.

All scores are in [0, 1].

Source: Yang et al., "HotpotQA", EMNLP 2018, section 5 and the evaluation program published with it.

Shape letter: Q questions.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from adapler_jax.metrics.squad import exact_match, normalize, require_predictions, token_overlap

SupportingFact = tuple[str, int]  # title of a paragraph, index of a sentence in it
_WHOLE_ANSWERS = {"yes", "no", "noanswer"}  # a partial overlap with one of these scores 0


class HotpotScores(NamedTuple):
    """Scores of one question in one respect."""

    em: float
    f1: float
    precision: float
    recall: float


def score_answer(prediction: str, answer: str) -> HotpotScores:
    """Compute exact match and word overlap of an answer.

    The overlap is 0 if either text is yes, no or noanswer and the other one differs. Two texts
    without words have em 1 and all other scores 0, as published.
    """
    em = exact_match(prediction, answer)
    texts = normalize(prediction), normalize(answer)
    is_wrong_whole = bool(_WHOLE_ANSWERS.intersection(texts)) and not em
    if not all(texts) or is_wrong_whole:
        return HotpotScores(em, 0.0, 0.0, 0.0)
    return HotpotScores(em, *token_overlap(prediction, answer))


def score_facts(
    predicted: Collection[SupportingFact], gold: Collection[SupportingFact]
) -> HotpotScores:
    """Compute precision, recall and F1 of a set of supporting sentences.

    em is 1 if the sets are equal. A ratio with denominator 0 is 0.
    """
    predicted_set, gold_set = set(map(tuple, predicted)), set(map(tuple, gold))
    num_common = len(predicted_set & gold_set)
    precision = num_common / max(1, len(predicted_set))
    recall = num_common / max(1, len(gold_set))
    em = float(predicted_set == gold_set)
    return HotpotScores(em, _harmonic_mean(precision, recall), precision, recall)


def joint_scores(answer: HotpotScores, facts: HotpotScores) -> HotpotScores:
    """Multiply em, precision and recall of both respects, and compute F1 of the products."""
    precision = answer.precision * facts.precision
    recall = answer.recall * facts.recall
    return HotpotScores(answer.em * facts.em, _harmonic_mean(precision, recall), precision, recall)


def _harmonic_mean(precision: float, recall: float) -> float:
    """Compute 2 P R / (P + R), or 0 if both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


def hotpot_scores(
    predictions: Mapping[str, str],
    facts: Mapping[str, Collection[SupportingFact]],
    answers: Mapping[str, str],
    gold_facts: Mapping[str, Collection[SupportingFact]],
) -> dict[str, float]:
    """Average the scores over all questions.

    Args:
      predictions: the predicted answer by question id.
      facts: the predicted supporting sentences by question id.
      answers: the correct answer by question id.
      gold_facts: the correct supporting sentences by question id.

    Returns:
      em, f1, precision and recall of the answers, of the supporting sentences (prefix `sp_`) and
      of both jointly (prefix `joint_`); total counts the questions.

    Raises:
      ValueError: there are no questions; a question has no gold_facts; predictions or facts are
        missing.
    """
    rows = _question_scores(predictions, facts, answers, gold_facts)
    found: dict[str, float] = {}
    for prefix, means in zip(("", "sp_", "joint_"), np.mean(rows, axis=0)):
        for name, mean in zip(HotpotScores._fields, means):
            found[f"{prefix}{name}"] = float(mean)
    return found | {"total": len(rows)}


def joint_f1_scores(
    predictions: Mapping[str, str],
    facts: Mapping[str, Collection[SupportingFact]],
    answers: Mapping[str, str],
    gold_facts: Mapping[str, Collection[SupportingFact]],
) -> np.ndarray:
    """Return the joint F1 of each question in the order of `answers`, float64 [Q].

    Arguments and errors are as in `hotpot_scores`.
    """
    rows = _question_scores(predictions, facts, answers, gold_facts)
    return np.array([joint.f1 for _, _, joint in rows], np.float64)


def _question_scores(
    predictions: Mapping[str, str],
    facts: Mapping[str, Collection[SupportingFact]],
    answers: Mapping[str, str],
    gold_facts: Mapping[str, Collection[SupportingFact]],
) -> list[tuple[HotpotScores, HotpotScores, HotpotScores]]:
    """Return the scores of answer, facts and both jointly of each question."""
    _check_questions(answers, gold_facts)
    require_predictions(predictions, answers)
    require_predictions(facts, answers)
    rows = []
    for key, answer in answers.items():
        of_answer = score_answer(predictions[key], answer)
        of_facts = score_facts(facts[key], gold_facts[key])
        rows.append((of_answer, of_facts, joint_scores(of_answer, of_facts)))
    return rows


def _check_questions(answers: Mapping[str, str], gold_facts: Mapping[str, Collection]) -> None:
    """Raise ValueError if there are no questions, or a question lacks an answer or facts."""
    if not answers:
        raise ValueError("a score of no questions is not defined")
    if answers.keys() != gold_facts.keys():
        key = sorted(answers.keys() ^ gold_facts.keys())[0]
        raise ValueError(
            f"question {key!r} is only in one of answers and gold_facts; expected it in both"
        )
