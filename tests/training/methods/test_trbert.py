"""Whole runs of TR-BERT in miniature."""

import numpy as np
import pytest

from adapler_jax.inference.classifier import Classifier
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model
from configs import trbert
from tests.tiny import assert_trees_equal
from tests.training.runs import RUNS, assert_same_models, read_all, silent


@pytest.fixture(scope="module")
def finished(copied_run):
    return copied_run("trbert")


@pytest.mark.long
def test_a_run_walks_its_phases(finished):
    models = {
        name: load_model(finished / name / "model")
        for name in ("finetune", "init", "policy", "trbert")
    }
    assert models["trbert"].pruner_name == "trbert" and models["trbert"].pruner_options == {
        "layers": (1, 2)
    }
    for name in ("init", "policy"):
        assert_trees_equal(models[name].params["encoder"], models["finetune"].params["encoder"])
    with pytest.raises(AssertionError):
        assert_trees_equal(models["trbert"].params["encoder"], models["finetune"].params["encoder"])
    with np.load(finished / "scores" / "scores.npz") as arrays:
        assert arrays["guide"].shape == (96, 2, 16) and arrays["teacher_logits"].shape == (96, 2)
        assert np.all(arrays["guide"][:, :, 0] > 0)
    lines = [line for line in read_metrics_log(finished / "policy") if line["group"] == "train"]
    assert {"policy", "task", "share", "nll", "reward", "grad_norm"} <= lines[0].keys()


@pytest.mark.long
def test_the_model_serves_and_is_evaluated(finished):
    rows = evaluate_workdir(finished, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "trbert"]
    found = Classifier.load(finished / "trbert" / "model").predict(["a good film .", "bad films"])
    assert {prediction.label for prediction in found} <= {"bad", "good"}


@pytest.mark.long
def test_a_run_killed_in_every_phase_ends_with_the_numbers_of_an_uninterrupted_one(
    make_config, workdirs, finished, run_killed_at
):
    torn, config = workdirs(), make_config(module=trbert, **RUNS["trbert"].changes)
    run_killed_at(config, torn, RUNS["trbert"].phases, ((15, 2), (12, 3), (13, 4)))
    run_all(config, torn, log=silent)
    assert read_all(torn, "trbert") == read_all(finished, "trbert")
    assert_same_models(torn, finished, "trbert")


@pytest.mark.long
def test_only_what_decides_is_kept(make_config, workdirs):
    """One word of every text decides its label. By the first selection [CLS] has read it, and is
    all that is needed."""
    workdir = workdirs()
    run_all(
        make_config(
            module=trbert,
            finetune__num_epochs=20,
            trbert__policy_num_epochs=6,
            trbert__joint_num_epochs=2,
            trbert__selector_learning_rate=1e-2,
        ),
        workdir,
        log=silent,
    )
    scores = phases.read_done(workdir / "trbert")["validation"]
    assert scores["score"] > 0.9 and scores["kept_tokens"][0] > 5.0
    assert scores["kept_tokens"][1] < 2.0


@pytest.mark.long
def test_where_nothing_imitates_the_scores_none_are_needed(make_config, workdirs):
    """Selection so far up that the scores are undefined."""
    workdir = workdirs()
    run_all(
        make_config(module=trbert, trbert__layers=(1, 3), trbert__imitation_ratio=0.0),
        workdir,
        log=silent,
    )
    assert phases.is_complete(workdir / "teacher") and not (workdir / "scores").exists()
    assert load_model(workdir / "trbert" / "model").pruner_options == {"layers": (1, 3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trbert__layers": (0, 2)}, "expected increasing numbers from 1 to 3"),
        ({"trbert__layers": (1, 4)}, "expected increasing numbers from 1 to 3"),
        (
            {"trbert__policy_length_coef": -1.0},
            "config.trbert.policy_length_coef is -1.0; expected 0.0 to",
        ),
        (
            {"trbert__joint_length_coef": float("nan")},
            "config.trbert.joint_length_coef is nan; expected 0.0 to",
        ),
        ({"trbert__num_samples": 1}, "config.trbert.num_samples is 1; expected 2 to"),
        (
            {"trbert__policy_num_epochs": 0},
            "config.trbert.policy_num_epochs is 0; expected 1 or more",
        ),
        (
            {"trbert__imitation_ratio": 1.5},
            "config.trbert.imitation_ratio is 1.5; expected 0.0 to 1.0",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused_before_training(
    make_config, workdirs, changes, message
):
    workdir = workdirs()
    with pytest.raises(ValueError, match=message):
        run_all(make_config(module=trbert, **changes), workdir, log=silent)
    assert not workdir.exists()
