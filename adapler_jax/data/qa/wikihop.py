"""Read WikiHop, queries about many supporting texts with candidate answers, and make rows of them.

R rows, one or more a question
C candidates
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.qa.json_questions import are_texts, stream_json_questions
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.sources.items import check_text
from adapler_jax.data.tokenization.templates import (
    Template,
    fill_template,
    join_chunks,
    marker_ids,
    read_template,
    token_rows,
)
from adapler_jax.io.messages import shown

MARKERS = ("[unused1]", "[unused2]")  # before a candidate, before a supporting text
_CHUNK = 64  # questions in one chunk of rows


@dataclasses.dataclass(frozen=True)
class WikihopQuestion:
    """A query (`place_of_birth ada lovelace`); label is the index of the correct candidate."""

    id: str
    query: str
    candidates: tuple[str, ...]
    supports: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class WikihopRows:
    """Rows of questions: [CLS] query, candidates, supporting texts [SEP].

    A marker is before each candidate and text. Rows of a question are consecutive. They all have
    its query and candidates, and share its supporting texts.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows of the same lengths, the tokenizer's number for a single text: 0.
      marker_RC: int32 [R, C], slots of the candidates' markers, -1 after the last candidate.
      labels: int32 [R], index of the correct candidate.
      question: int32 [R], index of the question.
      ids: names of the questions.
    """

    tokens: Ragged
    segments: Ragged
    marker_RC: np.ndarray
    labels: np.ndarray
    question: np.ndarray
    ids: list[str]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.tokens)


def stream_wikihop(source: str, *, split: str) -> Iterator[WikihopQuestion]:
    """Read the questions of a split of WikiHop, in the order of its file.

    Args:
      source: `file:PATH`, a published file (`train.json`, `dev.json`) or their folder.
      split: train, validation or test.

    Raises:
      ValueError: there is no such file, a field is missing or has another type, or the answer is
        no candidate; the item is named.
    """
    return stream_json_questions(source, split, _parse_question)


def _parse_question(item: Mapping, location: str) -> WikihopQuestion:
    """Convert one item."""
    name, query, answer = (
        check_text(item.get(field), field, location) for field in ("id", "query", "answer")
    )
    where = f"{location}: question {shown(name)}"
    candidates, supports = (
        _parse_texts(item, field, where) for field in ("candidates", "supports")
    )
    if answer not in candidates:
        raise ValueError(
            f"{where} has the answer {shown(answer)}, which is none of its {len(candidates)} "
            "candidates; correct it or leave the question out"
        )
    return WikihopQuestion(name, query, candidates, supports, candidates.index(answer))


def _parse_texts(item: Mapping, field: str, where: str) -> tuple[str, ...]:
    """Return the texts of a field."""
    texts = item.get(field)
    if not are_texts(texts):
        raise ValueError(f"{where} has {shown(texts)} as {field}; expected a list of texts")
    return tuple(texts)


def build_wikihop_rows(
    questions: Iterable[WikihopQuestion], core: Tokenizer, **limits
) -> WikihopRows:
    """Join all chunks of `stream_wikihop_rows`, which documents the arguments."""
    return join_chunks(list(stream_wikihop_rows(questions, core, **limits)))


def stream_wikihop_rows(
    questions: Iterable[WikihopQuestion],
    core: Tokenizer,
    *,
    max_length: int = 1024,
    max_packed_questions: int = 1,
    max_candidates: int = 79,
    markers: tuple[str, str] = MARKERS,
) -> Iterator[WikihopRows]:
    """Tokenize questions into chunks of rows; each chunk counts questions from 0.

    Candidates are cut to one length if a row cannot hold them all, then the query is cut. A row
    has the marker of every candidate.

    Args:
      questions: questions of `stream_wikihop`.
      core: a tokenizer of `load_core`.
      max_length: tokens of a row, including special ones. TR-BERT has 1 row of 1024 or 8 of 512.
      max_packed_questions: largest number of rows of a question. A text that does not fit into a
        row continues in the next row, after another marker. Text after the last row is left out.
      max_candidates: C.
      markers: tokens before a candidate and before a supporting text.

    Yields:
      Rows of up to 64 questions; one chunk without rows if there are no questions.

    Raises:
      ValueError: the vocabulary lacks the markers, a question has more candidates than
        max_candidates, or a row cannot hold their markers.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    template = read_template(core, pair=False)
    ids = np.array(marker_ids(core, markers), np.int32)
    num_slots = max_length - template.num_special
    for chunk in at_least_one(in_chunks(questions, _CHUNK)):
        for question in chunk:
            check_candidates(question, max_candidates, num_slots)
        rows_of: list[list[np.ndarray]] = []
        marker_QC = np.full((len(chunk), max_candidates), -1, np.int32)
        for marker_C, (query, candidates, supports) in zip(marker_QC, _tokenize(chunk, core)):
            prefix, offsets = first_tokens(query, candidates, ids[:1], num_slots=num_slots)
            marker_C[: len(offsets)] = len(template.first) + offsets
            rows = distribute_tokens(
                prefix, supports, ids[1:], num_slots=num_slots, max_rows=max_packed_questions
            )
            rows_of.append(rows)
        yield _make_rows(chunk, rows_of, marker_QC, template)


