"""Texts -> tokens that know the word of the text that they come from, so that answers can name words."""

import dataclasses
import itertools
import re
from collections.abc import Sequence

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


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One text or pair, [CLS] first, cut to the model's length."""

    texts: tuple[str, ...]  # one, or two of a pair; as given, but for half characters
    token_L: np.ndarray  # int32
    segment_L: np.ndarray  # int32
    word_L: np.ndarray  # int32, index into words; -1 for [CLS] and [SEP]
    words: tuple[Word, ...]


def encode_words(
    core: Tokenizer, texts: Sequence[str], pairs: Sequence[str] | None, *, max_length: int
) -> list[Encoded]:
    """Tokenizes texts, or pairs of texts, as the data room does for training; core: as `load_core` gives it."""
    parts = [[whole_characters(text) for text in part] for part in (texts, pairs) if part is not None]
    given = list(zip(*parts, strict=True))
    short = [[shorten(text, 2 * max_length) for text in part] for part in parts]
    if core.truncation is None or core.truncation["max_length"] != max_length:
        core.enable_truncation(max_length, strategy="longest_first")
    encodings = core.encode_batch(short[0] if pairs is None else list(zip(*short)))
    return [_encoded(encoding, row) for encoding, row in zip(encodings, given, strict=True)]


def shorten(text: str, num_words: int) -> str:
    """The text up to its so many-th word between blanks, so that a book costs no more than a page.

    Every word gives at least a token, but for those of control characters only: ask for some words to spare.
    """
    last = next(itertools.islice(_WORD.finditer(text), num_words - 1, None), None)
    return text if last is None else text[: last.end()]


def _encoded(encoding, texts: tuple[str, ...]) -> Encoded:
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
    )
