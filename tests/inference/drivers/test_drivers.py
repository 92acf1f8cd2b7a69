import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapler_jax import forward as full_width
from adapler_jax import heads
from adapler_jax.inference.drivers import bucketed, dense, masked, packed
from adapler_jax.inference.drivers import ragged_ops as flat
from adapler_jax.inference.drivers.bucket_tokens import (
    BucketState,
    apply_pruner,
    gather_tokens,
    trace_of,
)
from adapler_jax.inference.drivers.buckets import check_buckets, entry_buckets, executed_lengths
from adapler_jax.inference.drivers.packed_attention import MAX_GROUP, attention_group_sizes
from adapler_jax.inference.engine import make_engine, prepare_inference_params, run_program
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.types import BEFORE_ATTENTION, Batch, EncoderConfig, Selection, Site
from tests import plain_bert as encoder

CONFIG = EncoderConfig(
    num_layers=4, num_heads=4, hidden_dim=16, ffn_dim=32, vocab_size=50, num_positions=40
)
BUCKETS = (2, 8, 24)
TILES = (4, 16)
BLOCK = 40  # tokens: an example and a half of full length
FAST = ("bucketed", "packed")
NUM_SLOTS = 24
PRUNER = adapler(CONFIG, predictor_dim=8)


def make_params(pruner=PRUNER, *, threshold=0.8):
    """Random weights whose predictors drop some tokens at every layer."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(3), 3)
    pruner_params = pruner.init(pruner_key, CONFIG)
    if pruner.name == "powerbert":
        pruner_params["retention_N"] = jnp.array(RETENTION, jnp.float32)
    if pruner.name in ("adapler", "some layers"):
        for name in ("hidden", "score"):
            pruner_params[name]["kernel"] = pruner_params[name]["kernel"] * 14.0
        pruner_params["threshold_N"] = jnp.full((CONFIG.num_layers,), threshold, jnp.float32)
        pruner_params = jax.tree.map(lambda leaf: leaf[: len(pruner.sites)], pruner_params)
    return {
        "encoder": encoder.init_encoder(encoder_key, CONFIG),
        "head": heads.init_classifier(head_key, CONFIG, 3),
        "pruner": pruner_params,
    }


def make_batch(lengths, *, num_slots=NUM_SLOTS, seed=0, padding=0):
    """Examples of these lengths; row i is the same text whatever the others and the padding are."""
    texts_BL = np.random.default_rng(seed).integers(
        1, CONFIG.vocab_size, (257, CONFIG.num_positions)
    )
    valid_BL = np.arange(num_slots) < np.asarray(lengths)[:, None]
    return Batch(
        token_BL=np.where(valid_BL, texts_BL[: len(lengths), :num_slots], padding).astype(np.int32),
        segment_BL=(np.arange(num_slots) > 5).astype(np.int32) * valid_BL,
        valid_BL=valid_BL,
        label_B=np.zeros(len(lengths), np.int32),
        example_id_B=np.arange(len(lengths), dtype=np.int32),
    )


def marking_pruner():
    """Keep tokens whose first entry exceeds the site's level, without a predictor."""

    def select(params, index, view):
        score_BL = jnp.where(view.remaining_BL, view.token_logit_BL, 0.0)
        keep_BL = view.remaining_BL & (score_BL > params["level_N"] + 0.0 * jnp.float32(index))
        return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(view.remaining_BL[:, 0]))

    def init(key, config):
        return {"level_N": jnp.linspace(-1.0, 0.5, config.num_layers, dtype=jnp.float32)}

    return PRUNER._replace(
        name="marking",
        score=lambda params, features: features.state_XD[..., 0],
        hard=select,
        init=init,
    )


PRUNERS = {
    "adapler": PRUNER,
    "keep_all": keep_all(),
    "marking": marking_pruner(),
    "some layers": PRUNER._replace(name="some layers", sites=PRUNER.sites[1:3]),
    "powerbert": powerbert(CONFIG),
}
RETENTION = (17, 9, 4, 2)


@functools.cache
def engine(name, driver, dtype="float32", **options):
    options |= {"tiles": TILES, "block_tokens": BLOCK} if driver == "packed" else {}
    return make_engine(
        CONFIG, PRUNERS[name], buckets=BUCKETS, driver=driver, dtype=dtype, **options
    )


@functools.cache
def params_of(name, threshold=0.8):
    return make_params(PRUNERS[name], threshold=threshold)


