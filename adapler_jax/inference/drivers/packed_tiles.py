"""Tiles of the packed driver: token-wise parts of the encoder on rows of the flat buffer."""

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.inference.drivers.packed_attention import AttentionOutput
from adapler_jax.inference.drivers.ragged_ops import put_rows, rows_of, to_bits
from adapler_jax.inference.drivers.stages import DriverProgram
from adapler_jax.pruning.base import score_tokens
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    POSITION,
    Array,
    Batch,
    OptionalArray,
    Params,
)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Static numbers of one program."""

    tiles: tuple[int, ...]
    lengths: tuple[int, ...]  # to which texts are padded for attention; the last holds any of them
    block: int  # rows
    max_group: int

    @property
    def margin(self) -> int:
        """Rows that a tile or the padding of a text may reach beyond the last token."""
        return max(*self.tiles, *self.lengths)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedProgram(DriverProgram):
    """Static values of one program."""

    sizes: Sizes

    @property
    def needs_slots(self) -> bool:
        """True if layers need the slot of each token in its text."""
        has_position_scores = bool(self.pruner.sites) and POSITION in self.pruner.needs
        needs_positions = encoder_of(self.config).needs_positions
        return self.keeps_exits or has_position_scores or needs_positions


class Workspace(flax.struct.PyTreeNode):
    """Buffers of a block."""

    hidden_TD: Array  # states that enter the layer
    qkv_TQ: Array  # in the dtype of the products, as `to_bits` returns them
    attention: AttentionOutput


class LayerOutput(flax.struct.PyTreeNode):
    """Results of a layer, token by token. Rows past the number of tokens are not used."""

    hidden_TD: Array
    token_logit_T: Array  # scores for the next site
    exit_hidden_XD: Array | None  # last state so far of each token of the flat batch [B L]


class PackedState(flax.struct.PyTreeNode):
    """State between two layers."""

    out: LayerOutput  # of the last layer, before the next site drops any
    workspace: Workspace
    valid_BL: Array  # bool: slots of the tokens in the buffer
    protected_BL: Array | None  # bool: slots of tokens that stay
    budget_B: Array | None = None  # float32, as in `Batch`


class LayerView(NamedTuple):
    """Parameters of one layer, and indices of its tokens."""

    params: Params
    scorer_params: Params  # of the site that the layer's results are scores for
    layer_index: Array  # int32 scalar
    source_row_T: Array  # int32, buffer row of each token before the layer
    batch_index_T: (
        Array | None
    )  # int32, index of each token in the flat batch; None where not needed
    num_slots: int  # L

    def positions(self, first: Array, size: int) -> Array | None:
        """Return the original positions of some tokens, int32 [T]."""
        if self.batch_index_T is None:
            return None
        return rows_of(self.batch_index_T, first, size) % self.num_slots


def write(
    out: LayerOutput,
    hidden_TD: Array,
    token_logit_T: Array | None,
    first: Array,
    batch_index_T: OptionalArray,
) -> LayerOutput:
    """Return the buffers with one tile of states and scores, and of exit states where kept."""
    exit_hidden_XD = out.exit_hidden_XD
    if exit_hidden_XD is not None:
        index_T = rows_of(batch_index_T, first, len(hidden_TD))
        exit_hidden_XD = exit_hidden_XD.at[index_T].set(hidden_TD, mode="drop")
    all_logits_T = out.token_logit_T
    if token_logit_T is not None:
        all_logits_T = put_rows(all_logits_T, token_logit_T, first)
    return LayerOutput(put_rows(out.hidden_TD, hidden_TD, first), all_logits_T, exit_hidden_XD)


def embed_tile(
    size: int,
    first: Array,
    out: LayerOutput,
    *,
    program: PackedProgram,
    params: Params,
    batch: Batch,
    batch_index_T: Array,
) -> LayerOutput:
    """Embed one tile of tokens and score them for site 0; `params` has no layers."""
    index_T = jnp.minimum(rows_of(batch_index_T, first, size), batch.token_BL.size - 1)
    token_T, segment_T = (x_BL.reshape(-1)[index_T] for x_BL in (batch.token_BL, batch.segment_BL))
    position_T = index_T % batch.token_BL.shape[1]
    encoder = encoder_of(program.config)
    embeddings = params["encoder"]["embeddings"]
    hidden_TD = encoder.embed(embeddings, program.config, token_T, segment_T, position_T)
    token_logit_T = None
    if program.pruner.point == BEFORE_ATTENTION:
        site_params = jax.tree.map(lambda leaf: leaf[0], params["pruner"])
        token_logit_T = score_tokens(
            program.pruner, site_params, hidden_TD, position_X=position_T, token_X=token_T
        )
    return write(out, hidden_TD, token_logit_T, first, batch_index_T)


def project_qkv_tile(
    size: int,
    first: Array,
    workspace: Workspace,
    *,
    program: PackedProgram,
    layer: LayerView,
    hidden_TD: Array,
    first_row: Array,
) -> Workspace:
    """Gather one tile of a block's tokens and project queries, keys and values."""
    tile_TD = hidden_TD[rows_of(layer.source_row_T, first_row + first, size)]
    qkv_TQ = encoder_of(program.config).qkv(
        layer.params,
        program.config,
        tile_TD,
        index=layer.layer_index,
        position_X=layer.positions(first_row + first, size),
        dtype=program.dtype,
    )
    return workspace.replace(
        hidden_TD=put_rows(workspace.hidden_TD, tile_TD, first),
        qkv_TQ=put_rows(workspace.qkv_TQ, to_bits(qkv_TQ.astype(program.dtype)), first),
    )


