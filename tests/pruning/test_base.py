import pathlib
from types import SimpleNamespace

import jax
import pytest

from adapler_jax.pruning import PRUNERS, Pruner, keep_all, make_pruner, pruner_of_saved
from adapler_jax.pruning.adapler import adapler
from adapler_jax.types import BEFORE_ATTENTION, Site, Trace
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
    with pytest.raises(ValueError, match="unknown pruner 'adaptler'; there are adapler, keep_all"):
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
