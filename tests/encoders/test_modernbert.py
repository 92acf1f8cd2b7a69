"""ModernBERT without PyTorch: config.json of both forms, and what its functions compute by hand."""

import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import flops, model_flops
from adapler_jax import forward as full_width
from adapler_jax.encoders.base import config_of_layers, layer_bias
from adapler_jax.encoders.bert import BERT
from adapler_jax.encoders.local_attention import LocalLayers
from adapler_jax.encoders.modernbert import MODERNBERT, frequencies
from adapler_jax.encoders.modernbert_config import local_layers
from adapler_jax.heads import CLASSIFICATION, with_pooling
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.pruning import attention, keep_all
from adapler_jax.training.policy import importance_scores
from adapler_jax.types import Batch
from adapler_jax.weights.config import config_json, encoder_config
from adapler_jax.weights.students import full_config, teacher_facts
from tests import tiny
from tests.encoders.made_modernbert import CONFIG, RAW, ROPE, old_form, random_params


def test_both_forms_of_a_config_are_one_encoder():
    config = encoder_config(RAW, "config.json")
    assert encoder_config(old_form(RAW), "config.json") == config
    assert encoder_config(config_json(config, "ModernBertModel", None), "config.json") == config
    assert config.family_options.global_layers == (0, 3)
    assert local_layers(config) == LocalLayers((1, 2), 4)
    assert config.num_segments == 1
    kinds = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    found = encoder_config(RAW | {"layer_types": kinds}, "config.json")
    assert found.family_options.global_layers == (0, 2, 3)


def test_a_local_theta_of_null_is_the_global_one():
    config = encoder_config(old_form(RAW) | {"local_rope_theta": None}, "config.json")
    options = config.family_options
    assert options.local_theta == options.global_theta == 160000.0


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"layer_types": ["full_attention"] * 3 + ["chunked"]}, "layer_types has 'chunked'"),
        ({"layer_types": ["full_attention"] * 3}, "a list of 4 kinds of layers"),
        ({"layer_types": "full_attention"}, "a list of 4 kinds of layers"),
        ({"local_attention": 7}, "local_attention is 7, expected an even number"),
        ({"local_attention": None}, "local_attention is None, expected an even number"),
        ({"rope_parameters": None}, "rope_parameters is missing, and so are global_rope_theta"),
        ({"rope_parameters": None, "global_rope_theta": 1e4}, "local_rope_theta is missing"),
        (
            {"rope_parameters": None, "global_rope_theta": None, "local_rope_theta": None},
            "global_rope_theta is None, expected a positive number",
        ),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "lacks sliding_attention"),
        (
            {"rope_parameters": ROPE | {"full_attention": {"rope_type": "default"}}},
            "rope_theta of full_attention is None",
        ),
        (
            {"rope_parameters": ROPE | {"full_attention": {"rope_type": "yarn"}}},
            "rope_type of full_attention is 'yarn', only 'default' is supported",
        ),
        (
            {"rope_parameters": ROPE | {"full_attention": {"partial_rotary_factor": 0.5}}},
            "partial_rotary_factor of full_attention is 0.5, only 1.0 is supported",
        ),
        ({"rope_scaling": {"factor": 2}}, "rope_scaling is"),
        ({"num_attention_heads": 3}, "hidden_size 16 is not a multiple of num_attention_heads 3"),
        ({"num_attention_heads": 16}, "16 heads of 1 entries, expected an even number"),
        ({"classifier_pooling": "max"}, "classifier_pooling is 'max', expected one of cls, mean"),
        ({"attention_bias": True}, "attention_bias is True, only False is supported"),
        ({"hidden_activation": "mish"}, "hidden_activation is 'mish', expected one of"),
        ({"hidden_size": 0}, "hidden_size is 0, expected a positive integer"),
        ({"norm_eps": "small"}, "norm_eps is 'small', expected a number"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers is 0"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config is there"),
    ],
)
def test_a_config_that_cannot_be_computed_is_named_in_one_line(changes, found):
    with pytest.raises(ValueError, match="an encoder of family modernbert") as caught:
        encoder_config(RAW | changes, "config.json")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_size_is_named():
    raw = {key: value for key, value in RAW.items() if key != "intermediate_size"}
    with pytest.raises(ValueError, match="intermediate_size is missing"):
        encoder_config(raw, "config.json")


