"""All kept tokens of a batch lie in one flat buffer: what was dropped, and what padding would be, costs nothing.

    all tokens [T, D] - tiles: query, key, value - examples: attention - tiles: the rest, reading for the next site

The linear parts do not care whose token a row is. They run in tiles, so that inner states stay in the caches: as many
of the largest size as are full, then one of the smallest size that holds the rest. Only attention knows examples: a few
at a time are cut out of the buffer, padded to the longest among them. Examples lie in the order of their counts, the
most tokens first, sorted anew behind every site, so that neighbours are alike and those of one padded length follow
each other. Counts are data: one compiled program serves every mix of lengths, and the host is never asked.

Everything is a `while_loop` that writes rows into a buffer that it carries; a version that sent the buffers through a
`switch` took a fifth longer on a CPU. Tokens keep their order within an example. A site marks the tokens that stay
among the *places* of the texts [B, L]; where a place's token lies in the buffer is the number of kept places before it,
so no positions are carried along.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax import encoder, heads
from adapler_jax.inference.bucketed import DEFAULT_BUCKETS, ladder
from adapler_jax.pruning.base import Pruner, check_sites
from adapler_jax.types import Batch, EncoderConfig, Params, Trace, View

TILES = (32, 64, 128, 256, 512)  # rows of the products
GROUP_TOKENS = 512  # rows, padding included, that attend in one go,
MAX_GROUP = 8  # of at most so many examples
MIN_BUCKET = 8  # shorter attention is not worth a program of its own


@flax.struct.dataclass
class _State:
    """What goes from layer to layer. Rows past the number of tokens hold leftovers that nobody reads."""

    hidden_TD: jax.Array  # the last layer's output, before the site behind it dropped any; then what attention gives
    reading_T: jax.Array  # what that site reads off them
    compact_TD: jax.Array  # room for the kept ones
    joined_TX: jax.Array  # room for their queries, keys and values, in the dtype of the products
    live_BL: jax.Array  # bool: places of the tokens in the buffer
    order_B: jax.Array  # int32: the batch's row that each row of live_BL is


def places_before(live_BL):
    """How many live places lie before each place of the batch, int32 [B, L]."""
    within_BL = jnp.cumsum(live_BL, axis=1, dtype=jnp.int32)
    count_B = within_BL[:, -1]
    return (jnp.cumsum(count_B) - count_B)[:, None] + within_BL - live_BL


def compact(value_BL, keep_BL, num_slots):
    """The values at the kept places, in order: int32 [num_slots], whatever past their number."""
    index_T = jnp.arange(keep_BL.size, dtype=jnp.int32)
    kept_T = jnp.sort(jnp.where(keep_BL.reshape(-1), index_T, keep_BL.size))
    value_T = value_BL.reshape(-1)[jnp.minimum(kept_T, keep_BL.size - 1)]
    return jnp.pad(value_T, (0, num_slots - keep_BL.size))


def falling(sizes):
    """(next smaller size or 0, size) from the largest to the smallest."""
    sizes = sorted(sizes)
    return list(zip((0, *sizes), sizes))[::-1]


def for_tiles(step, buffers, num_tokens, *, tiles):
    """Runs `step(size, first row, buffers) -> buffers` over the first `num_tokens` rows: tiles of the largest size, and
    one of the smallest that holds the rest."""
    carry = jnp.int32(0), buffers
    for smaller, size in falling(tiles):

        def body(carry, size=size):
            first, buffers = carry
            return first + size, step(size, first, buffers)

        carry = jax.lax.while_loop(lambda carry, smaller=smaller: num_tokens - carry[0] > smaller, body, carry)
    return carry[1]


def rows_of(x_TX, first, size):
    """Rows [first, first + size)."""
    return jax.lax.dynamic_slice_in_dim(x_TX, first, size)


def put_rows(x_TX, rows, first):
    """The buffer with these rows from `first` on."""
    return jax.lax.dynamic_update_slice_in_dim(x_TX, rows.astype(x_TX.dtype), first, axis=0)


def enter(size, first, buffers, *, params, place_T, batch: Batch, config: EncoderConfig, read):
    """Embeds one tile of tokens, and reads for site 0."""
    hidden_TD, reading_T = buffers
    place_T = rows_of(place_T, first, size)
    token_T, segment_T = (x_BL.reshape(-1)[place_T] for x_BL in (batch.token_BL, batch.segment_BL))
    position_TD = params["position"][place_T % batch.token_BL.shape[1]]
    rows_TD = encoder.embed_rows(params, config, token_T, position_TD, segment_T)
    return put_rows(hidden_TD, rows_TD, first), put_rows(reading_T, read(rows_TD), first)


def project(size, first, buffers, *, layer, hidden_TD, source_T, config, dtype):
    """Compacts one tile of tokens and computes what attention needs of them."""
    compact_TD, joined_TX = buffers
    rows_TD = hidden_TD[rows_of(source_T, first, size)]
    joined_RX = encoder.query_key_value(layer, config, rows_TD, dtype)
    return put_rows(compact_TD, rows_TD, first), put_rows(joined_TX, joined_RX, first)


def finish_layer(size, first, buffers, *, layer, compact_TD, config, dtype, read):
    """The rest of the layer on one tile, into the place of what attention gave, and what the next site reads of it."""
    mixed_TD, reading_T = buffers
    rows_TD, mixed_RD = (rows_of(x_TD, first, size) for x_TD in (compact_TD, mixed_TD))
    rows_TD = encoder.add_attention(layer, config, rows_TD, mixed_RD, dtype=dtype)
    rows_TD = encoder.feed_forward(layer, config, rows_TD, dtype=dtype)
    return put_rows(mixed_TD, rows_TD, first), put_rows(reading_T, read(rows_TD), first)


def attend(joined_TX, mixed_TD, count_B, *, lengths, config, dtype):
    """Attention of all examples, some at a time, padded to the smallest of the lengths that holds the first of them.

    Counts fall. What is written past an example is overwritten by the next one.
    """
    B = len(count_B)
    count_B = jnp.pad(count_B, (0, MAX_GROUP))  # a group may reach beyond the last example
    start_B = jnp.cumsum(count_B) - count_B
    carry = jnp.int32(0), mixed_TD
    for shorter, length in falling(lengths):
        size = max(1, min(MAX_GROUP, GROUP_TOKENS // length, B))

        def body(carry, length=length, size=size):
            first, mixed_TD = carry
            start_G, count_G = (rows_of(x_B, first, size) for x_B in (start_B, count_B))
            joined_GRX = jnp.stack([rows_of(joined_TX, start_G[place], length) for place in range(size)])
            bias_GR = encoder.key_bias(jnp.arange(length, dtype=jnp.int32)[None] < count_G[:, None])
            mixed_GRD = encoder.mix_values(joined_GRX, bias_GR, num_heads=config.num_heads, dtype=dtype)
            for place in range(size):
                mixed_TD = put_rows(mixed_TD, mixed_GRD[place], start_G[place])
            return first + size, mixed_TD

        carry = jax.lax.while_loop(lambda carry, shorter=shorter: count_B[carry[0]] > shorter, body, carry)
    return carry[1]


def visit_site(pruner: Pruner, site_params, index, state: _State, num_slots):
    """Asks the pruner who stays: (the state with their places, the rows of the buffer that they are, the Trace)."""
    before_BL = places_before(state.live_BL)
    reading_BL = jnp.where(state.live_BL, state.reading_T[before_BL], 0.0)
    view = View(reading_BL, state.live_BL, state.live_BL.astype(jnp.float32))
    selection = pruner.select(site_params, index, view)
    keep_BL = selection.keep_BL
    count_B = jnp.sum(keep_BL, axis=-1, dtype=jnp.int32)
    back_B = jnp.argsort(state.order_B)
    trace = jax.tree.map(
        lambda x_B: x_B[back_B], Trace(selection.score_BL, keep_BL.astype(jnp.float32), count_B)
    )
    by_count_B = jnp.argsort(-count_B)
    keep_BL = keep_BL[by_count_B]
    source_T = compact(before_BL[by_count_B], keep_BL, num_slots)
    return state.replace(live_BL=keep_BL, order_B=state.order_B[by_count_B]), source_T, trace


def reader(pruner: Pruner, site_params):
    """What reads a site's scores off states; nothing of use where the method has no sites."""
    return functools.partial(pruner.read, site_params) if pruner.sites else lambda rows_TD: rows_TD[:, 0]


