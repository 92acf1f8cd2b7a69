"""Scores of answers from logits by hand."""

import types

import numpy as np
import pytest

from adapler_jax.data.qa.hotpot import HotpotQuestion
from adapler_jax.data.qa.hotpot_rows import stream_hotpot_rows
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.wikihop import WikihopQuestion, build_wikihop_rows
from adapler_jax.data.qa.windows import iter_windows, join_windows
from adapler_jax.data.tokenization.templates import join_chunks
from adapler_jax.evaluation.question_answering import HotpotScorer, SpanScorer, WikihopScorer
from adapler_jax.evaluation.scoring import difference_se
from tests.data.vocabulary import build_core, words_of

CORE = build_core(("ada", "made", "film"))
PARAGRAPHS = (("Film", ("Ada made it.", "A b.")), ("Ada", ("c d",)))
FACTS = (("Film", 0), ("Ada", 0))


def question(name="1", answer="Ada", facts=FACTS, paragraphs=PARAGRAPHS):
    return HotpotQuestion(name, "who", answer, paragraphs, facts, "")


def build(*questions, max_length=40):
    chunks = stream_hotpot_rows(
        questions,
        CORE,
        max_length=max_length,
        max_question_tokens=4,
        max_sentences=4,
        max_answers=2,
    )
    return join_chunks(list(chunks))


def batch_of(ids):
    return types.SimpleNamespace(example_id_B=np.array(ids, np.int32))


def logits_of(rows, *, span=(), kind=0, facts=(), num_rows=None):
    """Return equal logits for all rows: a span, an answer type and supporting sentences."""
    B = num_rows or len(rows)
    logits = {
        "span_BL2": np.zeros((B, 40, 2)),
        "type_B3": np.zeros((B, 3)),
        "support_BX2": np.zeros((B, 4, 2)),
    }
    for side, slot in enumerate(span):
        logits["span_BL2"][:, slot, side] = 5.0
    logits["type_B3"][:, kind] = 1.0
    logits["support_BX2"][:, list(facts), 1] = 1.0
    return {name: values.astype(np.float32) for name, values in logits.items()}


def score(rows, **logits):
    scorer = HotpotScorer(rows)
    scorer.add(logits_of(rows, **logits), batch_of(range(len(rows))), np.ones(len(rows), bool))
    return scorer, scorer.scores()


def slots_of(rows, *words):
    """Return the first slot after the question that has each word."""
    found = words_of(CORE, rows.tokens[0])
    return [found.index(word, int(rows.context_first[0])) for word in words]


def test_best_spans_are_scored_also_where_no_answer_is_given():
    asked = [
        ("1", ("Ada",), ((0, 3),)),
        ("2", ("film",), ((11, 15),)),
        ("3", (), ()),
        ("4", (), ()),
    ]
    questions = [Question(name, "who", "Ada made a film", *answers) for name, *answers in asked]
    limits = {"max_length": 12, "doc_stride": 4, "max_question_tokens": 3, "max_answers": 1}
    windows = join_windows(iter_windows(questions, CORE, **limits))
    logits_BL2 = np.zeros((4, 12, 2), np.float32)
    logits_BL2[:, windows.context_first[0]] = 5.0  # Ada
    for threshold, f1 in ((-1e9, 0.5), (1e9, 0.25)):
        scorer = SpanScorer(windows, questions, allows_null=True, threshold=threshold)
        scorer.add(logits_BL2, batch_of(range(4)), np.ones(4, bool))
        scores = scorer.scores()
        found = scorer.example_scores()
        assert list(found) == [0, 1, 2, 3] and np.mean(list(found.values())) == f1
        assert scores["f1"] == f1 and scores["best_span_f1"] == scores["best_span_exact"] == 0.5
    scorer = SpanScorer(windows, questions, allows_null=False)
    scorer.add(logits_BL2, batch_of(range(4)), np.ones(4, bool))
    assert "best_span_f1" not in scorer.scores()


def test_the_right_span_and_facts_score_1():
    rows = build(question())
    slot = slots_of(rows, "ada")
    _, scores = score(rows, span=slot * 2, facts=(0, 2))
    assert (
        scores["score"] == scores["joint_f1"] == scores["em"] == scores["sp_em"] == 1.0
        and scores["total"] == 1
    )


