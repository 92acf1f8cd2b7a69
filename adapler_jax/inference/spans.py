"""From logits of first and last tokens to answers: the best spans of each window, then of each question.

NumPy only. A row is a window: [CLS], question, [SEP], context tokens, [SEP]. Slot 0, [CLS], stands for no answer.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from adapler_jax.data.batching.ragged import Ragged


@dataclasses.dataclass(frozen=True)
class Spans:
    """The best spans of rows, best first.

    Attributes:
      first_RN, last_RN: int32 [rows, spans], token slots, both inclusive; -1 for fillers, where there are fewer spans.
      score_RN: float64 [rows, spans], start logit of the first plus end logit of the last; -inf for fillers.
      null_R: float64 [rows], start plus end logit of slot 0.
    """

    first_RN: np.ndarray
    last_RN: np.ndarray
    score_RN: np.ndarray
    null_R: np.ndarray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.null_R)


class Answer(NamedTuple):
    """One answer to a question; of no answer, the text is empty and start and end are 0."""

    text: str
    score: float
    probability: float  # among the answers that it was found with
    start: int  # place in the context, in characters
    end: int
    null_difference: float  # score of no answer minus this score


class Answers(NamedTuple):
    """What may be answered to one question."""

    spans: tuple[Answer, ...]  # best first; none where the context has no tokens
    null: Answer  # no answer

    @property
    def null_difference(self) -> float:
        """Score of no answer minus that of the best span; inf where there is no span."""
        return self.spans[0].null_difference if self.spans else float("inf")

    def best_answer(self, threshold: float | None = None) -> Answer:
        """The best span, or no answer where its null_difference is above the threshold; None for always a span, as far
        as there is one."""
        if not self.spans or (threshold is not None and self.null_difference > threshold):
            return self.null
        return self.spans[0]


def best_spans(
    logits_BL2,
    context_first_B,
    context_count_B,
    *,
    n_best_size: int = 20,
    max_answer_tokens: int = 30,
) -> Spans:
    """The n_best_size spans of each row that have the highest scores, exactly.

    score(i, j) = start_i + end_j for context slots i <= j < i + max_answer_tokens. Of equal scores, the earlier first
    token comes before, then the shorter span. The best spans begin at the n_best_size slots whose own best span is
    highest, so only n_best_size * max_answer_tokens spans of a row are ever laid out, beside a few arrays of B x L.

    Args:
      logits_BL2: float [B, L, 2], logits of start and end. -inf bars a slot. What stands on padding does not matter.
      context_first_B: int [B], slot of the first context token, at least 1.
      context_count_B: int [B], number of context tokens; 0 leaves no answer alone.
      n_best_size: spans to return of a row.
      max_answer_tokens: most tokens of an answer.

    Returns:
      The spans of the rows. One with the score -inf is none.

    Raises:
      ValueError: sizes below 1; the context does not lie within the logits; a logit that counts is NaN or +inf.
    """
    logits_BL2 = np.asarray(logits_BL2)
    first_B1, count_B1 = (
        np.asarray(value, np.int64).reshape(-1, 1) for value in (context_first_B, context_count_B)
    )
    _check_sizes(logits_BL2, first_B1, count_B1, n_best_size, max_answer_tokens)
    slot_L = np.arange(logits_BL2.shape[1])
    inside_BL = (slot_L >= first_B1) & (slot_L < first_B1 + count_B1)
    start_BL, end_BL = (
        np.where(inside_BL, logits_BL2[..., side], -np.inf).astype(np.float64) for side in (0, 1)
    )
    null_B2 = logits_BL2[:, 0].astype(np.float64)
    _check_logits(start_BL, end_BL, null_B2)
    width = max(1, min(max_answer_tokens, int(count_B1.max(initial=1))))
    best_BL = start_BL + _running_maximum(end_BL, width)
    # Of equal starts the earlier, and then in the order of the text, so that equal scores stay in it.
    start_BN = np.sort(np.argsort(-best_BL, axis=1, kind="stable")[:, :n_best_size], axis=1)
    first_BN, last_BN, score_BN = _pick(
        start_BL, end_BL, start_BN, width=width, n_best_size=n_best_size
    )
    return Spans(first_BN, last_BN, score_BN, np.sum(null_B2, axis=1))


def _pick(
    start_BL, end_BL, start_BN, *, width: int, n_best_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First slots, last slots and scores of the best of the spans that begin at start_BN and are up to width long."""
    num_rows, num_slots = end_BL.shape
    last_BNW = start_BN[:, :, None] + np.arange(width)
    end_BNW = np.take_along_axis(end_BL[:, None], np.minimum(last_BNW, num_slots - 1), axis=2)
    end_BNW[last_BNW >= num_slots] = -np.inf
    score_BNW = np.take_along_axis(start_BL, start_BN, axis=1)[:, :, None] + end_BNW
    score_BM = score_BNW.reshape(num_rows, start_BN.shape[1] * width)
    order_BN = np.argsort(-score_BM, axis=1, kind="stable")[:, :n_best_size]
    score_BN = np.take_along_axis(score_BM, order_BN, axis=1)
    is_span_BN = score_BN > -np.inf
    first_BN = np.where(
        is_span_BN, np.take_along_axis(start_BN, order_BN // width, axis=1), -1
    ).astype(np.int32)
    last_BN = np.where(is_span_BN, first_BN + order_BN % width, -1).astype(np.int32)
    filler = ((0, 0), (0, n_best_size - order_BN.shape[1]))
    return tuple(
        np.pad(value_BN, filler, constant_values=value)
        for value_BN, value in ((first_BN, -1), (last_BN, -1), (score_BN, -np.inf))
    )


def _running_maximum(value_BL: np.ndarray, width: int) -> np.ndarray:
    """The maximum of a value and the width - 1 behind it, by doubling: over 1, 2, 4 ... slots, then over width."""
    maximum_BL, covered = value_BL.copy(), 1
    while covered < width:
        step = min(covered, width - covered)
        maximum_BL[:, :-step] = np.maximum(maximum_BL[:, :-step], maximum_BL[:, step:])
        covered += step
    return maximum_BL


def _check_sizes(logits_BL2, first_B1, count_B1, n_best_size: int, max_answer_tokens: int) -> None:
    """Refuses arguments that do not fit together."""
    for name, size in (("n_best_size", n_best_size), ("max_answer_tokens", max_answer_tokens)):
        if size < 1:
            raise ValueError(f"{name} is {size}; expected at least 1")
    if (
        logits_BL2.ndim != 3
        or logits_BL2.shape[2] != 2
        or not len(logits_BL2) == len(first_B1) == len(count_B1)
    ):
        raise ValueError(
            f"logits {logits_BL2.shape} for {len(first_B1)} first slots and {len(count_B1)} counts of context tokens; "
            "expected [rows, slots, 2] and one of each a row"
        )
    beyond_B1 = (first_B1 < 1) | (first_B1 + count_B1 > logits_BL2.shape[1])
    outside_B = ((count_B1 < 0) | (beyond_B1 & (count_B1 > 0)))[:, 0]
    if outside_B.any():
        row = int(np.argmax(outside_B))
        raise ValueError(
            f"row {row} has {count_B1[row, 0]} context tokens from slot {first_B1[row, 0]}; expected them from slot 1 "
            f"on within {logits_BL2.shape[1]} slots: pass the logits of all slots, unpacked"
        )


def _check_logits(start_BL, end_BL, null_B2) -> None:
    """Refuses logits that cannot be compared; those on padding are -inf by now."""
    for name, value_BM in (("start", start_BL), ("end", end_BL), ("no answer", null_B2)):
        wrong_B = ~(value_BM < np.inf).all(axis=1)
        if wrong_B.any():
            row = int(np.argmax(wrong_B))
            raise ValueError(
                f"a logit of row {row} is NaN or +inf ({name}); expected numbers or -inf"
            )


def collect_spans(parts: Iterable[tuple[np.ndarray, Spans]], *, num_rows: int) -> Spans:
    """Puts the spans of batches into the order of the rows.

    Args:
      parts: row numbers (int [B]; negative ones are filler rows, left out) and spans of each batch, in any order.
      num_rows: rows that there are.

    Raises:
      ValueError: a row is missing, comes twice or does not exist.
    """
    parts = [(np.asarray(row_B), spans) for row_B, spans in parts]
    row_R = np.concatenate([row_B for row_B, _ in parts] or [np.zeros(0, np.int64)])
    count_R = np.bincount(row_R[row_R >= 0], minlength=num_rows)
    wrong = np.flatnonzero(count_R != (np.arange(len(count_R)) < num_rows))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} has {count_R[wrong[0]]} results; expected one for each of {num_rows} rows"
        )
    if not parts:
        return Spans(
            np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32), np.zeros((0, 0)), np.zeros(0)
        )
    order_R = np.argsort(row_R, kind="stable")[
        len(row_R) - num_rows :
    ]  # fillers are negative, so first
    names = [field.name for field in dataclasses.fields(Spans)]
    return Spans(
        *(np.concatenate([getattr(spans, name) for _, spans in parts])[order_R] for name in names)
    )


