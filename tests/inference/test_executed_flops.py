"""The operations that are counted as executed are those that the drivers run."""

import collections
import functools

import jax
import numpy as np
import pytest

from adapler_jax import flops, heads, model_flops
from adapler_jax.encoders import ENCODERS, encoder_of, local_attention
from adapler_jax.inference.autotune.select import DriverChoice
from adapler_jax.inference.drivers import dense, packed, packed_last
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

pytestmark = pytest.mark.long

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
    linears = ("qkv", "attention_output", "feed_forward")
    slots |= dict.fromkeys(linears, lambda args: len(args[2]))
    slots = {name: counted(name, size, getattr(bert, name)) for name, size in slots.items()}
    parts = {
        name: counted(name, lambda args: len(args[2]), bert.qkv_part)
        for name in ("query", "key_value")
    }
    slots["qkv_part"] = lambda *args, **kwargs: parts[args[3]](*args, **kwargs)
    monkeypatch.setitem(ENCODERS, "bert", bert._replace(**slots))
    attention = local_attention.scaled_dot_product_attention
    pairs = counted("pairs", lambda args: np.prod(args[0].shape[:2]) * args[1].shape[1], attention)
    for module in (local_attention, packed_last):
        monkeypatch.setattr(module, "scaled_dot_product_attention", pairs)
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
        assert ran["qkv"] + ran["query"] == ran["attention_output"]
        expected = model_flops.embedding_flops(CONFIG, ran["embed"])
        expected += encoder_of(CONFIG).flops.attention_tokens(CONFIG, ran["attention_output"])
        more = ran["key_value"] - ran["query"]  # of the last layer
        expected += encoder_of(CONFIG).flops.key_value(CONFIG, more)
        expected += flops.attention_pair_flops(CONFIG, ran["pairs"])
        expected += model_flops.feed_forward_flops(CONFIG, ran["feed_forward"])
        found = packed_flops(params, CONFIG, pruner, batch, count_NB=count_NB, buckets=BUCKETS)
        significance = 0
        if name == "powerbert":
            sizes = packed.sizes_for(
                5, tiny.NUM_SLOTS, buckets=BUCKETS, tiles=TILES, block_tokens=BLOCK
            )
            entering_NB = [batch.valid_BL.sum(-1), *np.asarray(count_NB)[:-2]]
            blocks = [block_B for count_B in entering_NB for block_B in blocks_of(count_B, BLOCK)]
            groups = [group for block_B in blocks for group in groups_of(block_B, sizes)]
            significance = sum(
                size * flops.significance_flops(CONFIG, slots) for size, slots in groups
            )
        scores = 0
        if name == "adapler":
            scores = (ran["embed"] + ran["qkv"]) * flops.scorer_flops(CONFIG, 8)
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
        groups = list(groups_of(np.array(part), sizes))
        pairs = sum(size * slots**2 for size, slots in groups)
        first_pairs = sum(size * slots for size, slots in groups)
        bert = encoder_of(CONFIG).flops
        layer, last = (
            bert.attention_tokens(CONFIG, size) + bert.feed_forward(CONFIG, size)
            for size in (rows, len(part))
        )
        last += bert.key_value(CONFIG, rows - len(part)) + flops.attention_pair_flops(
            CONFIG, first_pairs
        )
        expected += model_flops.embedding_flops(CONFIG, rows) + last
        layer += flops.attention_pair_flops(CONFIG, pairs)
        expected += (CONFIG.num_layers - 1) * layer
    assert found == expected


def test_executed_operations_are_those_of_the_buckets():
    batch = make_batch((3, 12, 7))
    count_NB = np.array([[2, 5, 4], [2, 4, 4], [1, 1, 1], [1, 1, 1]])
    masked, padded = (
        3 * model_flops.dense_flops(CONFIG, [12], head=HEAD, reads_first=reads_first)[0]
        for reads_first in (False, True)
    )
    kept = [[12], [4], [4], [4]]
    bucketed = 3 * pruned_flops(CONFIG, [12], kept, **SIZES, reads_first=True)[0]
    packed_rows = (
        packed_flops(scorer_params(8), CONFIG, PRUNER, batch, count_NB=count_NB, buckets=(4, 12))
        + 3 * HEAD
    )
    for driver, expected in {"bucketed": bucketed, "packed": packed_rows, "masked": masked}.items():
        found = executed_flops(
            make_params(), CONFIG, PRUNER, batch, count_NB, choice=DriverChoice(driver, (4, 12))
        )
        assert found.tolist() == [padded, expected]


