"""The lines and the table that a run ends with."""

import json
import types

import pytest

from adapler_jax.io.atomic_files import replace_text
from adapler_jax.training import phases
from adapler_jax.training.finished import finished_phases
from adapler_jax.training.methods import METHODS
from adapler_jax.training.metrics_log import MetricsLog
from adapler_jax.training.run import describe, run_all
from adapler_jax.training.summary import summary
from adapler_jax.weights.save import load_model
from tests.tiny import assert_trees_equal
from tests.training.runs import silent


@pytest.fixture(name="asked", scope="module")
def _asked(make_config, tmp_path_factory):
    """A run with two speedups that its model has, one out of reach, and its notes."""
    workdir, lines = tmp_path_factory.mktemp("asked") / "run", []
    changes = {"adapler__length_coef": 3.0, "adapler__initial_threshold": 0.9}
    run_all(
        make_config(**changes, adapt__target_speedups=(1.2, 1.5, 50.0)), workdir, log=lines.append
    )
    return workdir, lines, changes


@pytest.mark.long
def test_a_slower_model_is_scaled_without_training(asked):
    workdir, _, _ = asked
    start, slower = (load_model(workdir / name / "model") for name in ("adapler", "adapt-1.2x"))
    assert phases.read_done(workdir / "adapler")["validation"]["flops_speedup"] >= 1.2
    assert_trees_equal(slower.params["encoder"], start.params["encoder"])
    assert not (workdir / "adapt-1.2x" / "metrics.jsonl").exists()
    assert (workdir / "adapt-50x" / "metrics.jsonl").exists()
    for name in ("adapt-1.2x", "adapt-1.5x"):
        done = phases.read_done(workdir / name)
        assert done["trained_on"] is None and done["kept"] == "scaled"
        assert done["scaled"].items() <= done["validation"].items()
    assert phases.read_done(workdir / "adapt-50x")["trained_on"]["flops_speedup"] < 50.0


@pytest.mark.long
def test_a_speedup_out_of_reach_leaves_no_model_and_says_so(asked):
    workdir, lines, _ = asked
    done = phases.read_done(workdir / "adapt-50x")
    assert done["is_reached"] is False and not (workdir / "adapt-50x" / "model").exists()
    assert done["validation"]["flops_speedup"] < 50.0
    (told,) = (line for line in lines if line.startswith("adapt-50x: 50x"))
    assert "50x is out of reach: validation score" in told and len(told) < 250
    assert "with all that the method can drop. No model is saved; ask for less" in told
    assert list(finished_phases(workdir)) == ["dense", "adapler", "adapt-1.2x", "adapt-1.5x"]


@pytest.mark.long
def test_a_run_ends_with_a_table_and_the_next_command(asked):
    workdir, lines, _ = asked
    head, names, *rows, share, command = lines[-10:]
    assert head == "accuracy of the validation split in percent, FLOPs speedup over plain BERT:"
    assert names.split() == ["phase", "score", "speedup", "seconds", "model"]
    assert [row.split()[0] for row in rows] == [
        "finetune",
        "saliency",
        "adapler",
        "adapt-1.2x",
        "adapt-1.5x",
        "adapt-50x",
    ]
    assert rows[2].endswith(str(workdir / "adapler" / "model")) and rows[-1].endswith(
        "  none: 50x is out of reach"
    )
    assert share == "the most frequent class alone would score 56.2"
    assert command == f"next: adapler evaluate --workdir={workdir}"


@pytest.mark.long
def test_speedups_can_be_asked_for_one_after_the_other(asked, make_config, workdirs):
    at_once, _, changes = asked
    workdir = workdirs()
    run_all(make_config(**changes, adapt__target_speedups=(1.5,)), workdir, log=silent)
    run_all(make_config(**changes, adapt__target_speedups=(1.2,)), workdir, log=silent)
    for name in ("adapt-1.2x", "adapt-1.5x"):
        assert phases.read_done(workdir / name) == phases.read_done(at_once / name)
        assert_trees_equal(
            load_model(workdir / name / "model").params, load_model(at_once / name / "model").params
        )


def test_a_speedup_that_is_out_of_reach_is_said():
    scores = {"score": 0.8, "flops_speedup": 3.0, "kept_tokens": [2.0, 1.0]}
    done = {"validation": scores, "at_limit": True}
    assert "3.00x, short of 50x with all that the method can drop" in describe(
        done | {"target_speedup": 50.0}
    )
    assert "short of" not in describe(done | {"target_speedup": 3.0})
    assert "short of 3.1x, tokens" in describe(done | {"target_speedup": 3.1, "at_limit": False})
    told = describe(done | {"target_speedup": 50.0, "is_reached": False})
    assert told.startswith(
        "50x is out of reach: validation score 80.0, FLOPs speedup 3.00x with all"
    )
    assert "short" not in told and "scaled" not in told and len(told) < 230


