"""Questions -> windows: [CLS] question [SEP] a part of the text [SEP], with the places of the tokens in the text."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.questions import Question
from adapler_jax.data.text import whole_characters
from adapler_jax.data.tokens import Ragged

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


class _Form(NamedTuple):
    """How the tokenizer frames a pair: ids and segment ids before the first text, between both, behind the second."""

    ids: tuple[list[int], list[int], list[int]]
    segments: tuple[list[int], list[int], list[int]]
    text_segments: tuple[int, int]


class _Texts(NamedTuple):
    """Different texts, tokenized, end to end."""

    ids: np.ndarray  # int32 [tokens]
    starts: np.ndarray  # int32 [tokens], characters in the own text
    ends: np.ndarray
    offsets: np.ndarray  # int64 [texts + 1], in tokens
    num_characters: np.ndarray  # int64 [texts]


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
    stride: int,
    max_question_tokens: int,
    max_answers: int,
) -> Iterator[Windows]:
    """Make the windows of a stream of questions, some hundreds at a time.

    Args:
      questions: counted from 0.
      core: as `load_core` gives it; what it puts around a pair of texts stands in every window.
      max_length: token slots of a window.
      stride: tokens from the start of a part of the text to the start of the next; at most the room that a window has.
        The last part ends with the text. An empty text has one window.
      max_question_tokens: a question is cut there.
      max_answers: A, accepted answers of a window; the first ones of the question's that it holds.

    Returns:
      Windows of the questions that follow each other. An answer goes from the first token that ends behind its start
      to the last that starts before its end.

    Raises:
      ValueError: a number is below 1, or max_length leaves no room for the text.
    """
    form = _learn_form(core)
    num_special = sum(map(len, form.ids))
    settings = {"stride": stride, "max_question_tokens": max_question_tokens, "max_answers": max_answers}
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    if max_length <= num_special + max_question_tokens:
        raise ValueError(
            f"max_length {max_length} leaves no room for the text beside {num_special} special tokens and "
            f"max_question_tokens {max_question_tokens}; raise it, or cut questions shorter"
        )
    return _iterate(questions, core, form, max_length, stride, max_question_tokens, max_answers)


def _iterate(questions, core: Tokenizer, form: _Form, max_length: int, stride: int, cut: int, max_answers: int):
    """Make windows a chunk at a time."""
    count = 0
    for chunk in _chunks(questions):
        core.no_truncation()  # who shares the tokenizer may have switched it on meanwhile
        core.no_padding()
        asked, asked_of = _encode(core, [question.question for question in chunk])
        texts, text_of = _encode(core, [question.context for question in chunk])
        asked_lengths = np.minimum(np.diff(asked.offsets), cut)[asked_of]
        plan = _plan(form, asked_lengths, np.diff(texts.offsets)[text_of], max_length=max_length, stride=stride)
        parts = _runs(texts.offsets[text_of[plan.question]] + plan.start, plan.length)
        tokens, segments = _lay_out(
            form,
            plan,
            asked_lengths[plan.question],
            asked.ids,
            asked.offsets[asked_of[plan.question]],
            texts.ids[parts],
        )
        spans = _token_spans([question.spans for question in chunk], texts, text_of)
        yield Windows(
            tokens=tokens,
            segments=segments,
            context_first=plan.context_first.astype(np.int32),
            starts=Ragged(texts.starts[parts], _offsets(plan.length)),
            ends=Ragged(texts.ends[parts], _offsets(plan.length)),
            question=(plan.question + count).astype(np.int32),
            span_RA2=_place_spans(plan, *spans, max_answers=max_answers),
        )
        count += len(chunk)


def _chunks(questions: Iterable[Question]) -> Iterator[list[Question]]:
    """Yield lists of _CHUNK_QUESTIONS questions, or of fewer whose texts have _CHUNK_CHARACTERS characters."""
    chunk, num_characters = [], 0
    for question in questions:
        chunk.append(question)
        num_characters += len(question.context) + len(question.question)
        if len(chunk) == _CHUNK_QUESTIONS or num_characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, num_characters = [], 0
    if chunk:
        yield chunk


def _learn_form(core: Tokenizer) -> _Form:
    """Read off a pair of words what the tokenizer puts around texts."""
    core.no_truncation()
    core.no_padding()
    pair = core.encode("a", "a")
    runs = [
        (part, list(places)) for part, places in itertools.groupby(range(len(pair)), lambda i: pair.sequence_ids[i])
    ]
    if [part for part, _ in runs] != [None, 0, None, 1, None]:
        raise ValueError(f"the tokenizer makes {pair.tokens} of two texts; expected [CLS] text [SEP] text [SEP]")
    framing = [places for part, places in runs if part is None]
    return _Form(
        ids=tuple([pair.ids[place] for place in places] for places in framing),
        segments=tuple([pair.type_ids[place] for place in places] for places in framing),
        text_segments=(pair.type_ids[runs[1][1][0]], pair.type_ids[runs[3][1][0]]),
    )


def _encode(core: Tokenizer, texts: Sequence[str]) -> tuple[_Texts, np.ndarray]:
    """Tokenize every different text once; return them and the number of each text's own."""
    numbers: dict[str, int] = {}
    text_of = np.asarray([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    encodings = core.encode_batch([whole_characters(text) for text in numbers], add_special_tokens=False)
    offsets = _offsets(np.asarray([len(encoding) for encoding in encodings], np.int64))
    flatten = itertools.chain.from_iterable
    ids = np.fromiter(flatten(encoding.ids for encoding in encodings), np.int32, offsets[-1])
    places = np.fromiter(flatten(flatten(encoding.offsets for encoding in encodings)), np.int32, 2 * offsets[-1])
    num_characters = np.asarray([len(text) for text in numbers], np.int64)
    return _Texts(ids, places[0::2].copy(), places[1::2].copy(), offsets, num_characters), text_of


def _plan(form: _Form, asked: np.ndarray, lengths: np.ndarray, *, max_length: int, stride: int) -> _Plan:
    """Cut texts of these lengths, with questions of the lengths asked, into windows."""
    before, between, behind = map(len, form.ids)
    room = max_length - before - between - behind - asked
    step = np.minimum(stride, room)
    row = _offsets(1 + np.maximum(0, -((room - lengths) // step)))
    question = np.repeat(np.arange(len(asked)), np.diff(row))
    start = (np.arange(row[-1]) - row[question]) * step[question]
    length = np.minimum(room[question], lengths[question] - start)
    return _Plan(room, step, row, question, start, length, (before + asked + between)[question])


def _lay_out(form: _Form, plan: _Plan, asked_lengths, asked_ids, asked_starts, part_ids) -> tuple[Ragged, Ragged]:
    """Write the rows: tokens and segments. Lengths and starts of the questions are by row, in asked_ids."""
    before, between, behind = map(len, form.ids)
    offsets = _offsets(plan.context_first + plan.length + behind)
    first, context = offsets[:-1], offsets[:-1] + plan.context_first
    tokens, segments = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int8)
    for place, ids, kinds in zip((first, context - between, context + plan.length), form.ids, form.segments):
        for number, (token, kind) in enumerate(zip(ids, kinds)):
            tokens[place + number], segments[place + number] = token, kind
    slots = _runs(first + before, asked_lengths)
    tokens[slots], segments[slots] = asked_ids[_runs(asked_starts, asked_lengths)], form.text_segments[0]
    slots = _runs(context, plan.length)
    tokens[slots], segments[slots] = part_ids, form.text_segments[1]
    return Ragged(tokens, offsets), Ragged(segments, offsets)


def _token_spans(spans_of: Sequence, texts: _Texts, text_of: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return question, first and last token of every span of characters that has a token, in their order."""
    owner = np.repeat(np.arange(len(spans_of)), [len(spans) for spans in spans_of])
    text = text_of[owner]
    places = np.asarray([span for spans in spans_of for span in spans], np.int64).reshape(-1, 2)
    start, end = np.clip(places, 0, texts.num_characters[text][:, None]).T
    shift = _offsets(texts.num_characters + 1)[:-1]  # lays the texts end to end, so that one search serves all
    shift_of_token = np.repeat(shift, np.diff(texts.offsets))
    first = np.searchsorted(texts.ends + shift_of_token, start + shift[text], side="right") - texts.offsets[text]
    last = np.searchsorted(texts.starts + shift_of_token, end + shift[text], side="left") - 1 - texts.offsets[text]
    there = first <= last
    return owner[there], first[there], last[there]


def _place_spans(plan: _Plan, owner, first, last, *, max_answers: int) -> np.ndarray:
    """Put spans of tokens into the windows that hold them whole, int32 [rows, A, 2]."""
    lowest = np.maximum(0, -((plan.room[owner] - 1 - last) // plan.step[owner]))
    highest = np.minimum(first // plan.step[owner], np.diff(plan.row)[owner] - 1)
    count = np.maximum(0, highest - lowest + 1)
    span = np.repeat(np.arange(len(owner)), count)
    row = _runs(plan.row[owner] + lowest, count)
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


def _offsets(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths start when they are laid end to end, and the end of the last; int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _runs(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers starts[i], starts[i] + 1 ... of every i, as many as its length, end to end."""
    offsets = _offsets(lengths)
    return np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])


def join_windows(chunks: Iterable[Windows]) -> Windows:
    """Lay the chunks of `iter_windows` end to end in memory.

    Raises:
      ValueError: there is none.
    """
    chunks = list(chunks)
    if not chunks:
        raise ValueError("there are no windows to join; give at least one question")
    joined = {}
    for field in dataclasses.fields(Windows):
        parts = [getattr(chunk, field.name) for chunk in chunks]
        joined[field.name] = _join_ragged(parts) if isinstance(parts[0], Ragged) else np.concatenate(parts)
    return Windows(**joined)


def _join_ragged(parts: Sequence[Ragged]) -> Ragged:
    """Lay rows end to end."""
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged(np.concatenate([part.values for part in parts]), _offsets(lengths))
