"""Scores of classes follow from the logits, the labels and the threshold."""

import json
import types

import numpy as np
import pytest
import sklearn.metrics

from adapler_jax.evaluation.scoring import MAX_CONFUSION, ClassScorer, difference_se
from adapler_jax.metrics.classification import expected_calibration_error


def scored(logits_BC, label_B, id_B=None, **options):
    """A scorer that was given two batches, the second with a filler row."""
    scorer = ClassScorer(**options)
    logits_BC, label_B = np.asarray(logits_BC, np.float32), np.asarray(label_B)
    id_B = np.arange(len(label_B)) if id_B is None else np.asarray(id_B)
    cut = len(label_B) // 2
    first = types.SimpleNamespace(label_B=label_B[:cut], example_id_B=id_B[:cut])
    scorer.add(logits_BC[:cut], first, np.ones(cut, bool))
    filled = np.append(logits_BC[cut:], np.full_like(logits_BC[:1], np.nan), axis=0)
    real_B = np.arange(len(filled)) < len(label_B) - cut
    second = types.SimpleNamespace(
        label_B=np.append(label_B[cut:], -1), example_id_B=np.append(id_B[cut:], -1)
    )
    scorer.add(filled, second, real_B)
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
    macro_f1 = sklearn.metrics.f1_score(label_B, predicted_B, average="macro")
    assert details["macro_f1"] == pytest.approx(macro_f1)
    columns = sklearn.metrics.precision_recall_fscore_support(label_B, predicted_B)
    for row, name, *expected in zip(details["classes"], "abc", *columns, strict=True):
        assert row["name"] == name and list(row.values())[1:] == pytest.approx(expected)
    assert json.loads(json.dumps(details, allow_nan=False)) == details


def test_a_confusion_of_many_classes_is_left_out():
    num_classes = MAX_CONFUSION + 1
    details = scored(np.eye(num_classes), np.arange(num_classes)).details()
    assert "confusion" not in details and len(details["classes"]) == num_classes


def as_logits(predicted_B, num_classes=3):
    """Logits whose largest is the predicted class."""
    return np.eye(num_classes)[np.asarray(predicted_B)]


def test_the_error_of_an_accuracy_is_of_the_paired_difference_by_example_id():
    label_B, dense_B, pruned_B = [0, 1, 2, 0, 1], [0, 1, 2, 0, 2], [0, 1, 0, 1, 1]
    order = np.array([3, 0, 4, 2, 1])  # the other model has another order of batches
    dense = scored(as_logits(dense_B), label_B)
    pruned = scored(as_logits(pruned_B)[order], np.array(label_B)[order], id_B=order)
    # Two texts lost, one won, two equal: d = 0, 0, -1, -1, 1.
    expected = np.std([0, 0, -1, -1, 1], ddof=1) / np.sqrt(5)
    assert difference_se(pruned, dense) == pytest.approx(expected)
    assert pruned.scores()["score"] - dense.scores()["score"] == pytest.approx(-0.2)


@pytest.mark.parametrize("metric", ["f1", "macro_f1", "matthews", "pearson"])
def test_the_error_of_other_metrics_matches_examples_by_id(metric, drawn):
    logits_BC, label_B = drawn
    other_BC = logits_BC + np.random.default_rng(4).normal(size=logits_BC.shape)
    order = np.random.default_rng(5).permutation(len(label_B))
    options = {"metric": metric, "class_names": ("1", "2", "3")}
    dense = scored(logits_BC, label_B, **options)
    straight = difference_se(scored(other_BC, label_B, **options), dense)
    shuffled = scored(other_BC[order], label_B[order], id_B=order, **options)
    assert difference_se(shuffled, dense) == straight > 0
    assert difference_se(dense, dense) == 0.0


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_models_of_different_texts_have_no_difference(metric):
    left = scored(as_logits([0, 1, 1]), [0, 1, 0], metric=metric)
    right = scored(as_logits([0, 1, 1]), [0, 1, 0], id_B=[0, 1, 7], metric=metric)
    with pytest.raises(ValueError, match="scores of different texts; score the same split"):
        difference_se(left, right)
