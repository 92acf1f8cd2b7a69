"""Rows of several tokenized pieces between the special tokens of a tokenizer, and chunks of rows joined into one."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged, join_ragged, offsets_of, ragged, runs
from adapler_jax.data.tokenization.pieces import disable_truncation, encode_all

PROBES = ("a", "b")  # texts that show a template


class Template(NamedTuple):
    """Where a tokenizer puts special tokens around a text or a pair: first, text, middle, second text, last.

    Of a single text, middle and what follows it are empty but for `last`.
    """

    first: np.ndarray  # int32
    middle: np.ndarray
    last: np.ndarray
    segments: np.ndarray  # int8 [5], of each of the five parts

    @property
    def num_special(self) -> int:
        """Number of special tokens of a row."""
        return len(self.first) + len(self.middle) + len(self.last)


def read_template(core: Tokenizer, *, pair: bool, is_strict: bool = True) -> Template:
    """Read off two short texts, or one, what stands around them: [CLS] a [SEP] b [SEP], RoBERTa's form too.

    Truncation and padding of the tokenizer are switched off, since rows are cut here.

    Raises:
      ValueError: the tokenizer gives no token for a short text, or does not put something before, between and behind
        the texts of a pair; without is_strict, something that is no text may be missing.
    """
    disable_truncation(core)
    found = core.encode(*PROBES[: 1 + pair])
    places = np.array([-1 if part is None else part for part in found.sequence_ids])
    if not all((places == part).any() for part in range(1 + pair)):
        raise ValueError(
            f"the tokenizer has no tokens for {PROBES[0]!r} and {PROBES[1]!r}; use one that has letters"
        )
    order = [part for part, _ in itertools.groupby(places)]
    if (
        pair
        and order != [-1, 0, -1, 1, -1]
        and (is_strict or [part for part in order if part >= 0] != [0, 1])
    ):
        raise ValueError(
            f"the tokenizer makes {found.tokens} of two texts; expected [CLS] text [SEP] text [SEP]"
        )
    ids, kinds = np.array(found.ids, np.int32), np.array(found.type_ids, np.int8)
    start, end = np.flatnonzero(places == 0)[[0, -1]]
    next_start, next_end = np.flatnonzero(places == 1)[[0, -1]] if pair else (end + 1, end)
    parts = [slice(0, start), slice(start, end + 1), slice(end + 1, next_start)]
    parts += [slice(next_start, next_end + 1), slice(next_end + 1, len(ids))]
    segments = np.array([kinds[part][0] if kinds[part].size else 0 for part in parts], np.int8)
    return Template(ids[parts[0]], ids[parts[2]], ids[parts[4]], segments)


def marker_ids(core: Tokenizer, markers: Sequence[str]) -> list[int]:
    """Numbers of marker tokens. Raises ValueError where the vocabulary lacks one."""
    for marker in markers:
        if core.token_to_id(marker) is None:
            raise ValueError(
                f"the vocabulary has no {marker!r}, which marks parts of the text; use the tokenizer of a BERT "
                "checkpoint, or give as markers other tokens of this vocabulary that no text uses"
            )
    return [core.token_to_id(marker) for marker in markers]


def token_rows(core: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokens of each text without special ones, int32."""
    return [pieces.ids for pieces in encode_all(core, texts)]


def fill_template(
    template: Template, pairs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[Ragged, Ragged]:
    """Put the tokens of first and second texts into a template.

    Returns:
      Tokens, int32 rows, and segments, int8 rows.
    """
    pairs = list(pairs)
    firsts, seconds = (ragged([pair[part] for pair in pairs], np.int32) for part in (0, 1))
    return fill_template_ragged(template, firsts, seconds)


def fill_template_ragged(
    template: Template, firsts: Ragged, seconds: Ragged
) -> tuple[Ragged, Ragged]:
    """As `fill`, of rows that lie end to end."""
    special = (template.first, template.middle, template.last)
    lengths = np.empty((len(firsts), 5), np.int64)
    lengths[:, ::2] = [len(ids) for ids in special]
    lengths[:, 1], lengths[:, 3] = firsts.lengths, seconds.lengths
    starts = offsets_of(lengths.ravel())
    tokens = np.empty(starts[-1], np.int32)
    places = starts[:-1].reshape(-1, 5)
    for part, ids in zip((0, 2, 4), special):
        for number, token in enumerate(ids):
            tokens[places[:, part] + number] = token
    for part, texts in ((1, firsts), (3, seconds)):
        tokens[runs(places[:, part], texts.lengths)] = texts.values
    segments = np.repeat(np.tile(template.segments, len(firsts)), lengths.ravel())
    return Ragged(tokens, starts[::5]), Ragged(segments, starts[::5])


def join_chunks(chunks: Sequence):
    """Make one of several chunks of rows, data classes of one type.

    Args:
      chunks: at least one. Their lists (of questions) follow each other, as do their arrays and Ragged rows. Where they
        have `ids`, the field `question` counts on through the chunks by the length of it; numbers are the last chunk's.

    Returns:
      A data class of the same type.
    """
    fields = {
        field.name: [getattr(chunk, field.name) for chunk in chunks]
        for field in dataclasses.fields(chunks[0])
    }
    if {"question", "ids"} <= fields.keys():
        starts = offsets_of([len(ids) for ids in fields["ids"]]).astype(np.int32)
        fields["question"] = [numbers + start for numbers, start in zip(fields["question"], starts)]
    return type(chunks[0])(**{name: _join(values) for name, values in fields.items()})


def _join(values: list):
    """Join the values of one field."""
    if isinstance(values[0], Ragged):
        return join_ragged(values)
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return (
        [item for items in values for item in items] if isinstance(values[0], list) else values[-1]
    )
