"""Operations that a driver runs for a batch, with padding, tiles and groups.

The packed driver's loops are followed in NumPy: its tiles, blocks and groups depend on the numbers
of kept tokens alone. Operations that XLA removes, as scores after the last layer, are not counted.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from adapler_jax import model_flops
from adapler_jax.encoders import encoder_of
from adapler_jax.flops import SiteFlops
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.select import DriverChoice
from adapler_jax.inference.drivers import packed
from adapler_jax.inference.drivers.buckets import executed_lengths
from adapler_jax.inference.drivers.dense import chunk_sizes
from adapler_jax.inference.drivers.packed_attention import group_shapes
from adapler_jax.inference.drivers.ragged_ops import descending_sizes, spare_rows
from adapler_jax.inference.drivers.stages import computes_first_alone, running_pruner
from adapler_jax.inference.engine import halves, program_rows
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import BEFORE_FEED_FORWARD, Batch, EncoderConfig, Params


def executed_flops(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    count_NB,
    *,
    choice: DriverChoice,
    head: Head = CLASSIFICATION,
    dense_config: EncoderConfig | None = None,
) -> np.ndarray:
    """Return the operations that one padded batch took, padding rows included: int64 [2].

    The first are the plain encoder's, which runs padding too, the second the driver's. "bucketed"
    runs the padded lengths of its buckets, or the plain encoder without sites. "packed" runs tiles
    of rows and groups of padded texts. On CPUs the rows that fill up a chunk count. "masked" runs
    all layers on all slots.

    Args:
      params: of the whole model.
      config: of the encoder.
      pruner: the method.
      batch: the examples.
      count_NB: tokens that each layer ran on.
      choice: driver and buckets.
      head: of the model.
      dense_config: of the plain encoder; None for the same sizes.
    """
    spent = padded_flops(params, dense_config or config, batch, head)
    B, L = batch.token_BL.shape
    head_of_row = head_flops(params, config, L, head)
    if choice.driver == "masked":
        executed = int(B * model_flops.dense_flops(config, L, head=head_of_row))
    elif choice.driver == "packed":
        executed = packed_flops(
            params, config, pruner, batch, count_NB=count_NB, buckets=choice.buckets, head=head
        )
        num_rows = program_rows("packed", B) * num_parts("packed", B)
        executed += int(num_rows * head_of_row)
    elif pruner.sites:
        executed = bucketed_flops(
            params, config, pruner, batch, count_NB=count_NB, buckets=choice.buckets, head=head
        )
        executed += int(B * head_of_row)
    else:
        executed = padded_flops(params, config, batch, head)
    return np.array([spent, executed], np.int64)


def head_flops(params: Params, config: EncoderConfig, length: int, head: Head):
    """Return the operations of the head for one row of so many token slots."""
    return head.flops(params["head"], config, length)


def padded_flops(
    params: Params, config: EncoderConfig, batch: Batch, head: Head = CLASSIFICATION
) -> int:
    """Return the operations of the plain encoder on a padded batch, padding rows included."""
    B, L = batch.token_BL.shape
    reads_first = not head.needs_all_states
    per_row = model_flops.dense_flops(config, L, head=0, reads_first=reads_first)
    return int(chunked_rows(B, L) * per_row + B * head_flops(params, config, L, head))


def chunked_rows(batch_size: int, length: int) -> int:
    """Return the rows that run where a batch goes through `dense.in_chunks_on_cpu`."""
    if jax.default_backend() != "cpu":
        return batch_size
    num_chunks, size = chunk_sizes(batch_size, length)
    return num_chunks * size


def bucketed_flops(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    count_NB,
    buckets: Sequence[int],
    head: Head = CLASSIFICATION,
) -> int:
    """Return the operations of the bucketed driver; the head is not counted."""
    B, L = batch.token_BL.shape
    length_B = np.asarray(batch.valid_BL).sum(-1)
    pruner = running_pruner(pruner, config, head, return_exit_hidden=False)
    has_last_stage = computes_first_alone(pruner, config, head)
    entry, length_N = executed_lengths(pruner, length_B, count_NB, buckets, num_slots=L)
    layers = {site.layer for site in pruner.sites}
    is_inside = pruner.point == BEFORE_FEED_FORWARD
    total, entering = B * model_flops.embedding_flops(config, entry), entry
    for layer, length in enumerate(map(int, length_N)):
        rows = chunked_rows(B, length)
        is_last = has_last_stage and layer == config.num_layers - 1
        if is_inside and not is_last:
            attended = model_flops.attention_flops(config, entering, layer=layer)
            attended += model_flops.site_flops(config, pruner, params, entering, layer=layer)
            total += chunked_rows(B, entering) * attended
            total += rows * model_flops.feed_forward_flops(config, length)
        else:
            if layer in layers:
                total += B * model_flops.site_flops(config, pruner, params, entering)
            if is_last:
                total += rows * model_flops.last_layer_flops(config, length)
            else:
                total += rows * model_flops.layer_flops(config, length, layer=layer)
        entering = length
    return int(total)


def num_parts(driver: str, batch_size: int) -> int:
    """Return the number of programs in which a driver runs a batch."""
    return -(-batch_size // program_rows(driver, batch_size))


class _PackedSizes(NamedTuple):
    """Sizes that all layers of one packed program share."""

    config: EncoderConfig
    pruner: Pruner
    per_token: SiteFlops
    sizes: packed.Sizes
    has_last_stage: bool  # the last layer computes [CLS] alone
    num_slots: int  # of the part of the batch


def packed_flops(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    count_NB,
    buckets: Sequence[int],
    head: Head = CLASSIFICATION,
) -> int:
    """Return the operations of the packed driver; the head is not counted.

    The engine runs large batches in two halves.
    """
    B, L = batch.token_BL.shape
    valid_B = np.asarray(batch.valid_BL).sum(-1, dtype=np.int64)
    count_NB = np.asarray(count_NB, np.int64)
    parts = halves(B) if num_parts("packed", B) > 1 else [np.arange(B)]
    sizes = packed.sizes_for(
        len(parts[0]), L, buckets=buckets, tiles=packed.TILES, block_tokens=packed.BLOCK_TOKENS
    )
    pruner = running_pruner(pruner, config, head, return_exit_hidden=False)
    per_token = pruner.site_flops(params["pruner"], config) if pruner.sites else SiteFlops()
    is_inside = pruner.point == BEFORE_FEED_FORWARD
    has_last_stage = computes_first_alone(pruner, config, head)
    run = packed_part_in_layer if is_inside else packed_part_before_layer
    total = 0
    for rows in parts:
        shared = _PackedSizes(config, pruner, per_token, sizes, has_last_stage, len(rows) * L)
        total += run(shared, valid_B[rows], count_NB[:, rows])
    return total


def packed_part_before_layer(shared: _PackedSizes, valid_B, count_NB) -> int:
    """Return the operations of one packed program whose sites, if any, are before the layers."""
    config, sizes = shared.config, shared.sizes
    layers = {site.layer for site in shared.pruner.sites}
    rows = tile_rows(int(valid_B.sum()), sizes.tiles)
    total = model_flops.embedding_flops(config, rows)
    for layer, count_B in enumerate(count_NB):
        if layer in layers:
            total += rows * shared.per_token.score + shared.num_slots * shared.per_token.decide
        rows = block_rows(count_B, sizes)
        if shared.has_last_stage and layer == len(count_NB) - 1:
            total += last_layer_of_first(shared, count_B)
            break
        total += attention_half_flops(shared, count_B, layer=layer)
        total += model_flops.feed_forward_flops(config, rows)
    return int(total)


def last_layer_of_first(shared: _PackedSizes, count_B) -> int:
    """Return the operations of the last layer for [CLS] alone."""
    config, sizes = shared.config, shared.sizes
    encoder = encoder_of(config).flops
    total = encoder.key_value(config, block_rows(count_B, sizes) - len(count_B))
    total += encoder.attention_tokens(config, len(count_B))
    total += encoder.feed_forward(config, len(count_B))
    for block_B in blocks_of(count_B, sizes.block):
        for size, slots in groups_of(block_B, sizes):
            total += model_flops.pair_flops(config, size * slots)
    return total


def packed_part_in_layer(shared: _PackedSizes, valid_B, count_NB) -> int:
    """Return the operations of one packed program whose sites are inside the layers."""
    config, sizes, per_token = shared.config, shared.sizes, shared.per_token
    rows = tile_rows(int(valid_B.sum()), sizes.tiles)
    total = model_flops.embedding_flops(config, rows)
    entering_B = valid_B
    for layer, count_B in enumerate(count_NB):
        if shared.has_last_stage and layer == len(count_NB) - 1:
            total += last_layer_of_first(shared, entering_B)
            break
        total += attention_half_flops(shared, entering_B, layer=layer)
        total += block_rows(entering_B, sizes) * per_token.score
        total += shared.num_slots * per_token.decide
        kept_rows = tile_rows(int(count_B.sum()), sizes.tiles)
        total += model_flops.feed_forward_flops(config, kept_rows)
        entering_B = count_B
    return int(total)


def attention_half_flops(shared: _PackedSizes, count_B, *, layer: int) -> int:
    """Return the operations of a layer's attention half, of all blocks."""
    config, sizes = shared.config, shared.sizes
    total = encoder_of(config).flops.attention_tokens(config, block_rows(count_B, sizes))
    for block_B in blocks_of(count_B, sizes.block):
        for size, slots in groups_of(block_B, sizes):
            pairs = model_flops.num_pairs(config, slots, layer=layer)
            total += size * model_flops.pair_flops(config, pairs)
            total += size * model_flops.received_flops(config, shared.pruner, slots, layer=layer)
    return int(total)