def assert_same(found, expected, *, atol=1e-5):
    (logits_BC, trace), (expected_BC, expected_trace) = found, expected
    np.testing.assert_allclose(logits_BC, expected_BC, atol=atol, rtol=0)
    if expected_trace.count_NB is None:
        assert trace.count_NB is None
        return
    assert trace.count_NB.dtype == jnp.int32
    np.testing.assert_array_equal(trace.count_NB, expected_trace.count_NB)
    np.testing.assert_array_equal(trace.survival_NBL, expected_trace.survival_NBL)
    np.testing.assert_allclose(trace.score_NBL, expected_trace.score_NBL, atol=atol, rtol=0)


def rows(result, index):
    """Return the result of some rows of the batch."""
    logits_BC, trace = result
    return logits_BC[index], jax.tree.map(lambda leaf: leaf[:, index], trace)


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize(
    "lengths", [[24, 7, 3, 1, 13], [24] * 5, [1] * 5, [2, 2, 1, 2, 2], [23, 24, 16, 17, 15]]
)
def test_fast_drivers_equal_the_oracle(name, lengths, driver):
    batch, params = make_batch(lengths), params_of(name)
    assert_same(engine(name, driver)(params, batch), engine(name, "masked")(params, batch))


@pytest.mark.parametrize("driver", FAST)
def test_every_token_has_its_last_state_at_its_place(driver):
    """Dropped tokens too; padding has zeros. (The heads' tests have more pruners.)"""
    name = "some layers"
    batch, params = make_batch([24, 7, 3, 1, 13]), params_of(name)
    found, expected = (
        engine(name, kind, return_exit_hidden=True)(params, batch)[1].exit_hidden_BLD
        for kind in (driver, "masked")
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert not np.any(found[~batch.valid_BL]) and np.all(np.any(found[batch.valid_BL], axis=-1))
    assert engine(name, driver)(params, batch)[1].exit_hidden_BLD is None


def test_oracle_takes_the_state_behind_the_last_layer_that_ran_on_a_token():
    params, batch = params_of("adapler"), make_batch([24, 7, 3, 1, 13])
    start_BLD = encoder.embed(
        params["encoder"]["embeddings"], CONFIG, batch.token_BL, batch.segment_BL
    )
    _, trace, hidden_NBLD = full_width.forward_layers(
        params,
        CONFIG,
        PRUNER,
        start_BLD,
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=jnp.float32,
        collect_hidden=True,
        return_exit_hidden=True,
    )
    state_MBLD = np.concatenate([start_BLD[None], hidden_NBLD])
    num_layers_BL = np.sum(trace.survival_NBL, axis=0).astype(int)
    assert len(set(num_layers_BL[batch.valid_BL].tolist())) > 2
    for row, slot in zip(*np.nonzero(batch.valid_BL)):
        np.testing.assert_array_equal(
            trace.exit_hidden_BLD[row, slot], state_MBLD[num_layers_BL[row, slot], row, slot]
        )
    assert not np.any(trace.exit_hidden_BLD[~batch.valid_BL])


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("name", ["adapler", "keep_all"])
def test_weights_laid_out_for_speed_give_the_same_answers(name, driver):
    params, batch = params_of(name), make_batch([24, 7, 3, 1, 13])
    found = engine(name, driver)(prepare_inference_params(params, CONFIG), batch)
    assert_same(found, engine(name, "masked")(params, batch))


@pytest.mark.parametrize("driver", FAST)
def test_tokens_go_at_every_layer_of_these_tests(driver):
    _, trace = engine("adapler", driver)(params_of("adapler"), make_batch([24] * 5))
    totals_N = np.sum(trace.count_NB, axis=1)
    assert np.all(np.diff(totals_N) < 0) and totals_N[0] < 24 * 5 and totals_N[-1] > 5


@pytest.mark.parametrize("driver", FAST)
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 23, 24])
def test_fast_drivers_equal_the_oracle_at_every_bucket_edge(length, driver):
    """Nothing is dropped, so every layer runs in the bucket of this length."""
    params, batch = params_of("adapler"), make_batch([length] + [1] * 4)
    params = params | {"pruner": params["pruner"] | {"threshold_N": jnp.zeros((4,), jnp.float32)}}
    found = engine("adapler", driver)(params, batch)
    assert np.all(found[1].count_NB[:, 0] == length)
    assert_same(found, engine("adapler", "masked")(params, batch))


