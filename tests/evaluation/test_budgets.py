"""Thresholds of budgets keep the share of tokens that they are calibrated for."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.evaluation.budgets import (
    BUDGETS,
    MAX_THRESHOLD,
    calibrate_budgets,
    measure_budgets,
    natural_shares,
    profile_shares,
    quantile_threshold,
)
from adapler_jax.inference.calibration import check_budgets
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.budgets import with_calibration
from tests import tiny
from tests.tiny import CONFIG, PRUNER, make_params

NODES = (0.3, 0.45, 0.6, 0.8, 1.0)


def make_batches(seed, num_batches=6):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 13, (num_batches, 16))
    return [
        tiny.make_batch(tuple(row), num_fillers=2, seed=seed + number)
        for number, row in enumerate(lengths)
    ]


@pytest.fixture(scope="module", name="calibrated")
def _calibrated():
    """The parameters of a model with predictors that distinguish tokens, and its calibration."""
    params = make_params()
    threshold_NK = calibrate_budgets(params, CONFIG, PRUNER, make_batches(0), budgets=NODES)
    return params | {"pruner": with_calibration(params["pruner"], NODES, threshold_NK)}


def test_a_quantile_threshold_keeps_that_many_values():
    values = np.array([0.5, 3.0, 1.0, 2.0, 4.0], np.float32)
    for num_kept, expected in ((5, 0.5), (4, 0.75), (2, 2.5), (1, 3.5)):
        assert quantile_threshold(values, num_kept) == pytest.approx(expected)
        assert np.sum(values >= quantile_threshold(values, num_kept)) == num_kept
    assert np.sum(values >= quantile_threshold(values, 0)) == 0
    assert quantile_threshold(100.0 * values, 0) == MAX_THRESHOLD


@hypothesis.given(
    strategies.lists(strategies.floats(0.01, 1.0), min_size=1, max_size=12),
    strategies.floats(0.02, 0.99),
)
def test_shares_of_a_budget_have_its_mean_and_never_rise_over_layers(natural, budget):
    share_N = profile_shares(np.array(natural), budget)
    assert np.mean(share_N) == pytest.approx(budget, abs=1e-6)
    assert np.all(np.diff(share_N) <= 1e-12)
    assert np.all(share_N <= profile_shares(np.array(natural), min(1.0, budget + 0.01)))


def test_on_the_calibration_texts_counts_are_as_asked(calibrated):
    batches = make_batches(0)
    natural_N = natural_shares(calibrated, CONFIG, PRUNER, batches)
    found = measure_budgets(calibrated, CONFIG, PRUNER, batches, budgets=NODES)
    for budget, row in found.items():
        # A tenth of the tokens are [CLS], which stay whatever the share.
        expected = np.mean(np.maximum(profile_shares(natural_N, budget), cls_share(batches)))
        assert row.kept_share == pytest.approx(expected, abs=0.01)


def cls_share(batches):
    real = [batch.valid_BL[batch.example_id_B >= 0] for batch in batches]
    return sum(len(valid_BL) for valid_BL in real) / sum(valid_BL.sum() for valid_BL in real)


def test_unseen_texts_keep_nearly_the_share_and_more_budget_keeps_more(calibrated):
    asked = np.linspace(0.35, 1.0, 12)
    rows = measure_budgets(calibrated, CONFIG, PRUNER, make_batches(77, 20), budgets=asked)
    shares, speedups = zip(*[(row.kept_share, row.flops_speedup) for row in rows.values()])
    np.testing.assert_allclose(shares, asked, rtol=0.12)
    assert np.all(np.diff(shares) > 0) and np.all(np.diff(speedups) < 0)
    assert shares[-1] == 1.0


@pytest.mark.long
def test_the_packed_driver_measures_the_same(calibrated):
    batches = make_batches(5, num_batches=2)
    options = {"budgets": (0.4, 1.0)}
    masked, packed = (
        measure_budgets(calibrated, CONFIG, PRUNER, batches, driver=driver, **options)
        for driver in ("masked", "packed")
    )
    for budget, expected in masked.items():
        found = packed[budget]
        for name in ("predicted_E", "dense_E", "pruned_E", "share_E"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_allclose(found.margin_E, expected.margin_E, atol=1e-5)


def test_padding_examples_and_labels_play_no_part(calibrated):
    batches = make_batches(0)
    without = [batch.replace(label_B=1 - batch.label_B, saliency_BL=None) for batch in batches]
    tokens = [np.where(b.example_id_B[:, None] >= 0, b.token_BL, 3) for b in batches]
    without = [b.replace(token_BL=t.astype(np.int32)) for b, t in zip(without, tokens)]
    found = calibrate_budgets(make_params(), CONFIG, PRUNER, without, budgets=NODES)
    np.testing.assert_allclose(found, calibrated["pruner"]["budget_value_JK"], rtol=1e-6)


def test_thresholds_fall_with_the_budget(calibrated):
    threshold_NK = np.asarray(calibrated["pruner"]["budget_value_JK"])
    assert np.all(np.diff(threshold_NK, axis=1) <= 0)
    assert np.all(threshold_NK <= MAX_THRESHOLD)


def test_only_adapler_has_budgets():
    with pytest.raises(
        ValueError, match="keeps all tokens, so it has one speed; `adapler compress`"
    ):
        calibrate_budgets(make_params(keep_all()), CONFIG, keep_all(), make_batches(0))


@pytest.mark.parametrize("budgets", [(), (0.5,), (0.5, 0.4, 1.0), (0.0, 1.0), (0.5, 1.0, 1.5)])
def test_budgets_must_rise_to_1(budgets):
    with pytest.raises(ValueError, match="expected rising numbers above 0, the last 1"):
        check_budgets(budgets)
    check_budgets(BUDGETS)
