"""Heads that read [CLS] alone: the last layer computes no other row, with equal answers."""

import dataclasses
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax import flops, heads, model_flops
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import embed_batch, plain_layer, slot_positions
from adapler_jax.encoders.plain import encode, first_token_layer, qkv_part
from adapler_jax.inference.drivers import dense, masked
from adapler_jax.inference.drivers.stages import run_stages, without_others
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import adapler, attention, keep_all, powerbert, vocabulary
from adapler_jax.pruning.base import for_first_token
from tests import plain_bert
from tests.counts import pruned_flops
from tests.inference.drivers.engines import (
    BLOCK,
    BUCKETS,
    CONFIG,
    FAST,
    NUM_SLOTS,
    PRUNERS,
    TILES,
    apart,
    assert_same,
    engine,
    make_batch,
    params_of,
)
from tests.marks import mostly_long

BERT = encoder_of(CONFIG)
EACH_ONCE = [("adapler", "packed"), ("powerbert", "bucketed"), ("keep_all", "packed")]


def layers_of(params):
    """The layers of stacked parameters."""
    stacked = params["encoder"]["layers"]
    return [
        jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for index in range(CONFIG.num_layers)
    ]


@pytest.mark.long
@pytest.mark.parametrize("driver", FAST)
@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(
    strategies.sampled_from(["adapler", "powerbert"]),
    strategies.lists(strategies.integers(0, NUM_SLOTS), min_size=7, max_size=7),
)
def test_any_mix_of_lengths_has_equal_answers(driver, name, lengths):
    batch = make_batch(lengths)
    expected = engine(name, "masked")(params_of(name), batch)
    assert_same(engine(name, driver)(apart(name), batch), expected)


@pytest.mark.long
@pytest.mark.parametrize(("name", "driver"), EACH_ONCE)
def test_bfloat16_answers_agree(name, driver):
    batch = make_batch([24, 7, 3, 1, 13])
    params = prepare_inference_params(params_of(name), CONFIG, "bfloat16")
    logits_BC, _ = engine(name, driver, dtype="bfloat16")(params, batch)
    expected_BC, _ = engine(name, driver, dtype="bfloat16")(params_of(name), batch)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=0.02)


@pytest.mark.long
@pytest.mark.parametrize(("name", "driver"), EACH_ONCE)
def test_the_last_state_of_every_token_is_there_on_request(name, driver):
    batch = make_batch([24, 7, 3, 1, 13])
    found, expected = (
        engine(name, kind, return_exit_hidden=True)(params, batch)[1].exit_hidden_BLD
        for kind, params in ((driver, apart(name)), ("masked", params_of(name)))
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("make", "driver"),
    mostly_long(
        [keep_all, adapler, powerbert, attention, vocabulary],
        FAST,
        quick=[(adapler, "packed"), (powerbert, "bucketed")],
    ),
)
def test_models_of_one_layer_have_equal_answers(make, driver):
    config = dataclasses.replace(CONFIG, num_layers=1)
    pruner = make() if make is keep_all else make(config)
    keys = jax.random.split(jax.random.key(0), 3)
    params = {
        "encoder": plain_bert.init_encoder(keys[0], config),
        "head": heads.init_classifier(keys[1], config, 3),
        "pruner": pruner.init(keys[2], config),
    }
    options = {"tiles": TILES, "block_tokens": BLOCK} if driver == "packed" else {}
    run = make_engine(config, pruner, buckets=BUCKETS, driver=driver, **options)
    batch = make_batch([24, 7, 3, 1, 13])
    expected = masked.forward(params, config, pruner, batch)
    assert_same(run(prepare_inference_params(params, config), batch), expected)


@pytest.mark.parametrize("driver", FAST)
def test_a_token_without_a_number_spoils_its_own_text_alone(driver):
    params, batch = apart("adapler"), make_batch([24, 7, 3, 1, 13])
    spoiled = batch.replace(token_BL=batch.token_BL.copy())
    spoiled.token_BL[1, 3] = 49
    table = params["encoder"]["embeddings"]["token"].at[49].set(jnp.nan)
    embeddings = params["encoder"]["embeddings"] | {"token": table}
    broken = params | {"encoder": params["encoder"] | {"embeddings": embeddings}}
    logits_BC, _ = engine("adapler", driver)(broken, spoiled)
    assert np.all(np.isnan(logits_BC[1]))
    has_49_B = np.any((spoiled.token_BL == 49) & batch.valid_BL, axis=1)
    expected_BC, _ = engine("adapler", driver)(params, spoiled)
    np.testing.assert_allclose(logits_BC[~has_49_B], expected_BC[~has_49_B], atol=1e-6)