def test_a_calibration_prints_the_scaled_and_the_trained_result():
    scaled, trained_on = (
        {"score": score, "flops_speedup": speedup} for score, speedup in ((0.8, 2.0), (0.82, 2.01))
    )
    done = {
        "validation": trained_on,
        "target_speedup": 2.0,
        "at_limit": False,
        "scaled": scaled,
        "trained_on": trained_on,
        "kept": "trained_on",
    }
    assert describe(done) == (
        "brought to 2x: scaled, validation score 80.0, FLOPs speedup 2.00x; trained on, validation "
        "score 82.0, FLOPs speedup 2.01x; the model that was trained on is kept"
    )
    done |= {"validation": scaled, "trained_on": None, "kept": "scaled"}
    assert describe(done) == (
        "brought to 2x: scaled only, validation score 80.0, FLOPs speedup 2.00x"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("asked", "at_lowest", "told"),
    [
        (
            2.0,
            True,
            "faster than the target 2x (the model drops more already, and cannot be made to",
        ),
        (2.0, False, "faster than the target 2x (nothing that was tried comes nearer)"),
        (2.9, False, ""),
    ],
)
def test_a_model_that_is_faster_than_asked_is_said(tmp_path, asked, at_lowest, told):
    scores = {"score": 0.8, "flops_speedup": 3.0}
    done = {
        "validation": scores,
        "target_speedup": asked,
        "at_limit": False,
        "at_lowest": at_lowest,
    }
    assert told in describe(done) and ("faster" in describe(done)) == bool(told)
    (tmp_path / "adapt-2x" / "model").mkdir(parents=True)
    replace_text(tmp_path / "adapt-2x" / "done.json", json.dumps(done), checksum=True)
    row = closing_lines(tmp_path, ["adapt-2x"])[2]
    assert row.endswith(f"model (faster than the target {asked:g}x)" if told else "model")


def closing_lines(workdir, names):
    """Return the `summary` of a run of two classes."""
    task = types.SimpleNamespace(metric="accuracy", majority={"validation": 0.6})
    return summary(workdir, names, types.SimpleNamespace(task=task, splits=["validation"]))


@pytest.mark.parametrize(
    ("method", "section"),
    [("adapler", "adapt"), ("powerbert", "powerbert"), ("trbert", "trbert"), ("ltp", "ltp")],
)
@pytest.mark.parametrize(("speedup", "is_told"), [(1.24, True), (1.26, False)])
def test_a_run_that_drops_little_ends_with_what_to_do(tmp_path, method, section, speedup, is_told):
    """Texts are shorter than max_length: a retention below it may drop nothing."""
    for name, found in (("finetune", 1.0), (method, speedup)):
        done = {"validation": {"score": 0.8, "flops_speedup": found}}
        (tmp_path / name).mkdir()
        replace_text(tmp_path / name / "done.json", json.dumps(done), checksum=True)
    with MetricsLog(tmp_path / method, start_step=0, num_steps=186, label=method) as log:
        log.write(186, "train", {"main": 0.5})
    lines = closing_lines(tmp_path, ["finetune", method, "adapt-2x"])
    hint = (
        "as trained 1.24x after 186 steps: ask for a speedup by "
        f"config.{section}.target_speedups=(2.0,)"
    )
    assert lines.count(hint) == is_told
    assert not any("as trained" in line for line in closing_lines(tmp_path, ["finetune"]))


def test_a_model_that_was_brought_to_its_target_needs_no_advice(tmp_path):
    scores = {"score": 0.8, "flops_speedup": 1.2}
    for name, more in (("adapler", {}), ("adapt-1.2x", {"target_speedup": 1.2})):
        (tmp_path / name).mkdir()
        text = json.dumps({"validation": scores, **more})
        replace_text(tmp_path / name / "done.json", text, checksum=True)
    lines = closing_lines(tmp_path, ["adapler", "adapt-1.2x"])
    assert not any("ask for a speedup" in line for line in lines)


def test_a_method_without_targets_names_its_parameter(tmp_path, monkeypatch):
    method = METHODS["ltp"]._replace(tradeoff_fields=("ltp.length_coef",))
    monkeypatch.setitem(METHODS, "ltp", method)
    (tmp_path / "ltp").mkdir()
    done = {"validation": {"score": 0.8, "flops_speedup": 1.0}}
    replace_text(tmp_path / "ltp" / "done.json", json.dumps(done), checksum=True)
    assert "as trained 1.00x: change config.ltp.length_coef" in closing_lines(tmp_path, ["ltp"])
