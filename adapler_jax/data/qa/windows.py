"""Questions -> windows: [CLS] question [SEP] a part of the text [SEP], with the places of the tokens in the text."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged, offsets_of, runs
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.sources.chunks import in_chunks
from adapler_jax.data.tokenization.offsets import TokenizedTexts, encode_with_offsets
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template_ragged,
    join_chunks,
    read_template,
)

_CHUNK_QUESTIONS = 1024  # windows are made of so many questions at once,
_CHUNK_CHARACTERS = 1 << 20  # or of fewer whose texts have so many characters


@dataclasses.dataclass(frozen=True)
class Windows:
    """The windows of questions, a row each; arrays may be memory-mapped.

    Attributes:
      tokens: int32 rows, [CLS] first, at most max_length long.
      segments: int8 rows of the same lengths: 0 up to the first [SEP], 1 for the text and its [SEP] (RoBERTa: all 0).
      context_first: slot of the row's first token of the text, int32 [rows].
      starts: int32 rows, as long as the text's part in the row: character where each token starts in the context.
      ends: as `starts`: the character behind each token.
      question: number of the question, int32 [rows]; rows of a question follow each other in the order of the text.
      span_RA2: int32 [rows, A, 2]: slots (first, last) of accepted answers that lie wholly in the row, each once; -1
        behind them. A row without any has (0, 0), [CLS], as its first: no answer.
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


class _Plan(NamedTuple):
    """Where the windows of a chunk lie; int64, [questions] or [rows]."""

    room: np.ndarray  # [questions], tokens of the text that a window holds
    step: np.ndarray  # [questions], tokens from window to window
    row: np.ndarray  # [questions + 1], the first row of each
    question: np.ndarray  # [rows], in the chunk
    start: np.ndarray  # [rows], first token of the part, in its text
    length: np.ndarray  # [rows], tokens of the part
    context_first: np.ndarray  # [rows], slot of the part


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
      questions: counted from 0.
      core: as `load_core` gives it; what it puts around a pair of texts stands in every window.
      max_length: token slots of a window.
      doc_stride: tokens from the start of a part of the text to the start of the next; at most the room that a window has.
        The last part ends with the text. An empty text has one window.
      max_question_tokens: a question is cut there.
      max_answers: A, accepted answers of a window; the first ones of the question's that it holds.

    Returns:
      Windows of the questions that follow each other. An answer goes from the first token that ends behind its start
      to the last that starts before its end.

    Raises:
      ValueError: a number is below 1, or max_length leaves no room for the text.
    """
    template = read_template(core, pair=True)
    settings = {
        "doc_stride": doc_stride,
        "max_question_tokens": max_question_tokens,
        "max_answers": max_answers,
    }
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if max_length <= template.num_special + max_question_tokens:
        raise ValueError(
            f"max_length {max_length} leaves no room for the text beside {template.num_special} special tokens and "
            f"max_question_tokens {max_question_tokens}; raise config.data.max_length, or lower "
            "config.qa.max_question_tokens"
        )
    return _iterate(questions, core, template, max_length=max_length, **settings)


def _iterate(
    questions: Iterable[Question],
    core: Tokenizer,
    template: Template,
    *,
    max_length: int,
    doc_stride: int,
    max_question_tokens: int,
    max_answers: int,
) -> Iterator[Windows]:
    """Make windows a chunk at a time."""
    count = 0
    for chunk in in_chunks(
        questions, _CHUNK_QUESTIONS, weigh=_num_characters, max_weight=_CHUNK_CHARACTERS
    ):
        asked, asked_of = encode_with_offsets(core, [question.question for question in chunk])
        texts, text_of = encode_with_offsets(core, [question.context for question in chunk])
        asked_lengths = np.minimum(np.diff(asked.offsets), max_question_tokens)[asked_of]
        plan = _plan(
            template,
            asked_lengths,
            np.diff(texts.offsets)[text_of],
            max_length=max_length,
            doc_stride=doc_stride,
        )
        parts = runs(texts.offsets[text_of[plan.question]] + plan.start, plan.length)
        asked_places = runs(asked.offsets[asked_of[plan.question]], asked_lengths[plan.question])
        asked_rows = Ragged(asked.ids[asked_places], offsets_of(asked_lengths[plan.question]))
        part_offsets = offsets_of(plan.length)
        tokens, segments = fill_template_ragged(
            template, asked_rows, Ragged(texts.ids[parts], part_offsets)
        )
        spans = _token_spans([question.spans for question in chunk], texts, text_of)
        yield Windows(
            tokens=tokens,
            segments=segments,
            context_first=plan.context_first.astype(np.int32),
            starts=Ragged(texts.starts[parts], part_offsets),
            ends=Ragged(texts.ends[parts], part_offsets),
            question=(plan.question + count).astype(np.int32),
            span_RA2=_place_spans(plan, *spans, max_answers=max_answers),
        )
        count += len(chunk)


def _num_characters(question: Question) -> int:
    """Characters of a question and its text."""
    return len(question.context) + len(question.question)


def _plan(
    template: Template, asked: np.ndarray, lengths: np.ndarray, *, max_length: int, doc_stride: int
) -> _Plan:
    """Cut texts of these lengths, with questions of the lengths asked, into windows."""
    room = max_length - template.num_special - asked
    step = np.minimum(doc_stride, room)
    row = offsets_of(1 + np.maximum(0, -((room - lengths) // step)))
    question = np.repeat(np.arange(len(asked)), np.diff(row))
    start = (np.arange(row[-1]) - row[question]) * step[question]
    length = np.minimum(room[question], lengths[question] - start)
    context_first = len(template.first) + asked + len(template.middle)
    return _Plan(room, step, row, question, start, length, context_first[question])


def _token_spans(
    spans_of: Sequence, texts: TokenizedTexts, text_of: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return question, first and last token of every span of characters that has a token, in their order."""
    owner = np.repeat(np.arange(len(spans_of)), [len(spans) for spans in spans_of])
    text = text_of[owner]
    places = np.asarray([span for spans in spans_of for span in spans], np.int64).reshape(-1, 2)
    start, end = np.clip(places, 0, texts.num_characters[text][:, None]).T
    shift = offsets_of(texts.num_characters + 1)[
        :-1
    ]  # lays the texts end to end, so that one search serves all
    shift_of_token = np.repeat(shift, np.diff(texts.offsets))
    first = (
        np.searchsorted(texts.ends + shift_of_token, start + shift[text], side="right")
        - texts.offsets[text]
    )
    last = (
        np.searchsorted(texts.starts + shift_of_token, end + shift[text], side="left")
        - 1
        - texts.offsets[text]
    )
    there = first <= last
    return owner[there], first[there], last[there]


