"""Attention of one layer, in which tokens of local layers attend to near tokens alone.

    slots of a text:            [block 0] [block 1] [block 2] ...    a block has W slots, the window
    keys of block 1's queries:  [block 1] [block 0] [block 2]

A mask on original positions cuts the window out of the three blocks. Kept tokens stay in order, so
tokens at most W positions apart are at most W slots apart. Long texts need no pairs of all tokens.

Letters besides the key of `types.py`:

    W slots of a block
    X slots of three blocks, as keys
    Y blocks of all texts
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders.attention import scaled_dot_product_attention
from adapler_jax.types import CLS_ATTENTION, MASK_BIAS, Array, OptionalArray, TokenFeatures

MIN_WINDOWS = 4  # shorter texts, in windows, attend faster as a whole


class LocalLayers(NamedTuple):
    """Layers whose tokens attend to tokens of at most `window` positions to each side."""

    layers: tuple[int, ...]
    window: int


def is_local(local: LocalLayers, index):
    """Return whether a layer is local: a bool, or a bool scalar for a traced int32 scalar."""
    if isinstance(index, int | np.integer):
        return int(index) in local.layers
    return jnp.isin(index, jnp.array(local.layers, jnp.int32))


def uses_blocks(local: LocalLayers, length):
    """Return whether local layers attend in blocks in texts of so many slots; or for an array."""
    return length > MIN_WINDOWS * local.window


def window_bias(local: LocalLayers, query_position_BL: Array, key_position_BS: Array) -> Array:
    """Return MASK_BIAS for pairs of distant tokens, else 0: float32 [B, 1, L, S]."""
    distance_BLS = jnp.abs(query_position_BL[:, :, None] - key_position_BS[:, None])
    return jnp.where(distance_BLS <= local.window, 0.0, MASK_BIAS)[:, None]


def local_bias(
    local: LocalLayers, index, query_position_BL: Array, key_position_BS: Array
) -> Array:
    """Return `window_bias` in a local layer and 0 in another, float32 [B, 1, L, S]."""
    bias_B1LS = window_bias(local, query_position_BL, key_position_BS)
    return jnp.where(is_local(local, index), bias_B1LS, 0.0)


def layer_attention(
    local: LocalLayers | None,
    query_BLD: Array,
    key_BLD: Array,
    value_BLD: Array,
    bias_BL: Array,
    *,
    index: OptionalArray,
    position_BL: OptionalArray,
    pair_bias_BHLL: OptionalArray = None,
    **options,
) -> tuple[Array, TokenFeatures]:
    """Return what `scaled_dot_product_attention` returns, in one layer of all L tokens.

    Args:
      local: the local layers; None: tokens attend to all others.
      query_BLD: scaled.
      key_BLD: float32.
      value_BLD: float32.
      bias_BL: float32, added to the logits of every head and query.
      index: the layer, int32 scalar that may be traced; not needed without local layers.
      position_BL: int32 original positions, as for `index`. The first axis may be 1.
      pair_bias_BHLL: of an encoder without local layers, as in `scaled_dot_product_attention`.
      **options: as in `scaled_dot_product_attention`.
    """
    tokens = query_BLD, key_BLD, value_BLD, bias_BL
    if local is None:
        return scaled_dot_product_attention(*tokens, pair_bias_BHLL, **options)
    if not uses_blocks(local, query_BLD.shape[1]):
        bias_B1LL = local_bias(local, index, position_BL, position_BL)
        return scaled_dot_product_attention(*tokens, bias_B1LL, **options)
    position_BL = jnp.broadcast_to(position_BL, bias_BL.shape)

    def run_local(*tokens):
        """Return the attention in blocks."""
        return block_attention(local, *tokens, position_BL=position_BL, **options)

    def run_global(*tokens):
        """Return the attention among all tokens."""
        return scaled_dot_product_attention(*tokens, **options)

    found = is_local(local, index)
    if isinstance(found, bool):
        return (run_local if found else run_global)(*tokens)
    return jax.lax.cond(found, run_local, run_global, *tokens)


def block_attention(
    local: LocalLayers,
    query_BLD: Array,
    key_BLD: Array,
    value_BLD: Array,
    bias_BL: Array,
    *,
    position_BL: Array,
    query_mask_BL: OptionalArray = None,
    needs: frozenset[str] = frozenset(),
    **options,
) -> tuple[Array, TokenFeatures]:
    """Return the attention of a local layer; arguments as in `layer_attention`."""
    B, L, D = query_BLD.shape
    size = local.window
    query_YWD, position_YW = (_blocks(x, size) for x in (query_BLD, position_BL))
    key_YXD, value_YXD, position_YX = (
        _with_neighbours(x, size) for x in (key_BLD, value_BLD, position_BL)
    )
    attended_YWD, received = scaled_dot_product_attention(
        query_YWD,
        key_YXD,
        value_YXD,
        _with_neighbours(bias_BL, size, fill=MASK_BIAS),
        window_bias(local, position_YW, position_YX),
        query_mask_BL=None if query_mask_BL is None else _blocks(query_mask_BL, size),
        needs=needs,
        **options,
    )
    if CLS_ATTENTION in needs:
        is_first_Y1 = (jnp.arange(len(attended_YWD)) % (len(attended_YWD) // B) == 0)[:, None]
        cls_YX = jnp.where(is_first_Y1, received.cls_attention_X, 0.0)
        received = received.replace(cls_attention_X=cls_YX)
    received = jax.tree.map(lambda x_YX: _sum_of_slots(x_YX, B, L), received)
    return attended_YWD.reshape(B, -1, D)[:, :L], received


def _blocks(x: Array, size: int, fill=0) -> Array:
    """Return the slots [B, L, ...] in blocks, [Y, W, ...]; `fill` is in slots past the last."""
    sides = [(0, 0), (0, -x.shape[1] % size)] + [(0, 0)] * (x.ndim - 2)
    return jnp.pad(x, sides, constant_values=fill).reshape(-1, size, *x.shape[2:])


def _with_neighbours(x: Array, size: int, fill=0) -> Array:
    """Return each block of [B, L, ...] with the one before it and the next one, [Y, X, ...].

    The block's own slots are first, as the queries of `scaled_dot_product_attention` need.
    """
    others = x.shape[2:]
    own = _blocks(x, size, fill).reshape(x.shape[0], -1, size, *others)
    sides = [(0, 0), (1, 1)] + [(0, 0)] * (own.ndim - 2)
    padded = jnp.pad(own, sides, constant_values=fill)
    joined = jnp.concatenate([own, padded[:, :-2], padded[:, 2:]], axis=2)
    return joined.reshape(-1, 3 * size, *others)


def _sum_of_slots(x_YX: Array, batch_size: int, length: int) -> Array:
    """Return the sum for each slot of its entries in three blocks, [B, L]."""
    parts = x_YX.reshape(batch_size, -1, 3, x_YX.shape[1] // 3)
    own, before, after = (parts[:, :, part] for part in range(3))
    sides = ((0, 0), (1, 1), (0, 0))
    total = own + jnp.pad(before, sides)[:, 2:] + jnp.pad(after, sides)[:, :-2]
    return total.reshape(batch_size, -1)[:, :length]
