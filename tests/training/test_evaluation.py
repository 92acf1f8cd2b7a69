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

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.evaluation import score_tables, timing
from adapler_jax.evaluation.score_tables import print_rows, threshold_rows
from adapler_jax.heads import CLASSIFICATION, SPAN, regression
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.pruning import adapler, keep_all
from adapler_jax.serving.run_examples import example_texts
from adapler_jax.training import evaluation
from adapler_jax.training import finished as finished_runs
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.finished import check_saving, save_threshold, unreached_speedups
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_record import TaskData
from adapler_jax.types import PADDING_EXAMPLE_ID, EncoderConfig
from adapler_jax.weights.save import load_model
from tests.marks import mostly_long
from tests.training.runs import silent

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(copied_run):
    return copied_run("learned")


def run_python(*arguments, **environment):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.mark.parametrize("fields", ['{"method": 5}', "{}", '{"method": "adapler", "data": "x"}'])
def test_a_damaged_config_ends_in_one_line(tmp_path, fields):
    (tmp_path / "run.json").write_text(fields)
    with pytest.raises(ValueError, match=r"run.json is damaged \(no or wrong .*restore it"):
        evaluate_workdir(tmp_path, log=silent)


def test_plain_encoders_are_padded_to_every_length_and_pruners_to_one():
    config = EncoderConfig(
        num_layers=2, num_heads=1, hidden_dim=4, ffn_dim=4, vocab_size=5, num_positions=8
    )
    assert timing.own_lengths(keep_all(), [4, 8]) == (4, 8)  # a student of fewer layers too
    assert timing.own_lengths(adapler(config), [4, 8]) == (8,)


def test_timed_batches_are_full_also_where_texts_are_few():
    tokens = Ragged(np.arange(10, dtype=np.int32), np.array([0, 3, 5, 10]))
    tokenized = Tokenized(tokens, tokens, np.zeros(3, np.int32), np.arange(3, dtype=np.int32))
    batches = timing.mixed_batches(tokenized, 32, (8,))
    assert [batch.token_BL.shape for batch in batches] == 4 * [(32, 8)]
    assert all(
        (batch.example_id_B != PADDING_EXAMPLE_ID).all() and batch.valid_BL.any(axis=1).all()
        for batch in batches
    )
    assert {int(count) for batch in batches for count in batch.valid_BL.sum(axis=1)} == {2, 3, 5}


def test_folders_that_are_no_adaptations_are_unreached_speedups(tmp_path):
    for name in ("adapt-2x", "adapt-1.5x", "adapt-10x", "adapt-old-2x", "adapt-x"):
        (tmp_path / name).mkdir()
    assert finished_runs.adapted_phases(tmp_path) == ["adapt-1.5x", "adapt-2x", "adapt-10x"]


def test_every_model_gets_a_row_beside_the_dense_score(finished):
    rows = evaluate_workdir(finished, log=silent, with_times=False)
    assert [row["method"] for row in rows] == ["dense", "adapler", "adapt-1.2x"]
    assert {row["num_texts"] for row in rows} == {32}
    assert {row["dense_score"] for row in rows} == {rows[0]["test_score"]}
    assert rows[0]["flops_speedup"] == 1.0
    assert rows[0]["test_score"] > 0.9
    assert rows[2]["flops_speedup"] > rows[1]["flops_speedup"]
    assert all(len(row["kept_tokens"]) == 4 for row in rows)
    assert rows[2]["kept_tokens"] == sorted(rows[2]["kept_tokens"], reverse=True)


def test_one_model_is_scored_beside_dense(finished):
    rows = evaluate_workdir(finished, log=silent, with_times=False, only="adapt-1.2x")
    assert [row["method"] for row in rows] == ["dense", "adapt-1.2x"]
    with pytest.raises(ValueError, match="unknown split 'tests'"):
        evaluate_workdir(finished, log=silent, splits=["test", "tests"])
    with pytest.raises(
        ValueError, match=r"no finished model 'trbert'; there are dense, adapler, adapt-1.2x"
    ):
        evaluate_workdir(finished, log=silent, only="trbert")