def test_a_longer_span_and_half_the_facts_score_their_shares():
    rows = build(question())
    scorer, scores = score(rows, span=slots_of(rows, "ada", "made"), facts=(0,))
    assert scorer._answers == {"0": "Ada made"} and scorer._facts == {"0": [("Film", 0)]}
    assert (scores["em"], scores["precision"], scores["recall"]) == (0.0, 0.5, 1.0)
    assert (scores["sp_precision"], scores["sp_recall"]) == (1.0, 0.5)
    assert (scores["joint_precision"], scores["joint_recall"], scores["score"]) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("kind", "answer"), [(1, "yes"), (2, "no")])
def test_the_type_decides_before_the_span(kind, answer):
    rows = build(question(answer=answer))
    scorer, scores = score(rows, span=slots_of(rows, "ada") * 2, kind=kind, facts=(0, 2))
    assert scorer._answers == {"0": answer} and scores["score"] == 1.0


def test_markers_of_titles_are_no_answers_and_no_context_has_none():
    rows = build(question(), question("2", paragraphs=()))
    assert len(rows.starts[1]) == 0
    scorer, scores = score(rows, span=slots_of(rows, "[unused1]") * 2)
    text = scorer._answers["0"]
    assert text and text in rows.contexts[0] and scorer._answers["1"] == ""
    assert scores["total"] == 2 and scores["sp_recall"] == 0.0


def test_facts_that_a_cut_row_lacks_still_count():
    rows = build(question(), max_length=14)
    assert rows.facts[0] == (("Film", 0),)
    _, scores = score(rows, span=slots_of(rows, "ada") * 2, facts=(0, 1, 2, 3))
    assert (scores["em"], scores["sp_precision"], scores["sp_recall"]) == (1.0, 1.0, 0.5)


def test_padding_examples_do_not_count_batches_come_in_any_order_and_names_may_be_alike():
    rows = build(question("same"), question("same", answer="b"))
    scorer = HotpotScorer(rows)
    real_B = np.array([True, False])
    scorer.add(
        logits_of(rows, span=slots_of(rows, "b") * 2, facts=(0, 2)), batch_of([1, -1]), real_B
    )
    with pytest.raises(ValueError, match="'0'"):
        scorer.scores()
    scorer.add(
        logits_of(rows, span=slots_of(rows, "ada") * 2, facts=(0, 2)), batch_of([0, -1]), real_B
    )
    assert scorer.scores()["score"] == 1.0 and scorer.scores()["total"] == 2
    assert scorer.example_scores() == {0: 1.0, 1: 1.0}


def wikihop_rows():
    """Return two rows of a question of three candidates, and one of a question of two.

    The second and the first candidate are right.
    """
    first = WikihopQuestion("1", "a", ("b", "c", "d"), ("e f g h i", "j k l m n"), 1)
    rows = build_wikihop_rows(
        [first, WikihopQuestion("2", "a", ("b", "c"), (), 0)],
        CORE,
        max_length=16,
        max_packed_questions=2,
        max_candidates=3,
    )
    assert rows.question.tolist() == [0, 0, 1]
    return rows


def test_candidates_are_chosen_by_their_mean_over_the_rows_of_a_question():
    scorer = WikihopScorer(wikihop_rows())
    logits_BK = np.array(
        [[1.0, 2.0, -1e9], [3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 4.0, 1.0]], np.float32
    )
    scorer.add(logits_BK, batch_of([2, 0, -1, 1]), np.array([True, True, False, True]))
    # Means: 1.5, 2, 0.5 of the first, right; 1, 2 of the second, wrong.
    assert scorer.scores() == {"score": 0.5}
    assert scorer.example_scores() == {0: 1.0, 1: 0.0}
    other = WikihopScorer(wikihop_rows())
    negated_BK = np.where(logits_BK < -1e8, logits_BK, -logits_BK)
    other.add(negated_BK, batch_of([2, 0, -1, 1]), np.array([True, True, False, True]))
    assert other.example_scores() == {0: 0.0, 1: 1.0}
    assert difference_se(other, scorer) == 1.0  # of the differences -1 and 1


def test_rows_without_scores_are_rejected():
    scorer = WikihopScorer(wikihop_rows())
    scorer.add(np.zeros((2, 3), np.float32), batch_of([0, 1]), np.ones(2, bool))
    with pytest.raises(
        ValueError, match="row 2 has no scores, or NaN; expected numbers of every row"
    ):
        scorer.scores()