def merge_windows(
    spans: Spans,
    starts: Ragged,
    ends: Ragged,
    context_first_R,
    context: str,
    *,
    n_best_size: int = 20,
    allow_null: bool = True,
    rows: slice = slice(None),
) -> Answers:
    """The best answers to one question from the spans of its windows.

    The same characters found in several windows count once, with their best score. No answer scores the minimum over
    the windows. Probabilities are the softmax of the scores of the answers returned, and of no answer if it is allowed.

    Args:
      spans: from `best_spans`, of all rows.
      starts, ends: int32 rows as long as the context tokens of the window, their character spans in the context.
      context_first_R: int [rows], slot of the first context token.
      context: the whole context.
      n_best_size: answers to return.
      allow_null: whether no answer takes part in the softmax; where not, it has the probability 0 beside spans.
      rows: the windows of the question; at least one.

    Returns:
      The answers, best first; of equal scores the earlier in the text, then the shorter.

    Raises:
      ValueError: there are no windows.
    """
    rows = range(len(spans))[rows]
    if not rows:
        raise ValueError(
            "a question has no windows; expected at least one, without context tokens if there is no text"
        )
    best: dict[tuple[int, int], float] = {}
    for row in rows:
        is_span_N = spans.first_RN[row] >= 0
        first_N = spans.first_RN[row, is_span_N] - context_first_R[row]
        last_N = spans.last_RN[row, is_span_N] - context_first_R[row]
        places = zip(starts[row][first_N].tolist(), ends[row][last_N].tolist())
        for place, score in zip(places, spans.score_RN[row, is_span_N].tolist()):
            best[place] = max(score, best.get(place, score))
    found = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:n_best_size]
    return _answers(
        context, found, float(np.min(spans.null_R[rows.start : rows.stop])), allow_null=allow_null
    )


