"""Cut questions and their contexts into windows: [CLS] question [SEP] part of the context [SEP].

Spans have three coordinate systems:

- *character*: index in the context, spans [start, end);
- *token*: index among the tokens of the context, spans [first, last];
- *slot*: index in a window's row, where [CLS] is slot 0, spans [first, last].

A chunk of questions shares its arrays, whose shapes are:

    Q questions of a chunk
    R rows: windows of all questions
    N answer spans of all questions
    M pairs of a span and a window that holds it
    A answer spans of a window
    2 start and end, or first and last
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged, offsets_of, runs
from adapler_jax.data.qa.questions import Question, Span
from adapler_jax.data.sources.chunks import in_chunks
from adapler_jax.data.tokenization.offsets import TokenizedTexts, encode_with_offsets
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template_ragged,
    join_chunks,
    read_template,
)

# A chunk has at most so many questions, and at most so many characters if it has several.
_CHUNK_QUESTIONS = 1024
_CHUNK_CHARACTERS = 1 << 20


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of questions, one a row; arrays may be memory-mapped.

    Attributes:
      tokens: int32 rows, [CLS] first, at most max_length long.
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 for the context and its
        [SEP]; all 0 for RoBERTa.
      context_first: int32 [R], slot of the row's first context token.
      starts: int32 rows, as long as the row's part of the context: first character of each token.
      ends: int32 rows of the same lengths: the character after each token.
      question: int32 [R], number of the question; rows of a question are consecutive, in the order
        of the context.
      span_RA2: int32 [R, A, 2], slots (first, last) of accepted answers that the row holds whole,
        each once; -1 after them. A row without an answer has (0, 0), the slot of [CLS], as its
        first one.
    """

    tokens: Ragged
    segments: Ragged
    context_first: np.ndarray
    starts: Ragged
    ends: Ragged
    question: np.ndarray
    span_RA2: np.ndarray

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.tokens)


class _Layout(NamedTuple):
    """Windows of a chunk, int64; tokens are counted in their context."""

    capacity_Q: np.ndarray  # context tokens that a window holds
    step_Q: np.ndarray  # tokens from the start of a window to the start of the next
    row_offsets: np.ndarray  # [Q + 1], first row of each question, and the number of rows
    question_R: np.ndarray
    start_R: np.ndarray  # first context token
    length_R: np.ndarray  # context tokens
    context_slot_R: np.ndarray  # slot of the first context token


class _TokenSpans(NamedTuple):
    """Answer spans in context tokens, int64."""

    question_N: np.ndarray
    first_N: np.ndarray
    last_N: np.ndarray


class _Limits(NamedTuple):
    """Numbers of tokens, and of answers, that windows have."""

    max_length: int
    doc_stride: int
    max_question_tokens: int
    max_answers: int


def iter_windows(
    questions: Iterable[Question],
    core: Tokenizer,
    *,
    max_length: int,
    doc_stride: int,
    max_question_tokens: int,
    max_answers: int,
) -> Iterator[Windows]:
    """Make the windows of a stream of questions, some hundreds at a time.

    Args:
      questions: questions, numbered from 0.
      core: a tokenizer of `load_core`; every window has its special tokens for a pair of texts.
      max_length: token slots of a window.
      doc_stride: tokens from the start of a window's part of the context to the start of the next;
        at most the context tokens that a window holds. The last part ends with the context. An
        empty context has one window.
      max_question_tokens: longer questions lose their end.
      max_answers: A, the accepted answers of a window; the first ones that it holds.

    Returns:
      Windows of consecutive questions. An answer is the tokens from the first that ends after its
      start to the last that starts before its end.

    Raises:
      ValueError: a number is below 1, or max_length leaves no room for the context.
    """
    template = read_template(core, pair=True)
    limits = _Limits(max_length, doc_stride, max_question_tokens, max_answers)
    for name, value in limits._asdict().items():
        if value < 1 and name != "max_length":
            raise ValueError(f"{name} is {value}; expected at least 1")
    if max_length <= template.num_special + max_question_tokens:
        raise ValueError(
            f"max_length {max_length} leaves no room for the text after {template.num_special} "
            f"special tokens and max_question_tokens {max_question_tokens}; raise "
            "config.data.max_length, or lower config.qa.max_question_tokens"
        )
    return _iter_chunks(questions, core, template, limits)


