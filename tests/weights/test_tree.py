"""The rule table and the passage between named tensors and the tree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.pruning import PRUNERS, tensor_rules_of
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.rules import (
    ENCODER_RULES,
    axis_sizes,
    canonical_name,
    model_rules,
)
from adapler_jax.weights.tree import canonicalize, check_tensors, format_shapes, to_tensors, to_tree

CONFIG = EncoderConfig(
    num_layers=4, num_heads=2, hidden_dim=16, ffn_dim=24, vocab_size=50, num_positions=12
)
SIZES = axis_sizes(CONFIG, num_classes=3, predictor_dim=5)


def encoder_tree():
    """Random numbers in the shapes of the encoder."""
    shapes = jax.eval_shape(lambda: init_encoder(jax.random.key(0), CONFIG))
    rng = np.random.default_rng(0)
    return {
        "encoder": jax.tree.map(
            lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes
        )
    }


def test_rules_cover_the_tree_of_the_encoder_with_its_shapes():
    found = jax.tree_util.tree_map(lambda leaf: leaf.shape, encoder_tree())
    for rule in ENCODER_RULES:
        node = found
        for key in rule.path:
            node = node[key]
        assert node == rule.leaf_shape(SIZES), rule
    assert len(ENCODER_RULES) == len(jax.tree.leaves(encoder_tree()))


def test_no_two_rules_share_a_name_or_a_leaf():
    for pruner_name in PRUNERS:
        rules = model_rules(pruner_name)
        names = [name for rule in rules for name in rule.tensor_names(SIZES)]
        assert len(set(names)) == len(names)
        assert len({rule.path for rule in rules}) == len(rules)


def test_tensors_are_the_transposed_layers_of_the_stacks():
    params = encoder_tree()
    tensors = to_tensors(params, ENCODER_RULES, SIZES)
    layers = params["encoder"]["layers"]
    np.testing.assert_array_equal(
        tensors["bert.encoder.layer.2.intermediate.dense.weight"], layers["ffn_in"]["kernel"][2].T
    )
    np.testing.assert_array_equal(
        tensors["bert.encoder.layer.3.attention.output.LayerNorm.weight"],
        layers["attention_norm"]["scale"][3],
    )
    assert all(value.flags.c_contiguous for value in tensors.values())


def test_tree_to_tensors_and_back_is_exact():
    params = encoder_tree()
    back = to_tree(to_tensors(params, ENCODER_RULES, SIZES), ENCODER_RULES, SIZES)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_predictor_tensors_have_the_documented_shapes():
    shapes = {
        name: rule.tensor_shape(SIZES)
        for rule in tensor_rules_of("adapler")
        for name in rule.tensor_names(SIZES)
    }
    assert shapes["contribution_predictor.3.hidden.weight"] == (5, 16)
    assert shapes["contribution_predictor.0.hidden.bias"] == (5,)
    assert shapes["contribution_predictor.0.score.weight"] == (1, 5)
    assert shapes["contribution_predictor.0.score.bias"] == (1,)
    assert (
        shapes["contribution_predictor.threshold"]
        == shapes["contribution_predictor.cls_ratio"]
        == (4,)
    )


def test_leaves_that_do_not_fit_are_all_named():
    params = encoder_tree()
    params["encoder"]["layers"]["query"]["kernel"] = jnp.zeros((4, 16, 8))
    del params["encoder"]["embeddings"]["norm"]
    params["encoder"]["adapter"] = jnp.zeros((3,))
    with pytest.raises(ValueError) as caught:
        to_tensors(params, ENCODER_RULES, SIZES)
    message = str(caught.value)
    assert "encoder/layers/query/kernel: expected (4, 16, 16), found (4, 16, 8)" in message
    assert "encoder/embeddings/norm/scale: missing, expected (16,)" in message
    assert "encoder/adapter: unexpected, found (3,)" in message


def test_integer_tensors_are_refused():
    tensors = to_tensors(encoder_tree(), ENCODER_RULES, SIZES)
    tensors["bert.embeddings.LayerNorm.bias"] = np.zeros(16, np.int8)
    with pytest.raises(
        ValueError, match=r"LayerNorm.bias: expected floating point numbers, found int8"
    ):
        check_tensors(tensors, ENCODER_RULES, SIZES, "model.safetensors")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        (
            "module.bert.encoder.layer.0.output.LayerNorm.beta",
            "bert.encoder.layer.0.output.LayerNorm.bias",
        ),
        ("pooler.dense.weight", "bert.pooler.dense.weight"),
        ("classifier.weight", "classifier.weight"),
        ("cls.predictions.transform.LayerNorm.gamma", "cls.predictions.transform.LayerNorm.weight"),
    ],
)
def test_names_have_one_canonical_form(name, expected):
    assert canonical_name(name) == expected


def test_one_tensor_under_two_names_is_refused():
    with pytest.raises(
        ValueError,
        match=r"pooler.dense.bias twice: as pooler.dense.bias and as bert.pooler.dense.bias",
    ):
        canonicalize({"pooler.dense.bias": 0, "bert.pooler.dense.bias": 1}, "model.safetensors")


def test_the_same_problem_in_several_layers_takes_one_line():
    problems = [(f"bert.encoder.layer.{layer}.x", "missing") for layer in (0, 11)] + [
        ("a.b", "missing")
    ]
    assert format_shapes(problems) == "  bert.encoder.layer.{0,11}.x: missing\n  a.b: missing"


def test_unknown_pruner_is_refused_with_the_list():
    with pytest.raises(
        ValueError, match="unknown pruner 'magic'; expected one of adapler, attention, keep_all"
    ):
        model_rules("magic")