@pytest.mark.long
def test_evaluate_prints_tables_marks_words_and_writes_json(finished):
    done = run_python("evaluate.py", f"--workdir={finished}")
    assert done.returncode == 0, done.stderr
    header = next(line for line in done.stdout.splitlines() if "accuracy" in line)
    places = [
        header.index(name) for name in ("accuracy", "vs dense", "speedup @1", "ms @1", "FLOPs")
    ]
    assert places == sorted(places) and len(header) <= 100
    assert not any(line != line.rstrip() for line in done.stdout.splitlines())
    assert "the fastest model, on test, by class" in done.stdout
    for name in (
        "dense",
        "adapler",
        "adapt-1.2x",
        "precision",
        "as good",
        "32 texts of test",
        "; majority class ",
    ):
        assert name in done.stdout
    for name in ("executed FLOPs", "efficiency", "tokens in each layer"):
        assert name not in done.stdout
    assert "[" in done.stdout.splitlines()[-1] + done.stdout.splitlines()[-2]
    record = json.loads((finished / "evaluation.json").read_text())
    assert record["device"] and record["versions"]["jax"]
    timed = [row for row in record["rows"] if row["method"] != "dense"]
    assert all(row["wall_ms_32"] > 0 and row["executed_speedup_32"] > 0 for row in timed)
    assert {row[f"driver_{batch_size}"] for row in timed for batch_size in (1, 32)} <= {
        "bucketed",
        "packed",
    }
    assert all(0 <= row["ece"] <= 1 and 0.5 <= row["majority_share"] < 1 for row in record["rows"])
    assert all(
        [entry["name"] for entry in row["classes"]] == ["bad", "good"] for row in record["rows"]
    )
    assert np.sum(record["rows"][0]["confusion"]) == 32
    card = (finished / "adapt-1.2x/model/README.md").read_text()
    assert "model-index:" in card and "ms a text, batch 32" in card and "| test | 32 |" in card


def test_a_speedup_out_of_reach_is_said_to_be_unreached_speedups(tmp_path):
    for name, reached in (("adapt-2x", True), ("adapt-50x", False)):
        scores = {"score": 0.5, "flops_speedup": 3.06}
        record = {"validation": scores, "target_speedup": float(name[6:-1]), "is_reached": reached}
        (tmp_path / name).mkdir()
        replace_text(tmp_path / name / "done.json", json.dumps(record), checksum=True)
    assert unreached_speedups(tmp_path) == [
        "adapt-50x is left out: training reached 3.06x and saved no model"
    ]


def test_details_add_executed_operations_and_every_class(finished, capsys):
    rows = evaluate_workdir(finished, log=silent, with_times=False, with_classes=True)
    for row in rows[1:]:
        for size in (1, 32):
            row |= {
                f"wall_ms_{size}": 1.0,
                f"dense_wall_ms_{size}": 2.0,
                f"wall_speedup_{size}": 2.0,
            }
            row |= {f"executed_speedup_{size}": 1.5, f"driver_{size}": "packed"}
            row |= {f"padding_speedup_{size}": 3.21}
    print_rows(rows, details=True)
    text = capsys.readouterr().out
    for name in (
        "executed FLOPs",
        "efficiency",
        "tokens in each layer",
        "calibration error",
        "padding",
        "3.21x",
        "packed",
        "2.00x",
    ):
        assert name in text
    assert text.count("by class") == 3
    print_rows(rows, details=False)
    assert capsys.readouterr().out.count("by class") == 1


def test_a_no_answer_threshold_of_questions_is_no_decision_threshold():
    row = {"method": "dense", "split": "validation", "threshold": 0.2, "test_score": 0.5}
    assert threshold_rows([row]) == []


