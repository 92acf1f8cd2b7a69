"""A finished run, evaluated."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.data.ragged import Ragged
from adapler_jax.data.tokens import Tokenized
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.report import evaluation
from adapler_jax.report.evaluation import evaluate_workdir, example_texts
from adapler_jax.training.run import run_all
from adapler_jax.training.setup import engine_options
from adapler_jax.types import FILLER_ID, EncoderConfig
from adapler_jax.whole_files import replace_text

ROOT = pathlib.Path(__file__).parents[2]


def silent(_):
    pass


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("evaluated") / "run"
    config = make_config(adapt__speedups=(1.2,), finetune__num_epochs=20, inference__buckets=(8, 16))
    run_all(config, workdir, tell=silent)
    return workdir


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_plain_encoders_are_padded_to_every_length_and_pruners_to_one():
    config = EncoderConfig(num_layers=2, num_heads=1, hidden_dim=4, ffn_dim=4, vocab_size=5, num_positions=8)
    assert evaluation.own_lengths(keep_all(), [4, 8]) == (4, 8)  # a student of fewer layers too
    assert evaluation.own_lengths(adapler(config), [4, 8]) == (8,)


def test_timed_batches_are_full_also_where_texts_are_few():
    tokens = Ragged(np.arange(10, dtype=np.int32), np.array([0, 3, 5, 10]))
    tokenized = Tokenized(tokens, tokens, np.zeros(3, np.int32), np.arange(3, dtype=np.int32))
    batches = evaluation.mixed_batches(tokenized, 32, (8,))
    assert [batch.token_BL.shape for batch in batches] == 4 * [(32, 8)]
    assert all((batch.example_id_B != FILLER_ID).all() and batch.live_BL.any(axis=1).all() for batch in batches)
    assert {int(count) for batch in batches for count in batch.live_BL.sum(axis=1)} == {2, 3, 5}


def test_folders_that_are_no_adaptations_are_left_out(tmp_path):
    for name in ("adapt-2x", "adapt-1.5x", "adapt-10x", "adapt-old-2x", "adapt-x"):
        (tmp_path / name).mkdir()
    assert evaluation.adapted_phases(tmp_path) == ["adapt-1.5x", "adapt-2x", "adapt-10x"]


def test_every_model_gets_a_row_beside_the_dense_score(finished):
    rows = evaluate_workdir(finished, tell=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "adapler", "adapt-1.2x"]
    assert {row["num_texts"] for row in rows} == {32}
    assert {row["dense_score"] for row in rows} == {rows[0]["test_score"]}
    assert rows[0]["flops_speedup"] == 1.0
    assert rows[0]["test_score"] > 0.9
    assert rows[2]["flops_speedup"] > rows[1]["flops_speedup"]
    assert all(len(row["kept_tokens"]) == 4 for row in rows)
    assert rows[2]["kept_tokens"] == sorted(rows[2]["kept_tokens"], reverse=True)


def test_one_model_is_scored_beside_dense(finished):
    rows = evaluate_workdir(finished, tell=silent, with_times=False, only="adapt-1.2x")
    assert [row["method"] for row in rows] == ["dense", "adapt-1.2x"]
    known = {"test": rows[0]["test_score"]}
    assert evaluate_workdir(finished, tell=silent, with_times=False, only="adapt-1.2x", dense_scores=known) == rows[1:]
    (on_validation,) = evaluate_workdir(
        finished,
        tell=silent,
        with_times=False,
        only="adapt-1.2x",
        dense_scores={"validation": 0.5},
        splits=["validation"],
    )
    assert (on_validation["split"], on_validation["dense_score"]) == ("validation", 0.5)
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        evaluate_workdir(finished, tell=silent, splits=["test", "tests"])
    with pytest.raises(ValueError, match="no finished model 'trbert'; there are dense, adapler, adapt-1.2x"):
        evaluate_workdir(finished, tell=silent, only="trbert")


def test_evaluate_prints_tables_marks_words_and_writes_json(finished):
    done = run_python("evaluate.py", f"--workdir={finished}")
    assert done.returncode == 0, done.stderr
    for name in ("dense", "adapler", "adapt-1.2x", "accuracy", "FLOPs", "tokens in each layer", "efficiency"):
        assert name in done.stdout
    assert "[" in done.stdout.splitlines()[-1] + done.stdout.splitlines()[-2]
    record = json.loads((finished / "evaluation.json").read_text())
    assert record["device"] and record["versions"]["jax"]
    timed = [row for row in record["rows"] if row["method"] != "dense"]
    assert all(row["wall_ms_32"] > 0 and row["executed_speedup_32"] > 0 for row in timed)
    assert {row[f"driver_{batch_size}"] for row in timed for batch_size in (1, 32)} <= {"bucketed", "packed"}


def test_example_texts_come_from_the_test_split(finished, tiny_files):
    texts, labels = example_texts(finished, num_texts=2)
    rows = [json.loads(line) for line in (tiny_files / "data" / "test.jsonl").read_text().splitlines()]
    assert len(texts) == 2 and set(zip(texts, labels)) <= {(row["text"], ("bad", "good")[row["label"]]) for row in rows}


def test_the_fastest_model_answers_with_the_engine_of_the_run(finished, monkeypatch):
    loaded = {}
    monkeypatch.setattr(evaluation.Classifier, "load", lambda *args, **options: loaded.update(options, args=args))
    name, _ = evaluation.load_fastest(finished)
    (directory,) = loaded["args"]
    speedups = {
        name: json.loads((finished / name / "done.json").read_text())["validation"]["flops_speedup"]
        for name in ("adapler", "adapt-1.2x")
    }
    assert name == directory.parent.name == max(speedups, key=speedups.get)
    assert loaded["buckets"] == (8, 16) and loaded["dtype"] == jnp.float32
    assert loaded["driver"] == "auto" and loaded["expected_speedup"] == speedups[name]


def test_a_run_of_before_the_engine_chose_is_read(finished, tmp_path):
    config = json.loads((finished / "run.json").read_text())
    config["inference"] = {"buckets": []}
    (tmp_path / "run.json").write_text(json.dumps(config))
    found = engine_options(evaluation.read_run(tmp_path))
    assert found == {"buckets": None, "dtype": jnp.float32, "driver": "auto", "latency_table": ""}


def test_a_pruned_model_is_shown_even_where_it_is_slower_than_the_dense_one(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    shutil.rmtree(workdir / "adapt-1.2x")
    done = json.loads((workdir / "adapler" / "done.json").read_text())
    done["validation"]["flops_speedup"] = 0.8
    replace_text(workdir / "adapler" / "done.json", json.dumps(done), checksum=True)
    assert evaluation.load_fastest(workdir)[0] == "adapler"


def test_models_of_other_classes_are_not_scored(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    config = json.loads((workdir / "run.json").read_text())
    config["data"]["class_names"] = ["good", "bad"]
    replace_text(workdir / "run.json", json.dumps(config), checksum=True)
    told = "its models are for the classes bad, good, the data now has the classes good, bad"
    with pytest.raises(ValueError, match=told):
        evaluation.evaluate_workdir(workdir, tell=lambda _: None, with_times=False)


@pytest.mark.parametrize("command", ["train.py --config=configs/adapler.py:custom", "evaluate.py"])
def test_commands_end_on_a_mistake_in_one_line(command, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    script, *rest = command.split()
    done = run_python(script, *rest, f"--workdir={tmp_path}", ADAPLER_TRACEBACK="0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_a_flag_that_is_needed_is_named():
    done = run_python("train.py", "--workdir=w")
    assert done.returncode == 2
    assert "there is no --config; give --config=..." in done.stderr.strip().splitlines()[-1]


def test_help_is_no_mistake():
    done = run_python("train.py", "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout


def test_begun_phases_are_told(finished, tmp_path):
    workdir, lines = tmp_path / "run", []
    shutil.copytree(finished, workdir)
    (workdir / "adapt-1.2x" / "done.json").unlink()
    evaluate_workdir(workdir, tell=lines.append, with_times=False)
    assert "adapt-1.2x: not finished; give the training command again to go on" in lines


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("KeyboardInterrupt", 130, "interrupted; give the same command again to go on"),
        (
            "OSError(28, 'No space left')",
            2,
            "error: [Errno 28] No space left; make room and give the same command again",
        ),
    ],
)
def test_interruptions_and_full_disks_end_in_one_line(error, code, line):
    program = f"from adapler_jax.report.console import run_command\ndef main(): raise {error}\nrun_command(main)"
    done = run_python("-c", program)
    assert (done.returncode, done.stderr) == (code, line + "\n")
