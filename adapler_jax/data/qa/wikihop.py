"""WikiHop: a query about many supporting texts and the candidates of its answer, from its files to rows.

Shapes: R rows (one or more a question), C candidates.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.sources.chunks import at_least_one, in_chunks
from adapler_jax.data.sources.items import check_text, open_items, split_file
from adapler_jax.data.tokenization.templates import (
    fill_template,
    join_chunks,
    marker_ids,
    read_template,
    token_rows,
)
from adapler_jax.io.messages import shown

MARKERS = ("[unused1]", "[unused2]")  # in front of a candidate, of a supporting text
_CHUNK = 64  # questions in one chunk of rows


@dataclasses.dataclass(frozen=True)
class WikihopQuestion:
    """A query (`place_of_birth ada lovelace`) with its candidates; `label` counts the right one from 0."""

    id: str
    query: str
    candidates: tuple[str, ...]
    supports: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class WikihopRows:
    """Rows of many questions: [CLS] query, each candidate and then each supporting text behind its marker, [SEP].

    Query and candidates are the same in all rows of a question, which are consecutive and share its supporting texts.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows of the same lengths, as the tokenizer numbers a single text: 0.
      marker_RC: int32 [rows, C], slots of the markers of the candidates, -1 where there are fewer.
      labels: int32 [rows], index of the right candidate.
      question: int32 [rows], index of the question.
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
      source: `file:PATH`, a published file (`train.json`, `dev.json`) or the folder of them.
      split: train, validation or test.

    Raises:
      ValueError: nothing is there, a field is missing or of another kind, or the answer is no candidate; the item is
        named.
    """
    path = split_file(source.removeprefix("file:"), split, (".json", ".jsonl"))
    return (_question(item, place) for place, item in open_items(path))


def _question(item, place: str) -> WikihopQuestion:
    """Check one item."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{place} is {type(item).__name__}; expected an object with named fields")
    name, query, answer = (
        check_text(item.get(field), field, place) for field in ("id", "query", "answer")
    )
    lists = [item.get(field) for field in ("candidates", "supports")]
    for field, texts in zip(("candidates", "supports"), lists):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{place}: question {shown(name)} has {shown(texts)} as {field}; expected a list of texts"
            )
    candidates, supports = map(tuple, lists)
    if answer not in candidates:
        raise ValueError(
            f"{place}: question {shown(name)} has the answer {shown(answer)}, which is none of its {len(candidates)} "
            "candidates; correct it or leave the question out"
        )
    return WikihopQuestion(name, query, candidates, supports, candidates.index(answer))


def build_wikihop_rows(
    questions: Iterable[WikihopQuestion], core: Tokenizer, **limits
) -> WikihopRows:
    """Tokenize questions into rows; all chunks of `stream_wikihop_rows`, whose arguments these are, at once."""
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
    """Tokenize questions into chunks of rows, whose indices of questions start at 0 in each.

    Args:
      questions: of `stream_wikihop`.
      core: from `load_core`.
      max_length: tokens of a row, special ones included; TR-BERT's are 1 row of 1024 or 8 of 512.
      max_packed_questions: rows of a question. A text that one row cannot hold goes on in the next, behind a marker again; what the
        last cannot hold is left out. Fewer are made where they hold everything.
      max_candidates: C.
      markers: tokens in front of a candidate, of a supporting text.

    Yields:
      Rows of up to 64 questions; of none where there are none. Long candidates are cut to one length where a row cannot
      hold them all, then the query; every marker is there.

    Raises:
      ValueError: the vocabulary lacks the markers, a question has more candidates than max_candidates, or a row cannot
        hold their markers.

    Source: Ye et al., "TR-BERT", NAACL 2021, the released program.
    """
    template = read_template(core, pair=False)
    ids = np.array(marker_ids(core, markers), np.int32)
    room = max_length - template.num_special
    for chunk in at_least_one(in_chunks(questions, _CHUNK)):
        for question in chunk:
            check_candidates(question, max_candidates, room)
        texts = [
            text
            for question in chunk
            for text in (question.query, *question.candidates, *question.supports)
        ]
        found = iter(token_rows(core, texts))
        rows, slots = [], np.full((len(chunk), max_candidates), -1, np.int32)
        for question, slot_C in zip(chunk, slots):
            query, candidates, supports = next(found), *_take(found, question)
            prefix, places = first_tokens(query, candidates, ids[:1], room)
            slot_C[: len(places)] = len(template.first) + places
            rows.append(distribute_tokens(prefix, supports, ids[1:], room, max_packed_questions))
        counts = [len(of_question) for of_question in rows]
        nothing = np.zeros(0, np.int32)
        yield WikihopRows(
            *fill_template(
                template, [(row, nothing) for of_question in rows for row in of_question]
            ),
            marker_RC=np.repeat(slots, counts, axis=0),
            labels=np.repeat(np.array([question.label for question in chunk], np.int32), counts),
            question=np.repeat(np.arange(len(chunk), dtype=np.int32), counts),
            ids=[question.id for question in chunk],
        )


def _take(
    found: Iterator[np.ndarray], question: WikihopQuestion
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The next rows of tokens: of a question's candidates, and of its supporting texts."""
    return [next(found) for _ in question.candidates], [next(found) for _ in question.supports]


def check_candidates(question: WikihopQuestion, max_candidates: int, room: int) -> None:
    """Raise ValueError where a question has too many candidates."""
    count = len(question.candidates)
    if count > max_candidates:
        raise ValueError(
            f"question {shown(question.id)} has {count} candidates; expected at most {max_candidates}: "
            "raise max_candidates"
        )
    if count > room:
        raise ValueError(
            f"question {shown(question.id)} has {count} candidates, whose markers a row of {room} tokens "
            "beside the special ones cannot hold; raise max_length"
        )


def first_tokens(query: np.ndarray, candidates: list[np.ndarray], marker: np.ndarray, room: int):
    """What stands in front of the supporting texts: tokens, int32, and the places of the candidates' markers in them.

    Candidates are cut to the largest length with which all fit; where none does, the query is cut.
    """
    lengths = np.array([len(candidate) for candidate in candidates], np.int64)
    left = room - len(query) - len(candidates)
    longest = next(
        (
            cap
            for cap in range(lengths.max(initial=0), 0, -1)
            if np.minimum(lengths, cap).sum() <= left
        ),
        0,
    )
    query = query[: room - len(candidates)]
    parts = [np.concatenate([marker, candidate[:longest]]) for candidate in candidates]
    places = len(query) + np.cumsum([0, *(len(part) for part in parts)])[:-1]
    return np.concatenate([query, *parts]), places


def distribute_tokens(
    prefix: np.ndarray,
    supports: list[np.ndarray],
    marker: np.ndarray,
    room: int,
    max_packed_questions: int,
) -> list[np.ndarray]:
    """Rows of at most `room` tokens, each the prefix and as much of the texts as fits, one after another."""
    rows = [[prefix]]
    left = room - len(prefix)
    width = left  # of every row
    for support in supports:
        while len(support) and width > len(marker):
            if left <= len(marker):
                if len(rows) == max_packed_questions:
                    break
                rows.append([prefix])
                left = width
            part = support[: left - len(marker)]
            rows[-1] += [marker, part]
            support, left = support[len(part) :], left - len(marker) - len(part)
    return [np.concatenate(parts) for parts in rows]