def test_a_local_layer_ends_at_its_window_and_a_global_one_does_not():
    position_BL = jnp.array([[0, 2, 3, 9]])
    local_B1LS = layer_bias(MODERNBERT, {}, CONFIG, jnp.int32(1), position_BL)
    assert (np.asarray(local_B1LS[0, 0]) == 0).tolist() == [
        [True, True, False, False],
        [True, True, True, False],
        [False, True, True, False],
        [False, False, False, True],
    ]
    for layer in (0, 3):
        assert not np.any(layer_bias(MODERNBERT, {}, CONFIG, jnp.int32(layer), position_BL))


def test_rotary_angles_by_hand():
    found_Z = frequencies(CONFIG, jnp.int32(0))
    expected_Z = np.array([160000.0 ** (-z / 8) for z in (0, 2, 4, 6)])
    np.testing.assert_allclose(found_Z, expected_Z, rtol=1e-6)
    np.testing.assert_allclose(
        frequencies(CONFIG, jnp.int32(1)), [10000.0 ** (-z / 8) for z in (0, 2, 4, 6)], rtol=1e-6
    )


def test_layer_0_has_no_norm_before_its_attention():
    layers = MODERNBERT.init(jax.random.key(0), CONFIG)["layers"]
    layer = jax.tree.map(lambda leaf: leaf[0], layers)
    hidden_BLD = jax.random.normal(jax.random.key(1), (1, 3, CONFIG.hidden_dim))
    position_BL = jnp.zeros((1, 3), jnp.int32)  # without a rotation
    qkv = [
        MODERNBERT.qkv(layer, CONFIG, hidden_BLD, index=jnp.int32(index), position_X=position_BL)
        for index in (0, 1)
    ]
    product = hidden_BLD @ layer["query_key_value"]["kernel"]
    np.testing.assert_allclose(qkv[0][..., 16:], product[..., 16:], atol=1e-5)
    np.testing.assert_allclose(qkv[0][..., :16], product[..., :16] / np.sqrt(8), atol=1e-5)
    assert np.max(np.abs(qkv[1] - qkv[0])) > 0.01


