"""Questions over texts: one record for SQuAD, MRQA and TriviaQA, read as a stream."""

import array
import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from adapler_jax.data.qa.question_files import Row, Rows, open_rows
from adapler_jax.data.sources.class_folders import read_text
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.sources.values import as_boolean, as_integer
from adapler_jax.io.messages import explain_unknown, short_name, shown

_NO_LETTERS = re.compile(r"\b(?:a|an|the)\b|[\W_]")
Span = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Question:
    """A question over a text.

    Attributes:
      id: unique in its split.
      question: the question.
      context: the text that is read.
      answers: texts that are scored against, each once; none: unanswerable.
      spans: characters [start, end) of the context that may be marked as the answer in training, each once; none:
        unanswerable, or nothing was found.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclasses.dataclass
class ReadStats:
    """What a stream has given so far; counts on while it is read."""

    num_questions: int = 0
    num_skipped: int = 0
    first_skipped: str = ""  # the complaint about the first

    def notes(self) -> tuple[str, ...]:
        """One sentence on the questions that were skipped; none where none was."""
        whole = self.num_questions + self.num_skipped
        skipped = (
            f"skipped {self.num_skipped} of {whole} questions; the first: {self.first_skipped}"
        )
        return (skipped,) if self.num_skipped else ()


class _Mismatch(ValueError):
    """A row whose answers and text do not belong together."""

    def __init__(self, complaint: str):
        super().__init__(
            f"{complaint}; correct it, or skip such questions: config.qa.skip_mismatched=True"
        )
        self.complaint = complaint


def question_splits(source: str) -> tuple[str, ...]:
    """Return the split names of a source (see `stream_questions`). Raises ValueError where it is unknown or missing."""
    return tuple(open_rows(source))


def stream_questions(
    source: str, *, split: str, skip_mismatched: bool = False, stats: ReadStats | None = None
) -> Iterator[Question]:
    """Read the questions of a split one after another; memory does not grow with them, but for 8 bytes each.

    Args:
      source: `file:PATH`, a file or a folder of train, validation and test files that end in one of ENDINGS: flat rows
        in SQuAD's fields, SQuAD's published articles, MRQA's lines, or TriviaQA's questions, whose documents are
        looked for in the folder `evidence` beside that of the file; `tfds:NAME` (squad, squad/v2.0, mrqa/NAME,
        trivia_qa/rc). TriviaQA gives a question for each document, with the id QUESTION--FILE.
      split: a split; a source with one only gives that.
      skip_mismatched: skip questions whose answers do not stand where they should, or whose document is missing.
      stats: counts the questions given and skipped.

    Returns:
      The questions. Lone surrogates are replaced, spaces at the ends of answers are left out.

    Raises:
      ValueError: here, the source or split is unknown; later, naming file and row, a row is malformed, lacks a field,
        or is mismatched and not to be skipped; at the end, an id came twice or nothing came.
    """
    splits = open_rows(source)
    if split not in splits and len(splits) > 1:
        raise ValueError(f"{source}: {explain_unknown('split', split, splits)}")
    rows = splits[split] if split in splits else next(iter(splits.values()))
    return _questions(
        rows(),
        source,
        skip_mismatched=skip_mismatched,
        stats=ReadStats() if stats is None else stats,
    )


def _questions(
    rows: Rows, source: str, *, skip_mismatched: bool, stats: ReadStats
) -> Iterator[Question]:
    """Turn rows into questions and count them."""
    hashes = array.array("q")
    for where, row in _once(rows):
        try:
            question = parse_question(row, where)
        except _Mismatch as error:
            if not skip_mismatched:
                raise
            stats.num_skipped += 1
            stats.first_skipped = stats.first_skipped or error.complaint
            continue
        stats.num_questions += 1
        hashes.append(hash(question.id))
        yield question
    if not hashes:
        raise ValueError(
            f"{source} gives no questions; {'; '.join(stats.notes()) or 'it holds none'}"
        )
    _check_ids(np.frombuffer(hashes, np.int64), source)


def _once(rows: Rows) -> Rows:
    """Leave out the documents of a question that were there before: TriviaQA has some in several of its files."""
    documents = set()
    for where, row in rows:
        if "aliases" in row:
            document = hash((row.get("id"), str(row.get("context"))))
            if document in documents:
                continue
            documents.add(document)
        yield where, row


def _check_ids(hashes: np.ndarray, source: str) -> None:
    """Refuse two questions of one id."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if len(same):
        first, second = order[same[0]] + 1, order[same[0] + 1] + 1
        raise ValueError(
            f"{source}: questions {first} and {second}, skipped ones not counted, have one id; give each its own"
        )


def parse_question(row: Row, where: str) -> Question:
    """Turn a row into a question; its fields tell the form of the answers.

    Args:
      row: `id` (or `qid`), `question`, `context`, and of answers: SQuAD's `answers` and `is_impossible`, MRQA's
        `answers` and `detected_answers`, or TriviaQA's `aliases`. A context that is a path is read.
      where: names the row in messages.

    Raises:
      ValueError: a field is missing or has another form, or an answer does not stand where it should.
    """
    name = next((row[field] for field in ("id", "qid") if row.get(field) not in (None, "")), None)
    name = name if isinstance(name, str) else as_integer(name)
    if name is None:
        found = row.get("id", row.get("qid"))
        raise ValueError(
            f"{where} has {shown(found)} as its id; give every question an `id` (MRQA: `qid`) of its own"
        )
    where = f"{where} (id {short_name(name)})"
    context = row.get("context")
    context = _text(
        _read(context, where) if isinstance(context, pathlib.Path) else context, "context", where
    )
    question = _text(row.get("question"), "question", where)
    if "aliases" in row:
        answers = _texts(row, "aliases", where)
        spans = find_answers(context, answers)
    elif "detected_answers" in row:
        answers = _texts(row, "answers", where)
        spans = _detected_spans(row["detected_answers"], context, where)
    else:
        is_impossible = as_boolean(row.get("is_impossible"), "is_impossible", where)
        found = () if is_impossible else _squad_answers(row, where)
        answers, spans = (
            [text for text, _ in found],
            [_squad_span(context, *answer, where) for answer in found],
        )
    return Question(
        id=replace_lone_surrogates(str(name)),
        question=question,
        context=context,
        answers=tuple(dict.fromkeys(filter(None, map(str.strip, answers)))),
        spans=tuple(dict.fromkeys(spans)),
    )


