"""A driver in stages gives the answers of one program, and compiles a layer once."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest

from adapler_jax.inference.autotune.workloads import random_params
from adapler_jax.inference.drivers.staged_run import MIN_LAYERS, StagedRun
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import adapler, keep_all
from benchmarks.compilations import compilations
from tests.inference.drivers.engines import (
    CONFIG,
    NUM_SLOTS,
    PRUNER,
    assert_same,
    make_batch,
    params_of,
)
from tests.marks import mostly_long


def apart():
    return prepare_inference_params(params_of("adapler"), CONFIG)


@pytest.mark.parametrize(
    ("driver", "pruner", "num_layers", "is_staged"),
    [
        ("packed", PRUNER, MIN_LAYERS, True),
        ("bucketed", PRUNER, MIN_LAYERS, True),
        ("packed", keep_all(), MIN_LAYERS, True),
        ("bucketed", keep_all(), MIN_LAYERS, False),
        ("masked", PRUNER, MIN_LAYERS, False),
        ("packed", keep_all(), MIN_LAYERS - 1, False),
    ],
)
def test_deep_encoders_run_in_stages(driver, pruner, num_layers, is_staged):
    config = dataclasses.replace(CONFIG, num_layers=num_layers)
    program = make_engine(config, pruner, driver=driver).program(2, NUM_SLOTS)
    assert isinstance(program, StagedRun) == is_staged


@pytest.mark.parametrize("driver", mostly_long(["bucketed", "packed"], quick=["bucketed"]))
def test_stacked_layers_are_one_program_with_equal_answers(driver):
    run, batch = make_engine(CONFIG, PRUNER, driver=driver), make_batch([24, 7, 1])
    assert_same(run(apart(), batch), run(params_of("adapler"), batch))


def test_a_batch_on_the_device_outlives_the_layers_that_overwrite_their_state():
    run, batch = make_engine(CONFIG, PRUNER, driver="packed"), jax.device_put(make_batch([9, 4]))
    params = jax.device_put(apart())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = run(params, batch), run(params, batch)
    assert_same(first, second)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((params, batch)))


@pytest.mark.long
@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_more_layers_compile_no_more_programs(driver):
    counts = []
    for num_layers in (MIN_LAYERS + 1, 2 * MIN_LAYERS):
        config = dataclasses.replace(CONFIG, num_layers=num_layers)
        pruner = adapler(config, predictor_dim=8)
        params = prepare_inference_params(random_params(config, pruner), config)
        run = make_engine(config, pruner, driver=driver)
        with compilations() as found:
            run(params, make_batch([9, 4]))
        counts.append(len(found))
    assert counts[0] == counts[1]


@pytest.mark.long
def test_layers_of_another_depth_are_an_error():
    params, batch = apart(), make_batch([9, 4])
    layers = params["encoder"]["layers"]
    longer = params | {"encoder": params["encoder"] | {"layers": layers[:1] + layers}}
    with pytest.raises(ValueError, match="zip"):
        make_engine(CONFIG, PRUNER, driver="bucketed")(longer, batch)


@pytest.mark.long
def test_budgets_that_are_nan_pass_the_debug_mode():
    run, batch = make_engine(CONFIG, PRUNER, driver="packed"), make_batch([9, 4])
    batch = batch.replace(budget_B=np.array([np.nan, 0.5], np.float32))
    expected = run(apart(), batch)
    with jax.debug_nans(True):
        assert_same(run(apart(), batch), expected)