def test_operations_by_hand():
    config = dataclasses.replace(CONFIG, num_layers=1)
    D, F, K, n = 16, 24, 8, 5
    norm = 6 * D + 2  # two means, difference, square, root's product, scale
    rotation = 3 * (K // 2) + 3 * 2 * D
    attention = norm + 2 * D * 3 * D + rotation + 2 * D * D + D
    feed_forward = norm + 2 * D * 2 * F + 5 * F + F + 2 * F * D + D
    pairs = n * n * (4 * D + 7 * config.num_heads)
    head = 2 * D * D + 5 * D + norm + 2 * D * 3 + 3
    expected = n * (norm + attention + feed_forward) + pairs + head
    head_flops = flops.pooled_flops(config, 3)
    assert model_flops.dense_flops(config, n, head=head_flops) == expected
    params = random_params(config, CLASSIFICATION)
    mean = with_pooling(CLASSIFICATION, "mean")
    assert mean.flops(params["head"], config, n) == head_flops + n * D


def test_long_texts_have_pairs_of_near_tokens_alone_in_local_layers():
    window = local_layers(CONFIG).window
    long = 4 * window + 1
    length_B = np.array([1, 4 * window, long])
    near_B = [1, 16 * window**2, 3 * window * long]
    assert model_flops.num_pairs(CONFIG, length_B, layer=1).tolist() == near_B
    assert model_flops.num_pairs(CONFIG, length_B, layer=0).tolist() == (length_B**2).tolist()
    soft_B = jnp.asarray(length_B, jnp.float32)
    gradient_B = jax.grad(lambda x_B: jnp.sum(model_flops.num_pairs(CONFIG, x_B, layer=1)))(soft_B)
    assert gradient_B.tolist() == [2.0, 8.0 * window, 3.0 * window]
    pruner = attention(CONFIG)
    received = [model_flops.received_flops(CONFIG, pruner, long, layer=layer) for layer in (0, 1)]
    assert received[0] - received[1] == 2 * CONFIG.num_heads * (long**2 - 3 * window * long)
    dense = model_flops.dense_flops(CONFIG, long, head=0)
    by_layer = [model_flops.layer_flops(CONFIG, long, layer=layer) for layer in range(4)]
    assert dense == model_flops.embedding_flops(CONFIG, long) + sum(by_layer)
    assert by_layer[0] == by_layer[3] > by_layer[1] == by_layer[2]


def test_some_layers_stay_global_or_local():
    found = config_of_layers(MODERNBERT, CONFIG, (0, 2, 3))
    assert (found.num_layers, found.family_options.global_layers) == (3, (0, 2))
    assert local_layers(found).layers == (1,)
    assert config_of_layers(BERT, tiny.CONFIG, (1, 3)).num_layers == 2
    with pytest.raises(ValueError, match=r"layers \(1, 2\) leave out layer 0, the only one of Mo"):
        config_of_layers(MODERNBERT, CONFIG, (1, 2))
    none = config_of_layers(MODERNBERT, CONFIG, (0, 3))
    assert local_layers(none) is None and none.family_options.global_layers == (0, 1)


def test_speedups_of_a_student_are_over_its_teacher():
    options = CONFIG.family_options._replace(global_layers=(0, 3))
    teacher = dataclasses.replace(CONFIG, num_layers=6, family_options=options)
    student = config_of_layers(MODERNBERT, teacher, (0, 2, 3))
    facts = json.loads(json.dumps(teacher_facts(teacher)))
    assert student.family_options.global_layers == (0, 2)
    assert full_config(types.SimpleNamespace(config=student, extra=facts)) == teacher
    facts = teacher_facts(tiny.CONFIG)
    assert facts == {"teacher_layers": 4}


def test_importance_scores_run_the_layers_of_the_whole_encoder():
    options = CONFIG.family_options._replace(global_layers=(0, 3))
    config = dataclasses.replace(CONFIG, num_layers=6, family_options=options)
    params, batch = random_params(config, CLASSIFICATION), tiny.make_batch((12, 7), num_slots=12)
    arguments = {"layers": (1, 3), "dtype": jnp.float32}
    _, logits_BC = importance_scores(params, config, batch, **arguments)
    expected_BC, _ = full_width.forward(params, config, keep_all(), batch, slope=None)
    np.testing.assert_allclose(logits_BC, expected_BC, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_count_agrees_with_the_compiler(pooling):
    config = dataclasses.replace(
        CONFIG, num_layers=2, num_heads=4, hidden_dim=256, ffn_dim=384, num_positions=64
    )
    head = with_pooling(CLASSIFICATION, pooling)
    params = random_params(config, head)
    params = prepare_inference_params(params, config)
    token_BL = np.zeros((1, 64), np.int32)
    batch = Batch(token_BL, token_BL, np.ones((1, 64), bool), np.zeros(1, int), np.zeros(1, int))
    run = jax.jit(lambda params, batch: dense.forward(params, config, batch, head=head)[0])
    spent = run.lower(params, batch).compile().cost_analysis()["flops"]
    counted = model_flops.dense_flops(
        config, 64, head=head.flops(params["head"], config, 64), reads_first=pooling == "cls"
    )
    np.testing.assert_allclose(counted, spent, rtol=0.02)


def test_constants_of_a_family_keep_a_config_hashable():
    other = dataclasses.replace(
        CONFIG, family_options=CONFIG.family_options._replace(window=CONFIG.num_positions)
    )
    assert hash(CONFIG) != hash(other) and CONFIG != other
