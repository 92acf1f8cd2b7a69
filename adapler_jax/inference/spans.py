"""Turn the logits of first and last tokens into answers: spans of each window, then of a question.

NumPy only. A row is a window: [CLS], question, [SEP], context tokens, [SEP]. Slot 0, [CLS], means
no answer.

Shape letters:

    M rows, a window each   A best spans, best first    J lengths of a span
    X candidate spans
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.qa.windows import Windows


@dataclasses.dataclass(frozen=True)
class Spans:
    """The best spans of rows, best first.

    Attributes:
      first_MA: int32, first token slot; -1 where a row has fewer spans.
      last_MA: int32, last token slot, inclusive; -1 where a row has fewer spans.
      score_MA: float64, start logit of the first plus end logit of the last; -inf for no span.
      null_M: float64, start plus end logit of slot 0.
    """

    first_MA: np.ndarray
    last_MA: np.ndarray
    score_MA: np.ndarray
    null_M: np.ndarray

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.null_M)


class Answer(NamedTuple):
    """One answer to a question; of no answer, the text is empty and start and end are 0."""

    text: str
    score: float
    probability: float  # among the answers that were found with it
    start: int  # characters [start, end) of the context
    end: int
    null_difference: float  # score of no answer minus this score


class Answers(NamedTuple):
    """The possible answers to one question."""

    spans: tuple[Answer, ...]  # best first; empty if the context has no tokens
    null: Answer  # no answer

    @property
    def null_difference(self) -> float:
        """Return the score of no answer minus the best span's; inf without a span."""
        return self.spans[0].null_difference if self.spans else float("inf")

    def best_answer(self, threshold: float | None = None) -> Answer:
        """Return the best span, or no answer.

        Args:
          threshold: no answer if `null_difference` is above it; None for a span, if there is one.
        """
        if not self.spans or (threshold is not None and self.null_difference > threshold):
            return self.null
        return self.spans[0]


def best_spans(
    logits_BL2: np.ndarray,
    context_first_B: np.ndarray,
    context_count_B: np.ndarray,
    *,
    n_best_size: int = 20,
    max_answer_tokens: int = 30,
) -> Spans:
    """Return the spans of each row that have the highest scores, exactly.

        score(i, j) = start_i + end_j    for context slots i <= j < i + max_answer_tokens

    Of equal scores, the earlier first token is better, then the shorter span. The best spans begin
    at the n_best_size slots whose own best span is highest. So only
    n_best_size * max_answer_tokens candidates of a row are compared.

    Args:
      logits_BL2: float, logits of start and end. -inf excludes a slot; padding has no effect.
      context_first_B: int, slot of the first context token, at least 1.
      context_count_B: int, number of context tokens; 0 leaves only no answer.
      n_best_size: spans to return of a row.
      max_answer_tokens: of the longest answer.

    Returns:
      The spans of the rows. A score of -inf means no span.

    Raises:
      ValueError: a size is below 1, the context is outside the logits, or a logit of the context
        is NaN or +inf.
    """
    logits_BL2 = np.asarray(logits_BL2)
    first_B1 = np.asarray(context_first_B, np.int64).reshape(-1, 1)
    count_B1 = np.asarray(context_count_B, np.int64).reshape(-1, 1)
    _check_limits(n_best_size, max_answer_tokens)
    _check_context(logits_BL2, first_B1, count_B1)
    slot_L = np.arange(logits_BL2.shape[1])
    inside_BL = (slot_L >= first_B1) & (slot_L < first_B1 + count_B1)
    start_BL = np.where(inside_BL, logits_BL2[..., 0], -np.inf).astype(np.float64)
    end_BL = np.where(inside_BL, logits_BL2[..., 1], -np.inf).astype(np.float64)
    null_B2 = logits_BL2[:, 0].astype(np.float64)
    _check_logits(start_BL, end_BL, null_B2)
    num_lengths = max(1, min(max_answer_tokens, int(count_B1.max(initial=1))))
    best_BL = start_BL + _running_maximum(end_BL, num_lengths)
    # Sorted twice: of equal starts the earlier one, and then the order of the text.
    best_start_BA = np.argsort(-best_BL, axis=1, kind="stable")[:, :n_best_size]
    start_BA = np.sort(best_start_BA, axis=1)
    first_BA, last_BA, score_BA = _best_candidates(
        start_BL, end_BL, start_BA, num_lengths=num_lengths, n_best_size=n_best_size
    )
    return Spans(first_BA, last_BA, score_BA, np.sum(null_B2, axis=1))


