"""Texts with several labels are scored by batches."""

import numpy as np
import pytest

from adapler_jax.evaluation.label_scoring import LabelScorer
from adapler_jax.evaluation.scoring import difference_se, saved_threshold
from adapler_jax.metrics.label_sets import THRESHOLDS
from tests.heads.rows import batch_of

NAMES = ("a", "b")
LOGITS = np.array([[2.0, -1.0], [-1.0, 3.0], [1.0, 1.0], [-2.0, -2.0]], np.float32)
LABELS = [[1, 0], [0, 1], [1, 0], [0, 1]]
HALF = (0.5, 0.5)


def score(logits=LOGITS, labels=LABELS, *, metric="micro_f1", threshold=HALF, order=None):
    """A scorer with these examples, in two batches."""
    scorer = LabelScorer(metric, class_names=NAMES, threshold_C=threshold)
    ids = np.arange(len(logits)) if order is None else np.array(order)
    for rows in np.array_split(ids, 2):
        batch = batch_of([1] * len(rows), label_BC=[labels[row] for row in rows])
        scorer.add(logits[rows], batch.replace(example_id_B=rows), np.ones(len(rows), bool))
    return scorer


def test_scores_are_of_all_batches():
    assert score().scores() == pytest.approx(
        {"score": 6 / 8, "macro_f1": (1 + 0.5) / 2, "exact_match": 0.5}
        | {THRESHOLDS: pytest.approx(list(HALF))}
    )
    assert score(metric="exact_match").scores()["micro_f1"] == pytest.approx(6 / 8)


def test_padding_examples_do_not_count():
    scorer = score()
    scorer.add(LOGITS[:2], batch_of([1, 1], label_BC=[[-1, -1]] * 2), np.zeros(2, bool))
    assert scorer.scores() == score().scores()


def test_the_order_of_batches_does_not_matter():
    assert score(order=[3, 1, 0, 2]).scores() == score().scores()
    assert score(order=[3, 1, 0, 2]).details() == score().details()


def test_each_label_has_details():
    first, second = score().details()["classes"]
    assert first == {"name": "a", "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    assert (second["precision"], second["recall"], second["support"]) == (0.5, 0.5, 2)


def test_thresholds_are_chosen_where_none_are_given():
    logits = np.repeat(np.array([[-2.0, 0.0], [-1.0, 1.0]], np.float32), 6, axis=0)
    labels = [[0, 1]] * 6 + [[1, 1]] * 6
    found = score(logits, labels, threshold=None).scores()
    assert found["score"] == 1.0 and found[THRESHOLDS][1] == 0.5
    assert 1 / (1 + np.e**2) < found[THRESHOLDS][0] < 1 / (1 + np.e)
    saved = score(logits, labels, threshold=found[THRESHOLDS]).scores()
    assert saved == found


def test_a_model_has_the_thresholds_that_it_was_saved_with():
    assert saved_threshold({THRESHOLDS: [0.2, 0.3]}) == [0.2, 0.3]
    assert saved_threshold({"no_answer_threshold": 0.0}) == 0.0
    assert saved_threshold({"decision_threshold": None}) is None


def test_the_error_of_a_difference_is_paired():
    other = score(np.flip(LOGITS, axis=1))
    assert difference_se(score(), score()) == 0.0
    assert 0.05 < difference_se(score(), other) < 1.0
    assert difference_se(other, score()) == pytest.approx(difference_se(score(), other))
    with pytest.raises(ValueError, match="scores of different texts"):
        difference_se(score(), score(LOGITS[:3]))


def test_example_scores_are_fractions_of_right_answers():
    assert score().example_scores() == {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.5}


def test_a_probability_that_is_no_number_is_an_error():
    logits = LOGITS.copy()
    logits[1, 0] = np.nan
    with pytest.raises(ValueError, match="gives 1 of 4 texts scores that are not numbers"):
        score(logits).scores()
