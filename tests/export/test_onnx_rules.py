"""The rules of a graph keep the tokens that the pruners keep, at every budget."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.export.onnx.budgets import SiteValues, values_of_sites
from adapler_jax.export.onnx.rules import NO_VALUES, RULES, score_states
from adapler_jax.export.onnx.settings import BUDGET
from adapler_jax.export.onnx.texts import lay_out
from adapler_jax.inference.calibration import FIXED, THRESHOLDS, Calibration
from adapler_jax.pruning import PRUNERS, make_pruner
from adapler_jax.pruning.adapler import contribution_scores
from adapler_jax.pruning.budgets import at_budget, shares_at_budget
from adapler_jax.pruning.shares import keep_highest
from adapler_jax.types import SiteInput, TokenFeatures
from tests.export.onnx_graphs import make_model, open_graph, operators_of, run_graph
from tests.tiny import CONFIG

METHODS = sorted(RULES)
LENGTHS = (12, 7, 1, 9, 2, 12)
# Values at which random scores drop some tokens; TR-BERT has none.
VALUES = {
    "adapler": 0.9,
    "attention": 0.6,
    "ltp": 0.1,
    "powerbert": 4.0,
    "trbert": 0.0,
    "vocabulary": 0.35,
}
OPTIONAL_BUDGET = {BUDGET: (np.float32, ("budgets",))}


def valid_slots(lengths):
    return np.arange(max(lengths)) < np.array(lengths)[:, None]


def random_scores(seed, lengths=LENGTHS):
    shape = (len(lengths), max(lengths))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def site_input(score_BR, valid_BR, budget_B=None):
    """The input of a pruner, without numbers in the padding."""
    return SiteInput(
        token_logit_BL=jnp.where(valid_BR, score_BR, 0.0),
        remaining_BL=jnp.asarray(valid_BR),
        survival_BL=jnp.asarray(valid_BR, jnp.float32),
        budget_B=None if budget_B is None else jnp.asarray(budget_B),
    )


@functools.cache
def rule_session(method):
    def build(graph):
        texts = lay_out(graph, "valid_BR")
        return [RULES[method].keep(graph, texts, "score_BR", SiteValues("value_B1"))]

    inputs = {"score_BR": np.float32, "valid_BR": np.bool_, "value_B1": np.float32}
    return open_graph(make_model(build, inputs, {"keep_BR": np.bool_}))


def kept_by_rule(method, score_BR, valid_BR, value_B1):
    value_B1 = np.asarray(value_B1, np.float32).reshape(-1, 1)
    feeds = {"score_BR": score_BR, "valid_BR": valid_BR, "value_B1": value_B1}
    return rule_session(method).run(None, feeds)[0]


@functools.cache
def hard_rule(method):
    return jax.jit(make_pruner(method, CONFIG).hard)


def kept_by_pruner(method, score_BR, valid_BR, value):
    params = {RULES[method].leaf: jnp.float32(value)}
    found = hard_rule(method)(params, jnp.int32(0), site_input(score_BR, valid_BR))
    return np.asarray(found.keep_BL)


def assert_rule_equals_pruner(method, score_BR, valid_BR, value):
    """The rule keeps the pruner's tokens, and returns them."""
    keep_BR = kept_by_rule(method, score_BR, valid_BR, value)
    np.testing.assert_array_equal(keep_BR, kept_by_pruner(method, score_BR, valid_BR, value))
    assert np.all(keep_BR[:, 0]) and not np.any(keep_BR & ~valid_BR)
    return keep_BR


# Rules


def test_every_pruner_that_drops_tokens_has_a_rule():
    assert set(RULES) == set(PRUNERS) - {"keep_all"}
    for method, rule in RULES.items():
        params = make_pruner(method, CONFIG).init(jax.random.key(0), CONFIG)
        assert rule.leaf in params or rule.leaf == NO_VALUES


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", METHODS)
def test_rules_keep_the_tokens_of_the_pruners(method, seed):
    valid_BR, score_BR = valid_slots(LENGTHS), random_scores(seed)
    # Rounded scores have many ties.
    for found_BR in (score_BR, np.rint(score_BR)):
        keep_BR = assert_rule_equals_pruner(method, found_BR, valid_BR, VALUES[method])
        assert len(LENGTHS) < keep_BR.sum() < valid_BR.sum()


