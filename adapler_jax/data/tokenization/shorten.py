"""Shorten token rows as if words had been deleted from their texts, for baselines of pruning.

Special tokens always stay. Kept tokens are closed up, so that they have new positions. A text, or
each text of a pair, keeps at least one token: a deletion of all of them deletes nothing.

Shape letters:

    T tokens of all rows, one after another       V vocabulary
    U texts of all rows, two of a pair
"""

import dataclasses
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged, offsets_of
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.tokenization.stop_words import ENGLISH_STOP_WORDS
from adapler_jax.data.tokenization.templates import read_template

_MARKERS = ("\u0120", "\u2581")  # before the first piece of a word, of bytes and of SentencePiece


class PieceKinds(NamedTuple):
    """The kinds of all pieces of a vocabulary, bool [V] each."""

    is_special_V: np.ndarray  # around texts, as [CLS] and [SEP]
    is_punctuation_V: np.ndarray
    joins_V: np.ndarray  # continues a word, where one is before it
    is_stop_V: np.ndarray  # is a stop word, where it is a whole word


def piece_kinds(core: Tokenizer, stop_words: frozenset[str] = ENGLISH_STOP_WORDS) -> PieceKinds:
    """Return the kinds of a tokenizer's pieces.

    Args:
      core: of WordPiece, SentencePiece or bytes.
      stop_words: in lower case.
    """
    pieces = core.get_vocab(with_added_tokens=True)
    size = max(pieces.values()) + 1
    prefix, marker = _word_marks(core, pieces)
    kinds = PieceKinds(*(np.zeros(size, bool) for _ in PieceKinds._fields))
    template = read_template(core, pair=True, is_strict=False)
    for part in (template.first, template.middle, template.last):
        kinds.is_special_V[part] = True
    for piece, index in pieces.items():
        if kinds.is_special_V[index]:
            continue
        is_continued = piece.startswith(prefix) if prefix else not piece.startswith(marker)
        text = piece.removeprefix(marker) if marker else piece
        is_punctuation = bool(text) and all(unicodedata.category(c)[0] in "PS" for c in text)
        kinds.is_punctuation_V[index] = is_punctuation
        kinds.joins_V[index] = is_continued and not is_punctuation
        kinds.is_stop_V[index] = text.lower() in stop_words
    return kinds


def _word_marks(core: Tokenizer, pieces: dict[str, int]) -> tuple[str, str]:
    """Return the prefix of pieces that continue a word, and of pieces that begin one.

    One of them is empty. Both are empty where the pieces show no words.
    """
    prefix = getattr(core.model, "continuing_subword_prefix", None)
    if prefix:
        return prefix, ""
    counts = {mark: sum(piece.startswith(mark) for piece in pieces) for mark in _MARKERS}
    return "", max(_MARKERS, key=lambda mark: counts[mark])


def number_texts(tokens: Ragged, kinds: PieceKinds) -> np.ndarray:
    """Return the number of the text of each token, int64 [T]: both texts of a pair have their own.

    A special token has the number of the text after it.
    """
    is_first_T = np.zeros(len(tokens.values), bool)
    is_first_T[tokens.offsets[:-1]] = True
    return np.cumsum(kinds.is_special_V[tokens.values] | is_first_T) - 1


def without_stop_words(tokenized: Tokenized, kinds: PieceKinds) -> Tokenized:
    """Remove all stop words and punctuation.

    A piece counts as a word only if the word has no other piece.
    """
    ids = tokenized.tokens.values
    is_word_T = ~kinds.is_special_V[ids] & ~kinds.is_punctuation_V[ids]
    joins_T = kinds.joins_V[ids] & np.concatenate([[False], is_word_T[:-1]])
    joins_T[tokenized.tokens.offsets[:-1]] = False
    is_whole_T = is_word_T & ~joins_T & ~np.concatenate([joins_T[1:], [False]])
    removed_T = kinds.is_punctuation_V[ids] | (is_whole_T & kinds.is_stop_V[ids])
    return keep_tokens(tokenized, ~removed_T, kinds)


