import pathlib
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.encoders.attention import attention_received
from adapler_jax.pruning import PRUNERS, Pruner, keep_all, make_pruner, pruner_of_saved
from adapler_jax.pruning.adapler import adapler
from adapler_jax.pruning.base import check_sites
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.types import (
    ATTENTION_NEEDS,
    BEFORE_ATTENTION,
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    TOKEN,
    VALUE_ATTENTION,
    Site,
    SoftSelection,
    Trace,
)
from tests import tiny
from tests.tiny import CONFIG, assert_trees_equal, make_batch


def test_keep_all_has_no_sites_parameters_or_terms():
    pruner = keep_all()
    assert pruner.sites == () and pruner.length_loss_params == frozenset()
    assert pruner.init(jax.random.key(0), CONFIG) == {}
    assert pruner.loss_terms({}, Trace(), make_batch()) == {}
    assert pruner.constrain({}) == {}


@pytest.mark.parametrize("name", ["soft", "hard"])
def test_keep_all_cannot_be_called_at_a_site(name):
    with pytest.raises(AssertionError, match="keep_all has no sites"):
        getattr(keep_all(), name)({}, 0, None)


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_every_pruner_is_named_as_in_the_table(name):
    pruner = make_pruner(name, CONFIG)
    assert isinstance(pruner, Pruner) and pruner.name == name


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_every_pruner_can_be_a_static_argument(name):
    pruner = make_pruner(name, CONFIG)
    assert {pruner: 1}[pruner] == 1


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_parameters_have_one_entry_a_site(name):
    pruner = make_pruner(name, CONFIG)
    params = pruner.init(jax.random.key(0), CONFIG)
    assert pruner.length_loss_params <= set(params)
    assert all(leaf.shape[0] == len(pruner.sites) for leaf in jax.tree.leaves(params))


def test_adapler_has_a_site_in_front_of_every_layer():
    assert adapler(CONFIG).sites == tuple(Site(layer, BEFORE_ATTENTION) for layer in range(4))


def test_options_reach_the_pruner():
    pruner = make_pruner("adapler", CONFIG, predictor_dim=5, initial_threshold=0.5)
    params = pruner.init(jax.random.key(0), CONFIG)
    assert params["hidden"]["kernel"].shape == (4, 16, 5)
    assert params["threshold_N"].tolist() == [0.5] * 4
    assert_trees_equal(params, pruner.init(jax.random.key(0), CONFIG))


def test_unknown_pruner_is_refused():
    with pytest.raises(
        ValueError, match="unknown pruner 'adaptler'; there are adapler, attention, keep_all"
    ):
        make_pruner("adaptler", CONFIG)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("magic", {}, "unknown pruner 'magic'"),
        ("adapler", {"foo": 1}, "pruner 'adapler' has no options foo"),
        ("trbert", {"layers": (9,)}, "layers"),
    ],
)
def test_what_is_wrong_with_the_pruner_of_a_model_folder_names_its_file(name, options, message):
    saved = SimpleNamespace(
        pruner_name=name, pruner_options=options, config=CONFIG, directory=pathlib.Path("folder")
    )
    with pytest.raises(ValueError, match=f"folder/config.json: .*{message}"):
        pruner_of_saved(saved)


# Needs of a pruner


def attention_pruner(score):
    """Shrinks a token, at sites inside the layers, by the attention that it receives."""

    def soft(params, layer, site, slope):
        survival_BL = site.survival_BL * jax.nn.sigmoid(slope * (site.token_logit_BL - 1.0))
        bias_BL = jnp.log(jnp.maximum(survival_BL, 1e-6))
        return SoftSelection(site.token_logit_BL, bias_BL, survival_BL)

    return powerbert(tiny.CONFIG)._replace(
        name="attention",
        init=lambda key, config: {},
        score=score,
        soft=soft,
        needs=frozenset({COLUMN_ATTENTION}),
    )


def query_gradient(pruner):
    """Gradient by the queries of the first layer of what survives its site."""
    params = tiny.make_params(pruner)
    batch = jax.tree.map(jnp.asarray, tiny.make_batch())

    def survival(layers):
        changed = params | {"encoder": params["encoder"] | {"layers": layers}}
        _, trace = full_width.forward(changed, tiny.CONFIG, pruner, batch, slope=jnp.float32(2.0))
        return jnp.sum(trace.survival_NBL[0])

    return jax.grad(survival)(params["encoder"]["layers"])["query"]["kernel"][0]


def test_a_score_has_the_gradient_that_its_method_leaves():
    free = attention_pruner(lambda params, features: features.column_attention_X)
    assert np.max(np.abs(query_gradient(free))) > 1e-5
    stopped = attention_pruner(
        lambda params, features: jax.lax.stop_gradient(features.column_attention_X)
    )
    assert not np.any(query_gradient(stopped))


def test_column_attention_includes_a_token_itself():
    """With one query and key the attention is 1, and others give nothing."""
    exp_logits = jnp.full((1, 2, 1, 1), 3.0)
    values = jnp.array([[[[3.0, 4.0]], [[0.0, -1.0]]]])  # of lengths 5 and 1
    mask = jnp.array([[True]])
    found = attention_received(exp_logits, exp_logits, values, mask, needs=ATTENTION_NEEDS)
    assert found.column_attention_X.tolist() == [[1.0]]
    assert found.others_attention_X.tolist() == [[0.0]]
    assert found.cls_attention_X.tolist() == [[1.0]]
    assert found.value_attention_X.tolist() == [[3.0]]


def test_the_attention_of_every_head_counts_as_its_value_is_long():
    """Two heads, two keys, and a query that does not count."""
    prob_BHLS = jnp.array([[[[0.25, 0.75], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]]])
    value_BHSK = jnp.array([[[[2.0], [-4.0]], [[6.0], [1.0]]]])
    found = attention_received(
        prob_BHLS,
        jnp.ones((1, 2, 2, 1)),
        value_BHSK,
        jnp.array([[True, False]]),
        needs=frozenset({VALUE_ATTENTION}),
    )
    expected = [(0.25 * 2.0 + 1.0 * 6.0) / 2, (0.75 * 4.0 + 0.0 * 1.0) / 2]
    np.testing.assert_allclose(found.value_attention_X, [expected], rtol=1e-6)
    assert found.column_attention_X is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": frozenset({"colour"})}, "needs colour; there are cls_attention, column"),
        ({"needs": frozenset({CLS_ATTENTION})}, "which exist before the feed-forward half only"),
        ({"needs": frozenset({TOKEN})}, "needs 'token', so its one site is before the attention"),
    ],
)
def test_needs_that_no_driver_serves_are_rejected(changes, message):
    pruner = adapler(tiny.CONFIG)._replace(**changes)
    with pytest.raises(ValueError, match=message):
        check_sites(pruner, tiny.CONFIG)