@pytest.mark.parametrize(
    ("method", "score", "value", "kept"),
    [
        # A score of 1 / n is at the threshold: it stays, and one less by half a millionth.
        ("adapler", [2.0, 2.0, 2.0, 2.0], 1.0, [0, 1, 2, 3]),
        ("adapler", [2.0, 2.0, 2.0, 2.0], 1.001, [0]),
        ("adapler", [0.0, 9.0, 0.0, 9.0], 1.0, [0, 1, 3]),
        ("adapler", [1e-6, 0.0], 1.0, [0, 1]),
        ("adapler", [1e-5, 0.0], 1.0, [0]),
        # A probability of a half stays, a mean of exactly the threshold does not.
        ("trbert", [-9.0, 0.0, -1e-3, 5.0], 0.0, [0, 1, 3]),
        ("ltp", [0.0, 1.0, 1.001, 0.999], 0.25, [0, 2]),
        # Of equal scores the earlier ones stay; [CLS] is one of the number.
        ("powerbert", [0.0, 1.0, 2.0, 1.0], 3.0, [0, 1, 2]),
        ("powerbert", [0.0, 1.0, 2.0, 1.0], 99.0, [0, 1, 2, 3]),
        ("attention", [0.0, 3.0, 3.0, 3.0], 0.5, [0, 1]),
        # Two and four ten-thousandths of a token are two.
        ("attention", [0.0, 3.0, 3.0, 3.0], 0.5001, [0, 1]),
        ("vocabulary", [0.0, 3.0, 4.0, 5.0], 0.51, [0, 2, 3]),
        ("vocabulary", [5.0, 3.0, 4.0, 4.0], 0.5, [0, 2]),
    ],
)
def test_rules_by_hand(method, score, value, kept):
    keep_1R = assert_rule_equals_pruner(
        method, np.float32([score]), np.ones((1, len(score)), bool), value
    )
    assert np.flatnonzero(keep_1R[0]).tolist() == kept


@pytest.mark.parametrize("method", METHODS)
def test_a_text_of_one_token_keeps_it(method):
    lengths = (1, 1, 1)
    for value in (1.0, 1.5, 9.0):
        keep_BR = kept_by_rule(method, np.float32([[-9], [0], [9]]), valid_slots(lengths), value)
        assert keep_BR.tolist() == [[True]] * 3


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("adapler", 1e6),
        ("attention", 0.0),
        ("ltp", 2.0),
        ("powerbert", 1.0),
        ("trbert", 0.0),
        ("vocabulary", 0.0),
    ],
)
def test_everything_but_the_first_token_can_go(method, value):
    valid_BR, score_BR = valid_slots(LENGTHS), -5.0 - np.abs(random_scores(1))
    keep_BR = assert_rule_equals_pruner(method, score_BR, valid_BR, value)
    assert keep_BR.sum() == len(LENGTHS)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e9])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_in_the_padding_do_not_matter(method, number):
    valid_BR, score_BR = valid_slots(LENGTHS), random_scores(5)
    filled_BR = np.where(valid_BR, score_BR, np.float32(number))
    assert_rule_equals_pruner(method, filled_BR, valid_BR, VALUES[method])


@pytest.mark.parametrize(
    "method", [name for name in METHODS if PRUNERS[name](CONFIG).takes_budgets]
)
def test_the_full_value_keeps_all_tokens(method):
    valid_BR = valid_slots(LENGTHS)
    keep_BR = kept_by_rule(method, 9.0 * random_scores(7), valid_BR, RULES[method].full)
    np.testing.assert_array_equal(keep_BR, valid_BR)


# Scores of states