def test_keep_all_is_plain_bert():
    params, batch = params_of("keep_all"), make_batch([24, 9])
    hidden_BLD = encoder.encode(
        params["encoder"], CONFIG, batch.token_BL, batch.segment_BL, batch.valid_BL
    )
    expected_BC = heads.classify(params["head"], CONFIG, hidden_BLD[:, 0])
    for driver in (*FAST, "masked"):
        logits_BC, trace = engine("keep_all", driver)(params, batch)
        np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5, rtol=0)
        assert trace.count_NB is None


@pytest.mark.parametrize("num_rows", [1, 2, 3, 5, 7])
def test_chunks_do_not_change_the_answer(num_rows):
    arrays = jnp.arange(5.0), jnp.arange(10.0).reshape(5, 2)

    def add(row_B, x_BD):
        assert row_B.shape[0] <= num_rows
        return row_B[:, None] + x_BD

    found = dense.in_chunks(add, arrays, num_rows=num_rows)
    np.testing.assert_array_equal(found, arrays[0][:, None] + arrays[1])


@pytest.mark.parametrize("driver", FAST)
def test_nothing_dropped_is_plain_bert(driver):
    params = params_of("adapler")
    params = params | {"pruner": params["pruner"] | {"threshold_N": jnp.zeros((4,), jnp.float32)}}
    batch = make_batch([24, 9, 1, 2, 3])
    found_BC, _ = engine("adapler", driver)(params, batch)
    expected_BC, _ = engine("keep_all", "masked")(params | {"pruner": {}}, batch)
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)


@pytest.mark.parametrize("driver", FAST)
def test_batch_mates_never_matter(driver):
    lengths, params = [24, 7, 3, 1, 13], params_of("adapler")
    together = engine("adapler", driver)(params, make_batch(lengths))
    for row in range(len(lengths)):
        batch = jax.tree.map(lambda leaf: leaf[row : row + 1], make_batch(lengths))
        assert_same(engine("adapler", driver)(params, batch), rows(together, slice(row, row + 1)))


@pytest.mark.parametrize("driver", FAST)
def test_padding_never_matters(driver):
    lengths, params = [7, 3, 8, 1, 5], params_of("adapler")
    wide = engine("adapler", driver)(params, make_batch(lengths, num_slots=24, padding=9))
    logits_BC, trace = engine("adapler", driver)(params, make_batch(lengths, num_slots=8))
    np.testing.assert_allclose(wide[0], logits_BC, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(wide[1].count_NB, trace.count_NB)
    np.testing.assert_array_equal(wide[1].survival_NBL[..., :8], trace.survival_NBL)
    assert not np.any(wide[1].survival_NBL[..., 8:])


@pytest.mark.parametrize("driver", FAST)
def test_cls_survives_and_counts_never_grow(driver):
    _, trace = engine("adapler", driver)(params_of("adapler"), make_batch([24, 7, 3, 1, 13]))
    assert np.all(trace.survival_NBL[:, :, 0] == 1)
    assert np.all(np.diff(trace.count_NB, axis=0) <= 0)
    assert np.all(np.diff(trace.survival_NBL, axis=0) <= 0)
    np.testing.assert_array_equal(trace.count_NB, np.sum(trace.survival_NBL, axis=-1))


def test_buckets_do_not_change_the_answer():
    params, batch = params_of("adapler"), make_batch([24, 7, 3, 1, 13])
    expected = engine("adapler", "masked")(params, batch)
    for buckets in [(512,), (5, 13, 24)]:
        assert_same(
            make_engine(CONFIG, PRUNER, buckets=buckets, driver="bucketed")(params, batch), expected
        )


def test_short_ladder_is_refused():
    message = "bucket 8 cannot hold 24 kept tokens; add a larger size to config.inference.buckets"
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER, buckets=(4, 8), driver="bucketed")(
            params_of("adapler"), make_batch([24])
        )


def test_buckets_may_be_numbers_of_numpy():
    found = check_buckets(np.array([4, 24]))
    assert found == (4, 24) and all(type(bucket) is int for bucket in found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"buckets": ()},
            r"config.inference.buckets is \(\); expected positive numbers in increasing order",
        ),
        ({"buckets": (0, 4)}, r"config.inference.buckets is \(0, 4\)"),
        (
            {"buckets": (4, 24, 8)},
            r"config.inference.buckets is \(4, 24, 8\); expected .* in increasing order",
        ),
        ({"buckets": (8, 8, 24)}, r"config.inference.buckets is \(8, 8, 24\)"),
        ({"driver": "turbo"}, "unknown driver 'turbo'; there are auto, bucketed"),
        ({"expected_speedup": 0.0}, "expected_speedup is 0.0; expected a positive number"),
    ],
)
def test_bad_engine_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER, **arguments)


