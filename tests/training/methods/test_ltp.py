"""LTP from a config to a saved model."""

import numpy as np
import pytest

from adapler_jax.inference.classifier import Classifier
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.run import check_config
from adapler_jax.weights.save import load_model
from configs import ltp
from tests.training.runs import RUNS, silent

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", name="workdir")
def _workdir(copied_run):
    return copied_run("ltp")


def thresholds(workdir, phase):
    return load_model(workdir / phase / "model").params["pruner"]["score_threshold_N"]


def test_a_run_walks_its_phases_and_leaves_a_model_that_drops_tokens(workdir):
    assert all(phases.is_complete(workdir / name) for name in RUNS["ltp"].phases)
    assert load_model(workdir / "ltp" / "model").pruner_name == "ltp"
    assert phases.read_done(workdir / "ltp")["validation"]["flops_speedup"] > 1.05


def test_the_soft_phase_moves_the_thresholds_and_the_hard_phase_keeps_them(workdir):
    learned = thresholds(workdir, "soft")
    assert not np.allclose(learned, [0.05, 0.1, 0.15, 0.2], atol=1e-4)
    np.testing.assert_array_equal(thresholds(workdir, "ltp"), learned)


def test_the_model_predicts_and_is_evaluated(workdir):
    predictions = Classifier.load(workdir / "ltp" / "model").predict(["a good film", "bad ."])
    assert {prediction.label for prediction in predictions} <= {"bad", "good"}
    rows = evaluate_workdir(workdir, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "ltp"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ltp__temperature": 0.0}, "config.ltp.temperature is 0.0; expected 1e-09 to 1.0"),
        ({"ltp__final_threshold": 2.0}, "config.ltp.final_threshold is 2.0; expected 0.0 to 1.0"),
        ({"ltp__length_coef": -1.0}, "config.ltp.length_coef is -1.0; expected 0.0 or more"),
    ],
)
def test_a_field_out_of_its_range_is_rejected(make_config, change, message):
    with pytest.raises(ValueError, match=message):
        check_config(make_config(module=ltp, **change))
