"""Operations on a flat buffer [T, ...] that holds the tokens of a batch one after another."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from adapler_jax.types import Array

MIN_FILL = 0.75  # of a tile, where smaller ones could hold its rows as well


def packed_index(valid_BL: Array) -> Array:
    """Return the buffer row of each token: the number of valid slots before it, int32 [B, L]."""
    within_BL = jnp.cumsum(valid_BL, axis=1, dtype=jnp.int32)
    count_B = within_BL[:, -1]
    return (jnp.cumsum(count_B) - count_B)[:, None] + within_BL - valid_BL.astype(jnp.int32)


def gather_kept(value_BL: Array, keep_BL: Array, num_slots: int, *, past: int = 0) -> Array:
    """Return the values of kept tokens, in order, then `past`: int32 [num_slots]."""
    index_T = jnp.arange(keep_BL.size, dtype=jnp.int32)
    kept_T = jnp.sort(jnp.where(keep_BL.reshape(-1), index_T, keep_BL.size))
    value_T = jnp.where(
        kept_T < keep_BL.size, value_BL.reshape(-1)[jnp.minimum(kept_T, keep_BL.size - 1)], past
    )
    return jnp.pad(value_T, (0, num_slots - keep_BL.size), constant_values=past)


def token_indices(valid_BL: Array, num_slots: int) -> Array:
    """Return the index of each buffer row's token in the flat batch [B L], int32 [num_slots].

    Rows past the last token have B L, which is no token.
    """
    index_BL = jnp.arange(valid_BL.size, dtype=jnp.int32).reshape(valid_BL.shape)
    return gather_kept(index_BL, valid_BL, num_slots, past=valid_BL.size)


def descending_sizes(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return (next smaller size or 0, size) from the largest to the smallest."""
    rising = sorted(sizes)
    return list(zip((0, *rising), rising))[::-1]


def spare_rows(smaller: int, size: int) -> int:
    """Return the rows up to which a tile is not worth it, given the next smaller size or 0."""
    return max(smaller, int(MIN_FILL * size)) if smaller else 0


def scan_tiles(step: Callable, buffers, num_tokens: Array, *, tiles: Sequence[int]):
    """Run `step(size, first row, buffers) -> buffers` over the first `num_tokens` rows.

    Tiles go from the largest to the smallest. A tile is at least MIN_FILL full and holds more than
    the next smaller one could, but for the last.
    """
    carry = jnp.int32(0), buffers
    for smaller, size in descending_sizes(tiles):
        spare = spare_rows(smaller, size)

        def is_worth_it(carry, spare=spare):
            """Return whether more rows are left than a smaller tile should take."""
            return num_tokens - carry[0] > spare

        def body(carry, size=size):
            """Run one tile."""
            first, buffers = carry
            return first + size, step(size, first, buffers)

        carry = jax.lax.while_loop(is_worth_it, body, carry)
    return carry[1]


def rows_of(x_TX: Array, first: Array, size: int) -> Array:
    """Return rows [first, first + size)."""
    return jax.lax.dynamic_slice_in_dim(x_TX, first, size)


def put_rows(x_TX: Array, rows_TX: Array, first: Array) -> Array:
    """Return the buffer with these rows from `first` on."""
    return jax.lax.dynamic_update_slice_in_dim(x_TX, rows_TX.astype(x_TX.dtype), first, axis=0)


def write_segment(x_TX: Array, rows_RX: Array, first: Array, num_rows: Array) -> Array:
    """Return the buffer with an example's rows from `first` on; rows past its count stay."""
    length = len(rows_RX)
    is_own_R = jnp.arange(length, dtype=jnp.int32) < num_rows
    is_own_R = is_own_R.reshape((length,) + (1,) * (rows_RX.ndim - 1))
    return put_rows(x_TX, jnp.where(is_own_R, rows_RX, rows_of(x_TX, first, length)), first)


def to_bits(x: Array) -> Array:
    """Return bfloat16 as uint16, other types unchanged.

    XLA for CPUs turns a whole bfloat16 buffer into float32 and back to update a few rows.
    """
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def from_bits(x: Array, dtype) -> Array:
    """Return the argument of `to_bits`, in `dtype`."""
    return jax.lax.bitcast_convert_type(x, dtype) if x.dtype != dtype else x
