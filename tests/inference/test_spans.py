"""Spans are found, merged and turned into answers; windows are built by hand."""

import tracemalloc
import types

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.inference.spans import (
    Spans,
    answer_questions,
    best_spans,
    collect_spans,
    merge_windows,
)

INF = np.inf


def ragged(*rows):
    """Rows of different lengths."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return Ragged(np.array([value for row in rows for value in row], np.int32), offsets)


def logits_of(start_L, end_L):
    """Logits of one row, float32 [1, L, 2]."""
    return np.stack([start_L, end_L], axis=-1).astype(np.float32)[None]


def found_in(spans, row=0):
    """(first, last, score) of the spans of a row, without fillers."""
    columns = spans.first_MA[row], spans.last_MA[row], spans.score_MA[row]
    return [found for found in zip(*(column.tolist() for column in columns)) if found[0] >= 0]


def every_span(logits_L2, first, count, *, n_best_size, max_answer_tokens):
    """The best spans by looking at each one."""
    start_L, end_L = np.asarray(logits_L2, np.float64).T
    spans = [
        (i, j, start_L[i] + end_L[j])
        for i in range(first, first + count)
        for j in range(i, min(i + max_answer_tokens, first + count))
    ]
    return sorted(
        (span for span in spans if span[2] > -INF), key=lambda span: (-span[2], span[0], span[1])
    )[:n_best_size]


def test_best_spans_by_hand():
    # [CLS] q [SEP] a b c [SEP]: the highest logits are where no answer can be.
    logits = logits_of([9, 9, 9, 1, 3, 0, 9], [8, 9, 9, 2, 0, 1, 9])
    spans = best_spans(logits, [3], [3], n_best_size=3)
    assert found_in(spans) == [(4, 5, 4.0), (3, 3, 3.0), (4, 4, 3.0)]
    assert spans.null_M.tolist() == [17.0]


def test_spans_are_no_longer_than_allowed():
    logits = logits_of([0, 5, 0, 0, 0], [0, 0, 1, 2, 5])
    best = {
        limit: found_in(best_spans(logits, [1], [4], max_answer_tokens=limit))[0]
        for limit in (1, 2, 3, 4, 99)
    }
    assert best == {
        1: (1, 1, 5.0),
        2: (1, 2, 6.0),
        3: (1, 3, 7.0),
        4: (1, 4, 10.0),
        99: (1, 4, 10.0),
    }


def test_an_end_before_its_start_is_no_span():
    spans = best_spans(logits_of([0, 0, 9], [0, 9, 0]), [1], [2])
    assert found_in(spans) == [(1, 1, 9.0), (2, 2, 9.0), (1, 2, 0.0)]
    assert spans.first_MA.shape == (1, 20) and spans.first_MA.dtype == np.int32
    assert spans.first_MA[0, 3:].tolist() == spans.last_MA[0, 3:].tolist() == [-1] * 17
    assert (spans.score_MA[0, 3:] == -INF).all()


def test_equal_scores_go_to_the_earliest_start_and_then_the_shortest():
    spans = best_spans(
        np.zeros((1, 6, 2), np.float32), [2], [3], n_best_size=5, max_answer_tokens=2
    )
    assert found_in(spans) == [(2, 2, 0.0), (2, 3, 0.0), (3, 3, 0.0), (3, 4, 0.0), (4, 4, 0.0)]
    assert found_in(best_spans(np.zeros((1, 6, 2), np.float32), [2], [3], n_best_size=2)) == [
        (2, 2, 0.0),
        (2, 3, 0.0),
    ]


def test_a_context_of_no_token_or_one():
    spans = best_spans(np.ones((2, 4, 2), np.float32), [3, 2], [0, 1])
    assert found_in(spans, 0) == [] and found_in(spans, 1) == [(2, 2, 2.0)]
    assert spans.null_M.tolist() == [2.0, 2.0]


def test_minus_infinity_bars_a_slot():
    spans = best_spans(logits_of([-INF, 1, -INF, 0], [0, -INF, 2, 1]), [1], [3])
    assert found_in(spans) == [(1, 2, 3.0), (1, 3, 2.0), (3, 3, 1.0)]
    assert spans.null_M.tolist() == [-INF]
    assert found_in(best_spans(np.full((1, 4, 2), -INF), [1], [3])) == []


def test_padding_and_question_do_not_matter():
    logits = logits_of([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])
    expected = found_in(best_spans(logits, [2], [2]))
    for value in (np.nan, INF, -INF, 1e30):
        changed = logits.copy()
        changed[0, [1, 4, 5]] = value
        assert found_in(best_spans(changed, [2], [2])) == expected
    assert found_in(best_spans(np.pad(logits, ((0, 0), (0, 7), (0, 0))), [2], [2])) == expected


@strategies.composite
def batches(draw):
    """Draw logits of a few values, so that scores tie, with some -inf, and the contexts."""
    num_rows, num_slots = draw(strategies.integers(1, 3)), draw(strategies.integers(2, 14))
    rng = np.random.default_rng(draw(strategies.integers(0, 2**32 - 1)))
    logits = rng.integers(-3, 4, (num_rows, num_slots, 2)).astype(np.float32)
    logits[rng.random(logits.shape) < draw(strategies.sampled_from([0.0, 0.3]))] = -INF
    first_B = rng.integers(1, num_slots, num_rows)
    return logits, first_B, rng.integers(0, num_slots - first_B + 1)


@hypothesis.settings(deadline=None, max_examples=300)
@hypothesis.given(batches(), strategies.integers(1, 12), strategies.integers(1, 16))
def test_best_spans_are_the_best_of_all(batch, n_best_size, limit):
    spans = best_spans(*batch, n_best_size=n_best_size, max_answer_tokens=limit)
    for row, (logits_L2, first, count) in enumerate(zip(*batch)):
        expected = every_span(
            logits_L2, first, count, n_best_size=n_best_size, max_answer_tokens=limit
        )
        assert found_in(spans, row) == expected


def test_best_spans_of_long_rows_are_the_best_of_all():
    logits = np.random.default_rng(1).normal(size=(1, 300, 2)).astype(np.float32)
    expected = every_span(logits[0], 10, 280, n_best_size=20, max_answer_tokens=30)
    assert found_in(best_spans(logits, [10], [280])) == expected


def test_memory_grows_with_the_length_not_with_its_square():
    logits = np.random.default_rng(2).normal(size=(1, 100_000, 2)).astype(np.float32)
    tracemalloc.start()
    spans = best_spans(logits, [10], [99_000])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found_in(spans)) == 20
    assert peak < 100 * 100_000  # bytes: a dozen numbers a slot


def test_rows_without_context_and_batches_without_rows_have_no_spans():
    assert found_in(best_spans(np.zeros((1, 1, 2), np.float32), [0], [0])) == []
    spans = best_spans(np.zeros((0, 5, 2), np.float32), [], [])
    assert len(spans) == 0 and spans.first_MA.shape == (0, 20)


def test_arguments_that_do_not_fit_are_rejected():
    logits = np.zeros((2, 5, 2), np.float32)
    with pytest.raises(ValueError, match="n_best_size is 0"):
        best_spans(logits, [1, 1], [1, 1], n_best_size=0)
    with pytest.raises(ValueError, match="max_answer_tokens is 0"):
        best_spans(logits, [1, 1], [1, 1], max_answer_tokens=0)
    with pytest.raises(
        ValueError, match=r"row 1 has 3 context tokens from slot 3; .*within 5 slots"
    ):
        best_spans(logits, [1, 3], [1, 3])
    with pytest.raises(ValueError, match="row 0 has 3 context tokens from slot 0"):
        best_spans(logits, [0, 1], [3, 3])
    with pytest.raises(ValueError, match=r"logits \(2, 5, 2\) for 1 first slots"):
        best_spans(logits, [1], [1, 1])
    with pytest.raises(ValueError, match=r"expected \[rows, slots, 2\]"):
        best_spans(logits[..., 0], [1, 1], [1, 1])


@pytest.mark.parametrize(
    ("slot", "side", "name"), [(2, 0, "start"), (3, 1, "end"), (0, 1, "no answer")]
)
@pytest.mark.parametrize("value", [np.nan, INF])
def test_a_logit_that_is_no_number_is_rejected(slot, side, name, value):
    logits = np.zeros((3, 5, 2), np.float32)
    logits[1, slot, side] = value
    with pytest.raises(ValueError, match=rf"logit of row 1 is NaN or \+inf \({name}\)"):
        best_spans(logits, [1, 1, 1], [4, 4, 4])


def make_spans(*rows, null_M):
    """Spans of rows, each a list of (first, last, score)."""
    width = max([1, *map(len, rows)])
    filled = np.array(
        [row + [(-1, -1, -INF)] * (width - len(row)) for row in rows], np.float64
    ).reshape(-1, width, 3)
    return Spans(
        *np.moveaxis(filled[..., :2].astype(np.int32), -1, 0),
        filled[..., 2],
        np.array(null_M, np.float64),
    )


# Two windows over "zero one two three": the tokens zero, one, two, and after a longer question
# the tokens two, three.
CONTEXT = "zero one two three"
STARTS, ENDS, FIRST_M = (
    ragged([0, 5, 9], [9, 13]),
    ragged([4, 8, 12], [12, 18]),
    np.array([3, 5], np.int32),
)


def merge(spans, **options):
    """The answers of the two windows."""
    return merge_windows(spans, STARTS, ENDS, FIRST_M, CONTEXT, **options)


def test_answers_of_two_windows_by_hand():
    # "two" is in both windows.
    spans = make_spans([(4, 5, 3.0), (5, 5, 1.0)], [(5, 5, 2.0), (5, 6, -1.0)], null_M=[2.5, 0.5])
    answers = merge(spans)
    assert [(answer.text, answer.score, answer.start, answer.end) for answer in answers.spans] == [
        ("one two", 3.0, 5, 12),
        ("two", 2.0, 9, 12),
        ("two three", -1.0, 9, 18),
    ]
    assert answers.null == ("", 0.5, answers.null.probability, 0, 0, 0.0)
    assert [answer.null_difference for answer in answers.spans] == [-2.5, -1.5, 1.5]
    assert answers.null_difference == -2.5
    expected = np.exp([3.0, 2.0, -1.0, 0.5]) / np.sum(np.exp([3.0, 2.0, -1.0, 0.5]))
    probabilities = [answer.probability for answer in (*answers.spans, answers.null)]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-12)


def test_without_no_answer_the_spans_share_the_probability():
    spans = make_spans([(3, 3, 1.0), (4, 4, 1.0)], [(6, 6, 1.0)], null_M=[50.0, 60.0])
    answers = merge(spans, allow_null=False)
    assert [answer.probability for answer in answers.spans] == [1 / 3, 1 / 3, 1 / 3]
    assert answers.null.probability == 0.0 and answers.null_difference == 49.0


def test_only_the_best_answers_are_returned_and_share_the_probability():
    spans = make_spans([(3, 3, 1.0), (4, 4, 0.0)], [(6, 6, 2.0)], null_M=[0.0, 0.0])
    answers = merge(spans, n_best_size=2, allow_null=False)
    assert [answer.text for answer in answers.spans] == ["three", "zero"]
    assert sum(answer.probability for answer in answers.spans) == pytest.approx(1.0)


def test_equal_answers_go_to_the_earlier_in_the_text_and_then_the_shorter():
    spans = make_spans([(4, 5, 1.0), (4, 4, 1.0)], [(5, 5, 1.0)], null_M=[0.0, 0.0])
    assert [answer.text for answer in merge(spans).spans] == ["one", "one two", "two"]


def test_no_answer_is_chosen_above_the_threshold_only():
    answers = merge(make_spans([(3, 3, 1.0)], [], null_M=[3.0, 4.0]))
    assert answers.null_difference == 2.0
    assert answers.best_answer().text == answers.best_answer(2.0).text == "zero"
    assert answers.best_answer(1.9) is answers.null


def test_a_question_without_spans_has_no_answer_alone():
    for null_score in (1.0, -INF):
        answers = merge(make_spans([], [], null_M=[null_score, null_score]), allow_null=False)
        assert answers.spans == () and answers.null_difference == INF
        assert answers.best_answer() is answers.best_answer(9.0) is answers.null
        assert answers.null.probability == 1.0


def test_barred_no_answer_has_no_probability():
    answers = merge(make_spans([(3, 3, 1.0)], [], null_M=[-INF, 2.0]))
    assert (answers.null.probability, answers.spans[0].probability, answers.null_difference) == (
        0.0,
        1.0,
        -INF,
    )


def test_large_scores_do_not_overflow():
    answers = merge(make_spans([(3, 3, 1e4)], [(5, 5, -1e4)], null_M=[0.0, 0.0]))
    assert [answer.probability for answer in answers.spans] == [1.0, 0.0]


def test_characters_of_several_tokens_count_once():
    # One character of two pieces: three token spans, one text.
    spans = best_spans(np.zeros((1, 4, 2), np.float32), [2], [2])
    answers = merge_windows(spans, ragged([0, 0]), ragged([1, 1]), [2], "한")
    assert [(answer.text, answer.probability) for answer in answers.spans] == [("한", 0.5)]


def test_text_is_the_context_between_the_characters():
    context = "naïve 😀 caf\u0065\u0301!"
    answers = merge_windows(
        make_spans([(2, 3, 1.0), (3, 3, 0.5), (4, 4, 0.0)], null_M=[0.0]),
        ragged([0, 6, 8]),
        ragged([5, 7, 13]),
        [2],
        context,
    )
    assert [answer.text for answer in answers.spans] == ["naïve 😀", "😀", "caf\u0065\u0301"]


def test_a_question_without_windows_is_rejected():
    with pytest.raises(ValueError, match="no windows"):
        merge_windows(
            make_spans([], null_M=[0.0]), STARTS, ENDS, FIRST_M, CONTEXT, rows=slice(0, 0)
        )


def test_spans_of_batches_come_into_the_order_of_the_rows():
    spans = make_spans(
        [(1, 1, 0.0)], [(2, 2, 0.0)], [(3, 3, 0.0)], [(4, 4, 0.0)], null_M=[0.0, 1.0, 2.0, 3.0]
    )
    batches = [
        (rows, Spans(*(value[rows] for value in vars(spans).values()))) for rows in ([3, 1], [0, 2])
    ]
    fillers = ([-1, -1], batches[0][1])
    collected = collect_spans(iter([batches[0], fillers, batches[1]]), num_rows=4)
    for name, value in vars(spans).items():
        np.testing.assert_array_equal(getattr(collected, name), value)
    assert len(collect_spans([], num_rows=0)) == 0


def test_rows_that_are_missing_or_come_twice_are_named():
    spans = make_spans([], [], null_M=[0.0, 0.0])
    with pytest.raises(ValueError, match="row 1 has 0 results; expected one for each of 3 rows"):
        collect_spans([([0, 2], spans)], num_rows=3)
    with pytest.raises(ValueError, match="row 0 has 2 results"):
        collect_spans([([0, 0], spans)], num_rows=1)
    with pytest.raises(ValueError, match="row 2 has 1 results; expected one for each of 2 rows"):
        collect_spans([([0, 1], spans), ([2, -1], spans)], num_rows=2)


def make_windows(question_R):
    """Windows as far as answers need them."""
    return types.SimpleNamespace(
        starts=STARTS, ends=ENDS, context_first=FIRST_M, question=np.array(question_R)
    )


def test_questions_are_answered_from_their_own_windows():
    spans = make_spans([(5, 5, 1.0)], [(5, 5, 2.0)], null_M=[3.0, 0.0])
    apart = dict(
        answer_questions(spans, make_windows([0, 1]), {0: CONTEXT, 1: CONTEXT.upper()}.get)
    )
    assert [(answers.spans[0].text, answers.null.score) for answers in apart.values()] == [
        ("two", 3.0),
        ("TWO", 0.0),
    ]
    together = dict(
        answer_questions(
            spans, make_windows([7, 7]), {7: CONTEXT}.get, allow_null=False, n_best_size=1
        )
    )
    assert list(together) == [7] and together[7] == merge(spans, allow_null=False, n_best_size=1)


def test_windows_that_do_not_fit_the_spans_are_rejected():
    spans = make_spans([], [], null_M=[0.0, 0.0])
    with pytest.raises(ValueError, match="spans of 2 rows for 3 windows"):
        next(answer_questions(spans, make_windows([0, 0, 1]), str))
    three = make_spans([], [], [], null_M=[0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="windows of a question are apart"):
        next(answer_questions(three, make_windows([0, 1, 0]), str))
    no_rows = collect_spans([], num_rows=0)
    assert list(answer_questions(no_rows, make_windows([]), str)) == []
