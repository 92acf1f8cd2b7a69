"""The plain encoder at its fastest: the baseline of every pruner's speedup."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.plain import encode
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.types import Array, Batch, EncoderConfig, Params, Trace

CHUNK_TOKENS = 1024  # of a CPU's pass through all layers: its inner states stay in the caches


def forward(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    *,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
):
    """Return the head's logits, float32, and a Trace, empty but for the last states on request.

    Layers are stacked, or as `Encoder.prepare_inference_params` returns them.
    """
    encoder = encoder_of(config)
    needs_all = return_exit_hidden or head.needs_all_states

    def run(token_BL, segment_BL, valid_BL):
        """Return the last states of all tokens, or of [CLS]."""
        hidden_BLD = encode(
            encoder,
            params["encoder"],
            config,
            token_BL=token_BL,
            segment_BL=segment_BL,
            valid_BL=valid_BL,
            dtype=dtype,
            needs_all=needs_all,
        )
        return hidden_BLD if needs_all else hidden_BLD[:, :1]

    hidden_BLD = in_chunks_on_cpu(run, batch.token_BL, batch.segment_BL, batch.valid_BL)
    if needs_all:
        hidden_BLD = jnp.where(batch.valid_BL[..., None], hidden_BLD, 0.0)
    states = hidden_BLD if head.needs_all_states else hidden_BLD[:, 0]
    logits = head.apply(params["head"], config, states, batch)
    trace = Trace(exit_hidden_BLD=hidden_BLD if return_exit_hidden else None)
    return zero_empty_rows(logits, jnp.any(batch.valid_BL, axis=1)), trace


def in_chunks_on_cpu(function: Callable, *trees_BL):
    """Return `function(*trees_BL)`, on CPUs in chunks of about CHUNK_TOKENS tokens."""
    length = jax.tree.leaves(trees_BL)[0].shape[1]

    def on_cpu(*trees):
        """Return the results of all chunks."""
        return in_chunks(function, trees, num_rows=chunk_rows(length))

    return jax.lax.platform_dependent(*trees_BL, cpu=on_cpu, default=function)


def chunk_rows(length: int) -> int:
    """Return the rows of a chunk of CHUNK_TOKENS tokens, at least one."""
    return max(1, CHUNK_TOKENS // length)


def chunk_sizes(batch_size: int, length: int) -> tuple[int, int]:
    """Return (number of chunks, rows of each) of a batch on CPUs; the last one is filled up."""
    num_chunks = -(-batch_size // chunk_rows(length))
    return num_chunks, -(-batch_size // num_chunks)


def in_chunks(function: Callable, trees: tuple, *, num_rows: int):
    """Return `function(*trees)`, computed a few rows at a time by one program.

    Chunks are of equal size, at most `num_rows`, so that little is filled up. Copies of the last
    row fill the last one.
    """
    batch_size = jax.tree.leaves(trees)[0].shape[0]
    num_chunks = -(-batch_size // num_rows)
    if num_chunks == 1:
        return function(*trees)
    size = -(-batch_size // num_chunks)
    row = jnp.minimum(jnp.arange(num_chunks * size), batch_size - 1).reshape(num_chunks, size)

    def run(row: Array):
        """Return the results of one chunk."""
        return function(*jax.tree.map(lambda leaf: leaf[row], trees))

    found = jax.lax.map(run, row)
    return jax.tree.map(
        lambda leaf: leaf.reshape(num_chunks * size, *leaf.shape[2:])[:batch_size], found
    )
