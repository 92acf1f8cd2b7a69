"""Operations that a driver runs for a batch, from its own sizes: padding, filled tiles and groups included.

The packed driver's loops are followed in NumPy: which tiles, blocks and groups it runs depends on the numbers of kept
tokens alone. What XLA removes because nobody reads it, as the scores after the last layer, is not counted.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from adapler_jax import flops
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.inference.autotune.select import DriverChoice
from adapler_jax.inference.drivers import packed
from adapler_jax.inference.drivers.buckets import executed_lengths
from adapler_jax.inference.drivers.dense import chunk_sizes
from adapler_jax.inference.drivers.ragged_ops import descending_sizes, spare_rows
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
):
    """Operations that one padded batch took, fillers included: int64 [2], of dense BERT and of the driver.

    Dense BERT runs padding too. "bucketed" runs the padded lengths of its rungs, a method without sites as the dense
    model. "packed" runs tiles of rows and groups of padded texts. On CPUs the rows that fill up a chunk are counted,
    and of "packed" the halves that run at a time. "masked" runs as much as the dense model; its predictors are not
    counted. count_NB: tokens that each layer ran on.
    """
    spent = padded_flops(params, dense_config or config, batch, head)
    executed = padded_flops(params, config, batch, head)
    predictor_dim = flops.leaf_predictor_dim(params)
    B, L = batch.token_BL.shape
    if choice.driver == "packed":
        executed = packed_flops(
            config,
            pruner,
            batch,
            count_NB=count_NB,
            buckets=choice.buckets,
            predictor_dim=predictor_dim,
        )
        executed += int(
            program_rows("packed", B) * parts_of("packed", B) * head_flops(params, config, L, head)
        )
    elif choice.driver == "bucketed" and pruner.sites:
        length_B = np.asarray(batch.valid_BL).sum(-1)
        entry, length_N = executed_lengths(pruner, length_B, count_NB, choice.buckets, num_slots=L)
        executed = bucketed_flops(
            config, pruner, B, entry=entry, length_N=length_N, predictor_dim=predictor_dim
        )
        executed += int(B * head_flops(params, config, L, head))
    return np.array([spent, executed], np.int64)


def head_flops(params: Params, config: EncoderConfig, length: int, head: Head):
    """Operations of the head for one row of so many token slots."""
    return head.flops(params["head"], config, length)


def padded_flops(
    params: Params, config: EncoderConfig, batch: Batch, head: Head = CLASSIFICATION
) -> int:
    """Operations of plain BERT on a padded batch, fillers and padding included."""
    B, L = batch.token_BL.shape
    rows = chunked_rows(B, L)
    return int(
        rows * flops.dense_flops(config, L, head=0) + B * head_flops(params, config, L, head)
    )


def chunked_rows(batch_size: int, length: int) -> int:
    """Rows that run where a batch goes through `dense.in_chunks_on_cpu`."""
    if jax.default_backend() != "cpu":
        return batch_size
    num_chunks, size = chunk_sizes(batch_size, length)
    return num_chunks * size


def bucketed_flops(
    config: EncoderConfig,
    pruner: Pruner,
    batch_size: int,
    *,
    entry: int,
    length_N,
    predictor_dim: int,
) -> int:
    """Operations of the bucketed driver without the head; entry, length_N: as `executed_lengths` gives them."""
    total = batch_size * flops.embedding_flops(config, entry)
    layers, entering = {site.layer for site in pruner.sites}, entry
    for layer, length in enumerate(map(int, length_N)):
        rows = chunked_rows(batch_size, length)
        if pruner.point == BEFORE_FEED_FORWARD:
            attended = flops.attention_flops(config, entering) + flops.significance_flops(
                config, entering
            )
            total += chunked_rows(
                batch_size, entering
            ) * attended + rows * flops.feed_forward_flops(config, length)
        else:
            if layer in layers:
                total += batch_size * flops.predictor_flops(
                    config, entering, predictor_dim=predictor_dim
                )
            total += rows * flops.layer_flops(config, length)
        entering = length
    return int(total)


def parts_of(driver: str, batch_size: int) -> int:
    """In how many programs a driver runs a batch."""
    return -(-batch_size // program_rows(driver, batch_size))


def packed_flops(
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    count_NB,
    buckets: Sequence[int],
    predictor_dim: int,
) -> int:
    """Operations of the packed driver without the head, in two halves where the engine runs it so."""
    B, L = batch.token_BL.shape
    valid_B, count_NB = (
        np.asarray(batch.valid_BL).sum(-1, dtype=np.int64),
        np.asarray(count_NB, np.int64),
    )
    parts = halves(B) if parts_of("packed", B) > 1 else [np.arange(B)]
    sizes = packed.sizes_for(
        len(parts[0]), L, buckets=buckets, tiles=packed.TILES, block_tokens=packed.BLOCK_TOKENS
    )
    run = packed_part_in_layer if pruner.point == BEFORE_FEED_FORWARD else packed_part_before_layer
    options = {"sizes": sizes, "length": L, "predictor_dim": predictor_dim}
    return sum(
        run(config, pruner, valid_B[rows], count_NB=count_NB[:, rows], **options) for rows in parts
    )


def packed_part_before_layer(
    config: EncoderConfig,
    pruner: Pruner,
    valid_B,
    *,
    count_NB,
    sizes,
    length: int,
    predictor_dim: int,
) -> int:
    """Operations of one packed program whose sites, if any, are before the layers."""
    layers = {site.layer for site in pruner.sites}
    rows = tile_rows(int(valid_B.sum()), sizes.tiles)
    total = flops.embedding_flops(config, rows)
    for layer, count_B in enumerate(count_NB):
        if layer in layers:
            total += flops.reading_flops(config, rows, predictor_dim=predictor_dim)
            total += flops.decision_flops(len(valid_B) * length, predictor_dim=predictor_dim)
        rows = 0
        for block_B in blocks_of(count_B, sizes.block):
            block_rows = tile_rows(int(block_B.sum()), sizes.tiles)
            total += flops.attention_row_flops(config, block_rows) + flops.feed_forward_flops(
                config, block_rows
            )
            for size, slots in groups_of(block_B, sizes):
                total += size * flops.attention_pair_flops(config, slots**2)
            rows += block_rows
    return int(total)


def packed_part_in_layer(
    config: EncoderConfig,
    pruner: Pruner,
    valid_B,
    *,
    count_NB,
    sizes,
    length: int,
    predictor_dim: int,
) -> int:
    """Operations of one packed program whose sites are between the halves of the layers."""
    del pruner, length, predictor_dim
    total = flops.embedding_flops(config, tile_rows(int(valid_B.sum()), sizes.tiles))
    entering_B = valid_B
    for count_B in count_NB:
        for block_B in blocks_of(entering_B, sizes.block):
            total += flops.attention_row_flops(config, tile_rows(int(block_B.sum()), sizes.tiles))
            for size, slots in groups_of(block_B, sizes):
                pairs = flops.attention_pair_flops(config, slots**2) + flops.significance_flops(
                    config, slots
                )
                total += size * pairs
        total += flops.feed_forward_flops(config, tile_rows(int(count_B.sum()), sizes.tiles))
        entering_B = count_B
    return int(total)


def tile_rows(num_tokens: int, tiles: Sequence[int]) -> int:
    """Rows of the tiles that `flat.scan_tiles` runs over so many tokens."""
    rows = 0
    for smaller, size in descending_sizes(tiles):
        left = num_tokens - rows - spare_rows(smaller, size)
        rows += size * max(0, -(-left // size))
    return rows


def blocks_of(count_B: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """Tokens of the texts of each block, as `packed.run_block` takes them."""
    first = 0
    while first < len(count_B):
        num_texts = int(np.sum(np.cumsum(count_B[first:]) <= block))
        yield count_B[first : first + num_texts]
        first += num_texts


def groups_of(count_B: np.ndarray, sizes) -> Iterator[tuple[int, int]]:
    """(texts, token slots of each) of every group whose attention `packed.attend` runs for a block."""
    counts = [*np.sort(count_B)[::-1].tolist(), *[0] * (2 * sizes.max_group)]
    first = 0
    for shorter, length in descending_sizes(sizes.lengths):
        group = packed.attention_group_sizes(length, max_group=sizes.max_group)
        for size in group:
            decisive = size - 1 if size != group[-1] else 0
            while counts[first + decisive] > shorter:
                yield size, length
                first += size
