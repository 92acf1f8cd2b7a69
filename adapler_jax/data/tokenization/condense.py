"""Long runs of characters of one kind, shortened, so that no text costs more than its tokens are worth."""

import functools
import sys
import unicodedata
from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 20  # characters that are looked at together
_PERIOD = 6720  # characters that are left out are a multiple of it, 64 * 3 * 5 * 7: tokens of blanks keep their phase
_LETTER, _EMPTY, _MARK, _SYMBOL, _ALONE = range(5)
_CHINESE = (
    (0x2E80, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # characters that BERT takes for words


class Condensed(NamedTuple):
    """A text without the middle of its long runs."""

    text: str
    starts: np.ndarray  # int64 [parts], where each kept part starts in `text`
    shifts: (
        np.ndarray
    )  # int64 [parts], what to add to a place in the part for the place in the whole text

    def places(self, place_T: np.ndarray) -> np.ndarray:
        """Places of the whole text, for places of the condensed one that are starts of characters."""
        return place_T + self.shifts[np.searchsorted(self.starts, place_T, side="right") - 1]

    def ends(self, place_T: np.ndarray) -> np.ndarray:
        """As `places`, for places after characters."""
        return np.where(
            place_T > 0, self.places(np.maximum(place_T - 1, 0)) + 1, place_T + self.shifts[0]
        )


def condense(text: str, longest: int) -> Condensed:
    """Take the middle out of every run of characters of one kind until it has hardly more than `longest`.

    The kinds are letters and numbers; blanks and control characters; combining marks; symbols; and what tokenizers
    take for words, punctuation and Chinese characters. The first half of a run has as many tokens as anyone reads, or
    the whole run has none, or is one unknown token.
    """
    changes = [np.zeros(1, np.int64)]
    last = -1
    for start in range(0, len(text), _BLOCK):
        kind_T = _kinds()[
            np.frombuffer(
                text[start : start + _BLOCK].encode("utf-32-le", "surrogatepass"), np.uint32
            )
        ]
        changed_T = np.flatnonzero(np.diff(kind_T, prepend=np.int8(last)))
        changes.append(changed_T + start)
        last = int(kind_T[-1])
    edges = np.unique(np.concatenate([*changes, [len(text)]]))
    lengths = np.diff(edges)
    less = np.maximum(lengths - longest, 0) // _PERIOD * _PERIOD
    long = np.flatnonzero(less)
    left_end = edges[long] + (lengths[long] - less[long]) // 2
    starts = np.concatenate([[0], left_end + less[long]])
    ends = np.concatenate([left_end, [len(text)]])
    parts = [text[start:end] for start, end in zip(starts.tolist(), ends.tolist())]
    places = np.concatenate([[0], np.cumsum([len(part) for part in parts])])[:-1]
    return Condensed("".join(parts), places.astype(np.int64), (starts - places).astype(np.int64))


@functools.cache
def _kinds() -> np.ndarray:
    """The kind of every character, int8 by its code point."""
    table = np.full(sys.maxunicode + 1, _LETTER, np.int8)
    for first, last in (
        (0, 0x3400),
        (0xA000, 0xAC00),
        (0xD7A4, 0xD800),
        (0xF900, 0x20000),
        (0xE0000, 0xE0200),
    ):
        table[first:last] = [_kind(chr(code)) for code in range(first, last)]
    table[0xD800:0xF900] = _EMPTY  # halves of characters, private use
    table[0xE0200:] = _EMPTY
    for first, last in _CHINESE:
        table[first : last + 1] = _ALONE
    return table


def _kind(character: str) -> int:
    """The kind of a character by its Unicode category."""
    category = unicodedata.category(character)[0]
    if character.isascii() and category in "PS":
        return _ALONE
    return {"C": _EMPTY, "Z": _EMPTY, "M": _MARK, "S": _SYMBOL, "P": _ALONE}.get(category, _LETTER)
