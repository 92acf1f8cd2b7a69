"""The last layer of the packed driver for heads that read [CLS] alone: one query a text.

Keys and values are computed for all tokens, in tiles of a block. All other products have one row a
text.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.encoders.base import layer_bias
from adapler_jax.encoders.plain import qkv_part
from adapler_jax.inference.drivers.packed_attention import (
    SortedTexts,
    padded_texts,
    rows_of_texts,
    scan_groups,
    texts_of_block,
)
from adapler_jax.inference.drivers.packed_tiles import LayerView, PackedProgram, PackedState
from adapler_jax.inference.drivers.ragged_ops import (
    packed_index,
    put_rows,
    rows_of,
    scan_tiles,
    to_bits,
)
from adapler_jax.inference.drivers.stages import without_others
from adapler_jax.types import Array


class _Inputs(NamedTuple):
    """Hold what all blocks of the layer share."""

    program: PackedProgram
    layer: LayerView
    hidden_TD: Array  # states before the layer
    query_BD: Array  # scaled, of [CLS] of all texts
    count_B: Array  # int32, tokens of all texts


def first_token_states(
    program: PackedProgram, layer: LayerView, state: PackedState, count_B: Array
) -> Array:
    """Return the state of [CLS] of each text after the layer, float32 [B, D].

    The states of texts without tokens mean nothing.

    Args:
      program: static values.
      layer: parameters and indices.
      state: before the layer.
      count_B: tokens of all texts.
    """
    config, sizes, encoder = program.config, program.sizes, encoder_of(program.config)
    B, D = count_B.shape[0], config.hidden_dim
    start_B = jnp.cumsum(count_B) - count_B
    first_BD = state.out.hidden_TD[layer.source_row_T[start_B]]
    query_BD = qkv_part(
        encoder,
        layer.params,
        config,
        first_BD,
        "query",
        index=layer.layer_index,
        position_X=jnp.zeros((B,), jnp.int32),
        dtype=program.dtype,
    )
    inputs = _Inputs(program, layer, state.out.hidden_TD, query_BD, count_B)
    step = functools.partial(_run_block, inputs)
    empty_TE = to_bits(jnp.zeros((sizes.block + sizes.margin, 2 * D), program.dtype))
    start = jnp.int32(0), jnp.int32(0), empty_TE, jnp.zeros((B, D))
    *_, attended_BD = jax.lax.while_loop(lambda carry: carry[0] < B, step, start)
    first_BD = encoder.attention_output(
        layer.params, config, first_BD, attended_BD, dtype=program.dtype
    )
    return encoder.feed_forward(layer.params, config, first_BD, dtype=program.dtype)


def _run_block(inputs: _Inputs, carry: tuple) -> tuple:
    """Attend from [CLS] of as many whole texts as fit into a block.

    Args:
      inputs: of the layer.
      carry: the block's first text and row, a buffer of keys and values, the results of all texts.
    """
    first_text, first_row, key_value_TE, attended_BD = carry
    program, layer, num_all = inputs.program, inputs.layer, inputs.count_B.shape[0]
    sizes = program.sizes
    count_B, num_texts = texts_of_block(inputs.count_B, first_text, sizes.block)

    def project(size: int, first: Array, key_value_TE: Array) -> Array:
        """Gather one tile of tokens, and compute keys and values."""
        found_TE = qkv_part(
            encoder_of(program.config),
            layer.params,
            program.config,
            inputs.hidden_TD[rows_of(layer.source_row_T, first_row + first, size)],
            "key_value",
            index=layer.layer_index,
            position_X=layer.positions(first_row + first, size),
            dtype=program.dtype,
        )
        return put_rows(key_value_TE, to_bits(found_TE.astype(program.dtype)), first)

    num_rows = jnp.sum(count_B)
    key_value_TE = scan_tiles(project, key_value_TE, num_rows, tiles=sizes.tiles)
    position_T = None
    if encoder_of(program.config).needs_positions:
        position_T = layer.positions(first_row, sizes.block + sizes.margin)

    def run_group(length: int, group: SortedTexts, attended_BD: Array) -> Array:
        """Attend for some texts, padded to a length."""
        is_text_G = group.count_B > 0
        text_G = jnp.where(is_text_G, first_text + group.text_B, num_all)  # past the last
        query_GD = inputs.query_BD[jnp.minimum(text_G, num_all - 1)]
        attended_GD = _attend(inputs, query_GD, key_value_TE, position_T, group, length=length)
        return attended_BD.at[text_G].set(attended_GD, mode="drop")

    attended_BD = scan_groups(
        run_group, attended_BD, count_B, lengths=sizes.lengths, max_group=sizes.max_group
    )
    return first_text + num_texts, first_row + num_rows, key_value_TE, attended_BD


def _attend(
    inputs: _Inputs,
    query_GD: Array,
    key_value_TE: Array,
    position_T: Array | None,
    group: SortedTexts,
    *,
    length: int,
) -> Array:
    """Return the attention from [CLS] of some texts, padded to `length`, float32 [G, D]."""
    program, config = inputs.program, inputs.program.config
    key_value_GRE, valid_GR = padded_texts(key_value_TE, group, length, program.dtype)
    position_GR = None if position_T is None else rows_of_texts(position_T, group, length)
    key_GRD, value_GRD = jnp.split(key_value_GRE, 2, axis=-1)
    layer = inputs.layer
    attended_G1D, _ = scaled_dot_product_attention(
        query_GD[:, None],
        key_GRD,
        value_GRD,
        key_bias(valid_GR),
        layer_bias(
            encoder_of(config), layer.params, config, layer.layer_index, position_GR, num_queries=1
        ),
        num_heads=config.num_heads,
        dtype=program.dtype,
    )
    return attended_G1D[:, 0]


def put_first_tokens(state: PackedState, first_BD: Array) -> PackedState:
    """Return the state with [CLS] of every text alone.

    Args:
      state: before the layer.
      first_BD: new states of [CLS].
    """
    valid_BL = without_others(state.valid_BL)
    hidden_TD = state.out.hidden_TD
    row_B = jnp.where(valid_BL[:, 0], packed_index(valid_BL)[:, 0], hidden_TD.shape[0])
    hidden_TD = hidden_TD.at[row_B].set(first_BD, mode="drop")
    return state.replace(valid_BL=valid_BL, out=state.out.replace(hidden_TD=hidden_TD))
