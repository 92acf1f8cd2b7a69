import pytest

from adapler_jax.metrics.hotpot import (
    HotpotScores,
    hotpot_scores,
    joint_scores,
    score_answer,
    score_facts,
)


def test_answer_by_hand():
    # Two of three predicted words are among the two of the answer.
    assert score_answer("the old Eiffel Tower", "Eiffel tower") == (
        0.0,
        pytest.approx(0.8),
        2 / 3,
        1.0,
    )
    assert score_answer("Eiffel Tower!", "the eiffel tower") == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("whole", ["yes", "No", "noanswer"])
def test_yes_no_and_noanswer_score_only_if_they_match_exactly(whole):
    assert (
        score_answer(whole, f"{whole} indeed")
        == score_answer(f"{whole} indeed", whole)
        == (0, 0, 0, 0)
    )
    assert score_answer(f"{whole}.", whole) == (1, 1, 1, 1)
    assert score_answer(f"{whole} x", f"{whole} y").f1 == 0.5  # neither is just that word


def test_texts_without_words():
    assert score_answer("the", "a") == (1, 0, 0, 0)
    assert score_answer("", "x") == score_answer("x", "") == (0, 0, 0, 0)


def test_facts_by_hand():
    predicted = [("Paris", 0), ("Paris", 2), ("Rome", 0), ("Paris", 0)]
    assert score_facts(predicted, [("Paris", 0), ("Rome", 1)]) == (
        0.0,
        pytest.approx(2 / 5),
        1 / 3,
        1 / 2,
    )
    assert score_facts([["Rome", 1], ["Paris", 0]], [("Paris", 0), ("Rome", 1)]) == (1, 1, 1, 1)


def test_facts_of_empty_sets():
    assert score_facts([], []) == (1, 0, 0, 0)
    assert score_facts([], [("Paris", 0)]) == score_facts([("Paris", 0)], []) == (0, 0, 0, 0)


def test_joint_scores_are_products():
    # Precision 1/2 * 1/2, recall 1 * 1/2: F1 = 2 * 1/4 * 1/2 / (3/4).
    found = joint_scores(
        HotpotScores(1.0, 2 / 3, 1 / 2, 1.0), HotpotScores(0.0, 1 / 2, 1 / 2, 1 / 2)
    )
    assert found == (0.0, pytest.approx(1 / 3), 1 / 4, 1 / 2)
    assert joint_scores(HotpotScores(1, 1, 1, 1), HotpotScores(0, 0, 0, 0)) == (0, 0, 0, 0)


ANSWERS = {"1": "yes", "2": "Eiffel Tower"}
FACTS = {"1": [("Paris", 0), ("Rome", 1)], "2": [("Paris", 3)]}


def test_means_by_hand():
    found = hotpot_scores(
        {"1": "yes", "2": "Tower"}, {"1": [("Paris", 0)], "2": [("Paris", 3)]}, ANSWERS, FACTS
    )
    assert found == {
        "em": 0.5,
        "f1": pytest.approx((1 + 2 / 3) / 2),
        "precision": 1.0,
        "recall": 0.75,
        "sp_em": 0.5,
        "sp_f1": pytest.approx((2 / 3 + 1) / 2),
        "sp_precision": 1.0,
        "sp_recall": 0.75,
        "joint_em": 0.0,
        "joint_f1": pytest.approx(2 / 3),
        "joint_precision": 1.0,
        "joint_recall": 0.5,
        "total": 2,
    }


def test_right_predictions_score_one():
    found = hotpot_scores(ANSWERS, FACTS, ANSWERS, FACTS)
    assert found.pop("total") == 2 and set(found.values()) == {1.0}


def test_missing_predictions_and_facts_are_named():
    with pytest.raises(ValueError, match="1 questions have no prediction: '2'"):
        hotpot_scores({"1": "yes"}, FACTS, ANSWERS, FACTS)
    with pytest.raises(ValueError, match="2 questions have no prediction: '1', '2'"):
        hotpot_scores(ANSWERS, {}, ANSWERS, FACTS)
    with pytest.raises(ValueError, match="'2' is only in one of answers and gold_facts"):
        hotpot_scores(ANSWERS, FACTS, ANSWERS, {"1": []})
    with pytest.raises(ValueError, match="no questions"):
        hotpot_scores({}, {}, {}, {})