def _answers(
    context: str, found: list[tuple[tuple[int, int], float]], null_score: float, *, allow_null: bool
) -> Answers:
    """Adds texts and probabilities."""
    score_N = np.array(
        [score for _, score in found] + [null_score if allow_null or not found else -np.inf]
    )
    # Where nothing is possible, no answer is all there is.
    exp_N = (
        np.exp(score_N - score_N.max())
        if np.isfinite(score_N.max())
        else np.append(np.zeros(len(found)), 1.0)
    )
    *prob_N, null_prob = (exp_N / np.sum(exp_N)).tolist()
    spans = tuple(
        Answer(context[start:end], score, prob, start, end, null_score - score)
        for ((start, end), score), prob in zip(found, prob_N)
    )
    return Answers(spans, Answer("", null_score, null_prob, 0, 0, 0.0))


def answer_questions(
    spans: Spans,
    windows,
    context_of: Callable[[int], str],
    *,
    n_best_size: int = 20,
    allow_null: bool = True,
) -> Iterator[tuple[int, Answers]]:
    """The answers to all questions, one after the other; nothing else is held.

    Args:
      spans: of all rows, from `best_spans` and `collect_spans`.
      windows: data.windows.Windows; starts, ends, context_first and question are read.
      context_of: the context of a question by its index.
      n_best_size, allow_null: as `merge_windows`.

    Yields:
      Index of the question, and its answers.

    Raises:
      ValueError: there are not as many spans as windows; the windows of a question do not lie together.
    """
    question_R = np.asarray(windows.question)
    if len(spans) != len(question_R):
        raise ValueError(
            f"spans of {len(spans)} rows for {len(question_R)} windows; expected one row a window"
        )
    edges = np.flatnonzero(np.diff(question_R, prepend=-1, append=-1))
    if len(np.unique(question_R)) != max(0, len(edges) - 1):
        raise ValueError(
            "the windows of a question are apart; expected rows of one question behind each other"
        )
    for start, stop in zip(edges.tolist(), edges[1:].tolist()):
        question = int(question_R[start])
        yield (
            question,
            merge_windows(
                spans,
                windows.starts,
                windows.ends,
                windows.context_first,
                context_of(question),
                n_best_size=n_best_size,
                allow_null=allow_null,
                rows=slice(start, stop),
            ),
        )
