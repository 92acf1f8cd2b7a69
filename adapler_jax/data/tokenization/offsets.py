"""Tokenize texts and keep the character offsets of every token."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import offsets_of, ragged
from adapler_jax.data.tokenization.pieces import encode_all


class TokenizedTexts(NamedTuple):
    """Distinct texts, tokenized and concatenated.

    Attributes:
      ids: int32 [tokens].
      starts: int32 [tokens], first character in the token's own text.
      ends: int32 [tokens], character after the last one.
      offsets: int64 [texts + 1], in tokens.
      num_characters: int64 [texts].
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray
    num_characters: np.ndarray


def encode_with_offsets(core: Tokenizer, texts: Sequence[str]) -> tuple[TokenizedTexts, np.ndarray]:
    """Tokenize every distinct text once, whole and without special tokens.

    Returns:
      The distinct texts, and the index of each given text among them, int64 [texts].
    """
    indices: dict[str, int] = {}
    text_of = np.asarray([indices.setdefault(text, len(indices)) for text in texts], np.int64)
    found = encode_all(core, list(indices), with_offsets=True)
    offsets = offsets_of([len(pieces.ids) for pieces in found])
    ids = ragged([pieces.ids for pieces in found], np.int32).values
    starts = ragged([pieces.starts for pieces in found], np.int32).values
    ends = ragged([pieces.ends for pieces in found], np.int32).values
    for text, first, end in zip(indices, offsets, offsets[1:]):
        align_spans(text, starts[first:end], ends[first:end])
    num_characters = np.asarray([len(text) for text in indices], np.int64)
    return TokenizedTexts(ids, starts, ends, offsets, num_characters), text_of


def align_spans(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """Extend token ends, in place, over combining characters that belong to no token.

    A tokenizer that removes accents leaves combining characters out of its offsets.
    """
    if text.isascii():
        return
    limits = np.append(starts[1:], len(text))
    for token in np.flatnonzero(ends < limits):
        end = int(ends[token])
        while end < limits[token] and unicodedata.category(text[end]).startswith("M"):
            end += 1
        ends[token] = end
