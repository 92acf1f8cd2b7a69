"""Whole runs in miniature: phases, restarts, refusals."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from adapler_jax import forward as full_width
from adapler_jax.inference.classifier import Classifier
from adapler_jax.training import loop, phases, setup
from adapler_jax.training.from_config import make_adapler
from adapler_jax.training.methods.adapler import load_saliency
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import (
    check_workdir_config,
    claim_workdir,
)
from adapler_jax.weights.save import load_model
from tests import tiny
from tests.tiny import assert_trees_equal
from tests.training.runs import RUNS, assert_same_models, read_all, silent

ADAPLER = RUNS["adapler"]


@pytest.fixture(scope="module")
def uninterrupted(copied_run):
    return copied_run("adapler")


def test_a_run_walks_its_phases_and_leaves_models(uninterrupted):
    for name in ("adapler", "adapt-1.2x"):
        saved = load_model(uninterrupted / name / "model")
        assert saved.pruner_name == "adapler"
        assert saved.class_names == ("bad", "good")
    assert phases.read_done(uninterrupted / "adapt-1.2x")["validation"]["flops_speedup"] >= 1.2
    journal = read_metrics_log(uninterrupted / "adapler")
    assert [line["epoch"] for line in journal if line["group"] == "validation"] == [1, 2]
    assert [line["step"] for line in journal if line["group"] == "train"] == list(range(1, 13))
    assert any((uninterrupted / "adapler" / "events").glob("events.out.tfevents.*"))
    assert not (uninterrupted / "adapler" / "last").exists()  # nothing continues from it


@pytest.mark.long
def test_adapler_keeps_what_decides_the_label_and_little_else(make_config, workdirs, tiny_files):
    workdir = workdirs()
    run_all(
        make_config(
            finetune__num_epochs=15,
            adapler__num_epochs=24,
            adapler__predictor_learning_rate=1e-2,
            adapler__threshold_learning_rate=2e-2,
            adapler__length_coef=1.0,
            adapler__length_target=0.0,
        ),
        workdir,
        log=silent,
    )
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.9
    rows = [
        json.loads(line) for line in (tiny_files / "data" / "test.jsonl").read_text().splitlines()
    ]
    answers = Classifier.load(workdir / "adapler" / "model").predict([row["text"] for row in rows])
    assert (
        np.mean(
            [answer.label == ("bad", "good")[row["label"]] for answer, row in zip(answers, rows)]
        )
        > 0.9
    )
    first = [answer.kept_words[0] for answer in answers]
    deciding = np.mean([bool({"bad", "good"} & set(words)) for words in first])
    others = sum(word not in ("bad", "good") for words in first for word in words)
    assert deciding > 0.9 and others < 0.3 * sum(len(row["text"].split()) - 1 for row in rows)
    assert sum(len(answer.kept_words[-1]) for answer in answers) < 1.0 * len(rows)


def test_a_finished_run_is_not_repeated(make_config, uninterrupted, monkeypatch):
    monkeypatch.setattr(loop, "train_loop", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(phases, "train_loop", lambda *_: pytest.fail("trained again"))
    lines = []
    run_all(make_config(**ADAPLER.changes), uninterrupted, log=lines.append)
    assert all(f"{name}: finished before" in lines for name in ADAPLER.phases)
    assert (
        lines[0] == f"continues the run in {uninterrupted}"
    )  # notes of the first call are not given again
    assert not any(line.startswith(("started afresh", "data:", "majority class")) for line in lines)


@pytest.mark.long
def test_a_run_killed_in_every_phase_ends_with_the_numbers_of_an_uninterrupted_one(
    make_config, workdirs, uninterrupted, run_killed_at
):
    torn, config = workdirs(), make_config(**ADAPLER.changes)
    run_killed_at(config, torn, ADAPLER.phases, ((9, 0), (13, 2), (7, 3)))
    run_all(config, torn, log=silent)
    names = ("finetune", "adapler", "adapt-1.2x")
    assert read_all(torn, "adapler") == read_all(uninterrupted, "adapler")
    assert_same_models(torn, uninterrupted, *names)
    for name in names:
        assert read_metrics_log(torn / name) == read_metrics_log(uninterrupted / name)


def test_the_pruner_has_the_options_of_the_config(make_config):
    """Of the tiny trace below nothing was dropped: a share of 1, of which 0.3 count beyond a
    target of 0.7."""
    config = make_config(
        adapler__length_target=0.7, adapler__predictor_dim=3, adapler__initial_threshold=0.5
    )
    pruner = make_adapler(tiny.CONFIG, config.adapler)
    params, batch = tiny.make_params(pruner, threshold=0.01), tiny.make_batch()
    assert params["pruner"]["hidden"]["kernel"].shape[-1] == 3
    assert float(pruner.init(jax.random.key(0), tiny.CONFIG)["threshold_N"][0]) == 0.5
    _, trace = full_width.forward(params, tiny.CONFIG, pruner, batch, slope=None)
    assert pruner.loss_terms(params["pruner"], trace, batch)["length"] == pytest.approx(
        0.3, abs=0.02
    )


@pytest.mark.long
def test_a_run_of_an_earlier_release_is_continued_without_checksums(
    uninterrupted, make_config, workdirs
):
    workdir = workdirs()
    shutil.copytree(uninterrupted, workdir)
    shutil.rmtree(workdir / "adapt-1.2x")
    for path in workdir.rglob("*.sha256"):
        path.unlink()
    config = json.loads((workdir / "run.json").read_text())
    for field in ("class_weight", "balanced_sampling"):  # which it did not have
        del config[field]
    del config["finetune"]["early_stopping_patience"]
    (workdir / "run.json").write_text(json.dumps(config))
    for path in workdir.rglob("metrics.jsonl"):
        path.write_text(re.sub(r', "crc": \d+', "", path.read_text()))
    run_all(make_config(**ADAPLER.changes), workdir, log=silent)
    assert phases.read_done(workdir / "adapt-1.2x") == phases.read_done(
        uninterrupted / "adapt-1.2x"
    )


@pytest.mark.long
def test_a_fine_tuned_model_is_validated_and_kept_and_the_run_goes_on(
    uninterrupted, make_config, workdirs
):
    workdir, model = workdirs(), uninterrupted / "finetune" / "model"
    config = make_config("finetuned", model=str(model), adapler__length_coef=3.0)
    run_all(config, workdir, log=silent)
    kept, start = load_model(workdir / "finetune" / "model"), load_model(model)
    assert_trees_equal(kept.params, start.params)
    assert kept.class_names == start.class_names
    scores = [phases.read_done(run / "finetune")["validation"] for run in (workdir, uninterrupted)]
    assert scores[0] == scores[1]
    assert (
        phases.is_complete(workdir / "adapler")
        and not (workdir / "finetune" / "metrics.jsonl").exists()
    )


@pytest.fixture(name="grown", scope="module")
def _grown(uninterrupted, make_config, tmp_path_factory):
    """A finished run that gets one more epoch of fine-tuning, and its notes."""
    workdir, lines = tmp_path_factory.mktemp("grown") / "run", []
    shutil.copytree(uninterrupted, workdir)
    run_all(
        make_config(**ADAPLER.changes | {"finetune__num_epochs": 3}),
        workdir,
        log=lines.append,
        last_phase="finetune",
    )
    return workdir, lines


def test_a_finished_phase_is_given_more_epochs_by_one_field(uninterrupted, grown):
    workdir, lines = grown
    assert any(
        line.startswith("finetune: 2 epochs are finished; 1 more starts from its model")
        for line in lines
    )
    assert "saliency, adapler, adapt-1.2x: outdated, since finetune is trained on" in " ".join(
        lines
    )
    assert (workdir / "adapler.outdated" / "model").exists() and not (workdir / "adapler").exists()
    journal = read_metrics_log(workdir / "finetune")
    assert journal[: len(read_metrics_log(uninterrupted / "finetune"))] == read_metrics_log(
        uninterrupted / "finetune"
    )
    assert [line["epoch"] for line in journal if line["group"] == "validation"] == [1, 2, 3]
    assert phases.read_done(workdir / "finetune")["num_epochs"] == 3
    best = max(line["score"] for line in journal if line["group"] == "validation")
    assert phases.read_done(workdir / "finetune")["validation"]["score"] == best
    assert (
        not (workdir / "finetune" / "last").exists()
        and not (workdir / "finetune" / "continued.json").exists()
    )


@pytest.mark.long
def test_more_epochs_that_were_killed_end_as_undisturbed_ones(
    uninterrupted, grown, make_config, workdirs, run_killed_at
):
    workdir = workdirs()
    shutil.copytree(uninterrupted, workdir)
    config = make_config(**ADAPLER.changes | {"finetune__num_epochs": 3})
    run_killed_at(config, workdir, ("finetune",), ((2, 0), (5, 0)))
    run_all(config, workdir, log=silent, last_phase="finetune")
    assert phases.read_done(workdir / "finetune") == phases.read_done(grown[0] / "finetune")
    models = [load_model(run / "finetune" / "model").params for run in (workdir, grown[0])]
    assert_trees_equal(*models)


def test_fewer_epochs_or_more_of_a_phase_that_is_not_finished_are_refused(
    uninterrupted, make_config, tmp_path
):
    here = {"finetune": {"num_epochs": 3}, "adapler": {"num_epochs": 2}}
    claim_workdir(tmp_path, here)
    check_workdir_config(tmp_path, here | {"adapler": {"num_epochs": 4}})  # not begun
    (tmp_path / "finetune").mkdir()
    for num_epochs in (2, 4):
        with pytest.raises(ValueError, match=f"finetune.num_epochs: 3 there, {num_epochs} now"):
            check_workdir_config(tmp_path, here | {"finetune": {"num_epochs": num_epochs}})
    (tmp_path / "finetune" / "done.json").write_text("{}")
    check_workdir_config(tmp_path, here | {"finetune": {"num_epochs": 4}})


@pytest.mark.long
def test_training_ends_early_without_a_better_epoch_and_a_restart_decides_alike(
    make_config, workdirs, run_killed_at
):
    """An epoch as good as the best one is no better."""
    changes = {
        "method": "finetune",
        "finetune__num_epochs": 9,
        "finetune__early_stopping_patience": 2,
    }
    undisturbed, torn = workdirs(), workdirs()
    config = make_config(**changes, finetune__learning_rate=3e-2)
    run_all(config, undisturbed, log=silent)
    scores = [
        line["score"]
        for line in read_metrics_log(undisturbed / "finetune")
        if line["group"] == "validation"
    ]
    assert len(scores) == scores.index(max(scores)) + 3 < 9
    run_killed_at(config, torn, ("finetune",), ((14, 0),))
    run_all(config, torn, log=silent)
    assert read_metrics_log(torn / "finetune") == read_metrics_log(undisturbed / "finetune")
    assert phases.read_done(torn / "finetune") == phases.read_done(undisturbed / "finetune")


def test_batch_lengths_above_the_maximum_fall_away(uninterrupted, make_config, workdirs):
    """Saliency has a row of max_length an example."""
    workdir, model = workdirs(), str(uninterrupted / "finetune" / "model")
    config = make_config("finetuned", model=model, data__max_length=9, data__bucket_lengths=(6, 16))
    run_all(config, workdir, log=silent, last_phase="saliency")
    assert load_saliency(workdir / "saliency").saliency.shape == (96, 9)


@pytest.mark.long
def test_the_preset_of_the_paper_runs(make_config, workdirs):
    workdir = workdirs()
    config = make_config(
        "paper", finetune__num_epochs=3, adapler__num_epochs=3, adapler__checkpoint_selection="last"
    )
    run_all(config, workdir, log=silent)
    assert len(phases.read_done(workdir / "saliency")["finetune_steps"]) == 3
    assert load_model(workdir / "adapler" / "model").pruner_name == "adapler"


@pytest.mark.long
def test_bfloat16_operands_train_too_and_a_begun_run_keeps_them(make_config, workdirs, monkeypatch):
    workdir = workdirs()
    config = make_config(compute_dtype="auto", method="finetune", finetune__num_epochs=20)
    for has_units in (True, False):  # the second call is on another device
        monkeypatch.setattr(setup, "has_units", lambda found=has_units: found)
        run_all(config, workdir, log=silent)
        assert json.loads((workdir / "run.json").read_text())["compute_dtype"] == "bfloat16"
    assert phases.read_done(workdir / "finetune")["validation"]["score"] > 0.9
    assert setup.operands("auto") == setup.operands("float32") == "float32"
