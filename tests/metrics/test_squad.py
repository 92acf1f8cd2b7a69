import string

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.metrics.squad import (
    ALWAYS,
    answer_f1,
    apply_threshold,
    best_answer_scores,
    best_threshold,
    exact_match,
    find_thresholds,
    normalize,
    squad_scores,
    token_overlap,
)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The  Cat's\n Hat!", "cats hat"),
        ("a.an.the", "aanthe"),  # punctuation goes first, so that this is no article
        ("a an the", ""),
        ("another theory, banana", "another theory banana"),
        ("U.S.A.", "usa"),
        ("1,000.50", "100050"),
        ("“Über” the €5", "“über” €5"),  # only ASCII punctuation goes
        ("état-a b", "étata b"),
        ("a\u00a0the\u3000x", "x"),
        (string.punctuation, ""),
        ("", ""),
    ],
)
def test_normalized_text(text, normalized):
    assert normalize(text) == normalized


def test_exact_match_ignores_case_articles_and_punctuation():
    assert exact_match("the Broncos.", "Broncos") == 1.0
    assert exact_match("Denver Broncos", "Broncos") == 0.0


def test_overlap_counts_repeated_words_as_often_as_both_have_them():
    # Two of three predicted words are in the answer of four, "x" only once.
    assert token_overlap("x x y", "x y z w") == (pytest.approx(4 / 7), 2 / 3, 2 / 4)
    assert answer_f1("x", "y") == 0.0


def test_overlap_of_empty_texts():
    assert answer_f1("", "") == answer_f1("the", "") == 1.0
    assert answer_f1("", "x") == answer_f1("x", "") == 0.0


def test_each_score_takes_its_own_best_accepted_answer():
    # "New York" is exact; against "New York City" F1 is 2 * 1 * 2/3 / (5/3).
    assert best_answer_scores("New York", ["New York City", "the new york"]) == (1.0, 1.0)
    assert best_answer_scores("New York", ["New York City", "york"]) == (0.0, pytest.approx(0.8))


def test_answers_that_normalize_to_nothing_count_as_no_answer():
    assert best_answer_scores("", ["the", "!"]) == (1.0, 1.0)
    assert best_answer_scores("x", ["the"]) == (0.0, 0.0)
    assert best_answer_scores("", ["the", "x"]) == (0.0, 0.0)
    assert best_answer_scores("", []) == (1.0, 1.0)


def test_scores_of_both_kinds_of_questions_by_hand():
    answers = {"1": ["a cat"], "2": ["big dog"], "3": [], "4": [], "5": []}
    predictions = {
        "1": "cat",
        "2": "dog",
        "3": "",
        "4": "tree",
        "5": "",
        "6": "of another question",
    }
    assert squad_scores(predictions, answers) == {
        "exact": 3 / 5,
        "f1": pytest.approx((1 + 2 / 3 + 2) / 5),
        "total": 5,
        "has_ans_exact": 1 / 2,
        "has_ans_f1": pytest.approx((1 + 2 / 3) / 2),
        "has_ans_total": 2,
        "no_ans_exact": 2 / 3,
        "no_ans_f1": 2 / 3,
        "no_ans_total": 3,
    }


def test_questions_of_one_kind_have_no_scores_by_kind():
    assert squad_scores({"1": "x"}, {"1": ["x"]}) == {"exact": 1.0, "f1": 1.0, "total": 1}
    assert squad_scores({"1": ""}, {"1": []}) == {"exact": 1.0, "f1": 1.0, "total": 1}


def test_missing_predictions_are_named_and_counted():
    answers = {str(number): ["x"] for number in range(6)}
    with pytest.raises(ValueError, match=r"5 questions have no prediction: '1', '2', '3' ...;"):
        squad_scores({"0": "x"}, answers)
    with pytest.raises(ValueError, match="1 questions have no prediction: 'q';"):
        squad_scores({}, {"q": []})


def test_scores_of_no_questions_are_rejected():
    with pytest.raises(ValueError, match="no questions"):
        squad_scores({}, {})


def test_best_threshold_by_hand():
    # None answered: 2 of 4 right. In the order of the differences: +1, -1, +0.5, 0.
    found = best_threshold([3.0, -2.0, 1.0, -1.0], [0.0, 1.0, 0.5, 0.0], [False, True, True, False])
    assert found == (3 / 4, -1.5)  # between the last that is answered and the next one


def test_the_smallest_of_the_best_thresholds_is_taken():
    assert best_threshold([1.0, 2.0, 3.0], [1.0, 0.0, 1.0], [True, False, True]) == (2 / 3, 1.5)
    assert best_threshold([1.0, 2.0], [1.0, 0.5], [True, False]) == (1.0, 1.5)


def test_a_threshold_after_all_differences_leaves_room_for_rounding():
    assert best_threshold([1.0, 2.0], [0.0, 1.0], [False, True]) == (0.5, 0.0)
    assert best_threshold([2.0, 1.0, 0.0], [1.0, 1.0, 0.0], [True, True, False]) == (2 / 3, 3.0)


def test_threshold_is_always_if_every_question_has_an_answer():
    assert best_threshold([1.0, 4.0], [1.0, 0.0], [True, True]) == (0.5, ALWAYS)
    assert best_threshold([1.0, 4.0], [0.0, 0.0], [True, True]) == (0.0, ALWAYS)


def test_answering_nothing_is_where_the_search_starts():
    nothing_right = best_threshold([-3.0, 5.0], [0.0, 0.0], [False, True])
    assert nothing_right == (0.5, -4.0)
    assert best_threshold([3.0, 5.0], [0.0, 0.0], [False, True]) == (0.5, 0.0)


