"""Leaves of any shape and name in the parameters of a pruner are saved and loaded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import pruning
from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.pruning import keep_all
from adapler_jax.types import BEFORE_ATTENTION, EncoderConfig, Rule, Site, linear_rules
from adapler_jax.weights.save import load_model, save_model
from tests.tiny import assert_trees_equal
from tests.weights.hostile import refused

CONFIG = EncoderConfig(
    num_layers=4, num_heads=2, hidden_dim=16, ffn_dim=24, vocab_size=50, num_positions=12
)
SITES = "odd.{site}"
# Of no config: G first hidden units, J second ones. H are the heads, I and Z sizes of a table.
RULES = (
    Rule("odd.threshold", ("pruner", "threshold_M"), "M"),
    Rule("odd.table", ("pruner", "table_MIZ"), "MIZ"),
    Rule(f"{SITES}.head_threshold", ("pruner", "thresholds", "head"), "H"),
    Rule(f"{SITES}.scale", ("pruner", "thresholds", "scale_M"), ""),
    *linear_rules(f"{SITES}.first", "pruner/scorer/first", "DG"),
    *linear_rules(f"{SITES}.second", "pruner/scorer/second", "GJ"),
    *linear_rules(f"{SITES}.out", "pruner/scorer/out", "J1"),
    *linear_rules(f"{SITES}.predictor", "pruner/predictor", "DP"),
)


def linear_leaves(num_sites, num_inputs, num_outputs):
    return {
        "kernel": jnp.ones((num_sites, num_inputs, num_outputs)),
        "bias": jnp.zeros((num_sites, num_outputs)),
    }


def odd(config, *, layers=(0, 3), first_dim=7, rules=RULES):
    """A pruner with two sites, thresholds of odd shapes and a scorer with two hidden layers."""

    def init(key, config):
        M = len(layers)
        return {
            "threshold_M": jnp.ones(M),
            "table_MIZ": jnp.ones((M, 3, 5)),
            "thresholds": {"head": jnp.ones((M, config.num_heads)), "scale_M": jnp.ones(M)},
            "scorer": {
                "first": linear_leaves(M, config.hidden_dim, first_dim),
                "second": linear_leaves(M, first_dim, 6),
                "out": linear_leaves(M, 6, 1),
            },
            "predictor": linear_leaves(M, config.hidden_dim, 32),
        }

    if layers[-1] >= config.num_layers:
        raise ValueError(f"no layers {layers}")
    return keep_all()._replace(
        name="odd",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in layers),
        init=init,
        tensor_rules=rules,
    )


@pytest.fixture(autouse=True)
def _plugged_in(monkeypatch):
    """The one line of a new method."""
    monkeypatch.setitem(pruning.PRUNERS, "odd", odd)


def make_params(**options):
    """Return random numbers in the shapes of a whole tree."""
    key = jax.random.key(0)
    shapes = jax.eval_shape(
        lambda: {
            "encoder": init_encoder(key, CONFIG),
            "head": init_classifier(key, CONFIG, 3),
            "pruner": odd(CONFIG, **options).init(key, CONFIG),
        }
    )
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)


@pytest.mark.parametrize("options", [{}, {"layers": (1, 2, 3), "first_dim": 9}])
def test_leaves_of_any_shape_are_saved_and_loaded_bit_for_bit(options, tmp_path):
    params = make_params(**options)
    directory = save_model(
        tmp_path / "model", params, CONFIG, pruner_name="odd", pruner_options=options
    )
    saved = load_model(directory)
    assert_trees_equal(saved.params, params)
    assert saved.pruner_options == options


def test_the_size_of_predictors_is_read_from_the_tensors(tmp_path):
    params = make_params()
    params["pruner"]["predictor"] = linear_leaves(2, 16, 11)
    directory = save_model(tmp_path / "model", params, CONFIG, pruner_name="odd")
    assert_trees_equal(load_model(directory).params, params)


def test_all_leaves_of_other_shapes_are_reported_when_a_model_is_saved(tmp_path):
    params = make_params()
    params["pruner"]["threshold_M"] = jnp.ones(3)
    params["pruner"]["table_MIZ"] = jnp.ones((2, 3, 4))
    params["pruner"]["scorer"]["first"] = linear_leaves(2, 16, 8)
    params["pruner"]["thresholds"]["more"] = jnp.ones(2)
    refused(
        save_model,
        tmp_path / "model",
        params,
        CONFIG,
        pruner_name="odd",
        match=r"5 mismatches.*threshold_M: expected \(2,\), found \(3,\); pruner/table_MIZ: "
        r"expected \(2, 3, 5\), found \(2, 3, 4\); .*first/kernel: expected \(2, 16, 7\), found "
        r"\(2, 16, 8\).*more: unexpected",
    )


def test_all_tensors_that_do_not_fit_the_options_are_reported(tmp_path):
    directory = save_model(tmp_path / "model", make_params(), CONFIG, pruner_name="odd")
    raw = json.loads((directory / "config.json").read_text())
    raw["adapler_jax"]["pruner_options"] = {"first_dim": 8}
    (directory / "config.json").write_text(json.dumps(raw))
    refused(
        load_model,
        directory,
        match=r"6 mismatches.*odd.\{0,1\}.first.weight: expected \(8, 16\), found \(7, 16\)",
    )
    raw["adapler_jax"]["pruner_options"] = {"layers": [1, 2, 3]}
    (directory / "config.json").write_text(json.dumps(raw))
    refused(load_model, directory, match="it has 3 sites, there are tensors of 2")
    raw["adapler_jax"]["pruner_options"] = {"magic": 1}
    (directory / "config.json").write_text(json.dumps(raw))
    refused(load_model, directory, match="config.json: pruner 'odd' has no options magic")


BAD_RULES = {
    "no size": (Rule("odd.threshold", ("pruner", "threshold_M"), "MZ"), "axis Z no size"),
    "two sizes": (Rule("odd.threshold", ("pruner", "table_MIZ"), "MZZ"), "axis Z 3 and 5"),
    "one name twice": (
        Rule("classifier.bias", ("pruner", "threshold_M"), "M"),
        "pruner odd repeat classifier.bias; expected a name for each leaf",
    ),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_rules_that_do_not_fit_the_leaves_are_named(name, tmp_path, monkeypatch):
    rule, message = BAD_RULES[name]
    monkeypatch.setitem(pruning.PRUNERS, "odd", lambda config: odd(config, rules=(rule,)))
    refused(save_model, tmp_path / "m", make_params(), CONFIG, pruner_name="odd", match=message)
