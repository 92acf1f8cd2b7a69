"""All kept tokens of a batch lie in one flat buffer: what was dropped, and what padding would be, costs nothing.

    all tokens [T, D] - blocks of whole examples, each through the layer:
        tiles: query, key, value - examples: attention - tiles: the rest, reading for the next site

The linear parts do not care whose token a row is. They run in tiles, the largest first, which are full or nearly so.
Only attention knows examples: a few at a time, those of most tokens first, are cut out of the block and padded to the
longest among them; long ones go one by one where a group would have shorter ones too. A block holds as many whole
examples as fit, so that all that a layer computes between its states stays in the caches. Tokens keep their order, in a
text and from text to text, so a layer's states take the place of those of the layer before. Counts are data: one
compiled program serves every mix of lengths, and the host is never asked.

Everything is a `while_loop` that writes rows into a buffer that it carries; a version that sent the buffers through a
`switch` took a fifth longer on a CPU. A site marks the tokens that stay among the *places* of the texts [B, L]; where a
place's token lies in the buffer is the number of kept places before it, so no positions are carried along.
"""

import dataclasses
import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes
from adapler_jax.inference.drivers.ragged_ops import (
    descending_sizes,
    from_bits,
    gather_kept,
    packed_index,
    put_rows,
    rows_of,
    scan_tiles,
    to_bits,
    token_indices,
    write_segment,
)
from adapler_jax.inference.drivers.stages import StagedProgram, run_stages
from adapler_jax.pruning.base import (
    Pruner,
    check_supported,
    hard_step,
    params_of_layers,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    Batch,
    EncoderConfig,
    Params,
    SiteInput,
    Trace,
)

TILES = (32, 64, 128, 256, 512)  # rows of the products
BLOCK_TOKENS = 1024  # rows that go through a layer together, or one text if that is longer
MAX_GROUP_TOKENS = 512  # rows, padding included, that attend in one go,
MAX_GROUP = 4  # of at most so many examples: more compile longer and run no faster
MIN_UNGROUPED = (
    64  # slots of a text from which padding a shorter one to them costs more than its own turn
)
MIN_BUCKET = 8  # shorter attention is not worth a program of its own


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """The static numbers of one program."""

    tiles: tuple[int, ...]
    lengths: tuple[
        int, ...
    ]  # to which examples are padded for their attention; the last holds any of them
    block: int
    max_group: int

    @property
    def margin(self) -> int:
        """Rows that a tile or the padding of an example may reach beyond the last token."""
        return max(*self.tiles, *self.lengths)


@flax.struct.dataclass
class AttentionOutput:
    """What attention gives the tokens of a block."""

    attention_output_TD: jax.Array
    received_T: (
        jax.Array | None
    )  # float32, `encoder.attention_significance`; None where no site asks for it


@flax.struct.dataclass
class Workspace:
    """Where a block is worked on."""

    kept_TD: jax.Array  # its kept tokens
    qkv_TX: (
        jax.Array
    )  # their queries, keys and values, in the dtype of the products, as `to_bits` gives them
    heard: AttentionOutput


@flax.struct.dataclass
class LayerOutput:
    """What a layer writes, token by token. Rows past the number of tokens hold leftovers that nobody reads."""

    hidden_TD: jax.Array
    reading_T: jax.Array  # what the next site reads off them
    exit_hidden_PD: (
        jax.Array | None
    )  # the last state so far of the token at each place of the batch [B L]; None if not asked


@flax.struct.dataclass
class PackedState:
    """What goes from layer to layer."""

    out: LayerOutput  # of the last layer, before the site behind it dropped any
    workspace: Workspace
    valid_BL: jax.Array  # bool: places of the tokens in the buffer
    protected_BL: jax.Array | None  # bool: places of those that stay; None for none


def write(out: LayerOutput, rows_TD, reading_T, first, *, place_T) -> LayerOutput:
    """Puts one tile of states, what was read off them, and where asked the states at their places."""
    exit_hidden_PD = out.exit_hidden_PD
    if exit_hidden_PD is not None:
        exit_hidden_PD = exit_hidden_PD.at[rows_of(place_T, first, len(rows_TD))].set(
            rows_TD, mode="drop"
        )
    return LayerOutput(
        put_rows(out.hidden_TD, rows_TD, first),
        put_rows(out.reading_T, reading_T, first),
        exit_hidden_PD,
    )