def finish_tile(
    size: int,
    first: Array,
    out: LayerOutput,
    *,
    program: PackedProgram,
    layer: LayerView,
    workspace: Workspace,
    first_row: Array,
    num_rows: Array,
) -> LayerOutput:
    """Run the rest of the layer, up to a site in it, on one tile, and score for the next site.

    Rows past the block's hold states of later texts, which stay.
    """
    config, pruner, encoder = program.config, program.pruner, encoder_of(program.config)
    hidden_TD = rows_of(workspace.hidden_TD, first, size)
    attended_TD = rows_of(workspace.attention.attended_TD, first, size)
    hidden_TD = encoder.attention_output(
        layer.params, config, hidden_TD, attended_TD, dtype=program.dtype
    )
    received = None
    if pruner.point == BEFORE_FEED_FORWARD:
        received = jax.tree.map(lambda x_T: rows_of(x_T, first, size), workspace.attention.received)
    else:
        hidden_TD = encoder.feed_forward(layer.params, config, hidden_TD, dtype=program.dtype)
    token_logit_T = None
    if pruner.sites:
        token_logit_T = score_tokens(
            pruner,
            layer.scorer_params,
            hidden_TD,
            received,
            position_X=layer.positions(first_row + first, size),
        )
    is_own_T1 = (first + jnp.arange(size, dtype=jnp.int32) < num_rows)[:, None]
    hidden_TD = jnp.where(is_own_T1, hidden_TD, rows_of(out.hidden_TD, first_row + first, size))
    return write(out, hidden_TD, token_logit_T, first_row + first, layer.batch_index_T)


def feed_forward_tile(
    size: int, first: Array, out: LayerOutput, *, program: PackedProgram, layer: LayerView
) -> LayerOutput:
    """Run the second half of a layer on one tile of the tokens that the site in it kept.

    Tokens only move towards the start of the buffer, so their states may overwrite earlier ones.
    """
    kept_TD = out.hidden_TD[rows_of(layer.source_row_T, first, size)]
    feed_forward = encoder_of(program.config).feed_forward
    hidden_TD = feed_forward(layer.params, program.config, kept_TD, dtype=program.dtype)
    return write(out, hidden_TD, None, first, layer.batch_index_T)
