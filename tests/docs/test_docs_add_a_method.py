"""The worked example of docs/add-a-method.md does what the page says of it."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax import pruning
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import make_engine
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.optimizers import OptimizerConfig, main_optimizer, threshold_optimizer
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "norm_pruner.py"
norm_pruner = runpy.run_path(str(EXAMPLE))["norm_pruner"]
PRUNER = norm_pruner(tiny.CONFIG)
LENGTHS = (12, 7, 3, 1, 9)
RATES = OptimizerConfig(
    learning_rate=1e-3,
    predictor_learning_rate=1e-3,
    threshold_learning_rate=1e-2,
    weight_decay=0.01,
    adam_epsilon=1e-8,
    clip_norm=1.0,
    warmup_ratio=0.0,
)


def make_params(level=0.9):
    return tiny.with_pruner_params(
        tiny.make_params(PRUNER), level_N=jnp.full((4,), level, jnp.float32)
    )


def train(params, num_steps):
    """Return the numbers of every step, and the parameters after them."""
    main, thresholds = main_optimizer(RATES, 50), threshold_optimizer(RATES, 50)
    step_fn = jax.jit(
        make_train_step(
            tiny.CONFIG,
            PRUNER,
            LossConfig((("speedup", "length", 10.0),)),
            main,
            thresholds,
            slope_fn=lambda step: jnp.float32(10.0),
            dtype=jnp.float32,
        )
    )
    state, numbers = init_state(params, PRUNER, main, thresholds), []
    for _ in range(num_steps):
        state, found = step_fn(state, tiny.make_batch(LENGTHS, num_fillers=1), jax.random.key(0))
        numbers.append(found)
    return state.params, numbers


def test_the_example_is_short_and_the_page_shows_it_from_its_file():
    assert len(EXAMPLE.read_text().splitlines()) < 60
    assert "literalinclude} examples/norm_pruner.py" in (DOCS / "add-a-method.md").read_text()


def test_the_example_fills_every_slot_that_a_driver_calls():
    assert PRUNER.sites and PRUNER.length_loss_params
    for slot in ("init", "score", "soft", "hard", "loss_terms", "constrain"):
        assert callable(getattr(PRUNER, slot))


@pytest.mark.parametrize("driver", ["bucketed", "packed"])
def test_the_fast_drivers_give_the_answers_of_the_masked_one(driver):
    params, batch = make_params(), tiny.make_batch(LENGTHS)
    (found_BC, found), (expected_BC, expected) = (
        make_engine(tiny.CONFIG, PRUNER, buckets=(4, 12), driver=name)(params, batch)
        for name in (driver, "masked")
    )
    np.testing.assert_allclose(found_BC, expected_BC, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(found.count_NB, expected.count_NB)
    np.testing.assert_array_equal(found.survival_NBL, expected.survival_NBL)
    assert np.all(np.diff(np.sum(expected.count_NB, axis=1)) < 0)  # tokens go at every layer


def test_a_step_trains_the_encoder_and_the_levels():
    start = make_params()
    params, numbers = train(start, 8)
    assert all(np.isfinite(value) for found in numbers for value in found.values())
    assert (
        numbers[-1]["length"] < numbers[0]["length"]
        and numbers[-1]["flops_speedup"] > numbers[0]["flops_speedup"]
    )
    assert np.all(params["pruner"]["level_N"] > start["pruner"]["level_N"])
    moved = jax.tree.map(
        lambda a, b: bool(jnp.any(a != b)), params["encoder"]["layers"], start["encoder"]["layers"]
    )
    assert all(jax.tree.leaves(moved))


def test_a_steep_soft_pass_is_the_hard_rule():
    params, batch = make_params(), tiny.make_batch(LENGTHS)
    soft_BC, trace = full_width.forward(params, tiny.CONFIG, PRUNER, batch, slope=jnp.float32(1e6))
    hard_BC, expected = full_width.forward(params, tiny.CONFIG, PRUNER, batch, slope=None)
    np.testing.assert_allclose(soft_BC, hard_BC, atol=1e-4, rtol=0)
    np.testing.assert_allclose(trace.count_NB, expected.count_NB, atol=1e-4)


def test_with_its_lines_in_the_tables_a_model_is_saved_loaded_and_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(pruning.PRUNERS, "norm", norm_pruner)
    save_model(
        tmp_path / "model",
        make_params(),
        tiny.CONFIG,
        pruner_name="norm",
        class_names=("a", "b", "c"),
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    explanation = Classifier.load(tmp_path / "model").explain("a good film . not bad")
    assert explanation.prediction.num_tokens[-1] < len(explanation.tokens)
    assert np.all(explanation.keep_NL[:, 0])
