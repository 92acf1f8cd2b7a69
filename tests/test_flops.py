import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, heads, model_flops
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import keep_all
from adapler_jax.types import BEFORE_ATTENTION, BEFORE_FEED_FORWARD, Batch, EncoderConfig, Site
from tests import plain_bert as encoder
from tests.counts import predictor_flops, pruned_flops

BASE = EncoderConfig(
    num_layers=12, num_heads=12, hidden_dim=768, ffn_dim=3072, vocab_size=30522, num_positions=512
)
HEAD = flops.pooled_flops(BASE, 2)
SITES = tuple(Site(layer, BEFORE_ATTENTION) for layer in range(12))


@pytest.mark.parametrize("length", [1, 16, 64, 128, 512])
@pytest.mark.parametrize("num_classes", [2, 14])
def test_dense_count_agrees_with_the_published_fit_at_base_size(length, num_classes):
    published = 37872 * length**2 + 170216500 * length + 1181953 + 1537 * num_classes
    counted = model_flops.dense_flops(BASE, [length], head=flops.pooled_flops(BASE, num_classes))
    np.testing.assert_allclose(counted, [published], rtol=2e-3)


def test_pruned_count_agrees_with_the_published_fit_where_nothing_is_dropped():
    length = 96
    published = 1183537 + 1537 + 6152 * length + 12 * (3156 * length**2 + 14233554 * length)
    counted = pruned_flops(
        BASE, [length], np.full((12, 1), length), sites=SITES, predictor_dim=32, head=HEAD
    )
    np.testing.assert_allclose(counted, [published], rtol=2e-3)


def test_predictor_agrees_with_the_published_difference():
    counted = predictor_flops(BASE, 1, predictor_dim=32)
    np.testing.assert_allclose(counted, 14233554 - 14184196, rtol=5e-3)


def test_published_reference_counts():
    counted = model_flops.dense_flops(BASE, [64, 128, 512], head=HEAD) / 1e9
    np.testing.assert_allclose(counted, [11.05, 22.41, 97.08], rtol=2e-3)


def test_predictor_is_charged_at_the_length_it_reads():
    config = dataclasses.replace(BASE, num_layers=2)
    counted = pruned_flops(config, [10], [[4], [1]], sites=SITES[:2], predictor_dim=32, head=HEAD)
    by_hand = (
        model_flops.embedding_flops(config, 10)
        + predictor_flops(config, 10, predictor_dim=32)
        + model_flops.layer_flops(config, 4)
        + predictor_flops(config, 4, predictor_dim=32)
        + model_flops.layer_flops(config, 1)
        + HEAD
    )
    assert counted.tolist() == [by_hand]


def test_layers_without_a_site_have_no_predictor():
    config = dataclasses.replace(BASE, num_layers=3)
    counted = pruned_flops(
        config, [10], [[10], [4], [4]], sites=SITES[1:2], predictor_dim=32, head=HEAD
    )
    by_hand = (
        model_flops.embedding_flops(config, 10)
        + model_flops.layer_flops(config, 10)
        + predictor_flops(config, 10, predictor_dim=32)
        + 2 * model_flops.layer_flops(config, 4)
        + HEAD
    )
    assert counted.tolist() == [by_hand]


def test_sites_inside_layers_charge_the_halves_apart():
    config = dataclasses.replace(BASE, num_layers=2)
    sites = (Site(0, BEFORE_FEED_FORWARD), Site(1, BEFORE_FEED_FORWARD))
    counted = pruned_flops(config, [10], [[4], [1]], sites=sites, predictor_dim=0, head=HEAD)
    by_hand = (
        model_flops.embedding_flops(config, 10)
        + model_flops.attention_flops(config, 10)
        + flops.significance_flops(config, 10)
        + model_flops.feed_forward_flops(config, 4)
        + model_flops.attention_flops(config, 4)
        + flops.significance_flops(config, 4)
        + model_flops.feed_forward_flops(config, 1)
        + HEAD
    )
    assert counted.tolist() == [by_hand]


def test_halves_by_hand_on_two_tokens():
    config = EncoderConfig(
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        ffn_dim=3,
        vocab_size=9,
        num_positions=9,
        activation="relu",
    )
    # four 4x4 products with bias, residual, norm; two products of length 2 over 4 entries, 7
    # operations of 2 heads
    assert model_flops.attention_flops(config, 2) == 2 * (4 * 36 + 4 + 30) + 4 * (16 + 14)
    # 4x3 and 3x4 with bias, relu, residual, norm
    assert model_flops.feed_forward_flops(config, 2) == 2 * (27 + 28 + 3 + 4 + 30)
    # of both heads and each key: 2 products and sums over queries; its own share, the difference,
    # the mean
    assert flops.significance_flops(config, 2) == 2 * 2 * (4 + 3)


def test_layer_by_hand_on_two_tokens():
    config = EncoderConfig(
        num_layers=1,
        num_heads=2,
        hidden_dim=4,
        ffn_dim=3,
        vocab_size=9,
        num_positions=9,
        activation="relu",
    )
    # four 4x4 products with bias, 4x3, 3x4, relu, two residuals, two norms
    linear = 4 * (32 + 4) + (24 + 3) + (24 + 4) + 3 + 2 * 4 + 2 * 30
    # two products of length 2 over 4 entries, 7 operations for each of 2 heads
    assert model_flops.layer_flops(config, 2) == 2 * linear + 4 * (16 + 14)