def test_keys_and_values_are_those_of_the_joined_product():
    hidden_BLD = jax.random.normal(jax.random.key(1), (2, 5, CONFIG.hidden_dim))
    stacked = layers_of(params_of("keep_all"))[-1]
    expected_BLQ = BERT.qkv(stacked, CONFIG, hidden_BLD)
    for layer in (stacked, apart("keep_all")["encoder"]["layers"][-1]):
        np.testing.assert_allclose(BERT.qkv(layer, CONFIG, hidden_BLD), expected_BLQ, atol=1e-6)
        for family in (BERT, BERT._replace(qkv_part=None)):
            parts = [
                qkv_part(family, layer, CONFIG, hidden_BLD, part) for part in ("query", "key_value")
            ]
            np.testing.assert_allclose(jnp.concatenate(parts, -1), expected_BLQ, atol=1e-6)


def test_the_first_row_of_a_layer_is_that_of_all_rows():
    batch, params = make_batch([24, 7, 3, 1, 13]), params_of("keep_all")
    hidden_BLD = embed_batch(BERT, params["encoder"], CONFIG, batch.token_BL, batch.segment_BL)
    bias_BL, layer = plain_bert.attention_bias(batch.valid_BL), layers_of(params)[-1]
    shared = {"index": jnp.int32(3), "position_BL": slot_positions(NUM_SLOTS)}
    all_BLD = plain_layer(BERT, layer, CONFIG, hidden_BLD, bias_BL, **shared)
    first_B1D = first_token_layer(BERT, layer, CONFIG, hidden_BLD, bias_BL, **shared)
    np.testing.assert_allclose(first_B1D, all_BLD[:, :1], atol=1e-6)


@pytest.mark.long
def test_stacked_layers_compute_all_rows_and_separate_ones_the_first():
    batch = make_batch([24, 7, 3])
    arrays = {name: getattr(batch, name) for name in ("token_BL", "segment_BL", "valid_BL")}
    stacked, separate = (
        encode(BERT, params["encoder"], CONFIG, **arrays, needs_all=False)
        for params in (params_of("keep_all"), apart("keep_all"))
    )
    assert stacked.shape == (3, NUM_SLOTS, 16) and separate.shape == (3, 1, 16)
    np.testing.assert_allclose(separate[:, 0], stacked[:, 0], atol=1e-5)
    logits_BC, _ = dense.forward(apart("keep_all"), CONFIG, batch)
    expected_BC, _ = dense.forward(params_of("keep_all"), CONFIG, batch)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)


def test_the_mask_of_cls_keeps_texts_without_tokens_empty():
    valid_BL = jnp.array([[True, True, False], [False, False, False]])
    assert without_others(valid_BL).tolist() == [[True, False, False], [False, False, False]]


@pytest.mark.parametrize("has_last", [True, False])
def test_stages_run_the_last_layer_by_its_own_stage(has_last):
    class Stages:
        layer_inputs = staticmethod(lambda outer: (np.arange(3),))
        embed = staticmethod(lambda outer, batch: (batch, "first"))
        layer = staticmethod(lambda state, inputs: (state + inputs[0], {"ran": state}))
        last = staticmethod(lambda state, inputs: (10 * state, {"ran": -state}))
        readout = staticmethod(lambda outer, state, first, record_N: (state, first, record_N))

    if not has_last:
        Stages.last = None
    layers = (jnp.int32(1), jnp.int32(2), jnp.int32(3))
    state, first, record_N = run_stages(Stages, {"encoder": {"layers": layers}}, jnp.int32(5))
    assert first == "first" and int(state) == (80 if has_last else 11)
    assert record_N["ran"].tolist() == [5, 6, -8 if has_last else 8]


def test_operations_of_the_last_layer_by_hand():
    """D = 16, F = 32, H = 4; a multiply-add is 2."""
    linear = 2 * 16 * 16 + 16
    norm = 7 * 16 + 2
    first = 4 * linear + 16 + norm  # four products, residual and norm of [CLS]
    first += (2 * 16 * 32 + 32) + (2 * 32 * 16 + 16) + 5 * 32 + 16 + norm
    for num_tokens in (1, 7, 24):
        expected = first + (num_tokens - 1) * 2 * linear + num_tokens * (4 * 16 + 7 * 4)
        assert model_flops.last_layer_flops(CONFIG, num_tokens) == expected