@pytest.mark.parametrize("driver", ["masked", *FAST])
@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (PRUNER.sites[::-1], "at most one site a layer, in order, all at one point"),
        (PRUNER.sites[:1] * 2, "at most one site a layer, in order, all at one point"),
        (
            PRUNER.sites[:1] + PRUNERS["powerbert"].sites[1:],
            "at most one site a layer, in order, all at one point",
        ),
        ((Site(4, BEFORE_ATTENTION),), r"has sites at layers \[4\], the encoder 4 layers"),
    ],
)
def test_sites_that_no_driver_serves_are_refused(sites, message, driver):
    with pytest.raises(ValueError, match=message):
        make_engine(CONFIG, PRUNER._replace(sites=sites), driver=driver)(
            params_of("adapler"), make_batch([4])
        )


@pytest.mark.parametrize("driver", FAST)
def test_fast_drivers_have_no_padding_to_treat_as_tokens(driver):
    with pytest.raises(ValueError, match="only the masked driver can"):
        make_engine(CONFIG, powerbert(CONFIG, counts_padding=True), driver=driver)(
            params_of("powerbert"), make_batch([4])
        )


def test_mixed_lengths_compile_once_a_shape():
    run = make_engine(CONFIG, PRUNER, buckets=(24,), driver="bucketed")
    params = params_of("adapler")
    for lengths in ([24, 1], [3, 3], [17, 9], [1, 1]):
        run(params, make_batch(lengths))
    assert run.program(2, NUM_SLOTS)._cache_size() == 1
    run(params, make_batch([5, 2, 1]))
    assert run.program(3, NUM_SLOTS)._cache_size() == 2


@pytest.mark.parametrize("driver", FAST)
def test_bfloat16_stays_near_float32(driver):
    params, batch = params_of("adapler", 0.3), make_batch([24, 7, 3, 1, 13])
    found = engine("adapler", driver, "bfloat16")(params, batch)
    expected = engine("adapler", "masked", "bfloat16")(params, batch)
    exact, _ = engine("adapler", "masked")(params, batch)
    assert found[0].dtype == jnp.float32
    np.testing.assert_allclose(found[0], expected[0], atol=2e-3)
    np.testing.assert_allclose(found[0], exact, atol=2e-2)


def test_weights_that_are_not_numbers_do_not_go_unseen():
    params = params_of("keep_all")
    broken = params | {"head": jax.tree.map(lambda leaf: leaf * np.nan, params["head"])}
    logits_BC, _ = engine("keep_all", "bucketed")(broken, make_batch([4]))
    assert np.all(np.isnan(logits_BC))


def test_executed_lengths_are_those_of_the_longest_example():
    count_NB = np.array([[5, 9], [4, 2], [1, 1]])
    entry, length_N = executed_lengths(PRUNER, [5, 10], count_NB, (1, 2, 4, 8, 16), num_slots=12)
    assert entry == 12 and length_N.tolist() == [12, 4, 1]
    entry, length_N = executed_lengths(PRUNER, [5, 2], count_NB, (16,), num_slots=12)
    assert entry == 12 and length_N.tolist() == [12, 12, 12]


@pytest.mark.parametrize("driver", FAST)
def test_large_batches_and_rows_without_a_token(driver):
    """Two of 257 rows are empty, and the other rows have their own results."""
    lengths = np.random.default_rng(0).integers(1, 9, 257)
    params, batch = params_of("adapler"), make_batch(lengths, num_slots=8)
    valid_BL = batch.valid_BL.copy()
    valid_BL[[3, 200]] = False
    batch = batch.replace(valid_BL=valid_BL)
    found, expected = (engine("adapler", kind)(params, batch) for kind in (driver, "masked"))
    full = np.delete(np.arange(257), [3, 200])
    assert_same(rows(found, full), rows(expected, full))