def embed_batch(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, num_slots, tiles, dtype):
    """The state in front of site 0: all live tokens, embedded."""
    B, L = batch.token_BL.shape
    D = config.hidden_dim
    order_B = jnp.argsort(-jnp.sum(batch.live_BL, axis=-1, dtype=jnp.int32))
    live_BL = batch.live_BL[order_B]
    place_BL = jnp.arange(B * L, dtype=jnp.int32).reshape(B, L)[order_B]
    step = functools.partial(
        enter, params=params["encoder"]["embeddings"], place_T=compact(place_BL, live_BL, num_slots), batch=batch,
        config=config, read=reader(pruner, jax.tree.map(lambda leaf: leaf[0], params["pruner"])),
    )  # fmt: skip
    rooms = jnp.zeros((num_slots, D)), jnp.zeros((num_slots,))
    hidden_TD, reading_T = for_tiles(step, rooms, jnp.sum(live_BL, dtype=jnp.int32), tiles=tiles)
    compact_TD, joined_TX = jnp.zeros((num_slots, D)), jnp.zeros((num_slots, 3 * D), dtype)
    return _State(hidden_TD, reading_T, compact_TD, joined_TX, live_BL, order_B)


def run_layer(state: _State, scanned, *, config: EncoderConfig, pruner: Pruner, lengths, tiles, dtype):
    """The site in front of a layer, the layer, and what the site behind it reads: (state, Trace of the site)."""
    layer, site_params, behind_params, index = scanned
    num_slots = len(state.hidden_TD)
    source_T, trace = jnp.arange(num_slots, dtype=jnp.int32), Trace()
    if pruner.sites:
        state, source_T, trace = visit_site(pruner, site_params, index, state, num_slots)
    count_B = jnp.sum(state.live_BL, axis=-1, dtype=jnp.int32)
    num_tokens = jnp.sum(count_B)
    options = {"layer": layer, "config": config, "dtype": dtype}
    step = functools.partial(project, hidden_TD=state.hidden_TD, source_T=source_T, **options)
    compact_TD, joined_TX = for_tiles(step, (state.compact_TD, state.joined_TX), num_tokens, tiles=tiles)
    mixed_TD = attend(joined_TX, state.hidden_TD, count_B, lengths=lengths, config=config, dtype=dtype)
    step = functools.partial(finish_layer, compact_TD=compact_TD, read=reader(pruner, behind_params), **options)
    hidden_TD, reading_T = for_tiles(step, (mixed_TD, state.reading_T), num_tokens, tiles=tiles)
    state = state.replace(hidden_TD=hidden_TD, reading_T=reading_T, compact_TD=compact_TD, joined_TX=joined_TX)
    return state, trace


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, buckets=DEFAULT_BUCKETS,
            tiles=TILES, dtype=jnp.float32):  # fmt: skip
    """Logits float32 [B, C] and the Trace of one batch, equal to the oracle's.

    Args: params: layers stacked, or as `encoder.lay_out` gives them. buckets: lengths to which examples are padded for
    their attention; the largest holds every token slot of the batch. tiles: numbers of rows in a product. dtype: of the
    operands of the encoder's products.
    """
    check_sites(pruner, config)
    B, L = batch.token_BL.shape
    lengths = ladder([bucket for bucket in buckets if bucket >= min(MIN_BUCKET, max(buckets))], L)
    num_slots = B * L + max(*tiles, L)  # a tile, or the padding of an example, may reach beyond the last token
    start = embed_batch(params, config, pruner, batch, num_slots=num_slots, tiles=tiles, dtype=dtype)
    behind_N = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), params["pruner"])
    index_N = jnp.arange(config.num_layers, dtype=jnp.int32)
    step = functools.partial(run_layer, config=config, pruner=pruner, lengths=lengths, tiles=tiles, dtype=dtype)
    state, trace = encoder.over_layers(step, start, params["encoder"]["layers"], params["pruner"], behind_N, index_N)
    cls_BD = state.hidden_TD[places_before(state.live_BL)[:, 0]]
    return heads.classify(params["head"], config, cls_BD[jnp.argsort(state.order_B)]), trace
