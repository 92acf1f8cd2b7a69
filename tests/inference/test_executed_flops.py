"""The operations that are counted as executed are those that the drivers run."""

import collections
import functools

import jax
import numpy as np
import pytest

from adapler_jax import flops, model_flops
from adapler_jax.encoders import ENCODERS, encoder_of
from adapler_jax.inference.autotune.select import DriverChoice
from adapler_jax.inference.drivers import dense, packed, packed_attention
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.inference.executed_flops import (
    blocks_of,
    executed_flops,
    groups_of,
    packed_flops,
    padded_flops,
    tile_rows,
)
from adapler_jax.pruning import keep_all, powerbert
from tests import tiny
from tests.counts import pruned_flops, scorer_params
from tests.tiny import CONFIG, PRUNER, make_batch, make_params, with_pruner_params

TILES, BLOCK, BUCKETS = (2, 4, 8), 20, (4, 8, 12)
HEAD = flops.pooled_flops(CONFIG, tiny.NUM_CLASSES)
SIZES = {"sites": PRUNER.sites, "predictor_dim": 8, "head": HEAD}
BATCHES = [make_batch((12, 7, 3, 1, 9)), make_batch((1, 2, 1, 12, 12)), make_batch((5, 5, 5, 0, 5))]
MODELS = {
    "adapler": (PRUNER, make_params()),
    "keep_all": (keep_all(), make_params(keep_all())),
    "powerbert": (
        powerbert(CONFIG),
        with_pruner_params(
            make_params(powerbert(CONFIG)), retention_N=np.array([9.0, 6.0, 6.0, 2.0], np.float32)
        ),
    ),
}


@pytest.fixture(name="ran")
def _ran(monkeypatch):
    """Rows of the encoder's functions that ran, by name; of attention, pairs of tokens."""
    counts = collections.Counter()

    def counted(name, number, function):
        def run(*args, **kwargs):
            jax.debug.callback(lambda: counts.update({name: number(args)}))
            return function(*args, **kwargs)

        return run

    bert = encoder_of(CONFIG)
    slots = {"embed": lambda args: len(args[2])}
    slots |= dict.fromkeys(("qkv", "attention_output", "feed_forward"), lambda args: len(args[2]))
    slots = {name: counted(name, size, getattr(bert, name)) for name, size in slots.items()}
    monkeypatch.setitem(ENCODERS, "bert", bert._replace(**slots))
    attention = packed_attention.scaled_dot_product_attention
    pairs = counted("pairs", lambda args: args[0].shape[0] * args[0].shape[1] ** 2, attention)
    monkeypatch.setattr(packed_attention, "scaled_dot_product_attention", pairs)
    monkeypatch.setattr(packed, "TILES", TILES)
    monkeypatch.setattr(packed, "BLOCK_TOKENS", BLOCK)
    return counts


@pytest.mark.parametrize("name", MODELS)
def test_the_packed_driver_is_counted_as_it_runs(ran, name):
    pruner, params = MODELS[name]
    forward = functools.partial(packed.forward, tiles=TILES, block_tokens=BLOCK, buckets=BUCKETS)
    run = jax.jit(lambda params, batch: forward(params, CONFIG, pruner, batch))
    for batch in BATCHES:
        ran.clear()
        _, trace = run(prepare_inference_params(params, CONFIG), batch)
        count_NB = (
            np.tile(batch.valid_BL.sum(-1), (CONFIG.num_layers, 1))
            if name == "keep_all"
            else trace.count_NB
        )
        jax.block_until_ready(trace)
        jax.effects_barrier()
        assert ran["qkv"] == ran["attention_output"]
        expected = model_flops.embedding_flops(CONFIG, ran["embed"])
        expected += encoder_of(CONFIG).flops.attention_tokens(CONFIG, ran["qkv"])
        expected += flops.attention_pair_flops(CONFIG, ran["pairs"])
        expected += model_flops.feed_forward_flops(CONFIG, ran["feed_forward"])
        found = packed_flops(params, CONFIG, pruner, batch, count_NB=count_NB, buckets=BUCKETS)
        significance = 0
        if name == "powerbert":
            sizes = packed.sizes_for(
                5, tiny.NUM_SLOTS, buckets=BUCKETS, tiles=TILES, block_tokens=BLOCK
            )
            entering_NB = [batch.valid_BL.sum(-1), *np.asarray(count_NB)[:-1]]
            blocks = [block_B for count_B in entering_NB for block_B in blocks_of(count_B, BLOCK)]
            groups = [group for block_B in blocks for group in groups_of(block_B, sizes)]
            significance = sum(
                size * flops.significance_flops(CONFIG, slots) for size, slots in groups
            )
        scores = 0
        if name == "adapler":
            blocks = blocks_of(np.asarray(count_NB)[-1], BLOCK)
            unread = sum(
                tile_rows(int(block_B.sum()), TILES) for block_B in blocks
            )  # of the last layer
            read = ran["embed"] + ran["qkv"] - unread
            scores = read * flops.scorer_flops(CONFIG, 8)
            scores += CONFIG.num_layers * batch.valid_BL.size * flops.DECISION
        assert found == expected + significance + scores