def test_without_predictors_nothing_dropped_costs_the_dense_model():
    length_B = np.array([3, 7])
    kept_NB = np.tile(length_B, (12, 1))
    counted = pruned_flops(BASE, length_B, kept_NB, sites=(), predictor_dim=0, head=HEAD)
    np.testing.assert_array_equal(counted, model_flops.dense_flops(BASE, length_B, head=HEAD))


def test_soft_counts_of_a_training_step_are_counted_alike():
    """JAX arrays of float32 under jit give the integers of NumPy."""
    length_B, kept_NB = np.array([30, 9]), np.tile(np.array([[17, 4]]), (12, 1))
    sizes = {"sites": SITES, "predictor_dim": 32, "head": HEAD}
    count = jax.jit(lambda length_B, kept_NB: pruned_flops(BASE, length_B, kept_NB, **sizes))
    found = count(jnp.float32(length_B), jnp.float32(kept_NB))
    np.testing.assert_allclose(found, pruned_flops(BASE, length_B, kept_NB, **sizes), rtol=1e-6)


def test_speedup_weighs_examples_by_their_operations():
    assert flops.speedup([10, 90], [10, 40]) == 2.0


def test_counts_do_not_overflow():
    assert model_flops.dense_flops(BASE, np.array([512] * 4, np.int32), head=HEAD).min() > 2**32


def test_dense_count_agrees_with_the_compilers_count():
    """Of the program that answers: two layers that are apart, since the compiler counts the body
    of a scan once; wide,
    since it expands erf into a polynomial."""
    config = EncoderConfig(
        num_layers=2, num_heads=8, hidden_dim=512, ffn_dim=2048, vocab_size=50, num_positions=64
    )
    length, key = 48, jax.random.key(0)
    params = {
        "encoder": encoder.init_encoder(key, config),
        "head": heads.init_classifier(key, config, 3),
        "pruner": {},
    }
    row = np.zeros((1, length), np.int32)
    batch = Batch(
        token_BL=row, segment_BL=row, valid_BL=row == 0, label_B=row[:, 0], example_id_B=row[:, 0]
    )
    program = (
        make_engine(config, keep_all(), driver="bucketed")
        .program(1, length)
        .lower(prepare_inference_params(params, config), batch)
        .compile()
    )
    head = flops.pooled_flops(config, 3)
    counted = model_flops.dense_flops(config, [length], head=head, reads_first=True)[0]
    np.testing.assert_allclose(counted, program.cost_analysis()["flops"], rtol=0.02)


FORMS = {
    "a NumPy int32 array": np.int32,
    "a NumPy float array": np.float32,
    "a JAX array": jnp.int32,
    "a list": lambda x: np.asarray(x).tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_counts_of_every_form_are_the_same_and_do_not_overflow(form):
    lengths, kept = [512, 64], [[512 - layer, 30] for layer in range(12)]
    make = FORMS[form]
    dense = model_flops.dense_flops(BASE, make(lengths), head=HEAD)
    assert dense.dtype == np.int64 and dense.tolist() == [
        model_flops.dense_flops(BASE, n, head=HEAD) for n in lengths
    ]
    assert dense[0] > 90e9
    counts = [make(x) for x in kept] if form == "a list" else make(kept)
    found = pruned_flops(BASE, make(lengths), counts, sites=SITES, predictor_dim=32, head=HEAD)
    expected = pruned_flops(BASE, lengths, kept, sites=SITES, predictor_dim=32, head=HEAD)
    assert found.dtype == np.int64 and found.tolist() == expected.tolist()


PARTS = {
    "embedding": model_flops.embedding_flops,
    "attention": model_flops.attention_flops,
    "feed-forward": model_flops.feed_forward_flops,
    "layer": model_flops.layer_flops,
    "significance": flops.significance_flops,
    "predictor": lambda config, length: predictor_flops(config, length, predictor_dim=3072),
}


@pytest.mark.parametrize("part", PARTS)
def test_no_part_of_the_count_overflows(part):
    expected = PARTS[part](BASE, 16384)
    for length in (jnp.int32(16384), np.int32(16384), jnp.array([16384])):
        assert np.asarray(PARTS[part](BASE, length)).tolist() in (expected, [expected])
    np.testing.assert_allclose(
        jax.jit(lambda length: PARTS[part](BASE, length))(jnp.int32(16384)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("make", [np.float16, jnp.float16, jnp.bfloat16])
def test_counts_in_two_bytes_do_not_overflow(make):
    expected = model_flops.dense_flops(BASE, np.array([512.0, 63.5]), head=HEAD)
    array = jnp.array if make is jnp.bfloat16 else lambda x: np.array(x, make)
    found = model_flops.dense_flops(BASE, array([512, 63.5]).astype(make), head=HEAD)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    counted = np.array([60_000.5, 60_000], np.float32).astype(np.float16)
    assert flops.speedup(counted, counted[:1]) == 2.0


def test_operations_given_as_jax_numbers_do_not_overflow():
    assert model_flops.dense_flops(BASE, [512], head=jnp.int32(HEAD)).tolist() == [
        model_flops.dense_flops(BASE, 512, head=HEAD)
    ]
    counted = jnp.array([2_000_000_000, 2_000_000_000], jnp.int32)
    assert flops.speedup(counted, counted[:1]) == 2.0


def test_soft_counts_are_not_rounded():
    soft = np.array([3.5, 8.25], np.float32)
    expected = model_flops.dense_flops(BASE, soft.astype(np.float64), head=HEAD)
    np.testing.assert_allclose(model_flops.dense_flops(BASE, soft, head=HEAD), expected, rtol=1e-6)
    np.testing.assert_allclose(
        model_flops.dense_flops(BASE, jnp.asarray(soft), head=HEAD), expected, rtol=1e-6
    )