def block_rows(count_B, sizes: packed.Sizes) -> int:
    """Return the rows of the tiles of all blocks."""
    blocks = blocks_of(count_B, sizes.block)
    return sum(tile_rows(int(block_B.sum()), sizes.tiles) for block_B in blocks)


def tile_rows(num_tokens: int, tiles: Sequence[int]) -> int:
    """Return the rows of the tiles that `ragged_ops.scan_tiles` runs over so many tokens."""
    rows = 0
    for smaller, size in descending_sizes(tiles):
        left = num_tokens - rows - spare_rows(smaller, size)
        rows += size * max(0, -(-left // size))
    return rows


def blocks_of(count_B: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """Yield the tokens of the texts of each block that `packed.run_block` runs."""
    first = 0
    while first < len(count_B):
        num_texts = int(np.sum(np.cumsum(count_B[first:]) <= block))
        yield count_B[first : first + num_texts]
        first += num_texts


def groups_of(count_B: np.ndarray, sizes: packed.Sizes) -> Iterator[tuple[int, int]]:
    """Yield (texts, token slots of each) of every group that `block_attention` runs for a block."""
    counts = [*np.sort(count_B)[::-1].tolist(), *[0] * (2 * sizes.max_group)]
    first = 0
    for shape in group_shapes(sizes.lengths, max_group=sizes.max_group):
        while counts[first + shape.decisive] > shape.shorter:
            yield shape.size, shape.length
            first += shape.size
