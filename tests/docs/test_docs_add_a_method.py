"""The worked example of docs/add-a-method.md does what the page says of it."""

import importlib.util
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import pruning
from adapler_jax.forward import forward
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import make_engine
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.losses import LossConfig
from adapler_jax.training.methods import METHODS
from adapler_jax.training.optimizers import OptimizerConfig, main_optimizer, threshold_optimizer
from adapler_jax.training.run import check_config, run_all
from adapler_jax.training.steps import init_state, make_train_step
from adapler_jax.weights.save import load_model, save_model
from tests import tiny
from tests.data.conftest import build_tokenizer

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"


def load_example(name, module):
    """Import a file of the example by the name that it has once it is added."""
    spec = importlib.util.spec_from_file_location(module, EXAMPLES / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


norm_pruner = load_example("norm_pruner", "adapler_jax.pruning.norm").norm_pruner
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


@pytest.mark.parametrize(
    ("name", "num_lines"), [("norm_pruner", 100), ("norm_method", 70), ("norm_config", 20)]
)
def test_each_file_of_the_example_is_short_and_the_page_shows_it(name, num_lines):
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < num_lines
    assert f"literalinclude}} examples/{name}.py" in (DOCS / "add-a-method.md").read_text()


def test_the_example_fills_every_slot_that_a_driver_calls():
    assert PRUNER.sites and PRUNER.length_loss_params
    for slot in ("init", "score", "soft", "hard", "loss_terms", "constrain"):
        assert callable(getattr(PRUNER, slot))


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_a_steep_soft_pass_is_the_hard_rule():
    params, batch = make_params(), tiny.make_batch(LENGTHS)
    soft_BC, trace = forward(params, tiny.CONFIG, PRUNER, batch, slope=jnp.float32(1e6))
    hard_BC, expected = forward(params, tiny.CONFIG, PRUNER, batch, slope=None)
    np.testing.assert_allclose(soft_BC, hard_BC, atol=1e-4, rtol=0)
    np.testing.assert_allclose(trace.count_NB, expected.count_NB, atol=1e-4)


@pytest.fixture(name="norm_config")
def _norm_config(monkeypatch):
    """The example's config file, after its two lines in the tables."""
    monkeypatch.setitem(pruning.PRUNERS, "norm", norm_pruner)
    method = load_example("norm_method", "adapler_jax.training.methods.norm")
    monkeypatch.setitem(sys.modules, "adapler_jax.training.methods.norm", method)
    monkeypatch.setitem(METHODS, "norm", method.METHOD)
    return load_example("norm_config", "configs.norm")


@pytest.mark.long
def test_three_files_and_two_lines_train_evaluate_save_load_and_predict(
    norm_config, make_config, tmp_path
):
    config = make_config(module=norm_config, norm__length_coef=10.0)
    workdir, lines = tmp_path / "run", []
    run_all(config, workdir, log=lines.append)
    run_all(config, workdir, log=lines.append)
    assert "norm: finished before" in lines
    rows = evaluate_workdir(workdir, log=lines.append, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "norm"]
    assert rows[1]["flops_speedup"] > 1.0
    classifier = Classifier.load(workdir / "norm" / "model")
    explanation = classifier.explain("a good film . not bad")
    assert explanation.prediction.label in ("bad", "good")
    assert explanation.prediction.num_tokens[-1] < len(explanation.tokens)
    assert np.all(explanation.keep_NL[:, 0])


def test_the_levels_of_the_example_are_saved_and_loaded(norm_config, tmp_path):
    params = make_params(level=0.8)
    save_model(
        tmp_path / "model",
        params,
        tiny.CONFIG,
        pruner_name="norm",
        class_names=("a", "b", "c"),
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    saved = load_model(tmp_path / "model")
    np.testing.assert_array_equal(saved.params["pruner"]["level_N"], params["pruner"]["level_N"])


def test_a_field_of_the_example_that_is_out_of_its_range_is_rejected(norm_config, make_config):
    config = make_config(module=norm_config, norm__length_coef=-1.0)
    with pytest.raises(ValueError, match="config.norm.length_coef is -1.0; expected 0.0 to 1000.0"):
        check_config(config)