def _best_candidates(
    start_BL: np.ndarray,
    end_BL: np.ndarray,
    start_BA: np.ndarray,
    *,
    num_lengths: int,
    n_best_size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return first slots, last slots and scores of the best spans that begin at given slots."""
    num_rows, num_slots = end_BL.shape
    last_BAJ = start_BA[:, :, None] + np.arange(num_lengths)
    end_BAJ = np.take_along_axis(end_BL[:, None], np.minimum(last_BAJ, num_slots - 1), axis=2)
    end_BAJ[last_BAJ >= num_slots] = -np.inf
    start_score_BA = np.take_along_axis(start_BL, start_BA, axis=1)
    score_BAJ = start_score_BA[:, :, None] + end_BAJ
    score_BX = score_BAJ.reshape(num_rows, start_BA.shape[1] * num_lengths)
    order_BA = np.argsort(-score_BX, axis=1, kind="stable")[:, :n_best_size]
    score_BA = np.take_along_axis(score_BX, order_BA, axis=1)
    is_span_BA = score_BA > -np.inf
    first_BA = np.take_along_axis(start_BA, order_BA // num_lengths, axis=1)
    last_BA = first_BA + order_BA % num_lengths
    num_missing = n_best_size - order_BA.shape[1]
    return (
        _pad_spans(np.where(is_span_BA, first_BA, -1).astype(np.int32), num_missing, -1),
        _pad_spans(np.where(is_span_BA, last_BA, -1).astype(np.int32), num_missing, -1),
        _pad_spans(score_BA, num_missing, -np.inf),
    )


def _pad_spans(value_BA: np.ndarray, num_missing: int, value: float) -> np.ndarray:
    """Append a value for each missing span."""
    return np.pad(value_BA, ((0, 0), (0, num_missing)), constant_values=value)


def _running_maximum(value_BL: np.ndarray, num_slots: int) -> np.ndarray:
    """Return the maximum of each value and the next ones, num_slots in all, by doubling."""
    maximum_BL, covered = value_BL.copy(), 1
    while covered < num_slots:
        step = min(covered, num_slots - covered)
        maximum_BL[:, :-step] = np.maximum(maximum_BL[:, :-step], maximum_BL[:, step:])
        covered += step
    return maximum_BL


def _check_limits(n_best_size: int, max_answer_tokens: int) -> None:
    """Raise ValueError for a limit below 1."""
    for name, size in (("n_best_size", n_best_size), ("max_answer_tokens", max_answer_tokens)):
        if size < 1:
            raise ValueError(f"{name} is {size}; expected at least 1")


def _check_context(logits_BL2: np.ndarray, first_B1: np.ndarray, count_B1: np.ndarray) -> None:
    """Raise ValueError for contexts that are outside the logits."""
    has_pairs = logits_BL2.ndim == 3 and logits_BL2.shape[2] == 2
    if not has_pairs or not len(logits_BL2) == len(first_B1) == len(count_B1):
        raise ValueError(
            f"logits {logits_BL2.shape} for {len(first_B1)} first slots and {len(count_B1)} counts "
            "of context tokens; expected [rows, slots, 2] and one of each a row"
        )
    beyond_B1 = (first_B1 < 1) | (first_B1 + count_B1 > logits_BL2.shape[1])
    outside_B = ((count_B1 < 0) | (beyond_B1 & (count_B1 > 0)))[:, 0]
    if outside_B.any():
        row = int(np.argmax(outside_B))
        raise ValueError(
            f"row {row} has {count_B1[row, 0]} context tokens from slot {first_B1[row, 0]}; "
            f"expected them from slot 1 on within {logits_BL2.shape[1]} slots: pass the logits of "
            "all slots, unpacked"
        )


def _check_logits(start_BL: np.ndarray, end_BL: np.ndarray, null_B2: np.ndarray) -> None:
    """Raise ValueError for logits that cannot be compared; logits of padding are -inf here."""
    for name, value_BX in (("start", start_BL), ("end", end_BL), ("no answer", null_B2)):
        wrong_B = ~(value_BX < np.inf).all(axis=1)
        if wrong_B.any():
            row = int(np.argmax(wrong_B))
            raise ValueError(
                f"a logit of row {row} is NaN or +inf ({name}); expected numbers or -inf"
            )


def collect_spans(parts: Iterable[tuple[np.ndarray, Spans]], *, num_rows: int) -> Spans:
    """Put the spans of batches into the order of the rows.

    Args:
      parts: row numbers and spans of each batch, in any order. Row numbers are int [B]; negative
        ones are padding examples, left out.
      num_rows: number of all rows.

    Raises:
      ValueError: a row is missing, is there twice or does not exist.
    """
    parts = [(np.asarray(row_B), spans) for row_B, spans in parts]
    rows = np.concatenate([row_B for row_B, _ in parts] or [np.zeros(0, np.int64)])
    counts = np.bincount(rows[rows >= 0], minlength=num_rows)
    wrong = np.flatnonzero(counts != (np.arange(len(counts)) < num_rows))
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} has {counts[wrong[0]]} results; expected one for each of {num_rows} "
            "rows"
        )
    if not parts:
        no_slots = np.zeros((0, 0), np.int32)
        return Spans(no_slots, no_slots, np.zeros((0, 0)), np.zeros(0))
    num_padding = len(rows) - num_rows
    order_M = np.argsort(rows, kind="stable")[num_padding:]  # negative numbers come first
    return Spans(
        first_MA=np.concatenate([spans.first_MA for _, spans in parts])[order_M],
        last_MA=np.concatenate([spans.last_MA for _, spans in parts])[order_M],
        score_MA=np.concatenate([spans.score_MA for _, spans in parts])[order_M],
        null_M=np.concatenate([spans.null_M for _, spans in parts])[order_M],
    )


def merge_windows(
    spans: Spans,
    starts: Ragged,
    ends: Ragged,
    context_first_M: np.ndarray,
    context: str,
    *,
    n_best_size: int = 20,
    allow_null: bool = True,
    rows: slice = slice(None),
) -> Answers:
    """Return the best answers to one question from the spans of its windows.

    Characters that are in several windows count once, with their best score. The score of no
    answer is the minimum over the windows. Probabilities are the softmax of the scores of the
    returned answers, and of no answer if it is allowed.

    Args:
      spans: from `best_spans`, of all rows.
      starts: int32 rows as long as the context of the window: first character of each token.
      ends: int32 rows as `starts`: the character after each token.
      context_first_M: int, slot of the first context token.
      context: the whole context.
      n_best_size: answers to return.
      allow_null: no answer is part of the softmax; if not, its probability next to spans is 0.
      rows: the windows of the question; at least one.

    Returns:
      The answers, best first; of equal scores the earlier in the text, then the shorter.

    Raises:
      ValueError: there are no windows.
    """
    window_rows = range(len(spans))[rows]
    if not window_rows:
        raise ValueError(
            "a question has no windows; expected at least one, without context tokens if there is "
            "no text"
        )
    best: dict[tuple[int, int], float] = {}
    for row in window_rows:
        is_span_A = spans.first_MA[row] >= 0
        first_A = spans.first_MA[row, is_span_A] - context_first_M[row]
        last_A = spans.last_MA[row, is_span_A] - context_first_M[row]
        characters = zip(starts[row][first_A].tolist(), ends[row][last_A].tolist())
        scores = spans.score_MA[row, is_span_A].tolist()
        for span, score in zip(characters, scores):
            best[span] = max(score, best.get(span, score))
    found = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:n_best_size]
    null_score = float(np.min(spans.null_M[window_rows.start : window_rows.stop]))
    return _with_probabilities(context, found, null_score, allow_null=allow_null)


def _with_probabilities(
    context: str, found: list[tuple[tuple[int, int], float]], null_score: float, *, allow_null: bool
) -> Answers:
    """Return answers with their texts and probabilities."""
    is_null_possible = allow_null or not found
    scores = [score for _, score in found] + [null_score if is_null_possible else -np.inf]
    *probabilities, null_probability = _softmax(np.array(scores))
    spans = tuple(
        Answer(context[start:end], score, probability, start, end, null_score - score)
        for ((start, end), score), probability in zip(found, probabilities)
    )
    return Answers(spans, Answer("", null_score, null_probability, 0, 0, 0.0))


def _softmax(score_X: np.ndarray) -> list[float]:
    """Return the softmax; if all scores are -inf, the last one (no answer) has probability 1."""
    largest = score_X.max()
    if not np.isfinite(largest):
        return [0.0] * (len(score_X) - 1) + [1.0]
    exp_X = np.exp(score_X - largest)
    return (exp_X / np.sum(exp_X)).tolist()


def answer_questions(
    spans: Spans,
    windows: Windows,
    context_of: Callable[[int], str],
    *,
    n_best_size: int = 20,
    allow_null: bool = True,
) -> Iterator[tuple[int, Answers]]:
    """Yield the answers to all questions, one after the other.

    Args:
      spans: of all rows, from `best_spans` and `collect_spans`.
      windows: of all questions.
      context_of: returns the context of a question by its index.
      n_best_size: as in `merge_windows`.
      allow_null: as in `merge_windows`.

    Yields:
      Index of the question, and its answers.

    Raises:
      ValueError: the numbers of spans and windows differ, or the windows of a question are apart.
    """
    question_M = np.asarray(windows.question)
    if len(spans) != len(question_M):
        raise ValueError(
            f"spans of {len(spans)} rows for {len(question_M)} windows; expected one row a window"
        )
    edges = np.flatnonzero(np.diff(question_M, prepend=-1, append=-1))
    if len(np.unique(question_M)) != max(0, len(edges) - 1):
        raise ValueError(
            "the windows of a question are apart; expected the rows of a question in succession"
        )
    for start, stop in zip(edges.tolist(), edges[1:].tolist()):
        question = int(question_M[start])
        answers = merge_windows(
            spans,
            windows.starts,
            windows.ends,
            windows.context_first,
            context_of(question),
            n_best_size=n_best_size,
            allow_null=allow_null,
            rows=slice(start, stop),
        )
        yield question, answers