def _make_rows(
    chunk: Sequence[WikihopQuestion],
    rows_of: list[list[np.ndarray]],
    marker_QC: np.ndarray,
    template: Template,
) -> WikihopRows:
    """Make the rows of a chunk from the tokens of each question's rows."""
    counts = [len(rows) for rows in rows_of]
    labels = np.array([question.label for question in chunk], np.int32)
    no_tokens = np.zeros(0, np.int32)
    tokens, segments = fill_template(
        template, [(row, no_tokens) for row in itertools.chain.from_iterable(rows_of)]
    )
    return WikihopRows(
        tokens=tokens,
        segments=segments,
        marker_RC=np.repeat(marker_QC, counts, axis=0),
        labels=np.repeat(labels, counts),
        question=np.repeat(np.arange(len(chunk), dtype=np.int32), counts),
        ids=[question.id for question in chunk],
    )


def _tokenize(
    chunk: Sequence[WikihopQuestion], core: Tokenizer
) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]]:
    """Yield the tokens of query, candidates and supporting texts of each question."""
    texts: list[str] = []
    for question in chunk:
        texts += [question.query, *question.candidates, *question.supports]
    found = iter(token_rows(core, texts))
    for question in chunk:
        query = next(found)
        candidates = list(itertools.islice(found, len(question.candidates)))
        supports = list(itertools.islice(found, len(question.supports)))
        yield query, candidates, supports


def check_candidates(question: WikihopQuestion, max_candidates: int, num_slots: int) -> None:
    """Raise ValueError if a question has more candidates than are allowed or fit into a row."""
    count = len(question.candidates)
    if count > max_candidates:
        raise ValueError(
            f"question {shown(question.id)} has {count} candidates; expected at most "
            f"{max_candidates}: raise max_candidates"
        )
    if count > num_slots:
        raise ValueError(
            f"question {shown(question.id)} has {count} candidates, whose markers do not fit into "
            f"a row of {num_slots} tokens without the special ones; raise max_length"
        )


def first_tokens(
    query: np.ndarray, candidates: list[np.ndarray], marker: np.ndarray, *, num_slots: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens before the supporting texts.

    Candidates are cut to the largest common length that fits. If none fits, the query is cut.

    Args:
      query: int32, tokens of the query.
      candidates: int32, tokens of each candidate.
      marker: int32 [1], the token before a candidate.
      num_slots: tokens that a row holds.

    Returns:
      int32 tokens, and the offset of each candidate's marker among them.
    """
    cap = _candidate_cap(candidates, num_slots - len(query) - len(candidates))
    query = query[: num_slots - len(candidates)]
    parts = [np.concatenate([marker, candidate[:cap]]) for candidate in candidates]
    ends = len(query) + np.cumsum([0, *(len(part) for part in parts)])
    return np.concatenate([query, *parts]), ends[:-1]


def _candidate_cap(candidates: list[np.ndarray], num_slots: int) -> int:
    """Return the largest length to which candidates can be cut to fit; 0 if none fits."""
    lengths = np.array([len(candidate) for candidate in candidates], np.int64)
    for cap in range(lengths.max(initial=0), 0, -1):
        if np.minimum(lengths, cap).sum() <= num_slots:
            return cap
    return 0


def distribute_tokens(
    prefix: np.ndarray,
    supports: list[np.ndarray],
    marker: np.ndarray,
    *,
    num_slots: int,
    max_rows: int,
) -> list[np.ndarray]:
    """Distribute supporting texts over rows: each has the prefix and as much text as fits.

    Args:
      prefix: int32, tokens that start every row.
      supports: int32, tokens of each supporting text.
      marker: int32 [1], the token before each text or part of a text.
      num_slots: tokens that a row holds.
      max_rows: largest number of rows.

    Returns:
      int32 tokens of each row.
    """
    rows = [[prefix]]
    capacity = num_slots - len(prefix)
    free = capacity  # slots of the last row
    for support in supports:
        rest = support
        while len(rest) and capacity > len(marker):
            if free <= len(marker):
                if len(rows) == max_rows:
                    break
                rows.append([prefix])
                free = capacity
            part = rest[: free - len(marker)]
            rows[-1] += [marker, part]
            rest = rest[len(part) :]
            free -= len(marker) + len(part)
    return [np.concatenate(parts) for parts in rows]