def _iter_chunks(
    questions: Iterable[Question], core: Tokenizer, template: Template, limits: _Limits
) -> Iterator[Windows]:
    """Make the windows of one chunk of questions after another."""
    num_questions = 0
    for chunk in in_chunks(
        questions, _CHUNK_QUESTIONS, weigh=_num_characters, max_weight=_CHUNK_CHARACTERS
    ):
        windows = _make_windows(chunk, core, template, limits)
        yield dataclasses.replace(windows, question=windows.question + np.int32(num_questions))
        num_questions += len(chunk)


def _num_characters(question: Question) -> int:
    """Count the characters of a question and its context."""
    return len(question.context) + len(question.question)


def _make_windows(
    chunk: Sequence[Question], core: Tokenizer, template: Template, limits: _Limits
) -> Windows:
    """Make the windows of a chunk of questions, numbered from 0."""
    texts, text_of = encode_with_offsets(core, [question.question for question in chunk])
    contexts, context_of = encode_with_offsets(core, [question.context for question in chunk])
    question_length_Q = np.minimum(np.diff(texts.offsets), limits.max_question_tokens)[text_of]
    context_length_Q = np.diff(contexts.offsets)[context_of]
    layout = _layout_windows(template, question_length_Q, context_length_Q, limits)
    question_R = layout.question_R
    tokens, segments = fill_template_ragged(
        template,
        _gather(texts.ids, texts.offsets[text_of[question_R]], question_length_Q[question_R]),
        _gather_context(contexts.ids, contexts, context_of, layout),
    )
    spans = _spans_in_tokens([question.spans for question in chunk], contexts, context_of)
    return Windows(
        tokens=tokens,
        segments=segments,
        context_first=layout.context_slot_R.astype(np.int32),
        starts=_gather_context(contexts.starts, contexts, context_of, layout),
        ends=_gather_context(contexts.ends, contexts, context_of, layout),
        question=question_R.astype(np.int32),
        span_RA2=_spans_in_slots(layout, spans, max_answers=limits.max_answers),
    )


