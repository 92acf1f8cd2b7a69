"""Texts with the words that humans pointed at: Movie Reviews of ERASER, HateXplain; long texts cut into windows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from adapler_jax.data.classification.labels import encode_labels
from adapler_jax.data.classification.tasks import majority_label
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.tables import Table

MOVIE_CLASSES = ("NEG", "POS")


@dataclasses.dataclass(frozen=True)
class AnnotatedText:
    """A text of words, labelled, with its rationale."""

    words: tuple[str, ...]  # between blanks
    rationale_W: np.ndarray  # bool: humans pointed at the word
    label: int
    document: int  # row of the text in its split; windows share it

    @property
    def text(self) -> str:
        """The words with a blank between them."""
        return " ".join(self.words)


def load_movie_rationales(source: str = "tfds:movie_rationales") -> dict[str, list[AnnotatedText]]:
    """ERASER's Movie Reviews by split; a text whose rationale is not given has an empty one.

    Args: source: of `load_source`, with columns review, label, evidences and, where there are any, evidence_spans:
    [first word, word behind the last] of each. Without spans each evidence is found by its words, at the first place.
    Labels are of MOVIE_CLASSES, by number or name.
    Raises ValueError where a column is missing or a row is malformed, as by a span that lies outside of its text.
    """
    tables = load_source(source, columns=("review", "label", "evidences", "evidence_spans"))
    return {split: _movie_reviews(table) for split, table in tables.items()}


def _movie_reviews(table: Table) -> list[AnnotatedText]:
    """One split."""
    reviews, labels = (
        table.column(name, role=role) for name, role in (("review", "text"), ("label", "label"))
    )
    spans = table.columns.get("evidence_spans") or [None] * len(table)
    evidences = table.columns.get("evidences") or [None] * len(table)
    numbers = encode_labels(labels, MOVIE_CLASSES, where=table.where).tolist()
    found = []
    for row, (review, label, spans_of, texts) in enumerate(zip(reviews, numbers, spans, evidences)):
        where = f"{table.where}, row {row + 1}"
        _check_review(review, spans_of, texts, where)
        words = tuple(review.split())
        places = find_evidences(words, texts or ()) if spans_of is None else spans_of
        found.append(AnnotatedText(words, mark(places, len(words), where), label, row))
    return found


def _check_review(review, spans, evidences, where: str) -> None:
    """Raises ValueError unless the review is a text, the spans are None or pairs, and the evidences None or texts."""
    if not isinstance(review, str):
        raise ValueError(f"{where} has {review!r:.60} as 'review'; expected a text")
    if spans is not None and not (_is_list(spans) and all(map(_is_span, spans))):
        raise ValueError(
            f"{where} has {spans!r:.60} as 'evidence_spans'; expected a list of [first word, end]"
        )
    if evidences is not None and not (
        _is_list(evidences) and all(isinstance(text, str) for text in evidences)
    ):
        raise ValueError(f"{where} has {evidences!r:.60} as 'evidences'; expected a list of texts")


def _is_list(value) -> bool:
    """Whether a source gave several values."""
    return isinstance(value, list | tuple)


def _is_span(value) -> bool:
    """Whether this is two whole numbers."""
    return _is_list(value) and len(value) == 2 and all(isinstance(end, int) for end in value)


def mark(spans: Sequence[tuple[int, int]], num_words: int, where: str) -> np.ndarray:
    """The words inside of the spans (start, end), bool. Raises ValueError where one lies outside of the text."""
    rationale_W = np.zeros(num_words, bool)
    for start, end in spans:
        if not 0 <= start < end <= num_words:
            raise ValueError(
                f"{where}: the rationale {start} to {end} lies outside of its text of {num_words} words"
            )
        rationale_W[start:end] = True
    return rationale_W


def find_evidences(words: Sequence[str], evidences: Sequence[str]) -> list[tuple[int, int]]:
    """Spans of the words of each evidence, at its first place; those that the text does not hold are left out."""
    text = " " + " ".join(words) + " "
    spans = []
    for evidence in evidences:
        wanted = evidence.split()
        place = text.find(" " + " ".join(wanted) + " ")
        if wanted and place >= 0:
            start = len(text[:place].split())
            spans.append((start, start + len(wanted)))
    return spans


def load_hatexplain(
    source: str = "hf:Hate-speech-CNERG/hatexplain@refs/convert/parquet",
) -> dict[str, list[AnnotatedText]]:
    """HateXplain by split: labels of the task `hatexplain`, a word is in the rationale where most of the annotators who
    marked any words of the post marked it.

    Args: source: of `load_source`, with columns post_tokens, annotators and rationales.
    Raises ValueError where a column is missing or a rationale has another length than its post.
    """
    return {split: _posts(table) for split, table in load_source(source).items()}


def _posts(table: Table) -> list[AnnotatedText]:
    """One split."""
    posts, annotators, marks = (
        table.column(name, role=role)
        for name, role in (("post_tokens", "text"), ("annotators", "label"), ("rationales", "text"))
    )
    found = []
    for row, (words, given, marked) in enumerate(zip(posts, annotators, marks)):
        rationale_W = majority(marked, len(words), f"{table.where}, row {row + 1}")
        found.append(AnnotatedText(tuple(words), rationale_W, majority_label(given), row))
    return found


def majority(marked_by: Sequence[Sequence[int]], num_words: int, where: str) -> np.ndarray:
    """The words that more than half of the annotators marked, those who marked none left out; bool."""
    votes = [np.asarray(marked, bool) for marked in marked_by if len(marked)]
    wrong = next((len(marked) for marked in votes if len(marked) != num_words), None)
    if wrong is not None:
        raise ValueError(f"{where}: a rationale of {wrong} words for a text of {num_words}")
    votes = [marked for marked in votes if marked.any()]
    return 2 * np.sum(votes, axis=0) > len(votes) if votes else np.zeros(num_words, bool)


def cut_chunks(
    text: AnnotatedText, pieces_W: Sequence[int], max_pieces: int
) -> list[AnnotatedText]:
    """The text in windows of at most max_pieces word pieces, one after another; no word is cut, and a window ends in
    front of a rationale that it cannot hold whole, unless it starts there.

    Args: pieces_W: pieces of each word. A word of more pieces than fit has a window of its own.
    Raises ValueError on max_pieces below 1. Source: Modarressi et al., "AdapLeR", ACL 2022, the loader of the released
    program; it cuts between pieces.
    """
    if max_pieces < 1:
        raise ValueError(f"windows of {max_pieces} pieces; expected at least 1")
    ends = np.cumsum(pieces_W)
    windows, start = [], 0
    while start < len(text.words):
        before = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, before + max_pieces, side="right")))
        if end < len(text.words):
            end = start_of_run(text.rationale_W, end, start)
        windows.append(
            dataclasses.replace(
                text, words=text.words[start:end], rationale_W=text.rationale_W[start:end]
            )
        )
        start = end
    return windows


def start_of_run(rationale_W, end: int, start: int) -> int:
    """Where a window from start to end must end so that no run of the rationale is cut; end where the run fills it."""
    place = end
    while place > start and rationale_W[place] and rationale_W[place - 1]:
        place -= 1
    return place if place > start else end
