"""All kept tokens of a batch are in one flat buffer: dropped tokens and padding cost nothing.

    all tokens [T, D] - blocks of whole texts, each through the layer:
        tiles: query, key, value - texts: attention - tiles: the rest of the layer, scores for the
          next site

The linear parts are the same for tokens of any text. They run in tiles, the largest first, which
are full or nearly so. Only attention separates texts; `packed_attention` has it. A block holds as
many whole texts as fit, so that all inner values of a layer stay in the caches. Tokens keep their
order, so the states of a layer overwrite earlier ones. Counts are data: one compiled
program serves every mix of lengths, and nothing returns to the host.

Everything is a `while_loop` that writes rows into a buffer that it carries; buffers sent through a
`switch` took a fifth longer on a CPU. A site marks the kept tokens among the slots of the texts [B,
L]. The number of kept slots before a slot is the buffer row of its token, so row numbers are not
stored.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import check_length, with_shared
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.inference.drivers.packed_attention import (
    MAX_GROUP,
    AttentionOutput,
    BlockInputs,
    block_attention,
    texts_of_block,
)
from adapler_jax.inference.drivers.packed_last import first_token_states, put_first_tokens
from adapler_jax.inference.drivers.packed_tiles import (
    LayerOutput,
    LayerView,
    PackedProgram,
    PackedState,
    Sizes,
    Workspace,
    embed_tile,
    feed_forward_tile,
    finish_tile,
    project_qkv_tile,
)
from adapler_jax.inference.drivers.ragged_ops import (
    gather_kept,
    packed_index,
    scan_tiles,
    to_bits,
    token_indices,
)
from adapler_jax.inference.drivers.stages import (
    StagedProgram,
    read_out,
    run_stages,
    running_pruner,
)
from adapler_jax.pruning.base import (
    Pruner,
    check_supported,
    hard_step,
    params_of_layers,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    Array,
    Batch,
    EncoderConfig,
    Params,
    SiteInput,
    TokenFeatures,
    Trace,
)

TILES = (32, 64, 128, 256, 512)  # rows of the products
BLOCK_TOKENS = 1024  # rows that go through a layer together, or one text if that is longer
MIN_BUCKET = 8  # shorter attention is not worth a program of its own


def run_block(program: PackedProgram, layer: LayerView, count_B: Array, carry: tuple) -> tuple:
    """Run the layer, or its half up to a site in it, on as many whole texts as fit into a block.

    Tokens only move towards the start of the buffer, so the block's states may overwrite earlier
    ones.

    Args:
      program: static values.
      layer: parameters and indices.
      count_B: tokens of all texts.
      carry: the block's first text and row, the output, the workspace.
    """
    sizes = program.sizes
    first_text, first_row, out, workspace = carry
    count_B, num_texts = texts_of_block(count_B, first_text, sizes.block)
    num_rows = jnp.sum(count_B)
    project = functools.partial(
        project_qkv_tile,
        program=program,
        layer=layer,
        hidden_TD=out.hidden_TD,
        first_row=first_row,
    )
    workspace = scan_tiles(project, workspace, num_rows, tiles=sizes.tiles)
    position_T = None
    if encoder_of(program.config).needs_positions:
        position_T = layer.positions(first_row, sizes.block + sizes.margin)
    attention = block_attention(
        program.config,
        BlockInputs(layer.params, workspace.qkv_TQ, position_T, count_B),
        workspace.attention,
        index=layer.layer_index,
        needs=program.pruner.attention_needs,
        lengths=sizes.lengths,
        max_group=sizes.max_group,
        dtype=program.dtype,
    )
    workspace = workspace.replace(attention=attention)
    finish = functools.partial(
        finish_tile,
        program=program,
        layer=layer,
        workspace=workspace,
        first_row=first_row,
        num_rows=num_rows,
    )
    out = scan_tiles(finish, out, num_rows, tiles=sizes.tiles)
    return first_text + num_texts, first_row + num_rows, out, workspace


def apply_pruner(
    pruner: Pruner,
    site_params: Params,
    index: Array,
    state: PackedState,
    *,
    num_rows: int,
) -> tuple[PackedState, Array, Trace]:
    """Return the state with the kept tokens, their rows in the buffer, and the site's record."""
    row_BL = packed_index(state.valid_BL)
    token_logit_BL = jnp.where(state.valid_BL, state.out.token_logit_T[row_BL], 0.0)
    site = SiteInput(
        token_logit_BL,
        state.valid_BL,
        state.valid_BL.astype(jnp.float32),
        protected_BL=state.protected_BL,
        budget_B=state.budget_B,
    )
    selection = hard_step(pruner, site_params, index, site)
    keep_BL = selection.keep_BL
    count_B = jnp.sum(keep_BL, axis=-1, dtype=jnp.int32)
    trace = Trace(selection.score_BL, keep_BL.astype(jnp.float32), count_B)
    return state.replace(valid_BL=keep_BL), gather_kept(row_BL, keep_BL, num_rows), trace