@pytest.mark.parametrize("num_rows", [15, 16, 17])
def test_two_threads_give_the_answers_of_one(num_rows):
    params, batch = (
        params_of("adapler"),
        make_batch(np.random.default_rng(1).integers(1, 25, num_rows)),
    )
    run = engine("adapler", "packed", return_exit_hidden=True)
    found, expected = run(params, batch), run.program(num_rows, NUM_SLOTS)(params, batch)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    assert_same(found, expected)
    np.testing.assert_allclose(
        found[1].exit_hidden_BLD, expected[1].exit_hidden_BLD, atol=1e-5, rtol=0
    )


def test_both_threads_run_the_program_of_the_whole_batch():
    asked = []

    def program(*shape):
        asked.append(shape)
        return engine("adapler", "packed").program(*shape)

    run_program("packed", program, params_of("adapler"), make_batch([5] * 17))
    assert asked == [(17, NUM_SLOTS)]


@pytest.mark.parametrize("num_rows", [1, 9, 10])
def test_long_texts_attend_in_groups_and_alone(num_rows):
    """Longer than MIN_UNGROUPED, in several blocks; groups hold up to 4 of them."""
    length = 128
    assert attention_group_sizes(length, max_group=MAX_GROUP) == (4, 1)
    config = dataclasses.replace(CONFIG, num_positions=length)
    params = params_of("adapler")
    table_PD = (
        np.random.default_rng(0).normal(0.0, 0.02, (length, config.hidden_dim)).astype(np.float32)
    )
    embeddings = params["encoder"]["embeddings"] | {"position": table_PD}
    params = params | {"encoder": params["encoder"] | {"embeddings": embeddings}}
    rng = np.random.default_rng(1)
    valid_BL = np.arange(length) < rng.choice([1, 40, 65, 97, 127, 128], (num_rows, 1))
    token_BL = np.where(valid_BL, rng.integers(1, config.vocab_size, valid_BL.shape), 0).astype(
        np.int32
    )
    batch = Batch(token_BL, np.zeros_like(token_BL), valid_BL, *np.zeros((2, num_rows), np.int32))
    found, expected = (
        make_engine(config, PRUNER, driver=driver, block_tokens=300)(params, batch)
        for driver in ("packed", "masked")
    )
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("num_tokens", "num_rows"),
    [
        (0, 0),
        (1, 4),
        (4, 4),
        (5, 8),
        (12, 12),
        (13, 16),
        (16, 16),
        (17, 20),
        (28, 28),
        (29, 32),
        (33, 36),
    ],
)
def test_tiles_cover_every_row_once_and_are_nearly_full(num_tokens, num_rows):
    def step(size, first, counts):
        return flat.put_rows(counts, flat.rows_of(counts, first, size) + 1, first)

    counts = np.asarray(
        flat.scan_tiles(step, jnp.zeros(64, jnp.int32), jnp.int32(num_tokens), tiles=(16, 4))
    )
    assert np.all(counts[:num_tokens] == 1) and np.all(counts <= 1)
    assert counts.sum() == num_rows


def test_packed_tokens_are_the_kept_ones_in_order():
    keep_BL = jnp.array([[True, False, True], [False, False, False], [True, True, False]])
    found = flat.gather_kept(jnp.arange(10, 19).reshape(3, 3), keep_BL, 12)
    assert found.shape == (12,) and found[:4].tolist() == [10, 12, 16, 17]
    np.testing.assert_array_equal(flat.packed_index(keep_BL)[keep_BL], [0, 1, 2, 3])


def test_every_other_rung_is_an_entry():
    assert entry_buckets(PRUNER, (1, 2, 4, 8)) == (2, 8) and entry_buckets(PRUNER, (1, 2, 8)) == (
        1,
        8,
    )
    entry, _ = executed_lengths(PRUNER, [2, 1], [[2, 1]], (1, 2, 4, 8), num_slots=8)
    assert entry == 2


def test_a_batch_enters_at_any_rung_where_the_first_site_is_inside_a_layer():
    assert entry_buckets(PRUNERS["powerbert"], (1, 2, 4, 8)) == (1, 2, 4, 8)
    entry, length_N = executed_lengths(
        PRUNERS["powerbert"], [3, 1], [[2, 1]], (1, 2, 4, 8), num_slots=8
    )
    assert entry == 4 and length_N.tolist() == [2]