@pytest.mark.parametrize("options", [{}, {"uses_contrib": True, "weight_bits": 8}])
@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("method", ["adapler", "trbert"])
def test_scores_of_states_equal_the_pruners_in_full_precision(method, activation, options):
    config = dataclasses.replace(CONFIG, activation=activation)
    scorer_activation = RULES[method].activation or activation
    rng = np.random.default_rng(2)
    sizes = {"hidden": (CONFIG.hidden_dim, 8), "score": (8, 1)}
    params = {
        name: {
            "kernel": rng.normal(size=size).astype(np.float32),
            "bias": rng.normal(size=size[1]).astype(np.float32),
        }
        for name, size in sizes.items()
    }
    state_TD = rng.normal(size=(9, CONFIG.hidden_dim)).astype(np.float32)

    def build(graph):
        return [score_states(graph, "pruner.0", params, "state_TD", activation=scorer_activation)]

    model = make_model(build, {"state_TD": np.float32}, {"logit_T": np.float32}, **options)
    (found_T,) = open_graph(model).run(None, {"state_TD": state_TD})
    features = TokenFeatures(state_XD=jnp.asarray(state_TD))
    expected_T = make_pruner(method, config).score(params, features)
    np.testing.assert_allclose(found_T, expected_T, rtol=0, atol=1e-4)
    assert operators_of(model).count("MatMul") == 2


# Shares and budgets


def test_a_share_replaces_the_threshold_of_its_text():
    valid_BR, score_BR = valid_slots(LENGTHS), random_scores(8)
    share_B1 = np.float32([[0.4], [np.nan], [0.0], [1.0], [0.5], [np.nan]])

    def build(graph):
        values = SiteValues(graph.constant([[0.9]], np.float32), "share_B1")
        return [RULES["adapler"].keep(graph, lay_out(graph, "valid_BR"), "score_BR", values)]

    feeds = {"score_BR": score_BR, "valid_BR": valid_BR, "share_B1": share_B1}
    (keep_BR,) = run_graph(build, feeds, {"keep_BR": np.bool_})
    site = site_input(score_BR, valid_BR)
    prob_BR = contribution_scores(site.token_logit_BL, site.remaining_BL, site.survival_BL)
    ranked_BR = keep_highest(prob_BR, site.remaining_BL, jnp.asarray(share_B1))
    trained_BR = kept_by_pruner("adapler", score_BR, valid_BR, 0.9)
    np.testing.assert_array_equal(keep_BR, np.where(np.isnan(share_B1), trained_BR, ranked_BR))
    assert keep_BR.sum(axis=1).tolist()[:4:2] == [5, 1] and np.all(keep_BR[3] == valid_BR[3])


BUDGETS = (0.25, 0.5, 1.0)
# Not a budget, all calibrated ones, two between each pair, below and above all.
ASKED = np.float32([np.nan, 0.25, 0.5, 1.0, 0.3, 0.45, 0.6, 0.99, 0.1, 1.5])
CASES = {
    "thresholds": ("threshold_N", 0.0, THRESHOLDS, BUDGETS, ((1.2, 0.6, 0.0), (0.3, 0.9, 0.1))),
    "shares": ("share_J", 1.0, THRESHOLDS, BUDGETS, ((0.2, 0.6, 1.0), (0.7, 0.8, 0.9))),
    "fixed": ("threshold_N", 0.0, FIXED, BUDGETS, ((0.2, 0.6, 1.0), (0.7, 0.8, 0.9))),
    "one budget": ("threshold_N", 0.0, THRESHOLDS, (1.0,), ((0.4,), (0.7,))),
    "one fixed budget": ("threshold_N", 0.0, FIXED, (1.0,), ((0.4,), (0.7,))),
}
OWN_J = np.float32([0.85, 0.35])


def calibration_of(case):
    _, _, mode, budgets, values = CASES[case]
    return Calibration(budgets, values, rows=(), num_texts=0, num_held_out=0, mode=mode)


