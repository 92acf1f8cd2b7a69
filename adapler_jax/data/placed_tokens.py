"""Texts -> tokens with their places in the text."""

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.ragged import offsets_of
from adapler_jax.data.rows import read_whole
from adapler_jax.data.text import whole_characters


class PlacedTexts(NamedTuple):
    """Different texts, tokenized, end to end."""

    ids: np.ndarray  # int32 [tokens]
    starts: np.ndarray  # int32 [tokens], characters in the own text
    ends: np.ndarray
    offsets: np.ndarray  # int64 [texts + 1], in tokens
    num_characters: np.ndarray  # int64 [texts]


def encode_places(core: Tokenizer, texts: Sequence[str]) -> tuple[PlacedTexts, np.ndarray]:
    """Tokenize every different text once, whole, without special tokens.

    Returns:
      The different texts, and which of them each text is, int64 [texts].
    """
    read_whole(core)
    numbers: dict[str, int] = {}
    text_of = np.asarray([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    encodings = core.encode_batch([whole_characters(text) for text in numbers], add_special_tokens=False)
    offsets = offsets_of([len(encoding) for encoding in encodings])
    flatten = itertools.chain.from_iterable
    ids = np.fromiter(flatten(encoding.ids for encoding in encodings), np.int32, offsets[-1])
    places = np.fromiter(flatten(flatten(encoding.offsets for encoding in encodings)), np.int32, 2 * offsets[-1])
    starts, ends = places[0::2].copy(), places[1::2].copy()
    for text, first, end in zip(numbers, offsets, offsets[1:]):
        cover_marks(text, starts[first:end], ends[first:end])
    num_characters = np.asarray([len(text) for text in numbers], np.int64)
    return PlacedTexts(ids, starts, ends, offsets, num_characters), text_of


def cover_marks(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """Move ends behind the combining marks that no token has: a tokenizer that takes accents off leaves them out."""
    if text.isascii():
        return
    limits = np.append(starts[1:], len(text))
    for token in np.flatnonzero(ends < limits):
        end = int(ends[token])
        while end < limits[token] and unicodedata.category(text[end]).startswith("M"):
            end += 1
        ends[token] = end
