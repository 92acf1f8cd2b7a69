"""Texts -> tokens with their places in the text."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import offsets_of, ragged
from adapler_jax.data.tokenization.pieces import encode_all


class TokenizedTexts(NamedTuple):
    """Different texts, tokenized, end to end."""

    ids: np.ndarray  # int32 [tokens]
    starts: np.ndarray  # int32 [tokens], characters in the own text
    ends: np.ndarray
    offsets: np.ndarray  # int64 [texts + 1], in tokens
    num_characters: np.ndarray  # int64 [texts]


def encode_with_offsets(core: Tokenizer, texts: Sequence[str]) -> tuple[TokenizedTexts, np.ndarray]:
    """Tokenize every different text once, whole, without special tokens.

    Returns:
      The different texts, and which of them each text is, int64 [texts].
    """
    numbers: dict[str, int] = {}
    text_of = np.asarray([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    found = encode_all(core, list(numbers), with_offsets=True)
    offsets = offsets_of([len(pieces.ids) for pieces in found])
    ids = ragged([pieces.ids for pieces in found], np.int32).values
    starts = ragged([pieces.starts for pieces in found], np.int32).values
    ends = ragged([pieces.ends for pieces in found], np.int32).values
    for text, first, end in zip(numbers, offsets, offsets[1:]):
        align_spans(text, starts[first:end], ends[first:end])
    num_characters = np.asarray([len(text) for text in numbers], np.int64)
    return TokenizedTexts(ids, starts, ends, offsets, num_characters), text_of


def align_spans(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """Move ends behind the combining marks that no token has: a tokenizer that takes accents off leaves them out."""
    if text.isascii():
        return
    limits = np.append(starts[1:], len(text))
    for token in np.flatnonzero(ends < limits):
        end = int(ends[token])
        while end < limits[token] and unicodedata.category(text[end]).startswith("M"):
            end += 1
        ends[token] = end
