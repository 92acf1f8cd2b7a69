"""Plain BERT as fast as it goes: what every saving of a pruner is measured against."""

import jax
import jax.numpy as jnp

from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.types import Batch, EncoderConfig, Params, Trace

CHUNK_TOKENS = 1024  # of a CPU's pass through all layers: its inner states stay in the caches


def forward(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    *,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
):
    """Logits float32 of the head for one batch and a Trace, empty but for the last states [B, L, D] where asked for.

    Params: layers stacked, or as `encoder.prepare_inference_params` gives them.
    """
    tokens = (batch.token_BL, batch.segment_BL, batch.valid_BL)

    def encode(*tokens):
        hidden_BLD = encoder.encode(params["encoder"], config, *tokens, dtype=dtype)
        return hidden_BLD if return_exit_hidden or head.needs_all_states else hidden_BLD[:, :1]

    hidden_BLD = in_chunks_on_cpu(encode, *tokens)
    if return_exit_hidden or head.needs_all_states:
        hidden_BLD = jnp.where(batch.valid_BL[..., None], hidden_BLD, 0.0)
    logits = head.apply(
        params["head"], config, hidden_BLD if head.needs_all_states else hidden_BLD[:, 0], batch
    )
    return zero_empty_rows(logits, jnp.any(batch.valid_BL, axis=1)), Trace(
        exit_hidden_BLD=hidden_BLD if return_exit_hidden else None
    )


def in_chunks_on_cpu(function, *arrays_BL):
    """`function(*arrays_BL)` on CPUs in chunks of about CHUNK_TOKENS tokens, elsewhere at once."""
    return jax.lax.platform_dependent(
        *arrays_BL,
        cpu=lambda *arrays: in_chunks(function, arrays, num_rows=chunk_rows(arrays_BL[0].shape[1])),
        default=function,
    )


def chunk_rows(length: int) -> int:
    """Rows of a chunk of CHUNK_TOKENS tokens, one at least."""
    return max(1, CHUNK_TOKENS // length)


def chunk_sizes(batch_size: int, length: int) -> tuple[int, int]:
    """(number of chunks, rows of each) of a batch on CPUs; the last one is filled up."""
    num_chunks = -(-batch_size // chunk_rows(length))
    return num_chunks, -(-batch_size // num_chunks)


def in_chunks(function, arrays, *, num_rows: int):
    """`function(*arrays)` a few rows at a time, one program for all; the last chunk is filled up with its rows' copies.

    Chunks are of equal size, at most `num_rows`, so that little is filled up.
    """
    B = arrays[0].shape[0]
    num_chunks = -(-B // num_rows)
    if num_chunks == 1:
        return function(*arrays)
    size = -(-B // num_chunks)
    row = jnp.minimum(jnp.arange(num_chunks * size), B - 1).reshape(num_chunks, size)
    found = jax.lax.map(lambda row: function(*(array[row] for array in arrays)), row)
    return jax.tree.map(lambda leaf: leaf.reshape(num_chunks * size, *leaf.shape[2:])[:B], found)
