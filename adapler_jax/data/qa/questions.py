"""Read questions about texts as a stream: one record for SQuAD, MRQA and TriviaQA."""

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
Span = tuple[int, int]  # characters [start, end)


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about a text.

    Attributes:
      id: unique in its split.
      question: the question.
      context: the text that may hold the answer.
      answers: accepted texts for scores, each once; empty for an unanswerable question.
      spans: spans of the context that are answers in training, each once; empty for an
        unanswerable question, or if no answer was found.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    spans: tuple[Span, ...]


@dataclasses.dataclass
class ReadStats:
    """Counts of a stream, up to its current question."""

    num_questions: int = 0
    num_skipped: int = 0
    first_skipped: str = ""  # the message about the first skipped question

    def notes(self) -> tuple[str, ...]:
        """Return a note if questions were skipped."""
        if not self.num_skipped:
            return ()
        total = self.num_questions + self.num_skipped
        return (
            f"skipped {self.num_skipped} of {total} questions; the first: {self.first_skipped}",
        )


class _Mismatch(ValueError):
    """A row whose answers do not fit its text."""

    def __init__(self, mismatch: str):
        """Store the mismatch, which the message follows by advice."""
        super().__init__(
            f"{mismatch}; correct it, or skip such questions: config.qa.skip_mismatched=True"
        )
        self.mismatch = mismatch


def question_splits(source: str) -> tuple[str, ...]:
    """Return the split names of a source of `stream_questions`.

    Raises:
      ValueError: the source is unknown or missing.
    """
    return tuple(open_rows(source))


def stream_questions(
    source: str, *, split: str, skip_mismatched: bool = False, stats: ReadStats | None = None
) -> Iterator[Question]:
    """Read the questions of a split one after another; memory grows by 8 bytes for each.

    Args:
      source: `file:PATH`, a file or a folder of train, validation and test files that end in one of
        ENDINGS, or `tfds:NAME` (squad, squad/v2.0, mrqa/NAME, trivia_qa/rc). Files hold flat rows
        with SQuAD's fields, SQuAD's published articles, MRQA's lines, or TriviaQA's questions.
        TriviaQA's documents are in the folder `evidence` next to the folder of the file; each
        document is one question with the id QUESTION--FILE.
      split: a split; ignored for a source with a single split.
      skip_mismatched: skip questions whose answers do not fit the text, or whose document is
        missing.
      stats: counts the questions read and skipped.

    Returns:
      The questions. Lone surrogates are replaced, spaces at the ends of answers are left out.

    Raises:
      ValueError: the source or split is unknown. While iterating: a row, which is named, is
        malformed, lacks a field, or is mismatched and not skipped. At the end: an id occurs twice,
        or there are no questions.
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
    """Convert rows to questions and count them."""
    hashes = array.array("q")
    for where, row in _once(rows):
        try:
            question = parse_question(row, where)
        except _Mismatch as error:
            if not skip_mismatched:
                raise
            stats.num_skipped += 1
            stats.first_skipped = stats.first_skipped or error.mismatch
            continue
        stats.num_questions += 1
        hashes.append(hash(question.id))
        yield question
    if not hashes:
        raise ValueError(
            f"{source} has no questions; {'; '.join(stats.notes()) or 'it has no rows'}"
        )
    _check_ids(np.frombuffer(hashes, np.int64), source)


def _once(rows: Rows) -> Rows:
    """Leave out repeated documents of a question; TriviaQA has some in several of its files."""
    documents = set()
    for where, row in rows:
        if "aliases" in row:
            document = hash((row.get("id"), str(row.get("context"))))
            if document in documents:
                continue
            documents.add(document)
        yield where, row


def _check_ids(hashes: np.ndarray, source: str) -> None:
    """Raise ValueError if two questions have one id."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    if len(same):
        first, second = order[same[0]] + 1, order[same[0] + 1] + 1
        raise ValueError(
            f"{source}: questions {first} and {second}, skipped ones not counted, have one id; "
            "give each its own"
        )


def parse_question(row: Row, where: str) -> Question:
    """Convert a row to a question; the row's fields show the form of the answers.

    Args:
      row: `id` (or `qid`), `question`, `context`, and SQuAD's `answers` and `is_impossible`, MRQA's
        `answers` and `detected_answers`, or TriviaQA's `aliases`. A context that is a path is read.
      where: location of the row for messages.

    Raises:
      ValueError: a field is missing or has another form, or an answer does not fit the text.
    """
    name = _name_of(row, where)
    where = f"{where} (id {short_name(name)})"
    context = row.get("context")
    if isinstance(context, pathlib.Path):
        context = _read(context, where)
    context = _text(context, "context", where)
    question = _text(row.get("question"), "question", where)
    answers, spans = _parse_answers(row, context, where)
    return Question(
        id=replace_lone_surrogates(name),
        question=question,
        context=context,
        answers=tuple(dict.fromkeys(filter(None, map(str.strip, answers)))),
        spans=tuple(dict.fromkeys(spans)),
    )


def _name_of(row: Row, where: str) -> str:
    """Return the id of a row."""
    ids = (row[field] for field in ("id", "qid") if row.get(field) not in (None, ""))
    found = next(ids, None)
    name = found if isinstance(found, str) else as_integer(found)
    if name is None:
        raise ValueError(
            f"{where} has {shown(row.get('id', row.get('qid')))} as its id; give every question an "
            "`id` (MRQA: `qid`) of its own"
        )
    return str(name)


