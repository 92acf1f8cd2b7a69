"""Texts -> tokens with their places in the text, and what a tokenizer puts around a pair of texts."""

import itertools
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.text import whole_characters


class Frame(NamedTuple):
    """How the tokenizer frames a pair: ids and segment ids before the first text, between both, behind the second."""

    ids: tuple[list[int], list[int], list[int]]
    segments: tuple[list[int], list[int], list[int]]
    text_segments: tuple[int, int]


class PlacedTexts(NamedTuple):
    """Different texts, tokenized, end to end."""

    ids: np.ndarray  # int32 [tokens]
    starts: np.ndarray  # int32 [tokens], characters in the own text
    ends: np.ndarray
    offsets: np.ndarray  # int64 [texts + 1], in tokens
    num_characters: np.ndarray  # int64 [texts]


def learn_frame(core: Tokenizer) -> Frame:
    """Read off a pair of words what the tokenizer puts around texts.

    Raises:
      ValueError: it does not put something before, between and behind them.
    """
    core.no_truncation()
    core.no_padding()
    pair = core.encode("a", "a")
    part_of = pair.sequence_ids
    runs = [(part, list(places)) for part, places in itertools.groupby(range(len(pair)), part_of.__getitem__)]
    if [part for part, _ in runs] != [None, 0, None, 1, None]:
        raise ValueError(f"the tokenizer makes {pair.tokens} of two texts; expected [CLS] text [SEP] text [SEP]")
    framing = [places for part, places in runs if part is None]
    return Frame(
        ids=tuple([pair.ids[place] for place in places] for places in framing),
        segments=tuple([pair.type_ids[place] for place in places] for places in framing),
        text_segments=(pair.type_ids[runs[1][1][0]], pair.type_ids[runs[3][1][0]]),
    )


def encode_places(core: Tokenizer, texts: Sequence[str]) -> tuple[PlacedTexts, np.ndarray]:
    """Tokenize every different text once, whole, without special tokens.

    Returns:
      The different texts, and which of them each text is, int64 [texts].
    """
    core.no_truncation()  # who shares the tokenizer may have switched it on meanwhile
    core.no_padding()
    numbers: dict[str, int] = {}
    text_of = np.asarray([numbers.setdefault(text, len(numbers)) for text in texts], np.int64)
    encodings = core.encode_batch([whole_characters(text) for text in numbers], add_special_tokens=False)
    offsets = offsets_of(np.asarray([len(encoding) for encoding in encodings], np.int64))
    flatten = itertools.chain.from_iterable
    ids = np.fromiter(flatten(encoding.ids for encoding in encodings), np.int32, offsets[-1])
    places = np.fromiter(flatten(flatten(encoding.offsets for encoding in encodings)), np.int32, 2 * offsets[-1])
    starts, ends = places[0::2].copy(), places[1::2].copy()
    for text, first, end in zip(numbers, offsets, offsets[1:]):
        if not text.isascii():
            _cover_marks(text, starts[first:end], ends[first:end])
    num_characters = np.asarray([len(text) for text in numbers], np.int64)
    return PlacedTexts(ids, starts, ends, offsets, num_characters), text_of


def _cover_marks(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """Move ends behind the combining marks that no token has: a tokenizer that takes accents off leaves them out."""
    limits = np.append(starts[1:], len(text))
    for token in np.flatnonzero(ends < limits):
        end = int(ends[token])
        while end < limits[token] and unicodedata.category(text[end]).startswith("M"):
            end += 1
        ends[token] = end


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Where rows of these lengths start when they are laid end to end, and the end of the last; int64."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
