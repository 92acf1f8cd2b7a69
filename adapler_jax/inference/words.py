"""Tokenize texts so that each token has the number of its word, so that results can name words.

Shape letters:

    W words of a text       T tokens of a whole text
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.offsets import align_spans
from adapler_jax.data.tokenization.pieces import Pieces, encode_all
from adapler_jax.data.tokenization.text_rows import TextRows, encode_rows
from adapler_jax.inference.texts import split_pairs

RowT = TypeVar("RowT")
NO_WORD = -1  # number of the word of special tokens, and of tokens of blanks


@dataclasses.dataclass(frozen=True)
class Word:
    """A word as the tokenizer splits text: a punctuation mark or Chinese character is one."""

    text: str
    part: int  # 0, or 1 for the second text of a pair
    start: int  # characters [start, end) of the text
    end: int


class Tokens(NamedTuple):
    """The tokens of one text or pair, [CLS] first, cut to the model's length."""

    token_L: np.ndarray  # int32
    segment_L: np.ndarray  # int32
    is_cut: bool  # the text has more tokens


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The tokens and words of one text or pair, [CLS] first, cut to the model's length."""

    texts: tuple[str, ...]  # one, or two of a pair; lone surrogates are replaced
    token_L: np.ndarray  # int32
    segment_L: np.ndarray  # int32
    word_L: np.ndarray  # int32, index into words; NO_WORD for [CLS] and [SEP]
    words: tuple[Word, ...]
    is_cut: bool  # the text has more tokens


def encode_words(
    core: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    *,
    max_length: int,
    truncation_side: str = "right",
) -> list[Encoded]:
    """Tokenize texts, or pairs of texts, as `encode_rows` does for training.

    Args:
      core: from `load_core`.
      texts: first texts.
      pairs: second texts; None for single texts.
      max_length: tokens of a row, special tokens included.
      truncation_side: that loses the tokens of long texts.

    Returns:
      An entry for each text or pair.
    """
    rows = encode_rows(
        core,
        texts,
        pairs,
        with_offsets=True,
        max_length=max_length,
        truncation_side=truncation_side,
    )
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
    """Return the tokens of `encode_words` without the words, several times faster."""
    rows = encode_rows(core, texts, pairs, max_length=max_length, truncation_side=truncation_side)
    return [
        Tokens(rows.tokens[row], rows.segments[row].astype(np.int32), rows.is_cut(row))
        for row in range(len(rows.tokens))
    ]


class TokenRow(Protocol):
    """A row of tokens for a model."""

    @property
    def token_L(self) -> np.ndarray:
        """Return the tokens, int32, [CLS] first."""

    @property
    def segment_L(self) -> np.ndarray:
        """Return their segments, int32."""