def _parse_answers(row: Row, context: str, where: str) -> tuple[list[str], list[Span]]:
    """Return the accepted answers of a row and their spans in the context."""
    if "aliases" in row:
        answers = _texts(row, "aliases", where)
        return answers, find_answers(context, answers)
    if "detected_answers" in row:
        return _texts(row, "answers", where), _detected_spans(
            row["detected_answers"], context, where
        )
    if as_boolean(row.get("is_impossible"), "is_impossible", where):
        return [], []
    found = _squad_answers(row, where)
    spans = [_squad_span(context, text, start, where) for text, start in found]
    return [text for text, _ in found], spans


def _texts(row: Row, field: str, where: str) -> list[str]:
    """Return the texts of a list; raise ValueError for other values."""
    if not isinstance(row.get(field), list | tuple):
        raise ValueError(
            f"{where} has {shown(row.get(field))} as {field!r}; expected a list of texts"
        )
    return [_text(text, field, where) for text in row[field]]


def _text(value, field: str, where: str) -> str:
    """Return a text without lone surrogates; raise ValueError for other values."""
    if not isinstance(value, str):
        raise ValueError(f"{where} has {shown(value)} as {field!r}; expected text")
    return replace_lone_surrogates(value)


def _read(path: pathlib.Path, where: str) -> str:
    """Read the document of a row."""
    try:
        return read_text(path)
    except FileNotFoundError:
        raise _Mismatch(f"{where}: there is no document {shown(str(path), 200)}") from None
    except OSError as error:
        raise ValueError(
            f"{where}: {shown(str(path), 200)} cannot be read: {error.strerror}"
        ) from error


def _pairs(value, first: str, second: str, *, field: str, where: str) -> list[tuple]:
    """Return the pairs of a list of {first, second}, or of {first: list, second: list}."""
    try:
        if isinstance(value, Mapping):
            return list(zip(value[first], value[second], strict=True))
        return [(item[first], item[second]) for item in value]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where} has {shown(value, 80)} as {field!r}; "
            f"expected as many {first!r} as {second!r}, or a list of both"
        ) from error


def _squad_answers(row: Row, where: str) -> list[tuple[str, int]]:
    """Return the answers and their starts: none for null, an error for a missing field."""
    if "answers" not in row:
        raise ValueError(
            f"{where} has no 'answers'; give them, empty ones for none, or is_impossible"
        )
    pairs = _pairs(row["answers"] or (), "text", "answer_start", field="answers", where=where)
    return [(_text(text, "answers", where), _offset(start, where)) for text, start in pairs]


def _offset(value, where: str) -> int:
    """Return the start of an answer; raise ValueError unless it is a whole number."""
    offset = as_integer(value)
    if offset is None:
        raise ValueError(
            f"{where} has {shown(value)} as 'answer_start'; expected a whole number, as 16"
        )
    return offset


def _squad_span(context: str, text: str, start: int, where: str) -> Span:
    """Return the span of an answer without the spaces at its ends, which must be in the context."""
    if start < 0 or not text.strip() or not context.startswith(text.rstrip(), start):
        found = context[start : start + len(text)] if start >= 0 else ""
        raise _Mismatch(
            f"{where}: the text has {shown(found)} at answer_start {start!r}, "
            f"not the answer {shown(text)}"
        )
    return _trim(context, start, start + len(text.rstrip()))


def _trim(context: str, start: int, end: int) -> Span:
    """Return a span without the spaces at its ends."""
    text = context[start:end]
    return start + len(text) - len(text.lstrip()), end - len(text) + len(text.rstrip())


def _detected_spans(value, context: str, where: str) -> list[Span]:
    """Return MRQA's spans, which include their last character.

    Case, punctuation and articles of an answer may differ from the text.
    """
    spans = []
    for text, found in _pairs(value, "text", "char_spans", field="detected_answers", where=where):
        letters = _letters(_text(text, "detected_answers", where))
        for first, last in _char_spans(found, where):
            part = context[max(first, 0) : last + 1]
            if not 0 <= first <= last < len(context) or _letters(part) != letters:
                raise _Mismatch(
                    f"{where}: the text has {shown(part)} at char_spans {first} to {last}, "
                    f"not {shown(text)}"
                )
            spans.append(_trim(context, first, last + 1))
    return [span for span in spans if span[0] < span[1]]


def _char_spans(value, where: str) -> list[Span]:
    """Return the pairs of [[first, last]], or of {start: list, end: list}."""
    pairs = (
        _pairs(value, "start", "end", field="char_spans", where=where)
        if isinstance(value, Mapping)
        else value
    )
    is_list = isinstance(pairs, list) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    )
    ends = [(as_integer(first), as_integer(last)) for first, last in pairs] if is_list else []
    spans = [(first, last) for first, last in ends if first is not None and last is not None]
    if not is_list or len(spans) < len(pairs):
        raise ValueError(
            f"{where} has {shown(value, 80)} as 'char_spans'; expected a list of [first, last]"
        )
    return spans


def _letters(text: str) -> str:
    """Return the letters and digits of a text, without case and articles."""
    return _NO_LETTERS.sub("", text.casefold())


def find_answers(context: str, answers: Sequence[str]) -> list[Span]:
    """Find answers as whole words, ignoring case and the spaces between words.

    The longest answer is taken at each position.

    Returns:
      Spans in the order of the text; they do not overlap.
    """
    pattern = _any_of(tuple(answers))
    return [match.span() for match in pattern.finditer(context)] if pattern else []


@functools.lru_cache(maxsize=8)
def _any_of(answers: tuple[str, ...]) -> re.Pattern | None:
    """Compile a pattern of all answers; None if there are no answers."""
    words = {tuple(answer.split()) for answer in answers} - {()}
    if not words:
        return None
    patterns = (r"\s+".join(map(re.escape, answer)) for answer in words)
    longest_first = sorted(patterns, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
