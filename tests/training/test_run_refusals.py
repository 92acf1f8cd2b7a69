"""Mistakes stop a run before its training, and a full disk stops it with one line."""

import json
import pathlib
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest

from adapler_jax.training import phases
from adapler_jax.training.metrics_log import MetricsLog
from adapler_jax.training.run import run_all
from adapler_jax.training.setup import check_finetuned, load_run_context, truncation_note
from adapler_jax.training.workdir import (
    claim_workdir,
)
from configs import adapler
from tests.training.runs import silent


def test_another_config_is_refused_and_nothing_overwritten(make_config, workdirs):
    workdir = workdirs()
    run_all(make_config(method="finetune"), workdir, log=silent)
    before = (workdir / "run.json").read_bytes()
    with pytest.raises(
        ValueError, match=r"holds another run.*finetune.learning_rate: 0.01 there, 0.001 now"
    ):
        run_all(make_config(method="finetune", finetune__learning_rate=1e-3), workdir, log=silent)
    assert (workdir / "run.json").read_bytes() == before


def test_fields_that_decide_no_number_may_change_between_calls(make_config, workdirs):
    workdir = workdirs()
    run_all(make_config(method="finetune"), workdir, log=silent)
    lines = []
    changes = {
        "inference__buckets": (4, 16),
        "inference__driver": "packed",
        "inference__compilation_cache": "none",
    }
    run_all(make_config(method="finetune", **changes), workdir, log=lines.append)
    assert "finetune: finished before" in lines
    found = json.loads((workdir / "run.json").read_text())["inference"]
    assert found == {
        "buckets": [4, 16],
        "compilation_cache": "none",
        "driver": "packed",
        "autotune_table": "",
    }


def test_changed_data_is_refused(make_config, workdirs, tiny_files, tmp_path):
    workdir, texts = workdirs(), tmp_path / "data"
    shutil.copytree(tiny_files / "data", texts)
    config = make_config(method="finetune", data__source=f"file:{texts}")
    run_all(config, workdir, log=silent)
    lines = (texts / "train.jsonl").read_text().splitlines()
    (texts / "train.jsonl").write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(
        ValueError, match="was trained on other data: train changed since; restore the data"
    ):
        run_all(config, workdir, log=silent)
    (texts / "train.jsonl").write_text("\n".join(lines) + "\n")
    (texts / "test.jsonl").write_text(lines[0] + "\n")
    run_all(config, workdir, log=silent)


def test_a_refusal_names_some_of_many_differences(tmp_path):
    claim_workdir(tmp_path, {f"a{number}": 0 for number in range(10)})
    with pytest.raises(
        ValueError, match=r"\(a0: 0 there, 1 now; .*a7: 0 there, 1 now; and 2 more\); give the same"
    ):
        claim_workdir(tmp_path, {f"a{number}": 1 for number in range(10)})


def test_a_model_that_is_not_fine_tuned_is_refused_with_the_reason():
    config = adapler.get_config("custom,finetuned")
    config.model = "org/plain"
    fresh = {"pooler": "the checkpoint has none", "classifier": "it needs the missing pooler"}
    with pytest.raises(ValueError) as caught:
        check_finetuned(config, fresh, ("bad", "good"))
    assert str(caught.value) == (
        "org/plain has no pooler and classifier for this task (the checkpoint has none; it needs "
        "the "
        "missing pooler), so there is nothing to take as fine-tuned; leave out ,finetuned "
        "(config.finetune.num_epochs=0), or give a model with a classifier of bad, good"
    )
    check_finetuned(config, {}, ("bad", "good"))


def test_a_missing_source_is_said_before_the_model_is_looked_up():
    config = adapler.get_config("custom")
    config.model = "/no/such/model"
    with pytest.raises(
        ValueError, match="task 'custom' has no source of its own; set config.data.source"
    ):
        load_run_context(config, log=silent)
    config.data.sources = {"train": "file:a.csv"}
    with pytest.raises(ValueError, match="/no/such/model"):
        load_run_context(config, log=silent)


