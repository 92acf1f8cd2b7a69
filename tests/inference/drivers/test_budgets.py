"""Every text of a batch may have a budget of its own, in all drivers and without a compilation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.pruning.budgets import SHARES, with_calibration
from adapler_jax.pruning.shares import kept_counts
from benchmarks.compilations import compilations
from tests.inference.drivers import engines
from tests.inference.drivers.engines import CONFIG, FAST, assert_same, make_batch, params_of
from tests.marks import mostly_long
from tests.tiny import take_rows

LENGTHS = (24, 17, 9, 3, 1, 24)
BUDGETS = (1.0, 0.8, 0.5, 0.3, 0.3, 0.2)
NODES = (0.25, 0.5, 1.0)
# Of each site at each node, by method.
VALUES = {
    "adapler": [[1.5, 0.9, 0.0], [2.0, 0.8, 0.0], [4.0, 1.0, 0.0], [8.0, 1.1, 0.0]],
    "attention": [[0.4, 0.7, 1.0], [0.4, 0.7, 1.0], [0.5, 0.6, 1.0], [0.0, 0.0, 1.0]],
    "vocabulary": [[0.25, 0.5, 1.0]],
}
SHARE_VALUES = [[0.4, 0.7, 1.0], [0.5, 0.8, 1.0], [0.3, 0.6, 1.0], [0.1, 0.9, 1.0]]
OWN_VALUE = {"adapler": "threshold_N", "attention": "share_J", "vocabulary": "share_J"}


def calibrated_params(name="adapler"):
    params = params_of(name)
    return params | {"pruner": with_calibration(params["pruner"], NODES, VALUES[name])}


def fixed_params():
    """Return AdapLeR's parameters with shares of the entering tokens at the budgets."""
    params = params_of("adapler")
    calibrated = with_calibration(params["pruner"], NODES, SHARE_VALUES, leaf=SHARES)
    return params | {"pruner": calibrated}


def budget_batch(lengths=LENGTHS, budgets=BUDGETS):
    return make_batch(lengths).replace(budget_B=np.array(budgets, np.float32))


@pytest.mark.parametrize(
    ("driver", "name"),
    mostly_long(FAST, VALUES, quick=[("packed", "adapler"), ("bucketed", "attention")]),
)
def test_fast_drivers_equal_the_reference_with_a_budget_a_text(driver, name):
    params, batch = calibrated_params(name), budget_batch()
    expected = engines.engine(name, "masked")(params, batch)
    assert_same(engines.engine(name, driver)(params, batch), expected)
    count_NB = np.asarray(expected[1].count_NB)
    assert count_NB[:, 0].tolist() == [24] * 4  # budget 1 keeps every token
    assert count_NB[-1].sum() <= count_NB[0].sum() < sum(LENGTHS)


@pytest.mark.parametrize("driver", mostly_long(["masked", *FAST], quick=["packed"]))
def test_budgets_of_other_texts_do_not_matter(driver):
    params, run = calibrated_params(), engines.engine("adapler", driver)
    together = run(params, budget_batch())
    for row in (1, 5):
        alone = run(params, jax.tree.map(lambda leaf, row=row: leaf[[row]], budget_batch()))
        assert_same(take_rows(together, np.array([row])), alone)


@pytest.mark.parametrize(
    ("driver", "name"),
    mostly_long(
        ["masked", *FAST],
        VALUES,
        quick=[("masked", "attention")],
    ),
)
def test_at_a_calibrated_budget_the_values_are_the_calibrated_ones(driver, name):
    params, run = calibrated_params(name), engines.engine(name, driver)
    found = run(params, budget_batch(budgets=[0.5] * len(LENGTHS)))
    value_J = jnp.float32([values[1] for values in VALUES[name]])
    pruner = params_of(name)["pruner"] | {OWN_VALUE[name]: value_J}
    expected = run(params | {"pruner": pruner}, make_batch(LENGTHS))
    assert_same(found, expected)


@pytest.mark.parametrize("driver", FAST)
def test_another_budget_compiles_nothing(driver):
    params, run = calibrated_params(), engines.engine("adapler", driver)
    run(params, budget_batch())
    with compilations() as compiled:
        for budget in np.linspace(0.1, 1.0, 12):
            run(params, budget_batch(budgets=[budget] * len(LENGTHS)))
    assert compiled == []


def test_less_budget_never_keeps_a_token_more_at_the_first_site():
    params, run = calibrated_params(), engines.engine("adapler", "masked")
    kept = [
        np.asarray(run(params, budget_batch(budgets=[budget] * len(LENGTHS)))[1].survival_NBL[0])
        for budget in np.linspace(0.1, 1.0, 10)
    ]
    assert all(np.all(less <= more) for less, more in itertools.pairwise(kept))
    assert kept[0].sum() < kept[-1].sum() == sum(LENGTHS)


@pytest.mark.long
@pytest.mark.parametrize("driver", FAST)
def test_fast_drivers_equal_the_reference_with_counts_by_length(driver):
    params, batch = fixed_params(), budget_batch()
    expected = engines.engine("adapler", "masked")(params, batch)
    assert_same(engines.engine("adapler", driver)(params, batch), expected)


def test_counts_by_length_are_those_of_the_shares():
    params, run = fixed_params(), engines.engine("adapler", "masked")
    _, trace = run(params, budget_batch(budgets=[0.5] * len(LENGTHS)))
    count_B = np.array(LENGTHS)
    for found_B, (_, share, _) in zip(np.asarray(trace.count_NB), SHARE_VALUES, strict=True):
        count_B = np.asarray(kept_counts(count_B, share))
        np.testing.assert_array_equal(found_B, count_B)


def test_a_text_without_a_budget_has_the_thresholds_of_the_model():
    run = engines.engine("adapler", "masked")
    mixed = run(fixed_params(), budget_batch(budgets=[np.nan, 0.5] * 3))
    plain = run(params_of("adapler"), make_batch(LENGTHS))
    rows = np.array([0, 2, 4])
    assert_same(take_rows(mixed, rows), take_rows(plain, rows))


@pytest.mark.long
def test_a_batch_in_two_threads_has_a_budget_a_text():
    lengths, budgets = LENGTHS * 3, BUDGETS * 3
    params, run = calibrated_params(), engines.engine("adapler", "packed")
    expected = engines.engine("adapler", "masked")(params, budget_batch(lengths, budgets))
    assert_same(run(params, budget_batch(lengths, budgets)), expected)
    assert len(lengths) > 16 and CONFIG.num_layers == len(VALUES["adapler"])
