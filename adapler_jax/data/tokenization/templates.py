"""Put tokenized texts between a tokenizer's special tokens, and join chunks of rows."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tokenizers import Encoding, Tokenizer

from adapler_jax.data.batching.ragged import Ragged, join_ragged, offsets_of, ragged, runs
from adapler_jax.data.tokenization.pieces import disable_truncation, encode_all

PROBES = ("a", "b")  # texts that reveal a template
_SPECIAL = -1  # instead of the index of a text
_PAIR_ORDER = [_SPECIAL, 0, _SPECIAL, 1, _SPECIAL]

Chunk = TypeVar("Chunk")


class Template(NamedTuple):
    """The special tokens around a text or a pair: first, text, middle, second text, last.

    Attributes:
      first: int32, token ids before the text.
      middle: int32, token ids between the texts of a pair; empty for a single text.
      last: int32, token ids after the last text.
      segments: int8 [5], the segment of each of the five parts.
    """

    first: np.ndarray
    middle: np.ndarray
    last: np.ndarray
    segments: np.ndarray

    @property
    def num_special(self) -> int:
        """Return the number of special tokens of a row."""
        return len(self.first) + len(self.middle) + len(self.last)


def read_template(core: Tokenizer, *, pair: bool, is_strict: bool = True) -> Template:
    """Detect the special tokens from a short text or pair: BERT's or RoBERTa's form, or similar.

    Truncation and padding of the tokenizer are disabled, since rows are cut here.

    Args:
      core: the tokenizer.
      pair: the template of two texts.
      is_strict: special tokens must be before, between and after the texts of a pair.

    Raises:
      ValueError: the tokenizer has no token for a short text, or not these special tokens.
    """
    disable_truncation(core)
    found = core.encode(PROBES[0], PROBES[1] if pair else None)
    part_T = np.array([_SPECIAL if part is None else part for part in found.sequence_ids])
    _check_parts(found, part_T, pair=pair, is_strict=is_strict)
    start, end = _span_of(part_T, 0)
    next_start, next_end = _span_of(part_T, 1) if pair else (end, end)
    edges = [0, start, end, next_start, next_end, len(part_T)]
    ids, kinds = np.array(found.ids, np.int32), np.array(found.type_ids, np.int8)
    parts = [slice(*edge) for edge in itertools.pairwise(edges)]
    segments = [kinds[part][0] if kinds[part].size else 0 for part in parts]
    first, _, middle, _, last = (ids[part] for part in parts)
    return Template(first, middle, last, np.array(segments, np.int8))


def _check_parts(found: Encoding, part_T: np.ndarray, *, pair: bool, is_strict: bool) -> None:
    """Raise ValueError if the tokens of the probes do not have the form of a template."""
    if not all((part_T == part).any() for part in range(1 + pair)):
        raise ValueError(
            f"the tokenizer has no tokens for {PROBES[0]!r} and {PROBES[1]!r}; use one that has "
            "letters"
        )
    order = [int(part) for part, _ in itertools.groupby(part_T)]
    texts = [part for part in order if part != _SPECIAL]
    is_complete = order == _PAIR_ORDER or (not is_strict and texts == [0, 1])
    if pair and not is_complete:
        raise ValueError(
            f"the tokenizer makes {found.tokens} of two texts; expected [CLS] text [SEP] text [SEP]"
        )


def _span_of(part_T: np.ndarray, part: int) -> tuple[int, int]:
    """Return the start and the end of a text among the tokens."""
    indices = np.flatnonzero(part_T == part)
    return int(indices[0]), int(indices[-1]) + 1


def marker_ids(core: Tokenizer, markers: Sequence[str]) -> list[int]:
    """Return the ids of marker tokens.

    Raises:
      ValueError: the vocabulary lacks a marker.
    """
    ids = []
    for marker in markers:
        token_id = core.token_to_id(marker)
        if token_id is None:
            raise ValueError(
                f"the vocabulary has no {marker!r}, which marks parts of the text; use the "
                "tokenizer of a BERT checkpoint, or give as markers other tokens of this "
                "vocabulary that no text uses"
            )
        ids.append(token_id)
    return ids


def token_rows(core: Tokenizer, texts: Sequence[str]) -> list[np.ndarray]:
    """Return the token ids of each text without special tokens, int32."""
    return [pieces.ids for pieces in encode_all(core, texts)]


def fill_template(
    template: Template, pairs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[Ragged, Ragged]:
    """Put the tokens of first and second texts into a template.

    Args:
      template: the special tokens.
      pairs: token ids of both texts of each row; the second ones are empty for single texts.

    Returns:
      Tokens, int32 rows, and segments, int8 rows.
    """
    pairs = list(pairs)
    firsts = ragged([first for first, _ in pairs], np.int32)
    seconds = ragged([second for _, second in pairs], np.int32)
    return fill_template_ragged(template, firsts, seconds)


def fill_template_ragged(
    template: Template, firsts: Ragged, seconds: Ragged
) -> tuple[Ragged, Ragged]:
    """Put ragged rows of first and second texts into a template, as `fill_template` does."""
    lengths = np.empty((len(firsts), 5), np.int64)
    lengths[:, ::2] = [len(template.first), len(template.middle), len(template.last)]
    lengths[:, 1], lengths[:, 3] = firsts.lengths, seconds.lengths
    offsets = offsets_of(lengths.ravel())
    starts = offsets[:-1].reshape(-1, 5)
    tokens = np.empty(offsets[-1], np.int32)
    for part, ids in ((0, template.first), (2, template.middle), (4, template.last)):
        for index, token in enumerate(ids):
            tokens[starts[:, part] + index] = token
    for part, texts in ((1, firsts), (3, seconds)):
        tokens[runs(starts[:, part], texts.lengths)] = texts.values
    segments = np.repeat(np.tile(template.segments, len(firsts)), lengths.ravel())
    return Ragged(tokens, offsets[::5]), Ragged(segments, offsets[::5])


def join_chunks(chunks: Sequence[Chunk]) -> Chunk:
    """Join chunks of rows, data classes of one type, into one.

    Lists, arrays and Ragged rows are concatenated; numbers are the last chunk's. In chunks with
    `ids`, the field `question` continues its count by the number of `ids`.

    Args:
      chunks: at least one.
    """
    fields: dict[str, list] = {
        field.name: [getattr(chunk, field.name) for chunk in chunks]
        for field in dataclasses.fields(chunks[0])  # type: ignore[arg-type] # a data class
    }
    if {"question", "ids"} <= fields.keys():
        starts = offsets_of([len(ids) for ids in fields["ids"]]).astype(np.int32)
        fields["question"] = [numbers + start for numbers, start in zip(fields["question"], starts)]
    return type(chunks[0])(**{name: _join(values) for name, values in fields.items()})


def _join(values: list) -> Any:
    """Join the values of one field."""
    first = values[0]
    if isinstance(first, Ragged):
        return join_ragged(values)
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    if isinstance(first, list):
        return list(itertools.chain.from_iterable(values))
    return values[-1]
