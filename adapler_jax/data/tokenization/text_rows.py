"""Turn texts and pairs of texts into rows of limited length, for training and for inference."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.tokenization.pieces import SIDES, Pieces, encode_pieces, longest_first
from adapler_jax.data.tokenization.templates import Template, fill_template, read_template
from adapler_jax.io.messages import explain_unknown

_MAX_COMPARED = 1 << 16  # tokens of each text of a pair that are compared in length
_NOTHING = np.zeros(0, np.int32)


class TextRows(NamedTuple):
    """Rows that start with [CLS], and the tokens of the texts in them.

    Attributes:
      tokens: int32 rows.
      segments: int8 rows.
      template: the special tokens.
      parts: kept tokens of the first texts, and of the second texts of pairs.
    """

    tokens: Ragged
    segments: Ragged
    template: Template
    parts: tuple[list[Pieces], ...]

    def is_cut(self, row: int) -> bool:
        """Return whether a text of the row lost tokens."""
        return not all(part[row].is_whole for part in self.parts)


def encode_rows(
    core: Tokenizer,
    texts: Sequence[str],
    text_pairs: Sequence[str] | None = None,
    *,
    max_length: int,
    truncation_side: str = "right",
    with_offsets: bool = False,
) -> TextRows:
    """Tokenize texts or pairs of texts and cut them to rows.

    Args:
      core: from `load_core`.
      texts: of any length and content.
      text_pairs: as many second texts; None for single texts.
      max_length: tokens of a row with special tokens; the longer text of a pair is cut first.
      truncation_side: where long texts lose tokens: right (the end), left or middle.
      with_offsets: keep the character offsets of the tokens, as in `encode_pieces`.

    Raises:
      ValueError: max_length leaves no room for text, or truncation_side is unknown.
    """
    if truncation_side not in SIDES:
        raise ValueError(explain_unknown("truncation_side", truncation_side, SIDES))
    template = read_template(core, pair=text_pairs is not None, is_strict=False)
    room = max_length - template.num_special
    if room < 1:
        raise ValueError(
            f"max_length {max_length} leaves no room for text next to {template.num_special} "
            "special tokens; raise it"
        )
    encode = functools.partial(
        encode_pieces, core, limit=room, side=truncation_side, with_offsets=with_offsets
    )
    firsts = encode(texts)
    if text_pairs is None:
        firsts = [pieces.keep(room, truncation_side) for pieces in firsts]
        tokens, segments = fill_template(template, [(pieces.ids, _NOTHING) for pieces in firsts])
        return TextRows(tokens, segments, template, (firsts,))
    seconds = encode(text_pairs)
    pairs = zip(texts, text_pairs, firsts, seconds, strict=True)
    lengths = np.array([_lengths(core, *pair, room=room) for pair in pairs]).reshape(-1, 2)
    first_P, second_P = longest_first(lengths[:, 0], lengths[:, 1], room)
    firsts = _keep_each(firsts, first_P, truncation_side)
    seconds = _keep_each(seconds, second_P, truncation_side)
    ids = [(first.ids, second.ids) for first, second in zip(firsts, seconds)]
    return TextRows(*fill_template(template, ids), template, (firsts, seconds))


def _keep_each(texts: list[Pieces], counts: np.ndarray, side: str) -> list[Pieces]:
    """Cut each text to its own number of tokens."""
    return [pieces.keep(int(count), side) for pieces, count in zip(texts, counts)]


def _lengths(
    core: Tokenizer, text: str, other_text: str, first: Pieces, second: Pieces, *, room: int
) -> tuple[int, int]:
    """Return lengths of two texts that `longest_first` cuts as it would cut the true lengths.

    If both texts fill the room, only the order of their lengths matters, and only for an odd room.
    """
    lengths = _known_length(first, room), _known_length(second, room)
    if min(lengths) <= room:
        return lengths
    is_longer = room % 2 == 1 and _is_longer(core, (text, other_text), first, second)
    return (room + 2 if is_longer else room + 1), room + 1


def _known_length(pieces: Pieces, room: int) -> int:
    """Return the number of tokens; of a text that is not whole, more than the room."""
    return len(pieces.ids) if pieces.is_whole else max(len(pieces.ids), room + 1)


def _is_longer(core: Tokenizer, texts: Sequence[str], first: Pieces, second: Pieces) -> bool:
    """Return whether the first text has more tokens; False beyond _MAX_COMPARED tokens."""
    while not (first.is_whole and second.is_whole):
        if first.is_whole or second.is_whole:
            whole, other = (first, second) if first.is_whole else (second, first)
            # `other` has more tokens than the ones that are there.
            if len(other.ids) >= len(whole.ids):
                return second.is_whole
        limit = 4 * max(len(first.ids), len(second.ids))
        if limit > _MAX_COMPARED:
            return False
        first, second = encode_pieces(core, texts, limit)
    return len(first.ids) > len(second.ids)