def _texts(row: Row, field: str, where: str) -> list[str]:
    """Return the texts of a list; anything else is refused."""
    if not isinstance(row.get(field), list | tuple):
        raise ValueError(
            f"{where} has {shown(row.get(field))} as {field!r}; expected a list of texts"
        )
    return [_text(text, field, where) for text in row[field]]


def _text(value, field: str, where: str) -> str:
    """Return a text without lone surrogates; anything else is refused."""
    if not isinstance(value, str):
        raise ValueError(f"{where} has {shown(value)} as {field!r}; expected text")
    return replace_lone_surrogates(value)


def _read(path: pathlib.Path, where: str) -> str:
    """Read a document that a row names."""
    try:
        return read_text(path)
    except FileNotFoundError:
        raise _Mismatch(f"{where}: there is no document {shown(str(path), 200)}") from None
    except OSError as error:
        raise ValueError(
            f"{where}: {shown(str(path), 200)} cannot be read: {error.strerror}"
        ) from error


def _pairs(value, first: str, second: str, *, field: str, where: str) -> list[tuple]:
    """Return pairs of a list of {first, second}, or of {first: list, second: list}."""
    try:
        if isinstance(value, Mapping):
            return list(zip(value[first], value[second], strict=True))
        return [(item[first], item[second]) for item in value]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} has {shown(value, 80)} as {field!r}; expected as many {first!r} as {second!r}, or a list of both"
        ) from error


def _squad_answers(row: Row, where: str) -> list[tuple[str, int]]:
    """Return the answers and where they start; none where they are null, but under a wrong name they are missed."""
    if "answers" not in row:
        raise ValueError(
            f"{where} has no 'answers'; give them, empty ones for none, or is_impossible"
        )
    pairs = _pairs(row["answers"] or (), "text", "answer_start", field="answers", where=where)
    return [
        (_text(text, "answers", where), _place(start, "answer_start", where))
        for text, start in pairs
    ]


def _place(value, field: str, where: str) -> int:
    """Return a place in a text; ValueError where it is no whole number."""
    place = as_integer(value)
    if place is None:
        raise ValueError(f"{where} has {shown(value)} as {field!r}; expected a whole number, as 16")
    return place


def _squad_span(context: str, text: str, start: int, where: str) -> Span:
    """Return the span of an answer without the spaces at its ends; the context must have it there."""
    if start < 0 or not text.strip() or not context.startswith(text.rstrip(), start):
        there = context[start : start + len(text)] if start >= 0 else ""
        raise _Mismatch(
            f"{where}: at answer_start {start!r} stands {shown(there)}, not the answer {shown(text)}"
        )
    return _trim(context, start, start + len(text.rstrip()))


def _trim(context: str, start: int, end: int) -> Span:
    """Return a span without the spaces at its ends."""
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def _detected_spans(value, context: str, where: str) -> list[Span]:
    """Return MRQA's spans, whose last character is inside; case, marks and articles may differ from the text."""
    spans = []
    for text, places in _pairs(value, "text", "char_spans", field="detected_answers", where=where):
        wanted = _letters(_text(text, "detected_answers", where))
        for first, last in _char_spans(places, where):
            there = context[max(first, 0) : last + 1]
            if not 0 <= first <= last < len(context) or _letters(there) != wanted:
                raise _Mismatch(
                    f"{where}: at char_spans {first} to {last} stands {shown(there)}, not {shown(text)}"
                )
            spans.append(_trim(context, first, last + 1))
    return [span for span in spans if span[0] < span[1]]


def _char_spans(value, where: str) -> list[Span]:
    """Return pairs of [first, last], or of {start: list, end: list}."""
    pairs = (
        _pairs(value, "start", "end", field="char_spans", where=where)
        if isinstance(value, Mapping)
        else value
    )
    is_list = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    )
    if not is_list or not all(as_integer(place) is not None for pair in pairs for place in pair):
        raise ValueError(
            f"{where} has {shown(value, 80)} as 'char_spans'; expected a list of [first, last]"
        )
    return [(as_integer(first), as_integer(last)) for first, last in pairs]


def _letters(text: str) -> str:
    """Return the letters and digits alone, without case and articles."""
    return _NO_LETTERS.sub("", text.casefold())


def find_answers(context: str, answers: Sequence[str]) -> list[Span]:
    """Find answers as whole words, whatever their case and the spaces between their words; the longest at each place.

    Returns:
      Spans in the order of the text; they do not overlap.
    """
    pattern = _any_of(tuple(answers))
    return [match.span() for match in pattern.finditer(context)] if pattern else []


@functools.lru_cache(maxsize=8)
def _any_of(answers: tuple[str, ...]) -> re.Pattern | None:
    """Compile a pattern of any of the answers; None where there is none."""
    words = {tuple(answer.split()) for answer in answers} - {()}
    longest_first = sorted(
        (r"\s+".join(map(re.escape, text)) for text in words), key=len, reverse=True
    )
    return (
        re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE) if words else None
    )
