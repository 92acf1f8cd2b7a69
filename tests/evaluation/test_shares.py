"""Shares are exact: lengths alone decide how many tokens every layer runs on."""

import dataclasses
import functools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.evaluation.budgets import measure_budgets, profile_shares
from adapler_jax.evaluation.models import evaluate_model, lengths_of, true_speedup
from adapler_jax.evaluation.shares import (
    budget_shares,
    ranked_shares,
    share_counts,
    share_profile,
    solve_shares,
)
from adapler_jax.forward import embed_tokens, forward_layers
from adapler_jax.pruning import adapler, attention, vocabulary
from adapler_jax.pruning.base import for_first_token
from adapler_jax.pruning.budgets import with_calibration
from adapler_jax.pruning.shares import kept_counts
from adapler_jax.types import EncoderConfig
from tests import tiny
from tests.tiny import CONFIG

PRUNERS = {"attention": attention(CONFIG), "vocabulary": vocabulary(CONFIG)}
LARGE = EncoderConfig(
    num_layers=6, num_heads=2, hidden_dim=384, ffn_dim=1536, vocab_size=30, num_positions=512
)
LENGTHS = np.random.default_rng(0).integers(20, 300, 500)


def make_batches(seed=0, num_batches=4):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, (num_batches, 16))
    return [tiny.make_batch(tuple(row), seed=seed + i) for i, row in enumerate(lengths)]


def params_of(name, **leaves):
    params = tiny.make_params(PRUNERS[name])
    return params | {"pruner": params["pruner"] | leaves}


@hypothesis.settings(deadline=None)
@hypothesis.given(strategies.integers(0, 600), strategies.floats(0.0, 1.0))
def test_a_share_of_a_text_is_rounded_up_and_keeps_cls(num_tokens, share):
    found = int(kept_counts(num_tokens, share))
    assert min(1, num_tokens) <= found <= num_tokens
    assert found >= share * num_tokens - 2e-3  # no less than asked, but for rounding
    assert found <= max(1.0, share * num_tokens + 1.0)


def test_counts_by_hand():
    assert kept_counts([10, 10, 10, 3, 0], [0.5, 0.51, 0.0, 1.0, 0.5]).tolist() == [5, 6, 1, 3, 0]


@pytest.mark.parametrize("name", PRUNERS)
@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(strategies.lists(strategies.floats(0.0, 1.0), min_size=4, max_size=4))
def test_every_driver_runs_on_the_counts_that_lengths_give(name, shares):
    pruner = PRUNERS[name]
    share_J = np.float32(shares[: len(pruner.sites)])
    batches = make_batches()
    found = evaluate_model(
        params_of(name, share_J=share_J), CONFIG, pruner, batches, driver="masked"
    )
    pruner = for_first_token(pruner, CONFIG)
    share_J = share_J[: len(pruner.sites)]
    expected = share_counts(pruner, share_J, found.length_E, CONFIG.num_layers)
    np.testing.assert_array_equal(found.count_NE, expected)


@pytest.mark.parametrize("steepness", [1.0, 1.5])
@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("speedup", [1.03, 1.3, 2.0, 3.0, 5.0])
def test_shares_have_the_asked_speedup(name, speedup, steepness):
    pruner = {"attention": attention, "vocabulary": vocabulary}[name](LARGE)
    params = {"head": tiny_head(), "pruner": {"share_J": np.ones(len(pruner.sites))}}
    share_J = solve_shares(params, LARGE, pruner, LENGTHS, speedup=speedup, steepness=steepness)
    count_NE = share_counts(pruner, share_J, LENGTHS, LARGE.num_layers)
    found = true_speedup(params, LARGE, pruner, LENGTHS, count_NE)
    assert found == pytest.approx(speedup, rel=0.01)
    assert np.all(np.diff(count_NE, axis=0) <= 0)


def tiny_head():
    return {
        "pooler": {"kernel": np.zeros((384, 384)), "bias": np.zeros(384)},
        "classifier": {"kernel": np.zeros((384, 2)), "bias": np.zeros(2)},
    }


def test_the_profile_is_equal_or_steep_and_leaves_the_last_layer_alone():
    profile = functools.partial(share_profile, attention(LARGE), LARGE)
    np.testing.assert_allclose(profile(0.5), [0.5] * 5 + [1.0])
    kept = np.cumprod(profile(0.5, steepness=1.5)[:-1])
    np.testing.assert_allclose(kept, 0.5 ** (5 * (np.arange(1, 6) / 5) ** 1.5), rtol=1e-6)
    assert profile(1.0).tolist() == [1.0] * 6
    assert share_profile(vocabulary(LARGE), LARGE, 0.25).tolist() == [0.25]