def embed_tile(
    size, first, out: LayerOutput, *, params, place_T, batch: Batch, config: EncoderConfig, read
) -> LayerOutput:
    """Embeds one tile of tokens, and reads for site 0."""
    row_T = jnp.minimum(rows_of(place_T, first, size), batch.token_BL.size - 1)
    token_T, segment_T = (x_BL.reshape(-1)[row_T] for x_BL in (batch.token_BL, batch.segment_BL))
    position_TD = params["position"][row_T % batch.token_BL.shape[1]]
    rows_TD = encoder.embed_rows(params, config, token_T, position_TD, segment_T)
    return write(out, rows_TD, read(rows_TD), first, place_T=place_T)


def project_qkv_tile(
    size, first, workspace: Workspace, *, layer, hidden_TD, source_T, config, dtype
) -> Workspace:
    """Gathers one tile of a block's tokens and computes what attention needs of them."""
    rows_TD = hidden_TD[rows_of(source_T, first, size)]
    joined_RX = to_bits(encoder.query_key_value(layer, config, rows_TD, dtype).astype(dtype))
    return workspace.replace(
        kept_TD=put_rows(workspace.kept_TD, rows_TD, first),
        qkv_TX=put_rows(workspace.qkv_TX, joined_RX, first),
    )


def attention_group_sizes(length, *, max_group) -> tuple[int, ...]:
    """How many examples of a padded length attend in one go: as many as fit; of long ones, for the rest, each alone."""
    size = max(1, min(max_group, MAX_GROUP_TOKENS // length))
    return (size, 1) if length >= MIN_UNGROUPED and size > 1 else (size,)


def block_attention(
    qkv_TX, heard: AttentionOutput, count_B, *, sizes: _Sizes, config, dtype
) -> AttentionOutput:
    """Attention of a block's examples, those of most tokens first, some at a time, padded to the smallest length that
    holds the first of them. A group may reach beyond the last example."""
    start_B = jnp.cumsum(count_B) - count_B
    by_count_B = jnp.argsort(-count_B)
    start_B, count_B = (
        jnp.pad(x_B[by_count_B], (0, sizes.max_group)) for x_B in (start_B, count_B)
    )
    carry = jnp.int32(0), heard
    for shorter, length in descending_sizes(sizes.lengths):
        group = attention_group_sizes(length, max_group=sizes.max_group)
        for size in group:
            # Where the rest goes alone, a group is of this length throughout.
            decisive = size - 1 if size != group[-1] else 0

            def body(carry, length=length, size=size):
                first, heard = carry
                start_G, count_G = (rows_of(x_B, first, size) for x_B in (start_B, count_B))
                joined_GRX = jnp.stack(
                    [rows_of(qkv_TX, start_G[place], length) for place in range(size)]
                )
                valid_GR = jnp.arange(length, dtype=jnp.int32)[None] < count_G[:, None]
                # Rows of the texts that follow: a NaN among them would pass a weight of 0.
                joined_GRX = jnp.where(valid_GR[..., None], from_bits(joined_GRX, dtype), 0)
                mixed_GRD, received_GR = encoder.scaled_dot_product_attention(
                    joined_GRX,
                    encoder.attention_bias(valid_GR),
                    num_heads=config.num_heads,
                    dtype=dtype,
                    query_mask_BL=None if heard.received_T is None else valid_GR,
                )
                for place in range(size):
                    put = functools.partial(
                        write_segment, first=start_G[place], num_rows=count_G[place]
                    )
                    rows = jax.tree.map(
                        lambda x_GR, place=place: x_GR[place],
                        AttentionOutput(mixed_GRD, received_GR),
                    )
                    heard = jax.tree.map(put, heard, rows)
                return first + size, heard

            carry = jax.lax.while_loop(
                lambda carry, decisive=decisive, shorter=shorter: (
                    count_B[carry[0] + decisive] > shorter
                ),
                body,
                carry,
            )
    return carry[1]


def finish_layer(
    size,
    first,
    out: LayerOutput,
    *,
    layer,
    workspace: Workspace,
    first_row,
    num_rows,
    place_T,
    config,
    dtype,
    read,
):
    """The rest of the layer on one tile of a block, up to the next site: the Out with it. Behind the block's rows lie
    states that are still to be read, and stay."""
    rows_TD, mixed_RD = (
        rows_of(x_TD, first, size)
        for x_TD in (workspace.kept_TD, workspace.heard.attention_output_TD)
    )
    rows_TD = encoder.attention_output(layer, config, rows_TD, mixed_RD, dtype=dtype)
    if workspace.heard.received_T is None:
        rows_TD = encoder.feed_forward(layer, config, rows_TD, dtype=dtype)
        reading_T = read(rows_TD)
    else:
        reading_T = rows_of(workspace.heard.received_T, first, size)
    is_ours_R1 = (first + jnp.arange(size, dtype=jnp.int32) < num_rows)[:, None]
    rows_TD = jnp.where(is_ours_R1, rows_TD, rows_of(out.hidden_TD, first_row + first, size))
    return write(out, rows_TD, reading_T, first_row + first, place_T=place_T)


def run_block(carry, *, layer, source_T, place_T, count_B, sizes: _Sizes, config, dtype, read):
    """The layer, or its half up to a site in it, on as many whole examples as fit into a block.

    carry: the block's first example and row, what is written, rooms. count_B: tokens of all examples. Since tokens only
    ever move towards the start of the buffer, the block's states may be written where earlier ones lie.
    """
    first, first_row, out, workspace = carry
    count_B = rows_of(jnp.pad(count_B, (0, count_B.shape[0])), first, count_B.shape[0])
    fits_B = jnp.cumsum(count_B) <= sizes.block
    count_B = jnp.where(fits_B, count_B, 0)
    num_rows = jnp.sum(count_B)
    source_T = rows_of(source_T, first_row, sizes.block + sizes.margin)
    options = {"config": config, "dtype": dtype}
    step = functools.partial(
        project_qkv_tile, layer=layer, hidden_TD=out.hidden_TD, source_T=source_T, **options
    )
    workspace = scan_tiles(step, workspace, num_rows, tiles=sizes.tiles)
    workspace = workspace.replace(
        heard=block_attention(workspace.qkv_TX, workspace.heard, count_B, sizes=sizes, **options)
    )
    step = functools.partial(
        finish_layer,
        layer=layer,
        workspace=workspace,
        first_row=first_row,
        num_rows=num_rows,
        place_T=place_T,
        read=read,
        **options,
    )
    out = scan_tiles(step, out, num_rows, tiles=sizes.tiles)
    return first + jnp.sum(fits_B, dtype=jnp.int32), first_row + num_rows, out, workspace


def apply_pruner(pruner: Pruner, site_params, index, state: PackedState, *, num_slots):
    """Asks the pruner who stays: (the state with their places, the rows of the buffer that they are, the Trace)."""
    before_BL = packed_index(state.valid_BL)
    token_logit_BL = jnp.where(state.valid_BL, state.out.reading_T[before_BL], 0.0)
    view = SiteInput(
        token_logit_BL,
        state.valid_BL,
        state.valid_BL.astype(jnp.float32),
        protected_BL=state.protected_BL,
    )
    selection = hard_step(pruner, site_params, index, view)
    keep_BL = selection.keep_BL
    trace = Trace(
        selection.score_BL, keep_BL.astype(jnp.float32), jnp.sum(keep_BL, axis=-1, dtype=jnp.int32)
    )
    return state.replace(valid_BL=keep_BL), gather_kept(before_BL, keep_BL, num_slots), trace


def reader(pruner: Pruner, site_params):
    """What reads a site's scores off states; nothing of use where there is no site in front of a layer."""
    if pruner.point == BEFORE_ATTENTION:
        return functools.partial(pruner.score, site_params)
    return lambda rows_TD: rows_TD[:, 0]


def begin(
    outer: Params,
    batch: Batch,
    *,
    config: EncoderConfig,
    pruner: Pruner,
    sizes: _Sizes,
    dtype,
    head: Head,
    return_exit_hidden,
):
    """The state in front of site 0: all valid tokens, embedded; and the batch where the head reads tokens."""
    B, L = batch.token_BL.shape
    encoder.check_length(config, L)
    if batch.segment_BL.shape != (B, L) or batch.valid_BL.shape != (B, L):
        raise ValueError(
            f"tokens {batch.token_BL.shape}, segments {batch.segment_BL.shape} and valid places {batch.valid_BL.shape} "
            "of a batch differ in shape"
        )
    D = config.hidden_dim
    num_slots = B * L + sizes.margin
    first_params = jax.tree.map(lambda leaf: leaf[0], outer["pruner"])
    step = functools.partial(
        embed_tile,
        params=outer["encoder"]["embeddings"],
        place_T=token_indices(batch.valid_BL, num_slots),
        batch=batch,
        config=config,
        read=reader(pruner, first_params),
    )
    exit_hidden_PD = jnp.zeros((B * L, D)) if return_exit_hidden else None
    out = LayerOutput(jnp.zeros((num_slots, D)), jnp.zeros((num_slots,)), exit_hidden_PD)
    out = scan_tiles(step, out, jnp.sum(batch.valid_BL, dtype=jnp.int32), tiles=sizes.tiles)
    num_rows = sizes.block + sizes.margin
    heard = AttentionOutput(
        jnp.zeros((num_rows, D)),
        jnp.zeros((num_rows,)) if pruner.point == BEFORE_FEED_FORWARD else None,
    )
    workspace = Workspace(
        jnp.zeros((num_rows, D)), to_bits(jnp.zeros((num_rows, 3 * D), dtype)), heard
    )
    return PackedState(
        out, workspace, batch.valid_BL, head.protected_tokens(batch)
    ), batch if head.needs_all_states else None


def feed_forward(
    size, first, out: LayerOutput, *, layer, source_T, place_T, config, dtype
) -> LayerOutput:
    """The second half of a layer on one tile of those whom the site in it kept. They move towards the start of the
    buffer, so their states may be written where others lay."""
    rows_TD = encoder.feed_forward(
        layer, config, out.hidden_TD[rows_of(source_T, first, size)], dtype=dtype
    )
    return write(out, rows_TD, rows_TD[:, 0], first, place_T=place_T)


def run_layer(
    state: PackedState, scanned, *, config: EncoderConfig, pruner: Pruner, sizes: _Sizes, dtype
):
    """A layer and its site, and what a site in front of the next layer reads: (state, Trace of the site)."""
    layer, site_params, behind_params, index = scanned
    B, L = state.valid_BL.shape
    num_slots = B * L + sizes.block + sizes.margin  # a block's slice may reach that far
    visit = functools.partial(apply_pruner, pruner, site_params, index, num_slots=num_slots)

    def places(state):
        return (
            None if state.out.exit_hidden_PD is None else token_indices(state.valid_BL, num_slots)
        )

    if pruner.point == BEFORE_ATTENTION:
        state, source_T, trace = visit(state)
    else:
        source_T, trace = jnp.minimum(jnp.arange(num_slots, dtype=jnp.int32), B * L - 1), Trace()
    body = functools.partial(
        run_block,
        layer=layer,
        source_T=source_T,
        count_B=jnp.sum(state.valid_BL, axis=-1, dtype=jnp.int32),
        sizes=sizes,
        config=config,
        dtype=dtype,
        read=reader(pruner, behind_params),
        place_T=places(state),
    )
    start = jnp.int32(0), jnp.int32(0), state.out, state.workspace
    *_, out, workspace = jax.lax.while_loop(lambda carry: carry[0] < B, body, start)
    state = state.replace(out=out, workspace=workspace)
    if pruner.point == BEFORE_FEED_FORWARD:
        state, source_T, trace = visit(state)
        step = functools.partial(
            feed_forward,
            layer=layer,
            source_T=source_T,
            place_T=places(state),
            config=config,
            dtype=dtype,
        )
        num_kept = jnp.sum(state.valid_BL, dtype=jnp.int32)
        state = state.replace(out=scan_tiles(step, state.out, num_kept, tiles=sizes.tiles))
    return state, trace


def sizes_for(B, L, *, buckets, tiles, block_tokens) -> _Sizes:
    """The sizes of a program for a batch [B, L]; B may be the symbolic size of an exported program."""
    lengths = bucket_sizes(
        [bucket for bucket in buckets if bucket >= min(MIN_BUCKET, max(buckets))], L
    )
    num_tokens, num_examples = (B * L, B) if isinstance(B, int) else (block_tokens, MAX_GROUP)
    return _Sizes(
        tuple(tiles), lengths, max(L, min(block_tokens, num_tokens)), min(MAX_GROUP, num_examples)
    )


def layer_inputs(outer: Params, *, pruner: Pruner, num_layers):
    """What a layer reads beside its own parameters: those of its site, those of the next layer's, and its index."""
    index_N = np.arange(num_layers, dtype=np.int32)
    site_params = params_of_layers(pruner, outer["pruner"], num_layers)
    behind = jax.tree.map(lambda leaf: leaf[(index_N + 1) % num_layers], site_params)
    return site_params, behind, index_N


def finish(
    outer: Params,
    state: PackedState,
    batch,
    trace: Trace,
    *,
    config: EncoderConfig,
    head: Head,
    return_exit_hidden,
):
    """Logits from the last [CLS] states, or those of all tokens, and the Trace."""
    states = state.out.hidden_TD[packed_index(state.valid_BL)[:, 0]]
    if state.out.exit_hidden_PD is not None:
        exit_hidden_BLD = state.out.exit_hidden_PD.reshape(*state.valid_BL.shape, config.hidden_dim)
        states = exit_hidden_BLD if head.needs_all_states else states
        trace = trace.replace(exit_hidden_BLD=exit_hidden_BLD if return_exit_hidden else None)
    return zero_empty_rows(
        head.apply(outer["head"], config, states, batch), state.valid_BL[:, 0]
    ), trace


def make_stages(
    config: EncoderConfig,
    pruner: Pruner,
    shape,
    *,
    buckets=DEFAULT_BUCKETS,
    tiles=TILES,
    block_tokens=BLOCK_TOKENS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
) -> StagedProgram:
    """The driver for batches of `shape` [B, L]; arguments as in `forward`."""
    options = {
        "config": config,
        "pruner": pruner,
        "dtype": dtype,
        "sizes": sizes_for(*shape, buckets=buckets, tiles=tiles, block_tokens=block_tokens),
    }
    return StagedProgram(
        layer_inputs=functools.partial(layer_inputs, pruner=pruner, num_layers=config.num_layers),
        embed=functools.partial(
            begin,
            head=head,
            return_exit_hidden=return_exit_hidden or head.needs_all_states,
            **options,
        ),
        layer=functools.partial(run_layer, **options),
        readout=functools.partial(
            finish, config=config, head=head, return_exit_hidden=return_exit_hidden
        ),
    )


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    buckets=DEFAULT_BUCKETS,
    tiles=TILES,
    block_tokens=BLOCK_TOKENS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
):
    """Logits float32 of the head and the Trace of one batch, equal to the oracle's.

    Args: params: layers stacked, or as `encoder.prepare_inference_params` gives them. buckets: lengths to which examples are padded for
    their attention; the largest holds every token slot of the batch. tiles: numbers of rows in a product.
    block_tokens: rows that go through a layer together. dtype: of the operands of the encoder's products. return_exit_hidden:
    whether the Trace has the last state of every token.
    The logits of a row without a token in slot 0 are 0. States that are not finite stay in their text.
    """
    check_supported(pruner, config)
    stages = make_stages(
        config,
        pruner,
        batch.token_BL.shape,
        buckets=buckets,
        tiles=tiles,
        block_tokens=block_tokens,
        dtype=dtype,
        head=head,
        return_exit_hidden=return_exit_hidden,
    )
    return run_stages(stages, params, batch)
