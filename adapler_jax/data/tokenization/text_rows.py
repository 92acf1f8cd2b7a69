"""Texts and pairs of texts -> rows of at most so many tokens: one path for training, evaluation and answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.tokenization.pieces import SIDES, Pieces, encode_pieces, longest_first
from adapler_jax.data.tokenization.templates import Template, fill_template, read_template

_MAX_COMPARED = 1 << 16  # tokens up to which it is looked at which text of a pair is the longer one
_NOTHING = np.zeros(0, np.int32)


class TextRows(NamedTuple):
    """Rows, [CLS] first, and the tokens of the texts in them."""

    tokens: Ragged  # int32
    segments: Ragged  # int8
    template: Template
    parts: tuple[
        list[Pieces], ...
    ]  # of the first texts, and of the second ones of pairs: what the rows hold of them

    def is_cut(self, row: int) -> bool:
        """Whether a text of the row has more tokens."""
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
    """Tokenize texts, or pairs of texts, and cut them to rows.

    Args:
      core: as `load_core` gives it.
      texts: of any length and content.
      text_pairs: as many second texts; None for single texts.
      max_length: tokens of a row, special ones included; the longer text of a pair is cut first.
      truncation_side: where texts that are too long lose tokens: right (the end), left (the beginning), or middle.
      with_offsets: tell of the tokens where they are in the text, as `encode_pieces`.

    Returns:
      The rows.

    Raises:
      ValueError: max_length leaves no room for text, or truncation_side is none of those.
    """
    if truncation_side not in SIDES:
        raise ValueError(f"truncation_side is {truncation_side!r:.60}; expected {', '.join(SIDES)}")
    template = read_template(core, pair=text_pairs is not None, is_strict=False)
    room = max_length - template.num_special
    if room < 1:
        raise ValueError(
            f"max_length {max_length} leaves no room for text beside {template.num_special} special tokens; raise it"
        )
    options = {"side": truncation_side, "with_offsets": with_offsets}
    firsts = encode_pieces(core, texts, room, **options)
    if text_pairs is None:
        firsts = [pieces.keep(room, truncation_side) for pieces in firsts]
        return TextRows(
            *fill_template(template, [(pieces.ids, _NOTHING) for pieces in firsts]),
            template,
            (firsts,),
        )
    seconds = encode_pieces(core, text_pairs, room, **options)
    lengths = np.array(
        [
            _lengths(core, pair, room)
            for pair in zip(texts, text_pairs, firsts, seconds, strict=True)
        ]
    )
    counts = longest_first(*lengths.reshape(-1, 2).T, room)
    firsts, seconds = (
        [pieces.keep(int(count), truncation_side) for pieces, count in zip(part, count_P)]
        for part, count_P in zip((firsts, seconds), counts)
    )
    pairs = [(first.ids, second.ids) for first, second in zip(firsts, seconds)]
    return TextRows(*fill_template(template, pairs), template, (firsts, seconds))


def _lengths(core: Tokenizer, pair: tuple[str, str, Pieces, Pieces], room: int) -> tuple[int, int]:
    """Numbers of tokens of two texts, or of what is cut as they are: where both are too long, the longer one counts."""
    *texts, first, second = pair
    lengths = [
        len(pieces.ids) if pieces.is_whole else max(len(pieces.ids), room + 1)
        for pieces in (first, second)
    ]
    if min(lengths) <= room:
        return tuple(lengths)
    return (
        room + 2 if room % 2 and _is_longer(core, texts, (first, second)) else room + 1
    ), room + 1


def _is_longer(core: Tokenizer, texts: list[str], found: tuple[Pieces, Pieces]) -> bool:
    """Whether the first of two texts has more tokens; False where both have more than can be looked at."""
    first, second = found
    while not (first.is_whole and second.is_whole):
        if first.is_whole or second.is_whole:
            whole, other = (first, second) if first.is_whole else (second, first)
            if len(other.ids) >= len(whole.ids):  # and it has more
                return second.is_whole
        limit = 4 * max(len(first.ids), len(second.ids))
        if limit > _MAX_COMPARED:
            return False
        first, second = encode_pieces(core, texts, limit)
    return len(first.ids) > len(second.ids)