def test_questions_of_one_difference_are_answered_together():
    assert best_threshold([1.0, 1.0], [1.0, 0.0], [True, False]) == (0.5, 0.0)


def test_questions_without_a_span_change_nothing():
    assert best_threshold([np.inf, 0.5, np.inf], [0.0, 1.0, 1.0], [True, True, False]) == (
        2 / 3,
        1.5,
    )
    assert best_threshold([np.inf], [1.0], [False]) == (1.0, 0.0)


@strategies.composite
def scored_questions(draw):
    """Draw differences with ties, scores in eighths for exact sums, and answerability."""
    count = draw(strategies.integers(1, 12))
    difference_Q = draw(
        strategies.lists(strategies.integers(-4, 4), min_size=count, max_size=count)
    )
    score_Q = draw(strategies.lists(strategies.integers(0, 8), min_size=count, max_size=count))
    answerable_Q = draw(strategies.lists(strategies.booleans(), min_size=count, max_size=count))
    score_Q = [
        score / 8 if answerable else float(score == 8)
        for score, answerable in zip(score_Q, answerable_Q)
    ]
    return np.array(difference_Q) / 2, np.array(score_Q), np.array(answerable_Q)


@hypothesis.settings(deadline=None, max_examples=200)
@hypothesis.given(scored_questions())
def test_best_threshold_is_the_best_of_all(questions):
    difference_Q, score_Q, answerable_Q = questions
    thresholds = [difference_Q.min() - 1, *sorted(set(difference_Q))]
    means = [
        np.mean(np.where(difference_Q <= value, score_Q, ~answerable_Q)) for value in thresholds
    ]
    found = best_threshold(*questions)
    assert found.score == max(means)
    assert np.mean(np.where(difference_Q <= found.value, score_Q, ~answerable_Q)) == max(means)
    if means[0] < max(means) and not answerable_Q.all():
        last = thresholds[int(np.argmax(means))]
        assert last < found.value < min(difference_Q[difference_Q > last], default=np.inf)


def test_best_threshold_rejects_invalid_questions():
    with pytest.raises(ValueError, match=r"shapes.*one number a question"):
        best_threshold([1.0, 2.0], [1.0], [True])
    with pytest.raises(ValueError, match="no questions"):
        best_threshold([], [], [])
    with pytest.raises(ValueError, match="NaN"):
        best_threshold([np.nan], [1.0], [True])


ANSWERS = {"1": ["red car"], "2": [], "3": ["blue"], "4": []}
SPANS = {"1": "car", "2": "sky", "3": "the blue", "4": "tree"}
DIFFERENCES = {"1": 2.0, "2": 1.0, "3": -1.0, "4": 5.0}


def test_thresholds_of_questions_by_id():
    found = find_thresholds(SPANS, DIFFERENCES, ANSWERS)
    assert found == {"exact": (3 / 4, 0.0), "f1": (3 / 4, 0.0)}
    without_2 = {key: answers for key, answers in ANSWERS.items() if key != "2"}
    assert find_thresholds(SPANS, DIFFERENCES, without_2)["f1"] == (
        pytest.approx((1 + 1 + 2 / 3) / 3),
        3.5,
    )


def test_scores_at_the_found_threshold_equal_its_score():
    for name, threshold in find_thresholds(SPANS, DIFFERENCES, ANSWERS).items():
        scores = squad_scores(apply_threshold(SPANS, DIFFERENCES, threshold.value), ANSWERS)
        assert scores[name] == threshold.score


def test_no_answer_is_predicted_only_above_the_threshold():
    assert apply_threshold(SPANS, DIFFERENCES, 1.0) == {
        "1": "",
        "2": "sky",
        "3": "the blue",
        "4": "",
    }
    assert apply_threshold({"1": "x"}, {"1": np.float32(0.1)}, float(np.float32(0.1))) == {"1": "x"}


def test_a_missing_difference_is_named():
    with pytest.raises(ValueError, match="1 questions have no difference, '4' first"):
        apply_threshold(SPANS, {"1": 0.0, "2": 0.0, "3": 0.0}, 0.0)
    with pytest.raises(ValueError, match="4 questions have no difference"):
        find_thresholds(SPANS, {}, ANSWERS)


@pytest.mark.compare
def test_scores_equal_torchmetrics():
    squad = pytest.importorskip("torchmetrics.functional.text").squad
    rng = np.random.default_rng(0)
    words = [
        "The",
        "a",
        "an",
        "cat",
        "cat.",
        "Cat's",
        "dogs,",
        "42",
        "4,2",
        "été",
        "日本",
        "co-op",
        "“red”",
        "x\ny",
    ]
    predictions, answers = {}, {}
    for key in map(str, range(400)):
        predictions[key], *answers[key] = [
            " ".join(["cat", *rng.choice(words, rng.integers(0, 6))])
            for _ in range(rng.integers(2, 5))
        ]
    expected = squad(
        [{"id": key, "prediction_text": text} for key, text in predictions.items()],
        [
            {"id": key, "answers": {"text": texts, "answer_start": [0] * len(texts)}}
            for key, texts in answers.items()
        ],
    )
    found = squad_scores(predictions, answers)
    assert 0.02 < found["exact"] < found["f1"] < 0.9
    assert 100 * found["exact"] == pytest.approx(float(expected["exact_match"]), rel=1e-6)
    assert 100 * found["f1"] == pytest.approx(float(expected["f1"]), rel=1e-6)