def trace_of_all(state: PackedState) -> Trace:
    """Return the record of a layer without a site: all tokens stay, with scores 0."""
    survival_BL = state.valid_BL.astype(jnp.float32)
    count_B = jnp.sum(state.valid_BL, axis=-1, dtype=jnp.int32)
    return Trace(jnp.zeros(survival_BL.shape), survival_BL, count_B)


def run_layer(
    program: PackedProgram, state: PackedState, inputs: tuple, *, is_last: bool = False
) -> tuple[PackedState, Trace]:
    """Return the state after a layer and its site, and the site's record.

    The last layer, where the head reads [CLS] alone, gives a new state of [CLS] alone. It has no
    site inside.
    """
    params, index, site_params, scorer_params = inputs
    pruner, sizes = program.pruner, program.sizes
    B, L = state.valid_BL.shape
    num_rows = B * L + sizes.block + sizes.margin  # the reach of a block's slice
    is_inside = pruner.point == BEFORE_FEED_FORWARD
    prune = functools.partial(apply_pruner, pruner, site_params, index, num_rows=num_rows)

    def layer_of(state, source_row_T):
        """Return the layer with the indices of the tokens that the state holds."""
        index_T = token_indices(state.valid_BL, num_rows) if program.needs_slots else None
        return LayerView(params, scorer_params, index, source_row_T, index_T, L)

    if pruner.point == BEFORE_ATTENTION:
        state, source_row_T, trace = prune(state)
    else:
        row_T = jnp.arange(num_rows, dtype=jnp.int32)
        source_row_T = jnp.minimum(row_T, B * L - 1)
        trace = trace_of_all(state) if is_inside else Trace()
    count_B = jnp.sum(state.valid_BL, axis=-1, dtype=jnp.int32)
    if is_last:
        layer = layer_of(state, source_row_T)
        return put_first_tokens(state, first_token_states(program, layer, state, count_B)), trace
    body = functools.partial(run_block, program, layer_of(state, source_row_T), count_B)
    start = jnp.int32(0), jnp.int32(0), state.out, state.workspace
    *_, out, workspace = jax.lax.while_loop(lambda carry: carry[0] < B, body, start)
    state = state.replace(out=out, workspace=workspace)
    if is_inside:
        state, source_row_T, trace = prune(state)
        step = functools.partial(
            feed_forward_tile, program=program, layer=layer_of(state, source_row_T)
        )
        num_kept = jnp.sum(state.valid_BL, dtype=jnp.int32)
        state = state.replace(out=scan_tiles(step, state.out, num_kept, tiles=sizes.tiles))
    return state, trace


def _check_shapes(config: EncoderConfig, batch: Batch) -> None:
    """Raise ValueError where a batch is too long, or its arrays differ in shape."""
    shape = batch.token_BL.shape
    check_length(config, shape[1])
    if batch.segment_BL.shape != shape or batch.valid_BL.shape != shape:
        raise ValueError(
            f"tokens {shape}, segments {batch.segment_BL.shape} and valid tokens "
            f"{batch.valid_BL.shape} of a batch differ in shape"
        )


def _empty_workspace(program: PackedProgram) -> Workspace:
    """Return the buffers of a block."""
    D, num_rows = program.config.hidden_dim, program.sizes.block + program.sizes.margin
    needs = program.pruner.attention_needs
    received = TokenFeatures(**{f"{need}_X": jnp.zeros((num_rows,)) for need in needs})
    return Workspace(
        jnp.zeros((num_rows, D)),
        to_bits(jnp.zeros((num_rows, 3 * D), program.dtype)),
        AttentionOutput(jnp.zeros((num_rows, D)), received),
    )


def enter(program: PackedProgram, outer: Params, batch: Batch):
    """Return the state before site 0, and the batch where the head needs it."""
    _check_shapes(program.config, batch)
    B, L = batch.token_BL.shape
    D, sizes = program.config.hidden_dim, program.sizes
    num_rows = B * L + sizes.margin
    exit_hidden_XD = jnp.zeros((B * L, D)) if program.keeps_exits else None
    out = LayerOutput(jnp.zeros((num_rows, D)), jnp.zeros((num_rows,)), exit_hidden_XD)
    batch_index_T = token_indices(batch.valid_BL, num_rows)
    step = functools.partial(
        embed_tile, program=program, params=outer, batch=batch, batch_index_T=batch_index_T
    )
    out = scan_tiles(step, out, jnp.sum(batch.valid_BL, dtype=jnp.int32), tiles=sizes.tiles)
    protected_BL = program.head.protected_tokens(batch)
    state = PackedState(
        out, _empty_workspace(program), batch.valid_BL, protected_BL, batch.budget_B
    )
    return state, batch if program.head.needs_all_states else None


