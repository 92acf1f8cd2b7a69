"""Whole runs of PoWER-BERT in miniature."""

import json

import numpy as np
import pytest

from adapler_jax.inference.classifier import Classifier
from adapler_jax.training import phases
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.run import run_all
from adapler_jax.weights.save import load_model
from configs import powerbert
from tests.tiny import assert_trees_equal
from tests.training.runs import RUNS, assert_same_models, read_all, silent


@pytest.fixture(scope="module")
def finished(copied_run):
    return copied_run("powerbert")


@pytest.mark.long
def test_a_run_searches_and_trains_with_what_it_found(finished):
    done = read_all(finished, "powerbert")
    counts = done["search"]["retention"]
    assert len(counts) == 4 and counts == sorted(counts, reverse=True) and counts[-1] < 8
    assert (
        counts
        == np.minimum.accumulate(np.maximum(1, np.floor(done["search"]["mass"])))
        .astype(int)
        .tolist()
    )
    assert done["powerbert"]["retention"] == counts  # so that a model that drops nothing says so
    for name in ("search", "powerbert"):
        saved = load_model(finished / name / "model")
        assert saved.pruner_name == "powerbert"
        assert saved.params["pruner"]["retention_N"].tolist() == counts
        assert np.all(np.array(done[name]["validation"]["kept_tokens"]) <= counts)
        assert done[name]["validation"]["flops_speedup"] > 1.0
    trained = [
        load_model(finished / name / "model").params["encoder"] for name in ("search", "powerbert")
    ]
    with pytest.raises(AssertionError):
        assert_trees_equal(*trained)
    masses = [
        line["mass"] for line in read_metrics_log(finished / "search") if line["group"] == "train"
    ]
    assert masses[0] == 16 * (1 + 2 + 3 + 4) and masses[-1] < masses[0]


@pytest.mark.long
def test_the_model_serves_and_is_evaluated(finished):
    rows = evaluate_workdir(finished, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "powerbert"]
    assert rows[1]["flops_speedup"] > 1.0
    model = Classifier.load(finished / "powerbert" / "model")
    found = model.predict(["a good film .", "bad films"])
    assert len(found) == 2 and {prediction.label for prediction in found} <= {"bad", "good"}


@pytest.mark.long
def test_a_run_killed_twice_ends_with_the_numbers_of_an_uninterrupted_one(
    make_config, workdirs, finished, run_killed_at
):
    torn, config = workdirs(), make_config(module=powerbert, **RUNS["powerbert"].changes)
    run_killed_at(config, torn, RUNS["powerbert"].phases, ((18, 2), (14, 3)))
    run_all(config, torn, log=silent)
    assert read_all(torn, "powerbert") == read_all(finished, "powerbert")
    assert_same_models(torn, finished, "powerbert")


@pytest.mark.long
def test_a_given_configuration_stands_in_for_the_search(make_config, workdirs, finished):
    given, borrowed = workdirs(), workdirs()
    run_all(
        make_config(
            module=powerbert, powerbert__retention=(9, 5, 3, 2), powerbert__distil_coef=0.0
        ),
        given,
        log=silent,
    )
    assert not (given / "search").exists() and not (given / "teacher").exists()
    assert load_model(given / "powerbert" / "model").params["pruner"]["retention_N"].tolist() == [
        9,
        5,
        3,
        2,
    ]
    run_all(
        make_config(module=powerbert, powerbert__retention_from=str(finished)), borrowed, log=silent
    )
    counts = phases.read_done(finished / "search")["retention"]
    assert (
        load_model(borrowed / "powerbert" / "model").params["pruner"]["retention_N"].tolist()
        == counts
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"powerbert__retention": (9, 5, 3, 2, 1)}, "expected 4 whole numbers, one for each layer"),
        ({"powerbert__retention": (9, 10, 3, 2)}, "none larger than the one before"),
        (
            {"powerbert__retention": (17, 10, 3, 2)},
            "for longer texts than the 16 token slots of this run",
        ),
        ({"powerbert__retention_from": "{finished}/finetune"}, "there is no finished search"),
        (
            {
                "powerbert__retention_from": "{finished}",
                "data__max_length": 12,
                "data__bucket_lengths": (12,),
            },
            "was for texts of 16 token slots, this run has 12",
        ),
        (
            {"powerbert__retention": (4, 3, 2, 1), "powerbert__retention_from": "{finished}"},
            "are both given; give one",
        ),
        (
            {"powerbert__rank_l1_coef": -1.0},
            "config.powerbert.rank_l1_coef is -1.0; expected 0.0 to",
        ),
        (
            {"powerbert__distil_coef": 2.0},
            "config.powerbert.distil_coef is 2.0; expected 0.0 to 1.0",
        ),
        (
            {"powerbert__rank_learning_rate": -1.0},
            "config.powerbert.rank_learning_rate is -1.0; expected a finite",
        ),
    ],
)
def test_configurations_that_do_not_fit_are_refused_before_training(
    make_config, workdirs, finished, changes, message
):
    changes = {
        name: value.format(finished=finished) if isinstance(value, str) else value
        for name, value in changes.items()
    }
    workdir = workdirs()
    with pytest.raises(ValueError, match=message):
        run_all(make_config(module=powerbert, **changes), workdir, log=silent)
    assert not workdir.exists()


@pytest.mark.long
def test_the_released_program_runs(make_config, workdirs):
    """Padding votes and [CLS] is ranked, in training; the saved model leaves padding out."""
    workdir, config = (
        workdirs(),
        make_config("paper", module=powerbert, powerbert__rank_l1_coef=0.05),
    )
    config.powerbert.rank_learning_rate = 0.1
    run_all(config, workdir, log=silent)
    assert json.loads((workdir / "run.json").read_text())["powerbert"]["padding_votes"]
    kept = phases.read_done(workdir / "powerbert")["validation"]["kept_tokens"]
    assert kept == [float(count) for count in phases.read_done(workdir / "search")["retention"]]
    assert Classifier.load(workdir / "powerbert" / "model").predict(["a good film"])[0].label in (
        "bad",
        "good",
    )