def keep_tokens(tokenized: Tokenized, keep_T: np.ndarray, kinds: PieceKinds) -> Tokenized:
    """Return the rows with the tokens to keep, closed up.

    Args:
      tokenized: rows without head slots, which would point to other tokens.
      keep_T: bool; special tokens are kept in any case, and texts that would lose all tokens are
        kept whole.
      kinds: of the vocabulary.

    Raises:
      ValueError: a head has slots in the rows.
    """
    if tokenized.head_slots:
        raise ValueError(
            f"rows with head slots ({', '.join(tokenized.head_slots)}) are not shortened; give "
            "texts of a classification task"
        )
    tokens = tokenized.tokens
    is_special_T = kinds.is_special_V[tokens.values]
    text_T = number_texts(tokens, kinds)
    num_kept_U = np.bincount(text_T, keep_T & ~is_special_T)
    keep_T = keep_T | is_special_T | (num_kept_U == 0)[text_T]
    row_T = np.repeat(np.arange(len(tokens)), tokens.lengths)
    offsets = offsets_of(np.bincount(row_T[keep_T], minlength=len(tokens)))
    return dataclasses.replace(
        tokenized,
        tokens=Ragged(tokens.values[keep_T], offsets),
        segments=Ragged(tokenized.segments.values[keep_T], offsets),
    )


class KeepOrder:
    """An order of the tokens of each text, from which any share can be kept: the first ones.

    A larger share keeps all tokens of a smaller one. A fraction of a token is rounded up in some
    texts and down in others. Short texts then have the share on average too.
    """

    def __init__(self, tokenized: Tokenized, kinds: PieceKinds, *, seed: int, is_random: bool):
        """Order the tokens.

        Args:
          tokenized: rows of texts.
          kinds: of the vocabulary.
          seed: of all draws.
          is_random: the order is drawn; else it is the order of the text.
        """
        generator = np.random.default_rng(seed)
        ids = tokenized.tokens.values
        self._tokenized, self._kinds = tokenized, kinds
        self._text_T = number_texts(tokenized.tokens, kinds)
        is_special_T = kinds.is_special_V[ids]
        self._num_U = np.bincount(self._text_T, ~is_special_T).astype(np.int64)
        tokens = tokenized.tokens
        row_T = np.repeat(np.arange(len(tokens)), tokens.lengths)
        self._num_special = np.bincount(row_T, is_special_T, minlength=len(tokens)).astype(np.int64)
        self._row_U = np.zeros(len(self._num_U), np.int64)
        self._row_U[self._text_T] = row_T
        # Special tokens come last in their text, so that ranks below the count are tokens of it.
        place_T = generator.random(len(ids)) if is_random else np.arange(len(ids))
        order_T = np.lexsort((place_T, is_special_T, self._text_T))
        starts_U = offsets_of(np.bincount(self._text_T))[:-1]
        self._rank_T = np.empty(len(ids), np.int64)
        self._rank_T[order_T] = np.arange(len(ids)) - starts_U[self._text_T[order_T]]
        self._rounding_U = generator.random(len(self._num_U))

    def counts(self, share: float) -> np.ndarray:
        """Return the kept tokens of each text, int64 [U]; at least one where there are any."""
        asked_U = np.floor(self._num_U * share + self._rounding_U).astype(np.int64)
        return np.clip(asked_U, np.minimum(1, self._num_U), self._num_U)

    def lengths(self, share: float) -> np.ndarray:
        """Return the tokens of each row, special tokens included, int64 [rows]."""
        num_kept = np.bincount(self._row_U, self.counts(share), minlength=len(self._num_special))
        return self._num_special + num_kept.astype(np.int64)

    def keep(self, share: float) -> Tokenized:
        """Return the rows with this share of the tokens of each text, in [0, 1]."""
        keep_T = self._rank_T < self.counts(share)[self._text_T]
        return keep_tokens(self._tokenized, keep_T, self._kinds)


def share_of_speedup(
    speedup_of: Callable[[float], float], target: float, *, tolerance: float = 0.01
) -> float | None:
    """Return the share of tokens that gives a speedup, by bisection.

    Args:
      speedup_of: share in [0, 1] -> speedup, which falls with the share.
      target: speedup to reach.
      tolerance: relative.

    Returns:
      The share; None if no share has the speedup.
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if speedup_of(middle) > target:
            low = middle
        else:
            high = middle
    best = min((low, high), key=lambda share: abs(speedup_of(share) - target))
    return best if abs(speedup_of(best) / target - 1) <= tolerance else None
