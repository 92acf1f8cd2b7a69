"""Scores of classes follow from the logits, the labels and the threshold."""

import json
import types

import numpy as np
import pytest
import sklearn.metrics

from adapler_jax.evaluation.scoring import MAX_CONFUSION, ClassScorer
from adapler_jax.metrics.classification import expected_calibration_error


def scored(logits_BC, label_B, **options):
    """A scorer that was given two batches, the second with a filler row."""
    scorer = ClassScorer(**options)
    logits_BC, label_B = np.asarray(logits_BC, np.float32), np.asarray(label_B)
    cut = len(label_B) // 2
    scorer.add(logits_BC[:cut], types.SimpleNamespace(label_B=label_B[:cut]), np.ones(cut, bool))
    filled = np.append(logits_BC[cut:], np.full_like(logits_BC[:1], np.nan), axis=0)
    real_B = np.arange(len(filled)) < len(label_B) - cut
    scorer.add(filled, types.SimpleNamespace(label_B=np.append(label_B[cut:], -1)), real_B)
    return scorer


@pytest.fixture(name="drawn")
def _drawn():
    rng = np.random.default_rng(3)
    return rng.normal(size=(50, 3)), rng.integers(0, 3, 50)


def test_f1_of_three_classes_is_macro_f1(drawn):
    scores = scored(*drawn, metric="f1").scores()
    expected = sklearn.metrics.f1_score(drawn[1], drawn[0].argmax(axis=1), average="macro")
    assert scores["score"] == pytest.approx(expected)


def test_f1_of_three_classes_is_macro_also_where_the_third_is_nowhere():
    logits_BC = np.array([[2, 1, 0], [1, 2, 0], [1, 2, 0], [2, 1, 0]])
    label_B = [0, 1, 0, 0]
    found = scored(logits_BC, label_B, metric="f1").scores()["score"]
    expected = sklearn.metrics.f1_score(label_B, logits_BC.argmax(axis=1), average="macro")
    assert found == pytest.approx(expected)


def test_classes_that_are_numbers_are_correlated_by_their_numbers():
    logits_BC, label_B = np.eye(3)[[0, 1, 2, 1]], [0, 2, 2, 1]
    near, far = (
        scored(logits_BC, label_B, metric="pearson", class_names=names).scores()["score"]
        for names in (("1", "2", "3"), ("1", "2", "100"))
    )
    assert near == pytest.approx(np.corrcoef([1, 2, 3, 2], [1, 3, 3, 2])[0, 1])
    assert far == pytest.approx(np.corrcoef([1, 2, 100, 2], [1, 100, 100, 2])[0, 1])
    with pytest.raises(ValueError, match=r"'spearman' takes classes that are numbers.*'bad'"):
        ClassScorer("spearman", class_names=("bad", "good"))


def test_every_score_comes_with_the_calibration_error(drawn):
    scorer = scored(*drawn)
    power_EC = np.exp(drawn[0])
    error = expected_calibration_error(power_EC / power_EC.sum(axis=1, keepdims=True), drawn[1])
    assert scorer.scores()["ece"] == pytest.approx(error, abs=1e-6) and error > 0


def test_a_threshold_moves_answers_to_the_second_class():
    logits_BC = np.log([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6]])
    assert scored(logits_BC, [0, 1, 1]).predicted_E.tolist() == [0, 0, 1]
    assert scored(logits_BC, [0, 1, 1], threshold=0.25).predicted_E.tolist() == [0, 1, 1]
    assert scored(logits_BC, [0, 1, 1], threshold=0.25).scores()["score"] == 1.0
    with pytest.raises(ValueError, match="for two classes; the model has 3"):
        ClassScorer(class_names=("a", "b", "c"), threshold=0.5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_have_no_score(drawn, value):
    logits_BC, label_B = drawn
    logits_BC[7, 1] = value
    with pytest.raises(ValueError, match="1 of 50 texts scores that are not numbers"):
        scored(logits_BC, label_B).scores()


def test_details_are_those_of_scikit_learn_and_plain(drawn):
    logits_BC, label_B = drawn
    details = scored(logits_BC, label_B, class_names=("a", "b", "c")).details()
    predicted_B = logits_BC.argmax(axis=1)
    assert details["confusion"] == sklearn.metrics.confusion_matrix(label_B, predicted_B).tolist()
    assert details["majority_share"] == max(np.mean(label_B == label) for label in range(3))
    columns = sklearn.metrics.precision_recall_fscore_support(label_B, predicted_B)
    for row, name, *expected in zip(details["classes"], "abc", *columns, strict=True):
        assert row["name"] == name and list(row.values())[1:] == pytest.approx(expected)
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_a_confusion_of_many_classes_is_left_out():
    num_classes = MAX_CONFUSION + 1
    details = scored(np.eye(num_classes), np.arange(num_classes)).details()
    assert "confusion" not in details and len(details["classes"]) == num_classes