@pytest.mark.parametrize("driver", FAST)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, NUM_SLOTS), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
    threshold=st.sampled_from([0.1, 0.4, 0.7, 0.9, 1.0]),
)
def test_fast_drivers_equal_the_oracle_for_any_batch(lengths, seed, threshold, driver):
    params, batch = params_of("adapler"), make_batch(lengths, seed=seed)
    params = params | {
        "pruner": params["pruner"] | {"threshold_N": jnp.full((4,), threshold, jnp.float32)}
    }
    full = np.flatnonzero(lengths)
    found, expected = (
        rows(engine("adapler", kind)(params, batch), full) for kind in (driver, "masked")
    )
    assert_same(found, expected)


@pytest.mark.parametrize("driver", FAST)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, NUM_SLOTS), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
    retention=st.lists(st.integers(1, NUM_SLOTS + 2), min_size=4, max_size=4).map(
        lambda x: sorted(x, reverse=True)
    ),
)
def test_fast_drivers_retain_as_the_oracle_for_any_batch(lengths, seed, retention, driver):
    params, batch = params_of("powerbert"), make_batch(lengths, seed=seed)
    params = params | {"pruner": {"retention_N": jnp.array(retention, jnp.float32)}}
    full = np.flatnonzero(lengths)
    found, expected = (
        rows(engine("powerbert", kind)(params, batch), full) for kind in (driver, "masked")
    )
    assert_same(found, expected)
    np.testing.assert_array_equal(
        found[1].count_NB, np.minimum(np.array(lengths)[full], np.array(retention)[:, None])
    )


@pytest.mark.parametrize("driver", ["auto", *FAST])
def test_batches_that_cannot_be_run_are_refused(driver):
    run = make_engine(CONFIG, PRUNER, driver=driver)
    with pytest.raises(
        ValueError, match="a batch of 41 token slots does not fit the encoder's 40 positions"
    ):
        long = jax.tree.map(lambda leaf: np.resize(leaf, (2, 41)[: leaf.ndim]), make_batch([3, 2]))
        run(params_of("adapler"), long.replace(valid_BL=np.ones((2, 41), bool)))
    with pytest.raises(ValueError, match="a batch of 0 rows"):
        run(params_of("adapler"), jax.tree.map(lambda leaf: leaf[:0], make_batch([3])))
    batch = make_batch([3, 2])
    with pytest.raises((ValueError, TypeError), match="shape"):
        run(params_of("adapler"), batch.replace(segment_BL=batch.segment_BL[:, :5]))


@pytest.mark.parametrize("options", [{"tiles": (0,)}, {"tiles": ()}, {"block_tokens": 0}])
def test_tiles_and_blocks_without_rows_are_refused(options):
    with pytest.raises(ValueError, match="expected positive numbers of rows"):
        make_engine(CONFIG, PRUNER, driver="packed", **options)


def test_types_are_never_promoted_implicitly():
    batch = make_batch([5, 3])
    with jax.numpy_dtype_promotion("strict"):
        for driver, name in itertools.product(
            (bucketed, packed, masked), ("adapler", "some layers", "powerbert")
        ):
            run = functools.partial(driver.forward, config=CONFIG, pruner=PRUNERS[name])
            jax.make_jaxpr(lambda params, batch, run=run: run(params, batch=batch))(
                params_of(name), batch
            )


def test_drivers_add_no_rank_promotion():
    """Around a layer that does nothing, so that only the driver's own arithmetic is looked at."""
    batch = jax.tree.map(jnp.asarray, make_batch([5, 3]))
    state = BucketState(
        hidden_BLD=jnp.zeros((2, 24, 16)),
        buffer_slot_BL=jnp.zeros((2, 24), jnp.int32),
        token_index_BL=jnp.zeros((2, 24), jnp.int32),
        count_B=jnp.ones((2,), jnp.int32),
        exit_hidden_BLD=None,
        protected_BL=batch.valid_BL,
    )
    pruner = PRUNER._replace(
        score=lambda params, features: features.state_XD[..., 0],
        hard=lambda params, index, view: Selection(view.survival_BL, view.remaining_BL),
    )
    with jax.numpy_rank_promotion("raise"):
        kept, record = apply_pruner(
            pruner,
            {},
            0,
            token_logit_BR=state.hidden_BLD[..., 0],
            token_index_BR=state.token_index_BL,
            is_filled_BR=batch.valid_BL,
            length=24,
            protected_BL=state.protected_BL,
        )
        trace_of(jax.tree.map(lambda leaf: leaf[None], record))
        gather_tokens(state.hidden_BLD, kept[0])