@pytest.mark.parametrize("tiles", [(1,), (2, 8), (32, 64, 128, 256, 512)])
def test_tiles_hold_all_rows_and_waste_less_than_one(tiles):
    for num_tokens in (0, 1, 2, 7, 31, 32, 33, 100, 511, 512, 513, 1900):
        rows = tile_rows(num_tokens, tiles)
        assert num_tokens <= rows < num_tokens + max(tiles) and rows % min(tiles) == 0


def test_halves_of_a_batch_are_counted_as_they_run():
    """From 16 rows on, a CPU runs every second row in a program of its own."""
    lengths = [12, 1] * 8 + [3]
    batch = make_batch(lengths)
    count_NB = np.tile(lengths, (CONFIG.num_layers, 1))
    parts = [lengths[0::2], [*lengths[1::2], 3]]
    found = packed_flops(
        {"pruner": {}}, CONFIG, keep_all(), batch, count_NB=count_NB, buckets=BUCKETS
    )
    sizes = packed.sizes_for(
        9, 12, buckets=BUCKETS, tiles=packed.TILES, block_tokens=packed.BLOCK_TOKENS
    )
    expected = 0
    for part in parts:
        rows = tile_rows(sum(part), packed.TILES)
        pairs = sum(size * slots**2 for size, slots in groups_of(np.array(part), sizes))
        layer = encoder_of(CONFIG).flops.attention_tokens(
            CONFIG, rows
        ) + model_flops.feed_forward_flops(CONFIG, rows)
        expected += model_flops.embedding_flops(CONFIG, rows)
        expected += CONFIG.num_layers * (layer + flops.attention_pair_flops(CONFIG, pairs))
    assert found == expected


def test_executed_operations_are_those_of_the_buckets():
    batch = make_batch((3, 12, 7))
    count_NB = np.array([[2, 5, 4], [2, 4, 4], [1, 1, 1], [1, 1, 1]])
    padded = 3 * model_flops.dense_flops(CONFIG, [12], head=HEAD)[0]
    bucketed = 3 * pruned_flops(CONFIG, [12], [[12], [4], [4], [4]], **SIZES)[0]
    packed_rows = (
        packed_flops(scorer_params(8), CONFIG, PRUNER, batch, count_NB=count_NB, buckets=(4, 12))
        + 3 * HEAD
    )
    for driver, expected in {"bucketed": bucketed, "packed": packed_rows, "masked": padded}.items():
        found = executed_flops(
            make_params(), CONFIG, PRUNER, batch, count_NB, choice=DriverChoice(driver, (4, 12))
        )
        assert found.tolist() == [padded, expected]


def test_executed_operations_of_sites_in_layers_are_those_of_the_buckets():
    batch, (pruner, params) = make_batch((3, 12, 7)), MODELS["powerbert"]
    count_NB = np.array([[2, 5, 4], [2, 4, 4], [1, 1, 1], [1, 1, 1]])
    sizes = {"sites": pruner.sites, "predictor_dim": 0, "head": HEAD}
    expected = 3 * pruned_flops(CONFIG, [12], [[12], [4], [4], [4]], **sizes)[0]
    choice = DriverChoice("bucketed", (4, 12))
    assert executed_flops(params, CONFIG, pruner, batch, count_NB, choice=choice)[1] == expected


def test_rows_that_fill_up_a_chunk_are_counted_on_cpus_alone(monkeypatch):
    batch = make_batch((12,) * 5)
    monkeypatch.setattr(dense, "CHUNK_TOKENS", 24)  # two rows a chunk: three chunks
    per_row = int(model_flops.dense_flops(CONFIG, 12, head=0))
    assert padded_flops(make_params(), CONFIG, batch) == 6 * per_row + 5 * HEAD
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert padded_flops(make_params(), CONFIG, batch) == 5 * (per_row + HEAD)


def test_one_text_pays_for_a_whole_tile():
    """At batch 1 the smallest tile is most of what runs."""
    batch, count_NB = make_batch((5,)), np.full((CONFIG.num_layers, 1), 2)
    choice = DriverChoice("packed", BUCKETS)
    _, found = executed_flops(make_params(), CONFIG, PRUNER, batch, count_NB, choice=choice)
    true = pruned_flops(CONFIG, [5], count_NB, **SIZES)[0]
    assert found > 5 * true
