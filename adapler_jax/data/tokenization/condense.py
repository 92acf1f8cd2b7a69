"""Shorten long runs of characters of one kind, so that tokenizing costs no more than the tokens."""

import functools
import sys
import unicodedata
from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 20  # characters that are classified together
# Removed characters come in multiples of 64 * 3 * 5 * 7. Tokens of several blanks then start at
# the same offsets modulo their length.
_PERIOD = 6720
_LETTER, _EMPTY, _COMBINING, _SYMBOL, _ALONE = range(5)
_CATEGORY_KINDS = {"C": _EMPTY, "Z": _EMPTY, "M": _COMBINING, "S": _SYMBOL, "P": _ALONE}
# Code points that BERT takes for words of one character.
_CHINESE = ((0x2E80, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
# Code points of mixed categories; all others before 0xD800 are letters.
_MIXED = (
    (0, 0x3400),
    (0xA000, 0xAC00),
    (0xD7A4, 0xD800),
    (0xF900, 0x20000),
    (0xE0000, 0xE0200),
)


class Condensed(NamedTuple):
    """A text without the middle of its long runs.

    Attributes:
      text: the kept parts, joined.
      starts: int64 [parts], offset of each part in `text`.
      shifts: int64 [parts], added to an offset in `text` to give the offset in the whole text.
    """

    text: str
    starts: np.ndarray
    shifts: np.ndarray

    def whole_starts(self, offset_T: np.ndarray) -> np.ndarray:
        """Return offsets in the whole text for offsets of characters in `text`."""
        part_T = np.searchsorted(self.starts, offset_T, side="right") - 1
        return offset_T + self.shifts[part_T]

    def whole_ends(self, offset_T: np.ndarray) -> np.ndarray:
        """Return offsets in the whole text for offsets after characters in `text`."""
        after_T = self.whole_starts(np.maximum(offset_T - 1, 0)) + 1
        return np.where(offset_T > 0, after_T, offset_T + self.shifts[0])


def uncondensed(text: str) -> Condensed:
    """Return a whole text as one part."""
    return Condensed(text, np.zeros(1, np.int64), np.zeros(1, np.int64))


def condense(text: str, longest: int) -> Condensed:
    """Remove the middle of every run of one kind that is longer than about `longest` characters.

    The kinds are letters and numbers; blanks and control characters; combining characters;
    symbols; and characters that tokenizers take for words: punctuation and Chinese characters.
    The first half of a run gives more tokens than are read, or the whole run gives no token or
    one unknown token.
    """
    edges = _run_edges(text)
    lengths = np.diff(edges)
    removed = np.maximum(lengths - longest, 0) // _PERIOD * _PERIOD
    long = np.flatnonzero(removed)
    kept_ends = edges[long] + (lengths[long] - removed[long]) // 2
    starts = np.concatenate([[0], kept_ends + removed[long]])
    ends = np.concatenate([kept_ends, [len(text)]])
    parts = [text[start:end] for start, end in zip(starts.tolist(), ends.tolist())]
    part_ends = np.cumsum([len(part) for part in parts])
    part_starts = np.concatenate([[0], part_ends[:-1]]).astype(np.int64)
    return Condensed("".join(parts), part_starts, (starts - part_starts).astype(np.int64))


def _run_edges(text: str) -> np.ndarray:
    """Return the offsets at which runs of one kind start, and the length of the text; int64."""
    edges = [np.zeros(1, np.int64)]
    last = -1
    for start in range(0, len(text), _BLOCK):
        encoded = text[start : start + _BLOCK].encode("utf-32-le", "surrogatepass")
        kind_T = _kinds()[np.frombuffer(encoded, np.uint32)]
        changed_T = np.flatnonzero(np.diff(kind_T, prepend=np.int8(last)))
        edges.append(changed_T + start)
        last = int(kind_T[-1])
    return np.unique(np.concatenate([*edges, [len(text)]]))


@functools.cache
def _kinds() -> np.ndarray:
    """Return the kind of every code point, int8."""
    table = np.full(sys.maxunicode + 1, _LETTER, np.int8)
    for first, end in _MIXED:
        table[first:end] = [_kind(chr(code)) for code in range(first, end)]
    table[0xD800:0xF900] = _EMPTY  # surrogates and private use
    table[0xE0200:] = _EMPTY
    for first, last in _CHINESE:
        table[first : last + 1] = _ALONE
    return table


def _kind(character: str) -> int:
    """Return the kind of a character by its Unicode category."""
    category = unicodedata.category(character)[0]
    if character.isascii() and category in "PS":
        return _ALONE
    return _CATEGORY_KINDS.get(category, _LETTER)
