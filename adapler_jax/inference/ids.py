"""Check token and segment ids on the host: a device would clamp ids out of range silently."""

from typing import NamedTuple

import jax
import numpy as np

from adapler_jax.types import Batch, EncoderConfig


class _Table(NamedTuple):
    """A table of the encoder and the ids that index it."""

    name: str
    ids: np.ndarray
    size: int
    advice: str


def check_ids(batch: Batch, config: EncoderConfig) -> None:
    """Check that the valid tokens and their segments are in the encoder's tables.

    Arrays that are traced or on an accelerator pass unchecked: a transfer would stall it.

    Raises:
      ValueError: an id is out of range.
    """
    for table in _tables(batch.token_BL, batch.segment_BL, config):
        if is_on_host(table.ids):
            ids_BL = np.asarray(table.ids)
            if out_of_range(ids_BL, table.size):
                _check_table(table._replace(ids=ids_BL[np.asarray(batch.valid_BL)]), "the batch")


def check_rows(
    tokens: np.ndarray, segments: np.ndarray, config: EncoderConfig, *, where: str
) -> None:
    """Check that tokens and segments without padding are in the encoder's tables.

    Args:
      tokens: int ids.
      segments: int ids.
      config: of the encoder.
      where: name of the rows in the message.

    Raises:
      ValueError: an id is out of range.
    """
    for table in _tables(tokens, segments, config):
        _check_table(table, where)


def _tables(tokens, segments, config: EncoderConfig) -> tuple[_Table, _Table]:
    """Return both tables of the encoder."""
    return (
        _Table(
            "token",
            tokens,
            config.vocab_size,
            "give the model the tokenizer that it was trained with",
        ),
        _Table(
            "segment",
            segments,
            config.num_segments,
            "give it single texts, or a model that separates first and second texts",
        ),
    )


def is_on_host(ids) -> bool:
    """Return True if an array can be read without waiting for an accelerator."""
    if isinstance(ids, jax.core.Tracer):
        return False
    if not isinstance(ids, jax.Array):
        return True
    return {device.platform for device in ids.devices()} == {"cpu"}


def out_of_range(ids: np.ndarray, size: int) -> bool:
    """Return True if an id is below 0, or not below size."""
    return ids.size > 0 and bool(ids.min() < 0 or ids.max() >= size)


def _check_table(table: _Table, where: str) -> None:
    """Raise ValueError if an id is out of range."""
    if out_of_range(table.ids, table.size):
        smallest, largest = int(table.ids.min()), int(table.ids.max())
        found = smallest if smallest < 0 else largest
        raise ValueError(
            f"{where} has the {table.name} {found}; the model has {table.size}, from 0 to "
            f"{table.size - 1}: {table.advice}"
        )
