"""Load ERASER's Movie Reviews with human rationales, and cut long texts into chunks.

W words of a text
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from adapler_jax.data.classification.labels import encode_labels
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.tables import Table

MOVIE_CLASSES = ("NEG", "POS")


@dataclasses.dataclass(frozen=True)
class AnnotatedText:
    """A labelled text of words with its rationale."""

    words: tuple[str, ...]  # between blanks
    rationale_W: np.ndarray  # bool, True for words that humans selected
    label: int
    document: int  # row of the text in its split; the chunks of a text share it

    @property
    def text(self) -> str:
        """Return the words with blanks between them."""
        return " ".join(self.words)


def load_movie_rationales(source: str = "tfds:movie_rationales") -> dict[str, list[AnnotatedText]]:
    """Load ERASER's Movie Reviews by split; a text without a rationale has an empty one.

    Args:
      source: a source for `load_source`, with columns review, label, evidences and optionally
        evidence_spans: [first word, end word] of each. Without spans each evidence is located at
        the first occurrence of its words. Labels are names or numbers of MOVIE_CLASSES.

    Raises:
      ValueError: a column is missing, or a row is malformed, such as a span outside of its text.
    """
    tables = load_source(source, columns=("review", "label", "evidences", "evidence_spans"))
    return {split: _movie_reviews(table) for split, table in tables.items()}


def _movie_reviews(table: Table) -> list[AnnotatedText]:
    """Return the texts of one split."""
    reviews = table.column("review", role="text")
    labels = table.column("label", role="label")
    spans = table.columns.get("evidence_spans") or [None] * len(table)
    evidences = table.columns.get("evidences") or [None] * len(table)
    numbers = encode_labels(labels, MOVIE_CLASSES, where=table.where).tolist()
    texts = []
    for row, (review, label, found, phrases) in enumerate(zip(reviews, numbers, spans, evidences)):
        where = f"{table.where}, row {row + 1}"
        _check_review(review, found, phrases, where=where)
        words = tuple(review.split())
        located = find_evidences(words, phrases or ()) if found is None else found
        rationale_W = select_words(located, len(words), where)
        texts.append(AnnotatedText(words, rationale_W, label, row))
    return texts


def _check_review(review, spans, evidences, *, where: str) -> None:
    """Raise ValueError unless review is text, spans None or pairs, and evidences None or texts."""
    if not isinstance(review, str):
        raise ValueError(f"{where} has {review!r:.60} as 'review'; expected a text")
    if spans is not None and not (_is_list(spans) and all(map(_is_span, spans))):
        raise ValueError(
            f"{where} has {spans!r:.60} as 'evidence_spans'; expected a list of [first word, end]"
        )
    if evidences is not None and not _are_texts(evidences):
        raise ValueError(f"{where} has {evidences!r:.60} as 'evidences'; expected a list of texts")


def _is_list(value) -> bool:
    """Return True for several values."""
    return isinstance(value, list | tuple)


def _are_texts(value) -> bool:
    """Return True for a list of texts."""
    return _is_list(value) and all(isinstance(text, str) for text in value)


def _is_span(value) -> bool:
    """Return True for two whole numbers."""
    return _is_list(value) and len(value) == 2 and all(isinstance(end, int) for end in value)


def select_words(spans: Sequence[tuple[int, int]], num_words: int, where: str) -> np.ndarray:
    """Return True for the words in the spans [start, end), bool [W].

    Raises:
      ValueError: a span is outside of the text.
    """
    rationale_W = np.zeros(num_words, bool)
    for start, end in spans:
        if not 0 <= start < end <= num_words:
            raise ValueError(
                f"{where}: the rationale {start} to {end} is outside of its text of "
                f"{num_words} words"
            )
        rationale_W[start:end] = True
    return rationale_W


def find_evidences(words: Sequence[str], evidences: Sequence[str]) -> list[tuple[int, int]]:
    """Return the word span of each evidence at its first occurrence; leave out absent ones."""
    text = " " + " ".join(words) + " "
    spans = []
    for evidence in evidences:
        phrase = evidence.split()
        offset = text.find(" " + " ".join(phrase) + " ")
        if phrase and offset >= 0:
            start = len(text[:offset].split())
            spans.append((start, start + len(phrase)))
    return spans


def cut_chunks(
    text: AnnotatedText, pieces_W: Sequence[int], max_pieces: int
) -> list[AnnotatedText]:
    """Cut a text into consecutive chunks of at most max_pieces word pieces.

    No word is cut. A chunk ends before a rationale that does not fit, unless it starts with it.

    Args:
      text: the text.
      pieces_W: pieces of each word. A word with more pieces than max_pieces has its own chunk.
      max_pieces: largest number of pieces in a chunk.

    Raises:
      ValueError: max_pieces is below 1.

    Source: Modarressi et al., "AdapLeR", ACL 2022, the loader of the released program. That program
    cuts between pieces.
    """
    if max_pieces < 1:
        raise ValueError(f"chunks of {max_pieces} pieces; expected at least 1")
    end_W = np.cumsum(pieces_W)
    chunks, start = [], 0
    while start < len(text.words):
        num_before = end_W[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(end_W, num_before + max_pieces, side="right")))
        if end < len(text.words):
            end = end_before_run(text.rationale_W, start, end)
        words, rationale_W = text.words[start:end], text.rationale_W[start:end]
        chunks.append(dataclasses.replace(text, words=words, rationale_W=rationale_W))
        start = end
    return chunks


def end_before_run(rationale_W: np.ndarray, start: int, end: int) -> int:
    """Return the end of a chunk that cuts no run of the rationale; `end` if the run fills it."""
    index = end
    while index > start and rationale_W[index] and rationale_W[index - 1]:
        index -= 1
    return index if index > start else end