def test_a_threshold_is_chosen_on_validation_and_saved_when_asked_for(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    options = {"log": silent, "with_times": False, "only": "adapler"}
    rows = evaluate_workdir(tmp_path / "run", threshold_metric="f1", **options)
    assert [row["likeliest_score"] > 0.4 for row in rows] == [True, True]
    assert all(0 < row["threshold"] < 1 and row["threshold_metric"] == "f1" for row in rows)
    assert all(row["threshold_validation_score"] > 0.5 for row in rows)
    print_rows(rows, details=False)
    assert "f1 with it" in capsys.readouterr().out
    directory = save_threshold(tmp_path / "run", "adapler", rows[1]["threshold"])
    assert Classifier.load(directory).threshold == rows[1]["threshold"]
    assert (directory / "tokenizer.json").is_file()
    (_, again) = evaluate_workdir(tmp_path / "run", **options)
    truth = load_model(directory)
    assert truth.extra["decision_threshold"] == rows[1]["threshold"] and again["test_score"] > 0.4
    with pytest.raises(ValueError, match="unknown metric of a threshold 'f2'"):
        evaluate_workdir(finished, threshold_metric="f2", **options)


def test_thresholds_are_for_two_classes_of_texts():
    cases = (
        ("abc", 1, CLASSIFICATION, "3 classes"),
        ("", 1, SPAN, "no classes"),
        ("ab", 2, CLASSIFICATION, "no classes"),
        ("ab", 1, regression(num_outputs=2), "no classes"),
    )
    for names, group, head, found in cases:
        task = TaskData("t", "accuracy", head, tuple(names), {}, (), None, group=group)
        with pytest.raises(ValueError, match=f"chosen between two classes; the task t has {found}"):
            evaluation.check_threshold_metric(task, "f1")


def test_a_threshold_has_to_be_chosen_to_be_saved(finished):
    check_saving(finished, None, None)
    check_saving(finished, "adapler", "f1")
    with pytest.raises(
        ValueError, match=r"--save_threshold=adapler has no threshold.*add --choose_threshold=f1"
    ):
        check_saving(finished, "adapler", None)
    with pytest.raises(ValueError, match="no finished model 'trbert'; there are dense, adapler"):
        check_saving(finished, "trbert", "f1")


def entry(name, f1, support=1):
    return {"name": name, "precision": 0.5, "recall": 0.25, "f1": f1, "support": support}


def test_few_classes_show_their_confusions_and_many_the_worst():
    few = {"classes": [entry("a", 0.1), entry("b", 0.2, 1234)], "confusion": [[1, 0], [2, 1232]]}
    rows, caption = score_tables.class_rows(few)
    assert rows[1] == {
        "class": "b",
        "precision": "50.0",
        "recall": "25.0",
        "F1": "20.0",
        "support": "1,234",
        "as a": "2",
        "as b": "1232",
    }
    assert score_tables.is_few(few) and "how many were answered" in caption
    many = {
        "classes": [entry(f"c{place}", place / 100, place) for place in range(40)],
        "confusion": [[]],
    }
    rows, caption = score_tables.class_rows(many)
    assert [row["class"] for row in rows] == [f"c{place}" for place in range(1, 21)]
    assert caption == "the 20 classes of 40 with the lowest F1" and not score_tables.is_few(many)
    assert "as a" not in score_tables.class_rows({"classes": few["classes"]})[0][0]


def test_classes_are_shown_of_the_fastest_model_or_of_all():
    rows = [
        {"split": split, "flops_speedup": speedup, "classes": [entry("a", 0.5)]}
        for split in ("test", "test_b")
        for speedup in (1.0, 3.0, 2.0)
    ]
    assert score_tables.shown_models(rows, details=False) == [rows[1]]
    assert score_tables.shown_models(rows, details=True) == rows
    assert score_tables.shown_models([{"split": "test"}], details=True) == []


def test_example_texts_come_from_the_test_split(finished, tiny_files):
    texts, labels = example_texts(finished, num_texts=2)
    rows = [
        json.loads(line) for line in (tiny_files / "data" / "test.jsonl").read_text().splitlines()
    ]
    assert len(texts) == 2 and set(zip(texts, labels)) <= {
        (row["text"], ("bad", "good")[row["label"]]) for row in rows
    }


def test_the_fastest_model_answers_with_the_engine_of_the_run(finished, monkeypatch):
    loaded = {}
    monkeypatch.setattr(
        finished_runs.Classifier, "load", lambda *args, **options: loaded.update(options, args=args)
    )
    name, _ = finished_runs.load_fastest(finished)
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
    found = engine_options(finished_runs.read_run(tmp_path))
    assert found == {"buckets": None, "dtype": jnp.float32, "driver": "auto", "autotune_table": ""}


def test_a_pruned_model_is_shown_even_where_it_is_slower_than_the_dense_one(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    shutil.rmtree(workdir / "adapt-1.2x")
    done = json.loads((workdir / "adapler" / "done.json").read_text())
    done["validation"]["flops_speedup"] = 0.8
    replace_text(workdir / "adapler" / "done.json", json.dumps(done), checksum=True)
    assert finished_runs.load_fastest(workdir)[0] == "adapler"


def test_models_of_other_classes_are_not_scored(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    config = json.loads((workdir / "run.json").read_text())
    config["data"]["class_names"] = ["good", "bad"]
    replace_text(workdir / "run.json", json.dumps(config), checksum=True)
    told = "its models are for the classes bad, good, the data now has the classes good, bad"
    with pytest.raises(ValueError, match=told):
        evaluation.evaluate_workdir(workdir, log=lambda _: None, with_times=False)


@pytest.mark.parametrize(
    "command",
    mostly_long(
        ["train.py --config=configs/adapler.py:custom", "evaluate.py"], quick=["evaluate.py"]
    ),
)
def test_commands_end_on_a_mistake_in_one_line(command, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    script, *rest = command.split()
    done = run_python(script, *rest, f"--workdir={tmp_path}", ADAPLER_TRACEBACK="0")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.long
def test_a_flag_that_is_needed_is_named():
    done = run_python("train.py", "--workdir=w")
    assert done.returncode == 2
    assert "there is no --config; give --config=..." in done.stderr.strip().splitlines()[-1]


@pytest.mark.long
def test_help_is_no_mistake():
    done = run_python("train.py", "--help")
    assert done.returncode == 0 and "--workdir" in done.stdout


def test_begun_phases_are_told(finished, tmp_path):
    workdir, lines = tmp_path / "run", []
    shutil.copytree(finished, workdir)
    (workdir / "adapt-1.2x" / "done.json").unlink()
    evaluate_workdir(workdir, log=lines.append, with_times=False)
    assert "adapt-1.2x: not finished; give the training command again to continue" in lines


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        ("KeyboardInterrupt", 130, "interrupted; give the same command again to continue"),
        (
            "OSError(28, 'No space left')",
            2,
            "error: [Errno 28] No space left; make room and give the same command again",
        ),
    ],
)
def test_interruptions_and_full_disks_end_in_one_line(error, code, line):
    program = (
        "from adapler_jax.cli.console import run_command\n"
        f"def main(): raise {error}\n"
        "run_command(main)"
    )
    done = run_python("-c", program)
    assert (done.returncode, done.stderr) == (code, line + "\n")