def sizes_for(B, L: int, *, buckets: Sequence[int], tiles: Sequence[int], block_tokens: int):
    """Return the Sizes for a batch [B, L]; B may be the symbolic size of an exported program."""
    shortest = min(MIN_BUCKET, max(buckets))
    lengths = bucket_sizes([bucket for bucket in buckets if bucket >= shortest], L)
    is_known = isinstance(B, int)
    num_tokens, num_texts = (B * L, B) if is_known else (block_tokens, MAX_GROUP)
    block = max(L, min(block_tokens, num_tokens))
    return Sizes(tuple(tiles), lengths, block, min(MAX_GROUP, num_texts))


def layer_inputs(program: PackedProgram, outer: Params) -> tuple:
    """Return each layer's index, and parameters of its site and of the site that it scores for.

    A layer scores for the next layer's site before the attention, or for its own site inside the
    layer.
    """
    num_layers = program.config.num_layers
    index_N = np.arange(num_layers, dtype=np.int32)
    site_params = params_of_layers(program.pruner, outer["pruner"], num_layers)
    scored_N = (index_N + (program.pruner.point == BEFORE_ATTENTION)) % num_layers
    return index_N, site_params, jax.tree.map(lambda leaf: leaf[scored_N], site_params)


def readout(program: PackedProgram, outer: Params, state: PackedState, batch, trace: Trace):
    """Return the head's logits, of [CLS] or of all exit states, and the Trace."""
    exit_hidden_BLD = state.out.exit_hidden_XD
    if exit_hidden_BLD is not None:
        shape = (*state.valid_BL.shape, program.config.hidden_dim)
        exit_hidden_BLD = exit_hidden_BLD.reshape(shape)
    logits, exit_hidden_BLD = read_out(
        outer,
        program.config,
        program.head,
        batch,
        cls_BD=state.out.hidden_TD[packed_index(state.valid_BL)[:, 0]],
        exit_hidden_BLD=exit_hidden_BLD,
        trace=trace,
    )
    if program.return_exit_hidden:
        trace = trace.replace(exit_hidden_BLD=exit_hidden_BLD)
    return zero_empty_rows(logits, state.valid_BL[:, 0]), trace


def make_stages(
    config: EncoderConfig,
    pruner: Pruner,
    shape: tuple,
    *,
    buckets: Sequence[int] = DEFAULT_BUCKETS,
    tiles: Sequence[int] = TILES,
    block_tokens: int = BLOCK_TOKENS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
) -> StagedProgram:
    """Return the driver for batches of `shape` [B, L]; arguments as in `forward`."""
    program = PackedProgram(
        config=config,
        pruner=running_pruner(pruner, config, head, return_exit_hidden),
        head=head,
        sizes=sizes_for(*shape, buckets=buckets, tiles=tiles, block_tokens=block_tokens),
        dtype=dtype,
        return_exit_hidden=return_exit_hidden,
    )
    run_last = functools.partial(run_layer, program, is_last=True)
    return StagedProgram(
        layer_inputs=functools.partial(layer_inputs, program),
        embed=functools.partial(enter, program),
        layer=functools.partial(run_layer, program),
        readout=functools.partial(readout, program),
        last=run_last if program.has_last_stage else None,
    )


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, **options):
    """Return the head's logits, float32, and the Trace of one batch, equal to the reference's.

    The logits of a row without a token in slot 0 are 0. States that are not finite stay in their
    text.

    Args:
      params: layers stacked, or as `Encoder.prepare_inference_params` returns them.
      config: of the encoder.
      pruner: the method.
      batch: the examples.
      **options: of `make_stages`. buckets: lengths to which texts are padded for attention; the
        largest holds every token slot of the batch. tiles: rows of a product. block_tokens: rows
        that go through a layer together. dtype: of the operands of the products. head: of the
        model. return_exit_hidden: put every token's last state into the Trace.
    """
    check_supported(pruner, config)
    stages = make_stages(config, pruner, batch.token_BL.shape, **options)
    return run_stages(stages, with_shared(encoder_of(config), params), batch)
