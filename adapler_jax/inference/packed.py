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

from adapler_jax import encoder, heads
from adapler_jax.inference.bucketed import DEFAULT_BUCKETS, ladder
from adapler_jax.inference.stages import Stages, run_stages
from adapler_jax.pruning.base import Pruner, check_sites
from adapler_jax.types import Batch, EncoderConfig, Params, Trace, View

TILES = (32, 64, 128, 256, 512)  # rows of the products
MIN_FILL = 0.75  # of a tile, where smaller ones could hold its rows as well
BLOCK_TOKENS = 1024  # rows that go through a layer together, or one text if that is longer
GROUP_TOKENS = 512  # rows, padding included, that attend in one go,
MAX_GROUP = 4  # of at most so many examples: more compile longer and run no faster
MIN_ALONE = 64  # slots of a text from which padding a shorter one to them costs more than its own turn
MIN_BUCKET = 8  # shorter attention is not worth a program of its own


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """The static numbers of one program."""

    tiles: tuple[int, ...]
    lengths: tuple[int, ...]  # to which examples are padded for their attention; the last holds any of them
    block: int
    max_group: int

    @property
    def margin(self) -> int:
        """Rows that a tile or the padding of an example may reach beyond the last token."""
        return max(*self.tiles, *self.lengths)


@flax.struct.dataclass
class _Rooms:
    """Where a block is worked on."""

    compact_TD: jax.Array  # its kept tokens
    joined_TX: jax.Array  # their queries, keys and values, in the dtype of the products, as `to_bits` gives them
    mixed_TD: jax.Array  # what attention gives


@flax.struct.dataclass
class _Out:
    """What a layer writes, token by token. Rows past the number of tokens hold leftovers that nobody reads."""

    hidden_TD: jax.Array
    reading_T: jax.Array  # what the site behind the layer reads off them
    last_PD: jax.Array | None  # the last state so far of the token at each place of the batch [B L]; None if not asked


@flax.struct.dataclass
class _State:
    """What goes from layer to layer."""

    out: _Out  # of the last layer, before the site behind it dropped any
    rooms: _Rooms
    live_BL: jax.Array  # bool: places of the tokens in the buffer


def places_before(live_BL):
    """How many live places lie before each place of the batch, int32 [B, L]."""
    within_BL = jnp.cumsum(live_BL, axis=1, dtype=jnp.int32)
    count_B = within_BL[:, -1]
    return (jnp.cumsum(count_B) - count_B)[:, None] + within_BL - live_BL.astype(jnp.int32)


def compact(value_BL, keep_BL, num_slots, *, past=0):
    """The values at the kept places, in order, then `past`: int32 [num_slots]."""
    index_T = jnp.arange(keep_BL.size, dtype=jnp.int32)
    kept_T = jnp.sort(jnp.where(keep_BL.reshape(-1), index_T, keep_BL.size))
    value_T = jnp.where(kept_T < keep_BL.size, value_BL.reshape(-1)[jnp.minimum(kept_T, keep_BL.size - 1)], past)
    return jnp.pad(value_T, (0, num_slots - keep_BL.size), constant_values=past)


def falling(sizes):
    """(next smaller size or 0, size) from the largest to the smallest."""
    sizes = sorted(sizes)
    return list(zip((0, *sizes), sizes))[::-1]


def for_tiles(step, buffers, num_tokens, *, tiles):
    """Runs `step(size, first row, buffers) -> buffers` over the first `num_tokens` rows, from the largest tiles to the
    smallest: a tile is at least MIN_FILL full and holds more than the next smaller one could, but for the last."""
    carry = jnp.int32(0), buffers
    for smaller, size in falling(tiles):
        spare = max(smaller, int(MIN_FILL * size)) if smaller else 0

        def body(carry, size=size):
            first, buffers = carry
            return first + size, step(size, first, buffers)

        carry = jax.lax.while_loop(lambda carry, spare=spare: num_tokens - carry[0] > spare, body, carry)
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


def write(out: _Out, rows_TD, first, *, place_T, read) -> _Out:
    """Puts one tile of states, what is read off them, and where asked the states at their places."""
    last_PD = out.last_PD
    if last_PD is not None:
        last_PD = last_PD.at[rows_of(place_T, first, len(rows_TD))].set(rows_TD, mode="drop")
    return _Out(put_rows(out.hidden_TD, rows_TD, first), put_rows(out.reading_T, read(rows_TD), first), last_PD)