def test_a_second_process_on_the_workdir_is_refused_and_none_is_after_a_kill(make_config, workdirs):
    workdir, config = workdirs(), make_config(method="finetune")
    workdir.mkdir()
    hold = "import sys, pathlib; from adapler_jax.training.workdir import only_process\n"
    hold += (
        "with only_process(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    (workdir / "run.json").write_text(json.dumps(config.to_dict()))
    with subprocess.Popen(
        [sys.executable, "-c", hold, workdir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="another process trains there"):
            run_all(config, workdir, log=silent)
        holder.kill()
    run_all(config, workdir, log=silent)
    assert phases.is_complete(workdir / "finetune")


def test_a_folder_of_other_things_is_refused(make_config, workdirs):
    workdir = workdirs()
    workdir.mkdir()
    (workdir / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="not empty"):
        run_all(make_config(), workdir, log=silent)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_and_step(make_config, workdirs):
    with pytest.raises(
        FloatingPointError, match=r"finetune: task is nan at step \d+; train in a new workdir"
    ):
        run_all(make_config(finetune__learning_rate=1e30), workdirs(), log=silent)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"method": "lstm"}, "config.method is 'lstm'; expected finetune or adapler"),
        ({"compute_dtype": "float8"}, "config.compute_dtype is 'float8'"),
        ({"adapler__init_from": "scratch"}, "config.adapler.init_from is 'scratch'"),
        (
            {"adapler__checkpoint_selection": "first"},
            "config.adapler.checkpoint_selection is 'first'",
        ),
        (
            {"adapler__slope_schedule": "cubic"},
            "config.adapler.slope_schedule is 'cubic'; expected geometric or epochs",
        ),
        ({"finetune__batch_size": 0}, "config.finetune.batch_size is 0; expected 1 or more"),
        (
            {"saliency__num_checkpoints": 2},
            "config.saliency.num_checkpoints is 2, but only config.finetune.num_checkpoints = 1",
        ),
        (
            {"adapt__target_speedups": (-1.0,)},
            "config.adapt.target_speedups holds -1.0; expected factors of 1 or more",
        ),
        (
            {"adapt__target_speedups": (0.8,)},
            "config.adapt.target_speedups holds 0.8; expected factors of 1 or more, as",
        ),
        ({"class_weight": "equal"}, "config.class_weight is 'equal'; expected none or balanced"),
        (
            {"class_weight": "balanced", "balanced_sampling": True},
            "both make up for the sizes of classes; give one",
        ),
        (
            {"finetune__early_stopping_patience": -1},
            "finetune.early_stopping_patience is -1; expected 0 or more",
        ),
        ({"finetune__num_epochs": -1}, "config.finetune.num_epochs is -1; expected 0 or more"),
        ({"adapler__num_epochs": 0}, "config.adapler.num_epochs is 0; expected 1 or more"),
        (
            {"finetune__num_epochs": 0, "reinit_head": True},
            "config.reinit_head=True gives .* leave out ,finetuned",
        ),
        ({"adapt__target_speedups": ("fast",)}, "config.adapt.target_speedups holds 'fast'"),
        ({"adapt__target_speedups": (True,)}, "config.adapt.target_speedups holds True"),
        (
            {"adapt__target_speedups": (2.0, 2.0000001)},
            "config.adapt.target_speedups names a phase twice: adapt-2x, adapt-2x",
        ),
        (
            {"adapler__length_target": 75.0},
            "length_target is 75.0; with relative_length=True it is a fraction, at most 1",
        ),
        (
            {"adapler__relative_length": False},
            "length_target is 0.5; with relative_length=False it is tokens summed",
        ),
        (
            {"adapler__learning_rate": -1e-3},
            "config.adapler.learning_rate is -0.001; expected a finite number",
        ),
        (
            {"finetune__hidden_dropout_prob": 1.0},
            "config.finetune.hidden_dropout_prob is 1.0; expected less than 1",
        ),
        ({"data__bucket_lengths": (4,)}, "bucket 4 cannot hold .*config.data.bucket_lengths"),
        ({"data__bucket_lengths": ("a", 16)}, "config.data.bucket_lengths is \\('a', 16\\)"),
        (
            {"inference__buckets": (2, 8)},
            "bucket 8 cannot hold 16 kept tokens; add a larger size to .*buckets",
        ),
        ({"adapler__slope_start": 0.99}, "config.adapler.slope_start is 0.99; expected 1.0 to"),
        ({"adapler__slope_start": 0.0}, "config.adapler.slope_start is 0.0; expected 1.0 to"),
        ({"adapler__distil_coef": 3.0}, "config.adapler.distil_coef is 3.0; expected 0.0 to 1.0"),
        (
            {"adapler__initial_threshold": -1.0},
            "config.adapler.initial_threshold is -1.0; expected 0.01 to 1.0",
        ),
        (
            {"inference__buckets": ("short",)},
            "config.inference.buckets is .'short',.; expected positive numbers",
        ),
        (
            {"inference__buckets": (0, 16)},
            "config.inference.buckets is .0, 16.; expected positive numbers",
        ),
        (
            {"inference__buckets": (16, 8)},
            "config.inference.buckets is .16, 8.; expected .* in increasing order",
        ),
        (
            {"inference__driver": "turbo"},
            "config.inference.driver is 'turbo'; expected auto or bucketed or",
        ),
        (
            {
                "data__max_length": 20,
                "data__bucket_lengths": (8, 16),
                "inference__buckets": (4, 16),
            },
            "bucket 16 cannot hold 20 kept tokens",
        ),
        (
            {"data__sources": {"test": 5}},
            "config.data.sources holds 5 for test; expected a source",
        ),
        ({"finetune__clip_norm": -1.0}, "config.finetune.clip_norm is -1.0; expected 0.0 or more"),
        (
            {"adapler__length_target": -0.1},
            "config.adapler.length_target is -0.1; expected 0.0 or more",
        ),
        (
            {"adapler__threshold_noise": 6.0},
            "config.adapler.threshold_noise is 6.0; expected 0.0 to 5.0",
        ),
        ({"seed": -1}, "config.seed is -1; expected 0 to 4294967295"),
        ({"seed": 2**40}, "config.seed is 1099511627776; expected 0 to 4294967295"),
        ({"task": "ssst2"}, "ssst2"),
        ({"model": "/no/such/model"}, "/no/such/model"),
    ],
)
def test_a_wrong_field_is_named_before_any_training(make_config, workdirs, change, message):
    workdir = workdirs()
    with pytest.raises((ValueError, OSError), match=message):
        run_all(make_config(**change), workdir, log=silent)
    assert not workdir.exists()  # so that a corrected call can use the workdir


@pytest.mark.long
def test_a_full_disk_is_said_before_a_checkpoint_and_the_run_goes_on_later(
    make_config, workdirs, monkeypatch
):
    workdir, config = workdirs(), make_config(method="finetune")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=1000))
        with pytest.raises(
            OSError,
            match=r"finetune: a checkpoint needs 2\.\d MiB and the disk has 0\.0 left; make room",
        ):
            run_all(config, workdir, log=silent)
    run_all(config, workdir, log=silent)
    assert phases.is_complete(workdir / "finetune")


@pytest.mark.skipif(not pathlib.Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_disk_that_fills_up_between_checkpoints_gives_one_error(tmp_path):
    with pytest.raises(OSError, match="No space left"):
        with MetricsLog(tmp_path, start_step=0, num_steps=1, label="adapler") as journal:
            journal._file.close()
            journal._file = open("/dev/full", "w")
            journal.write(1, "train", {"main": 0.5})


def test_training_texts_that_fill_all_tokens_are_told():
    assert truncation_note(np.array([8] * 2 + [3] * 18), 8).startswith(
        "train: 2 of 20 texts fill 8 tokens and may be cut;"
    )
    assert truncation_note(np.array([8] + [3] * 39), 8) == ""
