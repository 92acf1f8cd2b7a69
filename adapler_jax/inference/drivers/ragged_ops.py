"""Rows of a flat buffer [T, ...] that holds the tokens of a batch one after another: what the packed driver moves."""

import jax
import jax.numpy as jnp

MIN_FILL = 0.75  # of a tile, where smaller ones could hold its rows as well


def packed_index(valid_BL):
    """How many valid places lie before each place of the batch, int32 [B, L]."""
    within_BL = jnp.cumsum(valid_BL, axis=1, dtype=jnp.int32)
    count_B = within_BL[:, -1]
    return (jnp.cumsum(count_B) - count_B)[:, None] + within_BL - valid_BL.astype(jnp.int32)


def gather_kept(value_BL, keep_BL, num_slots, *, past=0):
    """The values at the kept places, in order, then `past`: int32 [num_slots]."""
    index_T = jnp.arange(keep_BL.size, dtype=jnp.int32)
    kept_T = jnp.sort(jnp.where(keep_BL.reshape(-1), index_T, keep_BL.size))
    value_T = jnp.where(
        kept_T < keep_BL.size, value_BL.reshape(-1)[jnp.minimum(kept_T, keep_BL.size - 1)], past
    )
    return jnp.pad(value_T, (0, num_slots - keep_BL.size), constant_values=past)


def descending_sizes(sizes):
    """(next smaller size or 0, size) from the largest to the smallest."""
    sizes = sorted(sizes)
    return list(zip((0, *sizes), sizes))[::-1]


def spare_rows(smaller: int, size: int) -> int:
    """Rows up to which a tile of this size is not worth it, given the next smaller size; 0 for the smallest."""
    return max(smaller, int(MIN_FILL * size)) if smaller else 0


def scan_tiles(step, buffers, num_tokens, *, tiles):
    """Runs `step(size, first row, buffers) -> buffers` over the first `num_tokens` rows, from the largest tiles to the
    smallest: a tile is at least MIN_FILL full and holds more than the next smaller one could, but for the last."""
    carry = jnp.int32(0), buffers
    for smaller, size in descending_sizes(tiles):
        spare = spare_rows(smaller, size)

        def body(carry, size=size):
            first, buffers = carry
            return first + size, step(size, first, buffers)

        carry = jax.lax.while_loop(
            lambda carry, spare=spare: num_tokens - carry[0] > spare, body, carry
        )
    return carry[1]


def rows_of(x_TX, first, size):
    """Rows [first, first + size)."""
    return jax.lax.dynamic_slice_in_dim(x_TX, first, size)


def put_rows(x_TX, rows, first):
    """The buffer with these rows from `first` on."""
    return jax.lax.dynamic_update_slice_in_dim(x_TX, rows.astype(x_TX.dtype), first, axis=0)


def to_bits(x):
    """bfloat16 as uint16: XLA for CPUs turns a bfloat16 buffer into float32 and back, whole, to update a few rows."""
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def from_bits(x, dtype):
    """What `to_bits` was given, in `dtype`."""
    return jax.lax.bitcast_convert_type(x, dtype) if x.dtype != dtype else x


def write_segment(x_TX, rows_RX, first, num_rows):
    """The buffer with an example's rows from `first` on; behind it lie its neighbours, which stay."""
    length = len(rows_RX)
    is_ours_R = (jnp.arange(length, dtype=jnp.int32) < num_rows).reshape(
        (length,) + (1,) * (rows_RX.ndim - 1)
    )
    return put_rows(x_TX, jnp.where(is_ours_R, rows_RX, rows_of(x_TX, first, length)), first)


def token_indices(valid_BL, num_slots):
    """The place in the batch of each token of the buffer, int32 [num_slots]; B L, which is none, past the last."""
    place_BL = jnp.arange(valid_BL.size, dtype=jnp.int32).reshape(valid_BL.shape)
    return gather_kept(place_BL, valid_BL, num_slots, past=valid_BL.size)
