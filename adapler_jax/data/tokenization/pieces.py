"""Tokenize only the ends of a text that are kept, with the tokens of the whole text."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.condense import condense, uncondensed

SIDES = ("right", "left", "middle")  # where a long text loses tokens
_FIRST = 16  # characters per token in the first attempt; each further attempt takes _GROWTH times
_GROWTH = 4
_SPARE = 4  # words next to a cut that are not used, since the cut may change them
_RUN = 1 << 14  # characters of a run of one kind that are kept, at least
_RUN_TOKEN = 64  # characters of the longest tokens of blanks
_LARGE = 1 << 20  # characters; in longer texts that are read whole, long runs lose their middle
_NOTHING = np.zeros(0, np.int64)


class Pieces(NamedTuple):
    """Tokens of one text without special tokens: all of them, or enough of the kept ends.

    Attributes:
      ids: int32 [tokens].
      starts: int64 [tokens], first character of each token; empty without offsets.
      ends: int64 [tokens], character after the last one; empty without offsets.
      words: int64 [tokens], increasing index of the word of each token; empty without offsets.
      is_whole: these are all tokens of the text.
      head: tokens from the beginning of a text that lost its middle; -1 for other texts.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    is_whole: bool
    head: int = -1

    def keep(self, count: int, side: str) -> "Pieces":
        """Return at most `count` tokens.

        Args:
          count: the limit.
          side: one of SIDES, where tokens are removed.
        """
        if len(self.ids) <= count and self.is_whole:
            return self
        num_head = {"right": count, "left": 0, "middle": count - count // 2}[side]
        num_tail = min(count - num_head, len(self.ids) - num_head)
        removed = slice(num_head, len(self.ids) - num_tail)
        return Pieces(
            np.delete(self.ids, removed),
            _without(self.starts, removed),
            _without(self.ends, removed),
            _without(self.words, removed),
            is_whole=False,
            head=num_head,
        )

    def select(self, tokens: slice) -> "Pieces":
        """Return some of the tokens, with offsets."""
        return self._replace(
            ids=self.ids[tokens],
            starts=self.starts[tokens],
            ends=self.ends[tokens],
            words=self.words[tokens],
        )


def _without(values: np.ndarray, removed: slice) -> np.ndarray:
    """Delete a slice of values that may be absent."""
    return np.delete(values, removed) if len(values) else values


def encode_pieces(
    core: Tokenizer,
    texts: Sequence[str],
    limit: int,
    *,
    side: str = "right",
    with_offsets: bool = False,
) -> list[Pieces]:
    """Tokenize texts without special tokens, long texts only as far as `limit` tokens need.

    Args:
      core: from `load_core`.
      texts: of any length; a lone surrogate becomes U+FFFD.
      limit: tokens needed of a text, at least 1.
      side: one of SIDES: right keeps the first tokens, left the last ones, middle both.
      with_offsets: fill `starts`, `ends` and `words`.

    Returns:
      Pieces with all tokens of a text, or at least `limit` tokens of each kept end. They equal
      the tokens of the whole text: words next to a cut are left out, since the cut may change
      them. The middle of a run of letters, blanks or signs that is longer than any token is
      skipped.
    """
    disable_truncation(core)
    texts = [replace_lone_surrogates(text) for text in texts]
    short = [index for index, text in enumerate(texts) if len(text) <= _FIRST * limit]
    found = dict(zip(short, _encode_whole(core, [texts[index] for index in short], with_offsets)))
    return [
        found[index] if index in found else _long(core, text, limit, side=side)
        for index, text in enumerate(texts)
    ]


def encode_all(
    core: Tokenizer, texts: Sequence[str], *, with_offsets: bool = False
) -> list[Pieces]:
    """Tokenize whole texts, as `encode_pieces` does with a limit that no text reaches."""
    disable_truncation(core)
    texts = [replace_lone_surrogates(text) for text in texts]
    condensed = {
        index: condense(text, _RUN) for index, text in enumerate(texts) if len(text) > _LARGE
    }
    for index, part in condensed.items():
        texts[index] = part.text
    found = _encode_whole(core, texts, with_offsets)
    if with_offsets:
        for index, part in condensed.items():
            pieces = found[index]
            found[index] = pieces._replace(
                starts=part.whole_starts(pieces.starts), ends=part.whole_ends(pieces.ends)
            )
    return found


def disable_truncation(core: Tokenizer) -> None:
    """Disable truncation and padding, which another user of the tokenizer may have enabled."""
    if core.truncation is not None:
        core.no_truncation()
    if core.padding is not None:
        core.no_padding()


def _encode_whole(core: Tokenizer, texts: list[str], with_offsets: bool) -> list[Pieces]:
    """Tokenize texts as they are."""
    encode = core.encode_batch if with_offsets else core.encode_batch_fast
    return [_pieces_of(found, with_offsets) for found in encode(texts, add_special_tokens=False)]


def _pieces_of(encoding: Encoding, with_offsets: bool) -> Pieces:
    """Return every token of an encoding."""
    ids = np.asarray(encoding.ids, np.int32)
    if not with_offsets:
        return Pieces(ids, _NOTHING, _NOTHING, _NOTHING, is_whole=True)
    offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
    words = [-1 if word is None else word for word in encoding.word_ids]
    return Pieces(ids, offsets[:, 0], offsets[:, 1], np.array(words, np.int64), is_whole=True)


def _long(core: Tokenizer, text: str, limit: int, *, side: str) -> Pieces:
    """Return the kept ends of a long text."""
    if side == "right":
        return _grow(core, text, limit, from_end=False)
    if side == "left":
        return _grow(core, text, limit, from_end=True)
    head = _grow(core, text, limit, from_end=False)
    if head.is_whole:
        return head
    tail = _grow(core, text, limit, from_end=True).select(slice(-limit, None))
    head = head.select(slice(limit))
    next_word = head.words.max() + 1
    return Pieces(
        np.concatenate([head.ids, tail.ids]),
        np.concatenate([head.starts, tail.starts]),
        np.concatenate([head.ends, tail.ends]),
        np.concatenate([head.words, tail.words + next_word]),
        is_whole=False,
    )


def _grow(core: Tokenizer, text: str, limit: int, *, from_end: bool) -> Pieces:
    """Tokenize more and more of one end of a text until `limit` tokens are certain."""
    run = max(_RUN, 2 * _RUN_TOKEN * limit)
    added = core.get_added_tokens_decoder().values()
    margin = max((len(token.content) for token in added), default=0)
    seen = uncondensed(text)
    length = first_length = _FIRST * limit + margin
    while True:
        is_whole = length >= len(seen.text)
        start = max(0, len(seen.text) - length) if from_end else 0
        part = seen.text[start : start + length]
        pieces = _pieces_of(core.encode(part, add_special_tokens=False), True)
        if not is_whole:
            certain = _certain(pieces, len(part), margin, run=run, from_end=from_end)
            pieces = pieces.select(certain)
        if is_whole or len(pieces.ids) >= limit:
            starts, ends = pieces.starts + start, pieces.ends + start
            return pieces._replace(
                starts=seen.whole_starts(starts), ends=seen.whole_ends(ends), is_whole=is_whole
            )
        if length == first_length:
            seen = condense(text, run)
        length *= _GROWTH


def _certain(pieces: Pieces, length: int, margin: int, *, run: int, from_end: bool) -> slice:
    """Return the consecutive tokens that the cut of a part cannot have changed.

    They belong to words that are far from the cut, in words and in characters, since an added
    token may have several words. A long word before a cut is made into pieces from left to right.
    Its pieces are certain if they end further from the cut than the length of a kept run.

    Args:
      pieces: tokens of a part of a text.
      length: characters of the part.
      margin: characters of the longest added token.
      run: characters of a run that are kept.
      from_end: the part is the end of its text, so the cut is before it.
    """
    if not len(pieces.ids):
        return slice(0)
    if from_end:
        distance_T, apart_T = pieces.starts, pieces.words - pieces.words[0]
    else:
        distance_T, apart_T = length - pieces.ends, pieces.words[-1] - pieces.words
    is_far_T = apart_T >= _SPARE
    if not from_end:
        is_far_T |= distance_T >= run
    is_certain_T = is_far_T & (distance_T >= margin)
    if from_end:
        uncertain = np.flatnonzero(~is_certain_T)
        return slice(int(uncertain[-1]) + 1 if len(uncertain) else 0, None)
    return slice(None) if is_certain_T.all() else slice(int(np.argmin(is_certain_T)))


def longest_first(
    firsts: Sequence[int] | np.ndarray, seconds: Sequence[int] | np.ndarray, room: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens of both texts of pairs are kept; the longer text loses tokens first.

    The result equals the truncation "longest_first" of the tokenizers library. If both texts are
    longer than half of the room, the longer one has the odd token. Of two texts of equal length
    the second one has it.

    Args:
      firsts: tokens of the first texts, [pairs].
      seconds: tokens of the second texts, [pairs].
      room: tokens of both texts together.

    Returns:
      Kept tokens of the first and of the second texts, both int64 [pairs].
    """
    first_P, second_P = np.asarray(firsts, np.int64), np.asarray(seconds, np.int64)
    short_P, long_P = np.minimum(first_P, second_P), np.maximum(first_P, second_P)
    left_P = np.where(short_P > room, short_P, np.maximum(short_P, room - short_P))
    is_over_P = short_P + left_P > room
    kept_short_P = np.where(is_over_P, room // 2, short_P)
    kept_long_P = np.minimum(np.where(is_over_P, room - room // 2, left_P), long_P)
    is_swapped_P = first_P > second_P
    kept_first_P = np.where(is_swapped_P, kept_long_P, kept_short_P)
    kept_second_P = np.where(is_swapped_P, kept_short_P, kept_long_P)
    return kept_first_P, kept_second_P