def enter(size, first, out: _Out, *, params, place_T, batch: Batch, config: EncoderConfig, read) -> _Out:
    """Embeds one tile of tokens, and reads for site 0."""
    row_T = jnp.minimum(rows_of(place_T, first, size), batch.token_BL.size - 1)
    token_T, segment_T = (x_BL.reshape(-1)[row_T] for x_BL in (batch.token_BL, batch.segment_BL))
    position_TD = params["position"][row_T % batch.token_BL.shape[1]]
    rows_TD = encoder.embed_rows(params, config, token_T, position_TD, segment_T)
    return write(out, rows_TD, first, place_T=place_T, read=read)


def project(size, first, rooms: _Rooms, *, layer, hidden_TD, source_T, config, dtype) -> _Rooms:
    """Gathers one tile of a block's tokens and computes what attention needs of them."""
    rows_TD = hidden_TD[rows_of(source_T, first, size)]
    joined_RX = to_bits(encoder.query_key_value(layer, config, rows_TD, dtype).astype(dtype))
    return rooms.replace(
        compact_TD=put_rows(rooms.compact_TD, rows_TD, first), joined_TX=put_rows(rooms.joined_TX, joined_RX, first)
    )


def group_sizes(length, *, max_group) -> tuple[int, ...]:
    """How many examples of a padded length attend in one go: as many as fit; of long ones, for the rest, each alone."""
    size = max(1, min(max_group, GROUP_TOKENS // length))
    return (size, 1) if length >= MIN_ALONE and size > 1 else (size,)


def attend(joined_TX, mixed_TD, count_B, *, sizes: _Sizes, config, dtype):
    """Attention of a block's examples, those of most tokens first, some at a time, padded to the smallest length that
    holds the first of them. A group may reach beyond the last example."""
    start_B = jnp.cumsum(count_B) - count_B
    by_count_B = jnp.argsort(-count_B)
    start_B, count_B = (jnp.pad(x_B[by_count_B], (0, sizes.max_group)) for x_B in (start_B, count_B))
    carry = jnp.int32(0), mixed_TD
    for shorter, length in falling(sizes.lengths):
        group = group_sizes(length, max_group=sizes.max_group)
        for size in group:
            # Where the rest goes alone, a group is of this length throughout.
            decisive = size - 1 if size != group[-1] else 0

            def body(carry, length=length, size=size):
                first, mixed_TD = carry
                start_G, count_G = (rows_of(x_B, first, size) for x_B in (start_B, count_B))
                joined_GRX = jnp.stack([rows_of(joined_TX, start_G[place], length) for place in range(size)])
                joined_GRX = from_bits(joined_GRX, dtype)
                live_GR = jnp.arange(length, dtype=jnp.int32)[None] < count_G[:, None]
                mixed_GRD = encoder.mix_values(
                    joined_GRX, encoder.key_bias(live_GR), num_heads=config.num_heads, dtype=dtype
                )
                for place in range(size):
                    others_RD = rows_of(mixed_TD, start_G[place], length)  # behind the example lie its neighbours
                    rows_RD = jnp.where(live_GR[place][:, None], mixed_GRD[place], others_RD)
                    mixed_TD = put_rows(mixed_TD, rows_RD, start_G[place])
                return first + size, mixed_TD

            carry = jax.lax.while_loop(
                lambda carry, decisive=decisive, shorter=shorter: count_B[carry[0] + decisive] > shorter, body, carry
            )
    return carry[1]


def finish_layer(size, first, out: _Out, *, layer, rooms: _Rooms, first_row, num_rows, place_T, config, dtype, read):
    """The rest of the layer on one tile of a block: the _Out with it. Behind the block's rows lie states that are still
    to be read, and stay."""
    rows_TD, mixed_RD = (rows_of(x_TD, first, size) for x_TD in (rooms.compact_TD, rooms.mixed_TD))
    rows_TD = encoder.add_attention(layer, config, rows_TD, mixed_RD, dtype=dtype)
    rows_TD = encoder.feed_forward(layer, config, rows_TD, dtype=dtype)
    is_ours_R1 = (first + jnp.arange(size, dtype=jnp.int32) < num_rows)[:, None]
    rows_TD = jnp.where(is_ours_R1, rows_TD, rows_of(out.hidden_TD, first_row + first, size))
    return write(out, rows_TD, first_row + first, place_T=place_T, read=read)


def run_block(carry, *, layer, source_T, place_T, count_B, sizes: _Sizes, config, dtype, read):
    """The layer on as many whole examples as fit into a block.

    carry: the block's first example and row, what is written, rooms. count_B: tokens of all examples. Since tokens only
    ever move towards the start of the buffer, the block's states may be written where earlier ones lie.
    """
    first, first_row, out, rooms = carry
    count_B = rows_of(jnp.pad(count_B, (0, count_B.shape[0])), first, count_B.shape[0])
    fits_B = jnp.cumsum(count_B) <= sizes.block
    count_B = jnp.where(fits_B, count_B, 0)
    num_rows = jnp.sum(count_B)
    source_T = rows_of(source_T, first_row, sizes.block + sizes.margin)
    options = {"config": config, "dtype": dtype}
    step = functools.partial(project, layer=layer, hidden_TD=out.hidden_TD, source_T=source_T, **options)
    rooms = for_tiles(step, rooms, num_rows, tiles=sizes.tiles)
    rooms = rooms.replace(mixed_TD=attend(rooms.joined_TX, rooms.mixed_TD, count_B, sizes=sizes, **options))
    step = functools.partial(
        finish_layer, layer=layer, rooms=rooms, first_row=first_row, num_rows=num_rows, place_T=place_T, read=read,
        **options,
    )  # fmt: skip
    out = for_tiles(step, out, num_rows, tiles=sizes.tiles)
    return first + jnp.sum(fits_B, dtype=jnp.int32), first_row + num_rows, out, rooms


def visit_site(pruner: Pruner, site_params, index, state: _State, *, num_slots):
    """Asks the pruner who stays: (the state with their places, the rows of the buffer that they are, the Trace)."""
    before_BL = places_before(state.live_BL)
    reading_BL = jnp.where(state.live_BL, state.out.reading_T[before_BL], 0.0)
    view = View(reading_BL, state.live_BL, state.live_BL.astype(jnp.float32))
    selection = pruner.select(site_params, index, view)
    keep_BL = selection.keep_BL
    trace = Trace(selection.score_BL, keep_BL.astype(jnp.float32), jnp.sum(keep_BL, axis=-1, dtype=jnp.int32))
    return state.replace(live_BL=keep_BL), compact(before_BL, keep_BL, num_slots), trace


def reader(pruner: Pruner, site_params):
    """What reads a site's scores off states; nothing of use where the method has no sites."""
    return functools.partial(pruner.read, site_params) if pruner.sites else lambda rows_TD: rows_TD[:, 0]


def places_of_tokens(live_BL, num_slots):
    """The place in the batch of each token of the buffer, int32 [num_slots]; B L, which is none, past the last."""
    place_BL = jnp.arange(live_BL.size, dtype=jnp.int32).reshape(live_BL.shape)
    return compact(place_BL, live_BL, num_slots, past=live_BL.size)


def begin(outer: Params, batch: Batch, *, config: EncoderConfig, pruner: Pruner, sizes: _Sizes, dtype, with_last):
    """The state in front of site 0: all live tokens, embedded; and nothing more."""
    B, L = batch.token_BL.shape
    encoder.check_length(config, L)
    if batch.segment_BL.shape != (B, L) or batch.live_BL.shape != (B, L):
        raise ValueError(
            f"tokens {batch.token_BL.shape}, segments {batch.segment_BL.shape} and live places {batch.live_BL.shape} "
            "of a batch differ in shape"
        )
    D = config.hidden_dim
    num_slots = B * L + sizes.margin
    step = functools.partial(
        enter, params=outer["encoder"]["embeddings"], place_T=places_of_tokens(batch.live_BL, num_slots),
        batch=batch, config=config, read=reader(pruner, jax.tree.map(lambda leaf: leaf[0], outer["pruner"])),
    )  # fmt: skip
    last_PD = jnp.zeros((B * L, D)) if with_last else None
    out = _Out(jnp.zeros((num_slots, D)), jnp.zeros((num_slots,)), last_PD)
    out = for_tiles(step, out, jnp.sum(batch.live_BL, dtype=jnp.int32), tiles=sizes.tiles)
    num_rows = sizes.block + sizes.margin
    rooms = _Rooms(jnp.zeros((num_rows, D)), to_bits(jnp.zeros((num_rows, 3 * D), dtype)), jnp.zeros((num_rows, D)))
    return _State(out, rooms, batch.live_BL), ()


def run_layer(state: _State, scanned, *, config: EncoderConfig, pruner: Pruner, sizes: _Sizes, dtype):
    """The site in front of a layer, the layer, and what the site behind it reads: (state, Trace of the site)."""
    layer, site_params, behind_params, index = scanned
    B, L = state.live_BL.shape
    num_slots = B * L + sizes.block + sizes.margin  # a block's slice may reach that far
    if pruner.sites:
        state, source_T, trace = visit_site(pruner, site_params, index, state, num_slots=num_slots)
    else:
        source_T, trace = jnp.minimum(jnp.arange(num_slots, dtype=jnp.int32), B * L - 1), Trace()
    body = functools.partial(
        run_block, layer=layer, source_T=source_T, count_B=jnp.sum(state.live_BL, axis=-1, dtype=jnp.int32),
        sizes=sizes, config=config, dtype=dtype, read=reader(pruner, behind_params),
        place_T=None if state.out.last_PD is None else places_of_tokens(state.live_BL, num_slots),
    )  # fmt: skip
    start = jnp.int32(0), jnp.int32(0), state.out, state.rooms
    *_, out, rooms = jax.lax.while_loop(lambda carry: carry[0] < B, body, start)
    return state.replace(out=out, rooms=rooms), trace


def sizes_for(B, L, *, buckets, tiles, block_tokens) -> _Sizes:
    """The sizes of a program for a batch [B, L]; B may be the symbolic size of an exported program."""
    lengths = ladder([bucket for bucket in buckets if bucket >= min(MIN_BUCKET, max(buckets))], L)
    num_tokens, num_examples = (B * L, B) if isinstance(B, int) else (block_tokens, MAX_GROUP)
    return _Sizes(tuple(tiles), lengths, max(L, min(block_tokens, num_tokens)), min(MAX_GROUP, num_examples))


def per_layer(outer: Params, *, num_layers):
    """What a layer reads beside its own parameters: those of the site in front of it, its index, and those of the site
    behind it."""
    index_N = np.arange(num_layers, dtype=np.int32)
    behind = jax.tree.map(lambda leaf: leaf[(index_N + 1) % num_layers], outer["pruner"])
    return outer["pruner"], behind, index_N


def finish(outer: Params, state: _State, _, trace: Trace, *, config: EncoderConfig):
    """Logits from the last [CLS] states, and the Trace."""
    if state.out.last_PD is not None:
        trace = trace.replace(last_BLD=state.out.last_PD.reshape(*state.live_BL.shape, config.hidden_dim))
    cls_BD = state.out.hidden_TD[places_before(state.live_BL)[:, 0]]
    return heads.classify(outer["head"], config, cls_BD), trace


def make_stages(config: EncoderConfig, pruner: Pruner, shape, *, buckets=DEFAULT_BUCKETS, tiles=TILES,
                block_tokens=BLOCK_TOKENS, dtype=jnp.float32, with_last=False) -> Stages:  # fmt: skip
    """The driver for batches of `shape` [B, L]; arguments as in `forward`."""
    options = {
        "config": config, "pruner": pruner, "dtype": dtype,
        "sizes": sizes_for(*shape, buckets=buckets, tiles=tiles, block_tokens=block_tokens),
    }  # fmt: skip
    return Stages(
        per_layer=functools.partial(per_layer, num_layers=config.num_layers),
        begin=functools.partial(begin, with_last=with_last, **options),
        step=functools.partial(run_layer, **options),
        finish=functools.partial(finish, config=config),
    )


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, buckets=DEFAULT_BUCKETS,
            tiles=TILES, block_tokens=BLOCK_TOKENS, dtype=jnp.float32, with_last=False):  # fmt: skip
    """Logits float32 [B, C] and the Trace of one batch, equal to the oracle's.

    Args: params: layers stacked, or as `encoder.lay_out` gives them. buckets: lengths to which examples are padded for
    their attention; the largest holds every token slot of the batch. tiles: numbers of rows in a product.
    block_tokens: rows that go through a layer together. dtype: of the operands of the encoder's products. with_last:
    whether the Trace has the last state of every token.
    The logits of a row without tokens mean nothing. States that are not finite reach the texts beside them.
    """
    check_sites(pruner, config)
    stages = make_stages(
        config, pruner, batch.token_BL.shape, buckets=buckets, tiles=tiles, block_tokens=block_tokens, dtype=dtype,
        with_last=with_last,
    )  # fmt: skip
    return run_stages(stages, params, batch)
