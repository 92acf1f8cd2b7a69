"""Attention of a block of packed texts: a few texts at a time, padded to one length.

    texts by falling number of tokens: [4 texts of 32 slots] [4 texts of 32] [4 texts of 16] ...

Texts are sorted by their tokens. For each padded length, from the longest, a loop takes groups of
the next texts while they need that length. Long texts without equals attend alone: padding shorter
ones to them costs more.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import key_bias
from adapler_jax.encoders.base import local_layers, pair_bias
from adapler_jax.encoders.local_attention import layer_attention
from adapler_jax.inference.drivers.ragged_ops import (
    descending_sizes,
    from_bits,
    rows_of,
    write_segment,
)
from adapler_jax.types import Array, EncoderConfig, Params, TokenFeatures

MAX_GROUP_TOKENS = 512  # rows of a group, padding included
MAX_GROUP = 4  # texts of a group: more compile longer and run no faster
MIN_UNGROUPED = (
    64  # slots of a text from which padding a shorter one to them costs more than its own turn
)


class GroupShape(NamedTuple):
    """Static sizes of one kind of group."""

    size: int  # texts
    length: int  # token slots of each
    shorter: int  # the next shorter length, or 0
    decisive: int  # the text of the group that must be longer than `shorter`


class AttentionOutput(flax.struct.PyTreeNode):
    """Results of attention for the tokens of a block."""

    attended_TD: Array
    received: TokenFeatures  # float32 [T], the attention that the pruner needs


class BlockInputs(flax.struct.PyTreeNode):
    """Inputs of attention for the tokens of a block."""

    layer: Params
    qkv_TQ: Array  # in the dtype of the products, as `to_bits` returns them
    position_T: Array | None  # int32 original positions, where the encoder needs them
    count_B: Array  # int32, tokens of each text of the block


class SortedTexts(NamedTuple):
    """Texts by falling number of tokens, then empty ones that fill up the last group."""

    start_B: Array  # int32, first row
    count_B: Array  # int32
    text_B: Array  # int32, place among the texts


def attention_group_sizes(length: int, *, max_group: int) -> tuple[int, ...]:
    """Return how many texts of a padded length attend at a time.

    Groups are as large as possible; the remaining long texts attend alone.
    """
    size = max(1, min(max_group, MAX_GROUP_TOKENS // length))
    return (size, 1) if length >= MIN_UNGROUPED and size > 1 else (size,)


def group_shapes(lengths: Sequence[int], *, max_group: int) -> list[GroupShape]:
    """Return the shapes of groups in the order in which a block runs them."""
    shapes = []
    for shorter, length in descending_sizes(lengths):
        sizes = attention_group_sizes(length, max_group=max_group)
        for size in sizes:
            # Where the rest attend alone, all texts of a group need this length; else the longest
            # does.
            decisive = 0 if size == sizes[-1] else size - 1
            shapes.append(GroupShape(size, length, shorter, decisive))
    return shapes


def texts_of_block(count_B: Array, first_text: Array, block: int) -> tuple[Array, Array]:
    """Return the tokens of whole texts that fit into a block of rows, and the number of texts.

    Texts from `first_text` on are first in the result; texts outside of the block have 0 tokens.
    """
    num_texts = count_B.shape[0]
    count_B = rows_of(jnp.pad(count_B, (0, num_texts)), first_text, num_texts)
    fits_B = jnp.cumsum(count_B) <= block
    return jnp.where(fits_B, count_B, 0), jnp.sum(fits_B, dtype=jnp.int32)


def sort_texts(count_B: Array, max_group: int) -> SortedTexts:
    """Return the texts by falling number of tokens."""
    start_B = jnp.cumsum(count_B) - count_B
    by_count_B = jnp.argsort(-count_B)
    sorted_B = (start_B[by_count_B], count_B[by_count_B], by_count_B.astype(jnp.int32))
    return SortedTexts(*(jnp.pad(x_B, (0, max_group)) for x_B in sorted_B))


def block_attention(
    config: EncoderConfig,
    block: BlockInputs,
    output: AttentionOutput,
    *,
    index: Array,
    needs: frozenset[str],
    lengths: Sequence[int],
    max_group: int,
    dtype,
) -> AttentionOutput:
    """Return the attention of a block's texts.

    Args:
      config: of the encoder.
      block: queries, keys and values.
      output: the buffers to write.
      index: the layer, int32 scalar.
      needs: attention received that the pruner needs.
      lengths: to which texts are padded; the last holds any of them.
      max_group: texts that attend at a time.
      dtype: of the operands of the products.
    """

    def run_group(length: int, group: SortedTexts, output: AttentionOutput) -> AttentionOutput:
        """Run some texts, padded to a length."""
        found = _group_attention(
            config, block, group, length=length, index=index, needs=needs, dtype=dtype
        )
        return _write_group(output, found, group)

    return scan_groups(run_group, output, block.count_B, lengths=lengths, max_group=max_group)


def scan_groups(step: Callable, carry, count_B: Array, *, lengths: Sequence[int], max_group: int):
    """Run `step(padded length, group, carry) -> carry` over the texts of a block.

    Args:
      step: runs one group, `SortedTexts` of its size.
      carry: its first argument.
      count_B: tokens of each text of the block.
      lengths: as in `block_attention`.
      max_group: as in `block_attention`.
    """
    texts = sort_texts(count_B, max_group)
    state = jnp.int32(0), carry
    for shape in group_shapes(lengths, max_group=max_group):

        def needs_shape(state, shape=shape):
            """Return whether the next texts need this length."""
            return texts.count_B[state[0] + shape.decisive] > shape.shorter

        def run_group(state, shape=shape):
            """Run the next texts as one group."""
            first, carry = state
            group = SortedTexts(*(rows_of(x_B, first, shape.size) for x_B in texts))
            return first + shape.size, step(shape.length, group, carry)

        state = jax.lax.while_loop(needs_shape, run_group, state)
    return state[1]


def rows_of_texts(x_TX: Array, group: SortedTexts, length: int) -> Array:
    """Return `length` rows of each text, [G, R, ...]; past its tokens are rows of other texts."""
    return jnp.stack([rows_of(x_TX, start, length) for start in list(group.start_B)])


def padded_texts(bits_TX: Array, group: SortedTexts, length: int, dtype) -> tuple[Array, Array]:
    """Return rows of each text in `dtype`, 0 past its tokens, and the mask of its tokens [G, R].

    A NaN of another text would pass an attention of 0.
    """
    valid_GR = jnp.arange(length, dtype=jnp.int32)[None] < group.count_B[:, None]
    rows_GRX = from_bits(rows_of_texts(bits_TX, group, length), dtype)
    return jnp.where(valid_GR[..., None], rows_GRX, 0), valid_GR


def _group_attention(
    config: EncoderConfig,
    block: BlockInputs,
    group: SortedTexts,
    *,
    length: int,
    index: Array,
    needs: frozenset[str],
    dtype,
) -> AttentionOutput:
    """Return the attention of some texts, padded to `length`: arrays [G, R, ...]."""
    qkv_GRQ, valid_GR = padded_texts(block.qkv_TQ, group, length, dtype)
    position_GR = None
    if block.position_T is not None:
        position_GR = rows_of_texts(block.position_T, group, length)
    query_GRD, key_GRD, value_GRD = jnp.split(qkv_GRQ, 3, axis=-1)
    encoder = encoder_of(config)
    attended_GRD, received = layer_attention(
        local_layers(encoder, config),
        query_GRD,
        key_GRD,
        value_GRD,
        key_bias(valid_GR),
        index=index,
        position_BL=position_GR,
        pair_bias_BHLL=pair_bias(encoder, block.layer, config, position_GR),
        num_heads=config.num_heads,
        query_mask_BL=valid_GR if needs else None,
        needs=needs,
        dtype=dtype,
    )
    return AttentionOutput(attended_GRD, received)


def _write_group(
    output: AttentionOutput, found: AttentionOutput, group: SortedTexts
) -> AttentionOutput:
    """Return the block's buffers with the rows of each text of a group."""
    for text in range(len(group.start_B)):
        output = jax.tree.map(
            lambda x_TX, x_GRX, text=text: write_segment(
                x_TX, x_GRX[text], group.start_B[text], group.count_B[text]
            ),
            output,
            found,
        )
    return output