@pytest.mark.parametrize("name", ["adapler", "powerbert", "keep_all"])
def test_operations_differ_in_the_last_layer_alone(name):
    head, length_B = flops.pooled_flops(CONFIG, 3), np.array([24, 7, 1])
    kept_NB = np.minimum(length_B, np.array([[20], [9], [4], [2]]))
    sites = PRUNERS[name].sites
    count = functools.partial(pruned_flops, CONFIG, length_B, predictor_dim=8, head=head)
    # A site inside the last layer does not run: all tokens that enter are keys.
    last_B = {"adapler": kept_NB[3], "powerbert": kept_NB[2], "keep_all": length_B}[name]
    all_B = count(kept_NB, sites=sites if name == "adapler" else sites[:-1])
    first_B = count(kept_NB, sites=sites, reads_first=True)
    saved_B = model_flops.layer_flops(CONFIG, last_B) - model_flops.last_layer_flops(CONFIG, last_B)
    np.testing.assert_array_equal(all_B - first_B, saved_B)


def test_a_site_inside_the_last_layer_does_not_run_for_cls_alone():
    batch, params = make_batch([24, 7, 3, 1, 13]), params_of("powerbert")
    for_first, for_all = (
        masked.forward(params, CONFIG, PRUNERS["powerbert"], batch, return_exit_hidden=is_all)
        for is_all in (False, True)
    )
    np.testing.assert_allclose(for_first[0], for_all[0], atol=1e-6)
    np.testing.assert_array_equal(for_first[1].count_NB[:-1], for_all[1].count_NB[:-1])
    np.testing.assert_array_equal(for_first[1].count_NB[-1], for_all[1].count_NB[-2])
    assert not np.any(for_first[1].score_NBL[-1]) and np.any(for_all[1].score_NBL[-1])
    assert np.all(for_all[1].count_NB[-1] <= for_all[1].count_NB[-2])


def test_only_the_site_inside_the_last_layer_goes():
    assert for_first_token(PRUNERS["powerbert"], CONFIG).sites == PRUNERS["powerbert"].sites[:-1]
    one_layer = dataclasses.replace(CONFIG, num_layers=1)
    for pruner, config in (
        (adapler(CONFIG), CONFIG),
        (keep_all(), CONFIG),
        (vocabulary(CONFIG), CONFIG),
        (attention(one_layer), one_layer),  # its only site
    ):
        assert for_first_token(pruner, config) is pruner


def test_a_model_that_drops_nothing_costs_what_plain_bert_costs():
    length_B, head = np.array([24, 7, 1]), flops.pooled_flops(CONFIG, 3)
    kept_NB = np.tile(length_B, (CONFIG.num_layers, 1))
    sizes = {"sites": (), "predictor_dim": 0, "head": head}
    for reads_first in (False, True):
        np.testing.assert_array_equal(
            pruned_flops(CONFIG, length_B, kept_NB, **sizes, reads_first=reads_first),
            model_flops.dense_flops(CONFIG, length_B, head=head, reads_first=reads_first),
        )


def test_soft_counts_are_counted_under_jit():
    pruner, head = adapler(CONFIG, predictor_dim=8), flops.pooled_flops(CONFIG, 3)
    params = {"pruner": pruner.init(jax.random.key(0), CONFIG)}
    length_B, kept_NB = np.array([24.0, 7.0]), np.linspace(0.4, 1.0, 4)[::-1, None] * [20.0, 6.5]
    count = functools.partial(model_flops.pruned_flops, CONFIG, pruner, params)
    count = functools.partial(count, head=head, reads_first=True)
    expected_B = count(length_B, kept_NB)
    found_B = jax.jit(count)(jnp.float32(length_B), jnp.float32(kept_NB))
    np.testing.assert_allclose(found_B, expected_B, rtol=1e-6)
    assert np.all(expected_B < count(length_B, kept_NB + 1.0))


@pytest.mark.parametrize("head", [heads.CLASSIFICATION, heads.SPAN])
def test_a_head_names_its_operations_and_what_it_reads(head):
    params = {"head": head.init(jax.random.key(0), CONFIG, 3)}
    found = head.flops_options(params, CONFIG, 7)
    assert found["head"] == head.flops(params["head"], CONFIG, 7) > 0
    assert found["reads_first"] == (head is heads.CLASSIFICATION)


def test_one_layer_with_a_site_inside_is_counted_with_its_site():
    config = dataclasses.replace(CONFIG, num_layers=1)
    pruner = attention(config)
    params = {"pruner": pruner.init(jax.random.key(0), config)}
    found_B = model_flops.pruned_flops(
        config, pruner, params, np.array([24, 7]), np.array([[5, 1]]), head=0, reads_first=True
    )
    for found, length, kept in zip(found_B, (24, 7), (5, 1)):
        expected = model_flops.embedding_flops(config, length)
        expected += model_flops.attention_flops(config, length)
        expected += model_flops.site_flops(config, pruner, params, length)
        assert found == expected + model_flops.feed_forward_flops(config, kept)
