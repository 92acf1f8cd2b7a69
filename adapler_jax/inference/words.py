"""Texts -> tokens that know the word of the text that they come from, so that answers can name words."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.text import whole_characters

_WORD = re.compile(r"\S+")


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
    core: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, *, max_length: int
) -> list[Encoded]:
    """Tokenizes texts, or pairs of texts, as the data room does for training; core: as `load_core` gives it."""
    parts = _whole(texts, pairs)
    encodings = _encode(core, parts, max_length)
    return [_encoded(*found, row) for found, row in zip(encodings, zip(*parts, strict=True), strict=True)]


def encode_tokens(
    core: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, *, max_length: int
) -> list[Tokens]:
    """The tokens of `encode_words` without the words, several times as fast."""
    return [
        Tokens(np.asarray(row.ids, np.int32), np.asarray(row.type_ids, np.int32), is_cut)
        for row, is_cut in _encode(core, _whole(texts, pairs), max_length)
    ]


def encode_whole(core: Tokenizer, text: str) -> Encoded:
    """A whole text, however long, without special tokens; text: as `whole_characters` gives it."""
    core.no_truncation()
    return _encoded(core.encode(text, add_special_tokens=False), False, (text,))


def kept_texts(words: Sequence[Word], keep_NW: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """The texts of the words that each layer ran on."""
    return tuple(tuple(word.text for word, keep in zip(words, keep_W) if keep) for keep_W in keep_NW)


def _whole(texts: Sequence[str], pairs: Sequence[str] | None) -> list[list[str]]:
    """The first texts and, of pairs, the second ones, as a tokenizer may see them."""
    return [[whole_characters(text) for text in part] for part in (texts, pairs) if part is not None]


def _encode(core: Tokenizer, parts: list[list[str]], max_length: int) -> list[tuple]:
    """What the tokenizer makes of one or two lists of texts, cut to max_length, and whether more was there."""
    short = [[shorten(text, 2 * max_length) for text in part] for part in parts]
    if core.truncation is None or core.truncation["max_length"] != max_length:
        core.enable_truncation(max_length, strategy="longest_first")
    encodings = core.encode_batch(short[0] if len(short) == 1 else list(zip(*short, strict=True)))
    shortened = [[len(after) < len(before) for before, after in zip(*both)] for both in zip(parts, short)]
    return [(found, any(row) or bool(found.overflowing)) for found, row in zip(encodings, zip(*shortened))]


def shorten(text: str, num_words: int) -> str:
    """The text up to its so many-th word between blanks, so that a book costs no more than a page.

    Every word gives at least a token, but for those of control characters only: ask for some words to spare.
    """
    last = next(itertools.islice(_WORD.finditer(text), num_words - 1, None), None)
    return text if last is None or not _WORD.search(text, last.end()) else text[: last.end()]


def _encoded(encoding, is_cut: bool, texts: tuple[str, ...]) -> Encoded:
    """Merges the pieces of every word."""
    spans: dict[tuple[int, int], list[int]] = {}
    keys = list(zip(encoding.sequence_ids, encoding.word_ids))
    for key, (start, end) in zip(keys, encoding.offsets):
        if key[1] is not None:
            span = spans.setdefault(key, [start, end])
            span[:] = min(span[0], start), max(span[1], end)
    index = {key: place for place, key in enumerate(spans)}
    return Encoded(
        texts=texts,
        token_L=np.asarray(encoding.ids, np.int32),
        segment_L=np.asarray(encoding.type_ids, np.int32),
        word_L=np.asarray([index.get(key, -1) for key in keys], np.int32),
        words=tuple(Word(texts[part][start:end], part, start, end) for (part, _), (start, end) in spans.items()),
        is_cut=is_cut,
    )