class TextReader(Protocol):
    """A model that reads texts or pairs of texts."""

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer."""

    @property
    def max_length(self) -> int:
        """Return the token slots of a text."""

    @property
    def truncation_side(self) -> str:
        """Return the side that loses the tokens of long texts."""


def read_texts(reader: TextReader, encode: Callable[..., list[RowT]], texts) -> list[RowT]:
    """Tokenize texts or pairs for a model, by `encode_words` or `encode_tokens`.

    Raises:
      TypeError: texts is no list, or mixes strings and pairs.
    """
    return read_parts(reader, encode, *split_pairs(texts))


def read_parts(
    reader: TextReader,
    encode: Callable[..., list[RowT]],
    firsts: Sequence[str],
    seconds: Sequence[str] | None,
) -> list[RowT]:
    """Tokenize texts, or first and second texts of pairs, as `read_texts` does."""
    return encode(
        reader.tokenizer,
        firsts,
        seconds,
        max_length=reader.max_length,
        truncation_side=reader.truncation_side,
    )


def encode_whole(core: Tokenizer, text: str) -> Encoded:
    """Tokenize a text of any length without special tokens.

    Args:
      core: from `load_core`.
      text: without lone surrogates.

    Returns:
      All tokens and words of the text.
    """
    (pieces,) = encode_all(core, [text], with_offsets=True)
    words, word_T = words_of(text, pieces, part=0)
    segment_T = np.zeros(len(pieces.ids), np.int32)
    return Encoded((text,), pieces.ids, segment_T, word_T, words, False)


class HasKeptWords(Protocol):
    """A prediction with the words that each layer ran on."""

    @property
    def kept_words(self) -> Sequence[Sequence[str]]:
        """Return the words that each layer ran on, in their order."""


def kept_words_of(words: Sequence[Word], keep_NW: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """Return the texts of the words that each layer ran on."""
    return tuple(
        tuple(word.text for word, keep in zip(words, keep_W) if keep) for keep_W in keep_NW
    )


def last_kept_words(prediction: "HasKeptWords") -> list[str]:
    """Return the words of the last layer that ran on a word; none if no layer did."""
    return next((list(words) for words in reversed(prediction.kept_words) if words), [])


def max_by_word(word_T: np.ndarray, value_T: np.ndarray, num_words: int) -> np.ndarray:
    """Return the largest value among the tokens of each word, [W]; at least 0.

    Args:
      word_T: int, the word of each token; NO_WORD for none.
      value_T: of each token.
      num_words: W.
    """
    value_W = np.zeros(num_words, value_T.dtype)
    tokens = np.flatnonzero(word_T >= 0)
    np.maximum.at(value_W, word_T[tokens], value_T[tokens])
    return value_W


def number_words(
    texts: Sequence[str], pieces: Sequence[Pieces]
) -> tuple[tuple[Word, ...], list[np.ndarray]]:
    """Return the words of a text or pair in one sequence, and the word of each token of each text.

    Args:
      texts: one, or two of a pair, without lone surrogates.
      pieces: tokens of each text with their offsets.

    Returns:
      The words, and of each text int32 [T].
    """
    words: tuple[Word, ...] = ()
    numbers = []
    for part, (text, found) in enumerate(zip(texts, pieces)):
        more, word_T = words_of(text, found, part=part)
        shifted_T = np.where(word_T < 0, NO_WORD, word_T + len(words))
        numbers.append(shifted_T.astype(np.int32))
        words += more
    return words, numbers


def _encoded(rows: TextRows, row: int, texts: tuple[str, ...]) -> Encoded:
    """Return one row with the words of its texts."""
    template = rows.template
    words, numbers = number_words(texts, [part[row] for part in rows.parts])
    word_parts = []
    for special, word_T in zip((template.first, template.middle), numbers):
        word_parts += [np.full(len(special), NO_WORD, np.int32), word_T]
    word_parts.append(np.full(len(template.last), NO_WORD, np.int32))
    return Encoded(
        texts=texts,
        token_L=rows.tokens[row],
        segment_L=rows.segments[row].astype(np.int32),
        word_L=np.concatenate(word_parts),
        words=words,
        is_cut=rows.is_cut(row),
    )


def words_of(text: str, pieces: Pieces, *, part: int) -> tuple[tuple[Word, ...], np.ndarray]:
    """Merge the tokens of each word.

    Args:
      text: without lone surrogates.
      pieces: tokens of the text with their offsets.
      part: field of the words.

    Returns:
      The words, which neither start nor end with a blank, and the word of each token, int32 [T],
      NO_WORD for tokens of blanks. If the tokenizer does not split text at blanks, words do.
    """
    spans, span_of_token = _token_spans(text, pieces)
    is_word = np.array([start < end for start, end in spans], bool)
    start_W, end_W = np.array(spans, np.int64).reshape(-1, 2)[is_word].T.copy()
    align_spans(text, start_W, end_W)
    words = tuple(
        Word(text[start:end], part, start, end)
        for start, end in zip(start_W.tolist(), end_W.tolist())
    )
    numbers = np.where(is_word, np.cumsum(is_word) - 1, NO_WORD)
    return words, numbers[span_of_token].astype(np.int32)


def _token_spans(text: str, pieces: Pieces) -> tuple[list[list[int]], np.ndarray]:
    """Return the character spans of words, empty ones for blanks, and the span of each token."""
    spans: list[list[int]] = []
    span_of_token = []
    previous_word, previous_end = None, 0
    offsets = zip(pieces.starts.tolist(), pieces.ends.tolist(), pieces.words.tolist())
    for token_start, token_end, word in offsets:
        token = text[token_start:token_end]
        start = token_end - len(token.lstrip())
        end = start + len(token.strip())
        has_text = start < end
        follows_blank = start > token_start or _has_blank(text[previous_end:start])
        if word != previous_word or (follows_blank and has_text and not _is_empty(spans[-1])):
            spans.append([start, start])
        if has_text:
            spans[-1] = _union(spans[-1], [start, end])
            previous_end = end
        span_of_token.append(len(spans) - 1)
        previous_word = word
    return spans, np.array(span_of_token, np.int64)


def _has_blank(text: str) -> bool:
    """Return True if a character of the text is a blank."""
    return any(character.isspace() for character in text)


def _is_empty(span: list[int]) -> bool:
    """Return True if a span has no characters."""
    return span[0] >= span[1]


def _union(first: list[int], second: list[int]) -> list[int]:
    """Return the smallest span that holds both; an empty first one does not count."""
    if _is_empty(first):
        return second
    return [min(first[0], second[0]), max(first[1], second[1])]
