"""Texts -> tokens that know the word of the text that they come from, so that answers can name words."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.offsets import align_spans
from adapler_jax.data.tokenization.pieces import Pieces, encode_all
from adapler_jax.data.tokenization.text_rows import TextRows, encode_rows


@dataclasses.dataclass(frozen=True)
class Word:
    """A word as the tokenizer splits text: punctuation marks and Chinese characters stand alone."""

    text: str
    part: int  # 0, or 1 for the second text of a pair
    start: int  # place in the text, in characters
    end: int


class Tokens(NamedTuple):
    """One text or pair as the model reads it, [CLS] first, cut to the model's length."""

    token_L: np.ndarray  # int32
    segment_L: np.ndarray  # int32
    is_cut: bool  # whether there was more than the model's length lets it read


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One text or pair, [CLS] first, cut to the model's length."""

    texts: tuple[str, ...]  # one, or two of a pair; as given, but for half characters
    token_L: np.ndarray  # int32
    segment_L: np.ndarray  # int32
    word_L: np.ndarray  # int32, index into words; -1 for [CLS] and [SEP]
    words: tuple[Word, ...]
    is_cut: bool  # whether there was more than the model's length lets it read


def encode_words(
    core: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    truncation_side: str = "right",
) -> list[Encoded]:
    """Tokenizes texts, or pairs of texts, as `encode_rows` does for training; core: as `load_core` gives it."""
    limits = {"max_length": max_length, "truncation_side": truncation_side}
    rows = encode_rows(core, texts, pairs, with_offsets=True, **limits)
    parts = [
        [replace_lone_surrogates(text) for text in part]
        for part in (texts, pairs)
        if part is not None
    ]
    return [_encoded(rows, row, found) for row, found in enumerate(zip(*parts, strict=True))]


def encode_tokens(
    core: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    truncation_side: str = "right",
) -> list[Tokens]:
    """The tokens of `encode_words` without the words, several times as fast."""
    rows = encode_rows(core, texts, pairs, max_length=max_length, truncation_side=truncation_side)
    return [
        Tokens(rows.tokens[row], rows.segments[row].astype(np.int32), rows.is_cut(row))
        for row in range(len(rows.tokens))
    ]


def encode_whole(core: Tokenizer, text: str) -> Encoded:
    """A whole text, however long, without special tokens; text: as `replace_lone_surrogates` gives it."""
    (pieces,) = encode_all(core, [text], with_offsets=True)
    words, word_L = words_of(text, pieces, 0)
    return Encoded((text,), pieces.ids, np.zeros(len(pieces.ids), np.int32), word_L, words, False)


def kept_words_of(words: Sequence[Word], keep_NW: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The texts of the words that each layer ran on."""
    return tuple(
        tuple(word.text for word, keep in zip(words, keep_W) if keep) for keep_W in keep_NW
    )


def _encoded(rows: TextRows, row: int, texts: tuple[str, ...]) -> Encoded:
    """One row with the words of its texts."""
    words, places = (), []
    for part, (text, special) in enumerate(zip(texts, (rows.template.first, rows.template.middle))):
        found, word_L = words_of(text, rows.parts[part][row], part)
        places += [
            np.full(len(special), -1, np.int32),
            np.where(word_L < 0, -1, word_L + len(words)),
        ]
        words += found
    places.append(np.full(len(rows.template.last), -1, np.int32))
    return Encoded(
        texts=texts,
        token_L=rows.tokens[row],
        segment_L=rows.segments[row].astype(np.int32),
        word_L=np.concatenate(places).astype(np.int32),
        words=words,
        is_cut=rows.is_cut(row),
    )


def words_of(text: str, pieces: Pieces, part: int) -> tuple[tuple[Word, ...], np.ndarray]:
    """Merges the pieces of every word.

    Args: text: as `replace_lone_surrogates` gives it. pieces: tokens of it with their places. part: that the words tell.

    Returns the words, which neither start nor end with a blank, and of each token the number of its word, int32 [T]; -1
    for tokens of blanks alone. A tokenizer that does not split text at blanks gets its words between them.
    """
    spans, owner, before, last = [], [], None, 0
    for start, end, word in zip(
        pieces.starts.tolist(), pieces.ends.tolist(), pieces.words.tolist()
    ):
        first = start
        while start < end and text[start].isspace():
            start += 1
        while start < end and text[end - 1].isspace():
            end -= 1
        is_apart = start > first or (
            start > last and any(letter.isspace() for letter in text[last:start])
        )
        if word != before or (is_apart and start < end and spans[-1][0] < spans[-1][1]):
            spans.append([start, start])
        if start < end:
            span = spans[-1]
            span[:] = (
                (min(span[0], start), max(span[1], end)) if span[0] < span[1] else (start, end)
            )
            last = end
        owner.append(len(spans) - 1)
        before = word
    is_word_W = np.array([start < end for start, end in spans], bool)
    start_W, end_W = np.array(spans, np.int64).reshape(-1, 2)[is_word_W].T.copy()
    align_spans(text, start_W, end_W)
    places = zip(start_W.tolist(), end_W.tolist())
    number_W = np.where(is_word_W, np.cumsum(is_word_W) - 1, -1)
    word_L = number_W[np.array(owner, np.int64)] if owner else np.zeros(0)
    return tuple(Word(text[start:end], part, start, end) for start, end in places), word_L.astype(
        np.int32
    )
