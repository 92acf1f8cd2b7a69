"""Texts -> their first or last tokens, equal to those of the whole text, at a cost that the tokens decide."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.condense import Condensed, condense

SIDES = ("right", "left", "middle")  # where a long text loses tokens
_FIRST = 16  # characters a token that are tokenized first; four times as many each time that they were too few
_SPARE = 4  # words next to a cut that are not used: the cut may have changed them
_RUN = 1 << 14  # characters of a run that are kept of one kind, at least
_RUN_TOKEN = 64  # characters of the longest tokens of blanks
_LARGE = (
    1 << 20
)  # characters of texts that are read whole, from which on long runs lose their middle


class Pieces(NamedTuple):
    """Tokens of one text without special ones: all of them, or as many of the kept end as were asked for."""

    ids: np.ndarray  # int32
    starts: np.ndarray  # int64, characters in the text; empty where no places were asked for
    ends: np.ndarray
    words: (
        np.ndarray
    )  # int64, which tokens are pieces of one word, in increasing order; empty as above
    is_whole: bool  # whether these are all tokens of the text
    head: int = (
        -1
    )  # of a text that loses its middle: how many tokens are of its beginning; -1: of none else

    def keep(self, count: int, side: str) -> "Pieces":
        """The tokens that are left where at most `count` fit; side: of SIDES."""
        if len(self.ids) <= count and self.is_whole:
            return self
        num_head = {"right": count, "left": 0, "middle": count - count // 2}[side]
        num_tail = min(count - num_head, len(self.ids) - num_head)
        middle = slice(num_head, len(self.ids) - num_tail)
        parts = (np.delete(part, middle) if len(part) else part for part in self[:4])
        return Pieces(*parts, is_whole=False, head=num_head)


def encode_pieces(
    core: Tokenizer,
    texts: Sequence[str],
    limit: int,
    *,
    side: str = "right",
    with_offsets: bool = False,
) -> list[Pieces]:
    """Tokenize texts without special tokens, long ones as far as `limit` tokens need it.

    Args:
      core: as `load_core` gives it.
      texts: of any length; half characters become U+FFFD.
      limit: how many tokens of a text are wanted, at least 1.
      side: of SIDES, where a longer text loses tokens: right keeps its first tokens, left its last ones, middle both.
      with_offsets: tell where the tokens are in the text, and which are of one word.

    Returns:
      Of each text all tokens, or at least `limit` of every end that is kept. They are the tokens of the whole text:
      next to a cut some words are left out, which the cut may have changed. Of a run of letters, blanks or signs that
      is longer than any token could be, the middle is not looked at.
    """
    disable_truncation(core)
    texts = [replace_lone_surrogates(text) for text in texts]
    short = [place for place, text in enumerate(texts) if len(text) <= _FIRST * limit]
    encode = core.encode_batch if with_offsets else core.encode_batch_fast
    encodings = encode([texts[place] for place in short], add_special_tokens=False)
    found = {place: _all(encoding, with_offsets) for place, encoding in zip(short, encodings)}
    return [
        found[place] if place in found else _long(core, text, limit, side=side)
        for place, text in enumerate(texts)
    ]


def encode_all(
    core: Tokenizer, texts: Sequence[str], *, with_offsets: bool = False
) -> list[Pieces]:
    """Tokenize texts whole, as `encode_pieces` does with a limit that none reaches."""
    disable_truncation(core)
    texts = [replace_lone_surrogates(text) for text in texts]
    large = {place: condense(text, _RUN) for place, text in enumerate(texts) if len(text) > _LARGE}
    encode = core.encode_batch if with_offsets else core.encode_batch_fast
    shown = [large[place].text if place in large else text for place, text in enumerate(texts)]
    found = [_all(encoding, with_offsets) for encoding in encode(shown, add_special_tokens=False)]
    for place, seen in large.items() if with_offsets else ():
        pieces = found[place]
        found[place] = pieces._replace(
            starts=seen.places(pieces.starts), ends=seen.ends(pieces.ends)
        )
    return found


def disable_truncation(core: Tokenizer) -> None:
    """Switch off truncation and padding, which who shares the tokenizer may have switched on."""
    if core.truncation is not None:
        core.no_truncation()
    if core.padding is not None:
        core.no_padding()


def _all(encoding, with_offsets: bool) -> Pieces:
    """Every token of an encoding."""
    ids, nothing = np.asarray(encoding.ids, np.int32), np.zeros(0, np.int64)
    if not with_offsets:
        return Pieces(ids, nothing, nothing, nothing, True)
    places = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
    words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
    return Pieces(ids, places[:, 0], places[:, 1], words, True)


def _long(core: Tokenizer, text: str, limit: int, *, side: str) -> Pieces:
    """The kept ends of a long text."""
    if side == "right":
        return _head(core, text, limit)
    if side == "left":
        return _tail(core, text, limit)
    head = _head(core, text, limit)
    if head.is_whole:
        return head
    tail = _tail(core, text, limit)
    words = np.concatenate(
        [head.words[:limit], tail.words[-limit:] + (head.words[:limit].max() + 1)]
    )
    parts = (
        np.concatenate([getattr(head, name)[:limit], getattr(tail, name)[-limit:]])
        for name in ("ids", "starts", "ends")
    )
    return Pieces(*parts, words=words, is_whole=False)


def _head(core: Tokenizer, text: str, limit: int) -> Pieces:
    """The first tokens of a long text."""
    return _grow(core, text, limit, from_end=False)


def _tail(core: Tokenizer, text: str, limit: int) -> Pieces:
    """The last tokens of a long text."""
    return _grow(core, text, limit, from_end=True)


def _grow(core: Tokenizer, text: str, limit: int, *, from_end: bool) -> Pieces:
    """Tokenize more and more of a text from one end until enough of its tokens are sure."""
    run = max(_RUN, 2 * _RUN_TOKEN * limit)
    margin = max(
        (len(token.content) for token in core.get_added_tokens_decoder().values()), default=0
    )
    length, seen = (
        _FIRST * limit + margin,
        Condensed(text, np.zeros(1, np.int64), np.zeros(1, np.int64)),
    )
    while True:
        is_whole = length >= len(seen.text)
        start = max(0, len(seen.text) - length) if from_end else 0
        part = seen.text[start : start + length]
        pieces = _all(core.encode(part, add_special_tokens=False), True)
        sure = (
            slice(None)
            if is_whole
            else _sure(pieces, len(part), margin, run=run, from_end=from_end)
        )
        if is_whole or len(pieces.ids[sure]) >= limit:
            places = seen.places(pieces.starts[sure] + start), seen.ends(pieces.ends[sure] + start)
            return Pieces(pieces.ids[sure], *places, pieces.words[sure], is_whole)
        if length == _FIRST * limit + margin:
            seen = condense(text, run)
        length *= 4


def _sure(pieces: Pieces, length: int, margin: int, *, run: int, from_end: bool) -> slice:
    """The tokens that the cut of a text of `length` characters cannot have changed, which follow each other.

    Those are the words that are neither near the cut in words nor in characters (an added token may have several
    words). Before a cut they are also pieces of a word that end further from it than a run is kept: pieces are made
    from left to right.
    """
    if not len(pieces.ids):
        return slice(0)
    if from_end:
        distance_T, apart_T = pieces.starts, pieces.words - pieces.words[0]
    else:
        distance_T, apart_T = length - pieces.ends, pieces.words[-1] - pieces.words
    is_sure_T = (distance_T >= margin) & (
        (apart_T >= _SPARE) | ((distance_T >= run) & (not from_end))
    )
    if from_end:
        unsure = np.flatnonzero(~is_sure_T)
        return slice(int(unsure[-1]) + 1 if len(unsure) else 0, None)
    return slice(int(np.argmin(is_sure_T)) if not is_sure_T.all() else None)


def longest_first(
    firsts: Sequence[int], seconds: Sequence[int], room: int
) -> tuple[np.ndarray, np.ndarray]:
    """How many tokens are left of the two texts of pairs so that both fit: the longer one loses tokens first.

    Args:
      firsts: numbers of tokens of the first texts, [pairs].
      seconds: those of the second texts.
      room: tokens of both together.

    Returns:
      Two arrays int64 [pairs], as the truncation "longest_first" of the tokenizers library leaves them: where both
      are longer than half of the room, the longer one has the odd token, the second one of two of equal length.
    """
    first_P, second_P = np.asarray(firsts, np.int64), np.asarray(seconds, np.int64)
    short_P, long_P = np.minimum(first_P, second_P), np.maximum(first_P, second_P)
    left_P = np.where(short_P > room, short_P, np.maximum(short_P, room - short_P))
    is_over_P = short_P + left_P > room
    short_left_P = np.where(is_over_P, room // 2, short_P)
    long_left_P = np.minimum(np.where(is_over_P, room - room // 2, left_P), long_P)
    is_swapped_P = first_P > second_P
    return np.where(is_swapped_P, long_left_P, short_left_P), np.where(
        is_swapped_P, short_left_P, long_left_P
    )