def _gather(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> Ragged:
    """Return the rows values[start : start + length]."""
    return Ragged(values[runs(starts, lengths)], offsets_of(lengths))


def _gather_context(
    values: np.ndarray, contexts: TokenizedTexts, context_of: np.ndarray, layout: _Layout
) -> Ragged:
    """Return each row's part of the context; values has one entry for each context token."""
    context_start_R = contexts.offsets[context_of[layout.question_R]]
    return _gather(values, context_start_R + layout.start_R, layout.length_R)


def _layout_windows(
    template: Template, question_length_Q: np.ndarray, context_length_Q: np.ndarray, limits: _Limits
) -> _Layout:
    """Lay out the windows of questions and contexts with these numbers of tokens."""
    capacity_Q = limits.max_length - template.num_special - question_length_Q
    step_Q = np.minimum(limits.doc_stride, capacity_Q)
    # Each window after the first adds one step; -(-a // b) rounds up.
    num_windows_Q = 1 + np.maximum(0, -((capacity_Q - context_length_Q) // step_Q))
    row_offsets = offsets_of(num_windows_Q)
    question_R = np.repeat(np.arange(len(question_length_Q)), num_windows_Q)
    start_R = (np.arange(row_offsets[-1]) - row_offsets[question_R]) * step_Q[question_R]
    context_slot_Q = len(template.first) + question_length_Q + len(template.middle)
    return _Layout(
        capacity_Q=capacity_Q,
        step_Q=step_Q,
        row_offsets=row_offsets,
        question_R=question_R,
        start_R=start_R,
        length_R=np.minimum(capacity_Q[question_R], context_length_Q[question_R] - start_R),
        context_slot_R=context_slot_Q[question_R],
    )


def _spans_in_tokens(
    spans_of: Sequence[Sequence[Span]], contexts: TokenizedTexts, context_of: np.ndarray
) -> _TokenSpans:
    """Convert spans of characters to context tokens; leave out spans without a token.

    Args:
      spans_of: spans of characters of each question.
      contexts: the different contexts.
      context_of: int64 [Q], index of each question's context.
    """
    question_N = np.repeat(np.arange(len(spans_of)), [len(spans) for spans in spans_of])
    context_N = context_of[question_N]
    span_N2 = np.array(list(itertools.chain.from_iterable(spans_of)), np.int64).reshape(-1, 2)
    start_N, end_N = np.clip(span_N2, 0, contexts.num_characters[context_N][:, None]).T
    # Adding the start of its context to each character lets one search serve all contexts.
    context_starts = offsets_of(contexts.num_characters + 1)[:-1]
    shift_tokens = np.repeat(context_starts, np.diff(contexts.offsets))
    shift_N, token_N = context_starts[context_N], contexts.offsets[context_N]
    first_N = np.searchsorted(contexts.ends + shift_tokens, start_N + shift_N, side="right")
    after_N = np.searchsorted(contexts.starts + shift_tokens, end_N + shift_N, side="left")
    first_N, last_N = first_N - token_N, after_N - 1 - token_N
    has_token_N = first_N <= last_N
    return _TokenSpans(question_N[has_token_N], first_N[has_token_N], last_N[has_token_N])


def _spans_in_slots(layout: _Layout, spans: _TokenSpans, *, max_answers: int) -> np.ndarray:
    """Convert spans of tokens to slots of the windows that hold them whole, int32 [R, A, 2]."""
    row_M, span_M = _pair_with_windows(layout, spans)
    shift_M = layout.context_slot_R[row_M] - layout.start_R[row_M]
    first_M, last_M = spans.first_N[span_M] + shift_M, spans.last_N[span_M] + shift_M
    pairs = np.stack([row_M, first_M, last_M], axis=1)
    _, first_seen = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first_seen)]
    row, slots = pairs[:, 0], pairs[:, 1:]
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # among the spans of its row
    is_kept = rank < max_answers
    span_RA2 = np.full((len(layout.question_R), max_answers, 2), -1, np.int32)
    span_RA2[:, 0] = 0
    span_RA2[row[is_kept], rank[is_kept]] = slots[is_kept]
    return span_RA2


def _pair_with_windows(layout: _Layout, spans: _TokenSpans) -> tuple[np.ndarray, np.ndarray]:
    """Return the row and the span of each pair of a span and a window that holds it whole.

    Window i of a question holds the tokens from i * step to i * step + capacity - 1. So it holds a
    span for ceil((last - capacity + 1) / step) <= i <= first // step.

    Returns:
      row_M and span_M, int64, sorted by row.
    """
    question_N, step_N = spans.question_N, layout.step_Q[spans.question_N]
    lowest_N = -((layout.capacity_Q[question_N] - 1 - spans.last_N) // step_N)
    lowest_N = np.maximum(0, lowest_N)
    num_windows_N = np.diff(layout.row_offsets)[question_N]
    highest_N = np.minimum(spans.first_N // step_N, num_windows_N - 1)
    count_N = np.maximum(0, highest_N - lowest_N + 1)
    span_M = np.repeat(np.arange(len(question_N)), count_N)
    row_M = runs(layout.row_offsets[question_N] + lowest_N, count_N)
    order_M = np.argsort(row_M, kind="stable")
    return row_M[order_M], span_M[order_M]


def join_windows(chunks: Iterable[Windows]) -> Windows:
    """Concatenate the chunks of `iter_windows` in memory.

    Raises:
      ValueError: there are no chunks.
    """
    chunks = list(chunks)
    if not chunks:
        raise ValueError("there are no windows to join; give at least one question")
    return join_chunks(chunks)
