import numpy as np
import pytest

from adapler_jax.metrics.multiple_choice import best_options, multiple_choice_accuracy


def test_the_highest_score_of_each_question_is_chosen():
    chosen_Q = best_options([0.1, 0.9, 0.3, -1.0, -2.0, -0.5, 7.0], [0, 0, 0, 1, 1, 1, 2])
    assert chosen_Q.tolist() == [1, 2, 0]


def test_rows_of_a_question_need_not_be_adjacent():
    # Question 0: 0.2, 0.1; question 1: 0.5, 0.4, 0.6.
    assert best_options([0.5, 0.2, 0.4, 0.1, 0.6], [1, 0, 1, 0, 1]).tolist() == [0, 2]


def test_the_first_of_equal_options_is_chosen():
    score_R, question_R = [1.0, 3.0, 3.0, 2.0, 0.0, 0.0], [0, 0, 0, 0, 1, 1]
    assert best_options(score_R, question_R).tolist() == [1, 0]


def test_minus_infinity_is_a_score():
    assert best_options([-np.inf, -1e30, -np.inf, -np.inf], [0, 0, 1, 1]).tolist() == [1, 0]


def test_best_options_equal_a_loop_over_questions():
    rng = np.random.default_rng(0)
    question_R = rng.permutation(np.concatenate([np.arange(40), rng.integers(0, 40, 200)]))
    score_R = rng.integers(0, 4, 240).astype(np.float32)
    rows = [np.flatnonzero(question_R == question) for question in range(40)]
    assert best_options(score_R, question_R).tolist() == [
        int(np.argmax(score_R[row])) for row in rows
    ]


def test_accuracy_by_hand():
    assert multiple_choice_accuracy(
        [1.0, 2.0, 5.0, 4.0, 0.0, 0.0], [0, 0, 1, 1, 2, 2], [1, 1, 0]
    ) == pytest.approx(2 / 3)


def test_rows_that_are_no_options_are_rejected():
    with pytest.raises(ValueError, match=r"scores \(2,\) and questions \(1,\)"):
        best_options([1.0, 2.0], [0])
    with pytest.raises(ValueError, match="row 1 is NaN"):
        best_options([1.0, np.nan], [0, 0])
    with pytest.raises(ValueError, match="row 0 is of question -1"):
        best_options([1.0, 2.0], [-1, 0])
    with pytest.raises(ValueError, match="question 1 of 3 has no options"):
        best_options([1.0, 2.0], [0, 2])
    with pytest.raises(ValueError, match="labels for 1 questions"):
        multiple_choice_accuracy([1.0, 2.0], [0, 0], [0, 1])
    with pytest.raises(ValueError, match="no examples"):
        multiple_choice_accuracy([], [], [])