def _place_spans(plan: _Plan, owner, first, last, *, max_answers: int) -> np.ndarray:
    """Put spans of tokens into the windows that hold them whole, int32 [rows, A, 2]."""
    lowest = np.maximum(0, -((plan.room[owner] - 1 - last) // plan.step[owner]))
    highest = np.minimum(first // plan.step[owner], np.diff(plan.row)[owner] - 1)
    count = np.maximum(0, highest - lowest + 1)
    span = np.repeat(np.arange(len(owner)), count)
    row = runs(plan.row[owner] + lowest, count)
    by_row = np.argsort(row, kind="stable")
    span, row = span[by_row], row[by_row]
    shift = plan.context_first[row] - plan.start[row]
    slots = np.stack([row, first[span] + shift, last[span] + shift], axis=1)
    slots = slots[np.sort(np.unique(slots, axis=0, return_index=True)[1])]
    rank = np.arange(len(slots)) - np.searchsorted(slots[:, 0], slots[:, 0])
    span_RA2 = np.full((plan.row[-1], max_answers, 2), -1, np.int32)
    span_RA2[:, 0] = 0
    kept = rank < max_answers
    span_RA2[slots[kept, 0], rank[kept]] = slots[kept, 1:]
    return span_RA2


def join_windows(chunks: Iterable[Windows]) -> Windows:
    """Lay the chunks of `iter_windows` end to end in memory.

    Raises:
      ValueError: there is none.
    """
    chunks = list(chunks)
    if not chunks:
        raise ValueError("there are no windows to join; give at least one question")
    return join_chunks(chunks)
