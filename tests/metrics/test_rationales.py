import hypothesis
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.metrics.rationales import (
    BINS,
    above_uniform,
    area_under_precision_recall,
    average_precision,
    choose_top,
    comprehensiveness,
    false_positive_rate,
    iou,
    iou_f1,
    matched_spans,
    precision_recall,
    spans_of,
    sufficiency,
    token_f1,
)


def test_average_precision_by_hand():
    # Falling scores meet the rationale at ranks 1 and 3: 1/2 * 1/1 + 1/2 * 2/3.
    assert average_precision([0.5, 0.1, 0.3, 0.2], [True, False, False, True]) == pytest.approx(
        5 / 6, abs=1e-15
    )


def test_equal_scores_are_taken_together():
    # Words of 0.4: two of three are in the rationale, precision 2/3 at recall 2/3; all: 3/4 at 1.
    found = average_precision([0.4, 0.4, 0.4, 0.0], [True, False, True, True])
    assert found == 2 / 3 * 2 / 3 + (1 - 2 / 3) * 3 / 4
    assert average_precision([1.0, 1.0], [True, False]) == 0.5


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(strategies.data())
def test_average_precision_and_curve_equal_scikit_learn(data):
    metrics = pytest.importorskip("sklearn.metrics")
    num_words = data.draw(strategies.integers(1, 30))
    score_W = data.draw(
        hypothesis.extra.numpy.arrays(float, num_words, elements=strategies.floats(0, 1, width=16))
    )
    rationale_W = data.draw(hypothesis.extra.numpy.arrays(bool, num_words))
    hypothesis.assume(rationale_W.any())
    expected = metrics.average_precision_score(rationale_W, score_W)
    assert average_precision(score_W, rationale_W) == pytest.approx(expected, abs=1e-9)
    precision, recall, _ = metrics.precision_recall_curve(rationale_W, score_W)
    assert area_under_precision_recall(score_W, rationale_W) == pytest.approx(
        metrics.auc(recall, precision), abs=1e-9
    )


def test_area_under_precision_recall_by_hand():
    # Points (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3), (1, 1/2): 1/2 + (1/2 + 2/3) / 4.
    found = area_under_precision_recall([0.5, 0.1, 0.3, 0.2], [True, False, False, True])
    assert found == pytest.approx(0.5 + (1 / 2 + 2 / 3) / 4, abs=1e-15)


def test_without_a_rationale_precision_is_not_defined():
    assert np.isnan(average_precision([0.1, 0.2], [False, False]))
    assert np.isnan(area_under_precision_recall([0.1, 0.2], [False, False]))
    assert np.isnan(average_precision([], [])) and np.isnan(area_under_precision_recall([], []))
    assert [len(side) for side in precision_recall([], [])] == [0, 0]


def test_above_uniform_is_more_than_an_equal_fraction():
    np.testing.assert_array_equal(
        above_uniform([0.5, 0.25, 0.25, 0.0]), [True, False, False, False]
    )
    np.testing.assert_array_equal(
        above_uniform([5.0, 1.0, 3.0]), [True, False, False]
    )  # the sum does not matter
    np.testing.assert_array_equal(above_uniform([0.0, 0.0]), [False, False])
    np.testing.assert_array_equal(above_uniform([0.1, 0.1, 0.1]), [False, False, False])
    assert above_uniform([]).shape == (0,)


def test_false_positive_rate_by_hand():
    assert false_positive_rate([True, True, False, True], [True, False, False, False]) == 2 / 3
    assert false_positive_rate([False, False], [False, False]) == 0.0
    assert np.isnan(false_positive_rate([True], [True]))


def test_choose_top_rounds_up_and_takes_the_earlier_of_equal_words():
    np.testing.assert_array_equal(
        choose_top([1.0, 3.0, 3.0, 2.0], 0.25), [False, True, False, False]
    )
    np.testing.assert_array_equal(
        choose_top([1.0, 3.0, 3.0, 2.0], 0.26), [False, True, True, False]
    )
    assert choose_top(np.arange(5), 0.01).sum() == 1 and choose_top(np.arange(5), 0.2).sum() == 1
    assert choose_top(np.arange(10), 0.1).sum() == 1 and choose_top(np.arange(100), 0.05).sum() == 5
    assert choose_top([], 0.5).shape == (0,)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1])
def test_a_fraction_outside_0_and_1_is_rejected(fraction):
    with pytest.raises(ValueError, match="fraction is"):
        choose_top([1.0], fraction)


def test_token_f1_by_hand():
    assert token_f1([True, True, False, False], [True, False, True, True]) == 2 * 1 / (2 + 3)
    assert token_f1([False], [True]) == 0.0
    assert token_f1([False], [False]) == 1.0


def test_spans_are_unbroken_runs():
    assert spans_of([True, False, True, True, False, True]) == [(0, 1), (2, 4), (5, 6)]
    assert spans_of([False, False]) == [] and spans_of([]) == []


def test_spans_match_from_half_of_their_union():
    assert (
        iou((0, 2), (1, 3)) == 1 / 3 and iou((0, 2), (2, 4)) == 0.0 and iou((0, 1), (0, 2)) == 0.5
    )
    chosen = [True, False, False, True, True, False, True]  # (0, 1), (3, 5), (6, 7)
    human = [True, True, False, False, True, True, False]  # (0, 2), (4, 6)
    assert matched_spans(chosen, human) == (1 / 3, 1 / 2)
    assert matched_spans([False], [True]) == (0.0, 0.0)
    assert matched_spans(chosen, human, min_iou=0.6) == (0.0, 0.0)


def test_iou_f1_is_of_mean_precision_and_recall():
    assert iou_f1([(1.0, 0.5), (0.0, 0.5)]) == 0.5
    assert iou_f1([(0.0, 0.0)]) == 0.0
    with pytest.raises(ValueError, match="no texts"):
        iou_f1([])


def test_comprehensiveness_and_sufficiency_are_means_over_the_bins():
    assert comprehensiveness(0.9, [0.9, 0.8, 0.6, 0.5, 0.2]) == pytest.approx(0.3)
    assert sufficiency(0.9, [0.5, 0.6, 0.8, 0.9, 0.95]) == pytest.approx(0.15)
    assert BINS == (0.01, 0.05, 0.1, 0.2, 0.5)


@pytest.mark.parametrize("score_W", [[0.1], [0.1, 0.2, 0.3], [[0.1, 0.2]], [0.1, float("nan")]])
def test_scores_that_do_not_fit_the_words_are_rejected(score_W):
    with pytest.raises(ValueError, match=r"expected one a word|NaN"):
        average_precision(score_W, [True, False])
