"""Numbers of tokens and segments that a model's tables lack: refused on the host, since a device would clamp them."""

import jax
import numpy as np

from adapler_jax.types import Batch, EncoderConfig

ADVICE = {
    "token": "give the model the tokenizer that it was trained with",
    "segment": "give it single texts, or a model that tells first and second texts apart",
}


def check_ids(batch: Batch, config: EncoderConfig) -> None:
    """Raise ValueError where a valid token or its segment is not in the encoder's tables.

    Arrays that are traced, or on an accelerator, are not looked at: reading them back would stall it.
    """
    for what, ids, size in _tables(batch.token_BL, batch.segment_BL, config):
        if is_on_host(ids):
            ids_BL = np.asarray(ids)
            if out_of_range(ids_BL, size) and out_of_range(
                ids_BL[np.asarray(batch.valid_BL)], size
            ):
                refuse(what, ids_BL[np.asarray(batch.valid_BL)], size, where="the batch")


def check_rows(
    tokens: np.ndarray, segments: np.ndarray, config: EncoderConfig, *, where: str
) -> None:
    """Raise ValueError where rows without padding have a token or a segment that is not in the encoder's tables."""
    for what, ids, size in _tables(tokens, segments, config):
        if out_of_range(ids, size):
            refuse(what, ids, size, where=where)


def _tables(tokens, segments, config: EncoderConfig):
    """Return what is numbered, the numbers, and the rows of its table."""
    return ("token", tokens, config.vocab_size), ("segment", segments, config.num_segments)


def is_on_host(ids) -> bool:
    """Return whether an array can be read without waiting for an accelerator."""
    if isinstance(ids, jax.core.Tracer):
        return False
    return not isinstance(ids, jax.Array) or {device.platform for device in ids.devices()} == {
        "cpu"
    }


def out_of_range(ids: np.ndarray, size: int) -> bool:
    """Return whether a number is below 0, or not below size."""
    return ids.size > 0 and bool(ids.min() < 0 or ids.max() >= size)


def refuse(what: str, ids: np.ndarray, size: int, *, where: str) -> None:
    """Raise ValueError that names a number which is out of range."""
    found = int(ids.min() if ids.min() < 0 else ids.max())
    raise ValueError(
        f"{where} has the {what} {found}; the model has {size}, from 0 to {size - 1}: {ADVICE[what]}"
    )