def found_values(case, feeds):
    """The values of both sites, and their shares where the calibration is of shares."""
    _, full, mode, _, _ = CASES[case]

    def build(graph):
        sites = values_of_sites(graph, OWN_J, full, calibration_of(case))
        shares = [site.share for site in sites if site.share is not None]
        return [*(site.value for site in sites), *shares]

    parts = ("value", "share") if mode == FIXED else ("value",)
    outputs = {f"{part}{site}_B1": np.float32 for part in parts for site in range(2)}
    model = make_model(build, {}, outputs, optional=OPTIONAL_BUDGET)
    return dict(zip(outputs, open_graph(model).run(None, feeds), strict=True))


def calibrated_params(case, site):
    leaf, *_ = CASES[case]
    params = {"pruner": {leaf: jnp.asarray(OWN_J)}}
    return jax.tree.map(lambda found: found[site], calibration_of(case).apply(params)["pruner"])


@pytest.mark.parametrize("case", CASES)
def test_values_of_each_text_equal_the_pruners(case):
    leaf, full, mode, *_ = CASES[case]
    found = found_values(case, {BUDGET: ASKED})
    site_of_texts = site_input(*np.ones((2, len(ASKED), 1), np.float32), ASKED)
    for site in range(2):
        params = calibrated_params(case, site)
        value = at_budget(params, leaf, site_of_texts, full=full)
        found_B1 = np.broadcast_to(found[f"value{site}_B1"], np.shape(value) or (1, 1))
        np.testing.assert_allclose(found_B1, jnp.reshape(value, found_B1.shape), atol=1e-6)
        share_B1 = shares_at_budget(params, site_of_texts)
        assert (share_B1 is None) == (mode != FIXED)
        if share_B1 is not None:
            assert np.isnan(share_B1[0])  # the first text has no budget, so it has no share
            np.testing.assert_allclose(found[f"share{site}_B1"], share_B1, rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_one_budget_is_for_all_texts_and_none_is_the_models_own_speed(case):
    many = found_values(case, {BUDGET: ASKED})
    for row in (None, 0, 2, 4, 9):
        feeds = {} if row is None else {BUDGET: ASKED[row : row + 1]}
        for name, value_11 in found_values(case, feeds).items():
            expected_B1 = np.broadcast_to(many[name], (len(ASKED), 1))
            np.testing.assert_array_equal(value_11, expected_B1[row or 0][None])


def test_a_model_without_a_calibration_has_constants():
    outputs = {"value0_11": np.float32, "value1_11": np.float32}

    def build(graph):
        return [site.value for site in values_of_sites(graph, OWN_J, 0.0, None)]

    assert [found.tolist() for found in run_graph(build, {}, outputs)] == [[[own]] for own in OWN_J]


@pytest.mark.parametrize(
    ("method", "case"),
    [
        ("adapler", "thresholds"),
        ("adapler", "fixed"),
        ("attention", "shares"),
        ("vocabulary", "shares"),
    ],
)
def test_budgets_of_texts_decide_which_tokens_stay(method, case):
    _, full, _, _, _ = CASES[case]
    valid_BR = valid_slots((12,) * len(ASKED))
    score_BR = np.tile(random_scores(9, (12,)), (len(ASKED), 1))

    def build(graph):
        values = values_of_sites(graph, OWN_J, full, calibration_of(case))[0]
        return [RULES[method].keep(graph, lay_out(graph, "valid_BR"), "score_BR", values)]

    inputs = {"score_BR": np.float32, "valid_BR": np.bool_}
    model = make_model(build, inputs, {"keep_BR": np.bool_}, optional=OPTIONAL_BUDGET)
    feeds = {"score_BR": score_BR, "valid_BR": valid_BR, BUDGET: ASKED}
    (keep_BR,) = open_graph(model).run(None, feeds)
    site = site_input(score_BR, valid_BR, ASKED)
    expected = hard_rule(method)(calibrated_params(case, 0), jnp.int32(0), site)
    np.testing.assert_array_equal(keep_BR, expected.keep_BL)
    assert keep_BR[1].sum() < keep_BR[2].sum() < keep_BR[3].sum() == 12