@pytest.mark.parametrize("name", PRUNERS)
def test_a_budget_is_the_kept_share(name):
    batches, pruner, budgets = make_batches(), PRUNERS[name], (0.4, 0.6, 0.8, 0.95, 1.0)
    value_JK = budget_shares(CONFIG, pruner, lengths_of(batches), budgets)
    params = params_of(name)
    params |= {"pruner": with_calibration(params["pruner"], budgets, value_JK)}
    rows = measure_budgets(params, CONFIG, pruner, batches, budgets=budgets)
    # Texts of 3 to 12 tokens have few counts to choose from.
    shares = [row.kept_share for row in rows.values()]
    assert shares == pytest.approx(list(budgets), abs=0.04)
    assert rows[1.0].flops_speedup == pytest.approx(1.0, rel=0.02)


@pytest.mark.parametrize("num_layers", [1, 2, 4, 12])
def test_budgets_are_exact_for_any_number_of_layers(num_layers):
    config = dataclasses.replace(LARGE, num_layers=num_layers)
    pruner, budgets = attention(config), (0.3, 0.6, 0.82, 0.91, 0.97, 1.0)
    value_JK = budget_shares(config, pruner, LENGTHS, budgets)
    found = [
        share_counts(pruner, value_J, LENGTHS, num_layers).sum() / (num_layers * LENGTHS.sum())
        for value_J in value_JK.T
    ]
    assert found == pytest.approx(list(budgets), abs=0.01)


NATURAL_N = np.array([1.0, 0.8, 0.5, 0.3, 0.2, 0.1])


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(
    strategies.lists(strategies.integers(1, 512), min_size=1, max_size=20),
    strategies.lists(strategies.floats(0.02, 0.99), min_size=1, max_size=3),
)
def test_ranked_shares_never_keep_more_than_the_budget_and_rise_with_it(lengths, budgets):
    length_E, budgets = np.array(lengths), [*sorted(set(budgets)), 1.0]
    profile = functools.partial(profile_shares, NATURAL_N)
    share_JK = ranked_shares(LARGE, adapler(LARGE), length_E, budgets, profile=profile)
    assert np.all((share_JK >= 0.0) & (share_JK <= 1.0)) and np.all(share_JK[:, -1] == 1.0)
    lowest = len(length_E) / length_E.sum()  # [CLS] alone
    kept = []
    for budget, share_J in zip(budgets, share_JK.T):
        count_NE = share_counts(adapler(LARGE), share_J, length_E, 6)
        assert np.all(np.diff(count_NE, axis=0) <= 0) and np.all(count_NE >= 1)
        kept.append(count_NE.sum() / (6 * length_E.sum()))
        # Rounding up adds at most a token a layer and text.
        assert kept[-1] <= max(budget + 1e-9, lowest + 1.0 / length_E.mean())
    assert kept == sorted(kept)


def test_ranked_shares_of_many_texts_are_the_budget():
    profile = functools.partial(profile_shares, NATURAL_N)
    budgets = (0.2, 0.35, 0.6, 0.9, 1.0)
    share_JK = ranked_shares(LARGE, adapler(LARGE), LENGTHS, budgets, profile=profile)
    found = [
        share_counts(adapler(LARGE), share_J, LENGTHS, 6).sum() / (6 * LENGTHS.sum())
        for share_J in share_JK.T
    ]
    assert found == pytest.approx(list(budgets), abs=0.01)


@pytest.mark.parametrize("speedup", [0.5, float("nan"), float("inf")])
def test_a_speedup_that_is_none_is_rejected(speedup):
    with pytest.raises(ValueError, match="expected a factor of 1 or more"):
        solve_shares(params_of("attention"), CONFIG, PRUNERS["attention"], LENGTHS, speedup=speedup)


def test_a_speedup_out_of_reach_says_what_is_there():
    with pytest.raises(ValueError, match=r"attention: 50x is out of reach; with \[CLS\] alone"):
        solve_shares(params_of("attention"), CONFIG, PRUNERS["attention"], LENGTHS, speedup=50.0)


def test_a_pass_without_the_tokens_of_the_batch_is_refused():
    (batch,) = make_batches(num_batches=1)
    params, pruner = params_of("vocabulary"), PRUNERS["vocabulary"]
    hidden_BLD = embed_tokens(params, CONFIG, batch)
    with pytest.raises(ValueError, match="pruner vocabulary needs token_BL, the tokens of the"):
        forward_layers(
            params,
            CONFIG,
            pruner,
            hidden_BLD,
            batch.valid_BL,
            slope=None,
            key=None,
            dtype=np.float32,
        )


def test_lengths_are_those_of_real_examples():
    batches = make_batches(num_batches=2)
    is_padding_B = np.arange(16) >= 5
    padded = batches[1].replace(
        example_id_B=np.where(is_padding_B, -1, batches[1].example_id_B).astype(np.int32)
    )
    expected = [*batches[0].valid_BL.sum(axis=1), *batches[1].valid_BL.sum(axis=1)[:5]]
    assert lengths_of([batches[0], padded]).tolist() == expected