def test_executed_operations_of_sites_in_layers_are_those_of_the_buckets():
    batch, (pruner, params) = make_batch((3, 12, 7)), MODELS["powerbert"]
    count_NB = np.array([[2, 5, 4], [2, 4, 4], [1, 1, 1], [1, 1, 1]])
    sizes = {"sites": pruner.sites, "predictor_dim": 0, "head": HEAD}
    kept = [[12], [4], [4], [4]]
    expected = 3 * pruned_flops(CONFIG, [12], kept, **sizes, reads_first=True)[0]
    choice = DriverChoice("bucketed", (4, 12))
    assert executed_flops(params, CONFIG, pruner, batch, count_NB, choice=choice)[1] == expected


def test_layers_without_a_site_still_compute_the_attention_received():
    pruner, params = MODELS["powerbert"]
    pruner = pruner._replace(sites=pruner.sites[:2])
    params = params | {"pruner": jax.tree.map(lambda leaf: leaf[:2], params["pruner"])}
    batch, count_NB = make_batch((12,)), np.array([[8], [4], [4], [4]])
    choice = DriverChoice("bucketed", (4, 8, 12))
    _, found = executed_flops(params, CONFIG, pruner, batch, count_NB, choice=choice)
    true = model_flops.pruned_flops(
        CONFIG, pruner, params, [12], count_NB, head=HEAD, reads_first=True
    )
    # The bucketed driver has the attention received computed in every layer.
    assert found == true[0] + model_flops.site_flops(CONFIG, pruner, params, 4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_heads_that_read_all_tokens_run_the_whole_last_layer(driver, name):
    """One text of seven tokens is alone in its batch."""
    batch, (pruner, params) = make_batch((7,)), MODELS[name]
    count_NB = np.array([[7], [7], [7], [7]])
    choice = DriverChoice(driver, (4, 8, 12))
    span = heads.SPAN
    span_params = params | {"head": span.init(jax.random.key(0), CONFIG, 0)}
    _, for_first = executed_flops(params, CONFIG, pruner, batch, count_NB, choice=choice)
    _, for_all = executed_flops(
        span_params, CONFIG, pruner, batch, count_NB, choice=choice, head=span
    )
    if driver == "packed":
        slots, rows = 8, tile_rows(7, packed.TILES)
    else:
        slots = rows = 12 if name == "keep_all" else 8
    bert = encoder_of(CONFIG).flops
    saved = bert.feed_forward(CONFIG, rows - 1) + bert.attention_tokens(CONFIG, rows)
    saved -= bert.attention_tokens(CONFIG, 1) + bert.key_value(CONFIG, rows - 1)
    saved += flops.attention_pair_flops(CONFIG, slots**2 - slots)
    if name == "powerbert":
        saved += model_flops.site_flops(CONFIG, pruner, params, slots)
    spent = [
        head.flops(tree["head"], CONFIG, 12)
        for head, tree in ((heads.CLASSIFICATION, params), (span, span_params))
    ]
    assert (for_all - spent[1]) - (for_first - spent[0]) == saved


def test_rows_that_fill_up_a_chunk_are_counted_on_cpus_alone(monkeypatch):
    batch = make_batch((12,) * 5)
    monkeypatch.setattr(dense, "CHUNK_TOKENS", 24)  # two rows a chunk: three chunks
    per_row = int(model_flops.dense_flops(CONFIG, 12, head=0, reads_first=True))
    assert padded_flops(make_params(), CONFIG, batch) == 6 * per_row + 5 * HEAD
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert padded_flops(make_params(), CONFIG, batch) == 5 * (per_row + HEAD)


def test_one_text_pays_for_a_whole_tile():
    """At batch 1 the smallest tile is most of what runs."""
    batch, count_NB = make_batch((5,)), np.full((CONFIG.num_layers, 1), 2)
    choice = DriverChoice("packed", BUCKETS)
    _, found = executed_flops(make_params(), CONFIG, PRUNER, batch, count_NB, choice=choice)
    true = pruned_flops(CONFIG, [5], count_NB, **SIZES, reads_first=True)[0]
    assert found > 5 * true
