"""The page holds what a run left, and says what it lacks."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from adapler_jax.io.atomic_files import replace_text
from adapler_jax.report import contents, page, sections
from adapler_jax.report.contents import read_contents
from adapler_jax.report.page import write_report
from adapler_jax.training.workdir import claim_workdir
from tests.report.pages import TRAINED_BY, check_page, evaluation_rows, report, write_evaluation

ROOT = pathlib.Path(__file__).parents[2]


def test_a_finished_run_has_all_sections(finished):
    write_evaluation(finished, evaluation_rows())
    rows = [
        {
            "method": method,
            "layer": layer,
            "average_precision": 0.5,
            "false_positive_rate": 0.1 * layer,
        }
        for method in ("adapler", "attention & co")
        for layer in (0, 1)
    ]
    rows.append({"method": "adapler", "layer": None, "predictor": "dense", "token_f1": 0.5})
    (finished / "rationales.json").write_text(json.dumps({"rows": rows}))
    methods = ROOT / "benchmarks" / "results" / "methods-rotten_tomatoes.json"
    text, notes = report(finished, methods=methods)
    found = check_page(text)
    words = " ".join(found.texts)
    for expected in (
        "python evaluate.py --workdir=w",
        TRAINED_BY,
        "adapt-1.2x",
        "1.50x",
        "-1.0",
        "a device",
        "PoWER-BERT",
        "threshold eta",
        "average precision",
        "false positive rate",
        "attention & co",
        "finetune: loss",
        "adapler: FLOPs speedup",
        "speedup in seconds",
        "as good",
        "93.8",
        "majority class",
        "calibration error",
        "Texts of the test split by tokens",
        "20 of the 32 texts",
        "milliseconds a text.",
    ):
        assert expected in words, expected
    assert 'class="note"' not in text
    assert len(notes) == 1 and notes[0].endswith("20 texts of test explained")
    meta = json.loads(
        re.search(r'<script id="meta" type="application/json">(.*?)</script>', text)[1]
    )
    assert len(meta["label"]) == 20 and meta["layers"] == 4 and meta["classes"] == ["bad", "good"]


@pytest.mark.long
def test_two_reports_of_one_run_are_the_same(finished):
    assert report(finished)[0] == report(finished)[0]


def test_what_was_not_asked_for_is_left_out(finished):
    text, notes = report(finished, num_examples=0)
    found = check_page(text)
    words = " ".join(found.texts)
    command = f"adapler evaluate --workdir={finished}"
    assert words.count(command) == 1 and text.count('class="note"') == 1 and len(notes) == 1
    for expected in ("finetune: loss", "threshold eta"):
        assert expected in words, expected
    for name in ("rationales", "speed", "tradeoff", "explorer", "classes"):
        assert name not in found.ids and f"#{name}" not in text, name
    assert "<script>" not in text  # nothing to run


def test_models_that_were_not_evaluated_are_named(finished):
    rows = [
        {name: value for name, value in row.items() if "wall" not in name}
        for row in evaluation_rows(("dense",))
    ]
    write_evaluation(finished, rows)
    words = " ".join(check_page(report(finished, num_examples=0)[0]).texts)
    assert (
        words.count("evaluation.json lacks adapler, adapt-1.2x") == 1
        and "seconds were" not in words
    )


def test_baselines_are_in_the_table_and_are_no_models_of_the_run(finished):
    paired = {"difference": -0.0123, "difference_se": 0.0046}
    rows = evaluation_rows(("dense", "adapler", "random", "random"))
    for row in rows[2:]:
        row |= {"is_baseline": True}
    rows[1] |= paired
    write_evaluation(finished, rows)
    run = read_contents(finished, None)
    against = [row["against dense"] for row in sections.score_table(run.score_rows())]
    assert against == ["+0.0", "-1.2 ± 0.5", "-2.0", "-3.0"]
    assert [row["method"] for row in run.model_rows()] == ["dense", "adapler"]
    assert list(contents.kept_fractions(run)) == ["adapler"]
    assert sections.tradeoff(run).panels == []  # one model is no curve


def test_macro_f1_and_the_speedups_of_single_texts_have_columns(finished):
    rows = evaluation_rows(("dense", "adapler"))
    rows[1] |= {
        "macro_f1": 0.4321,
        "num_classes": 3,
        "text_speedup_5": 1.24,
        "text_speedup_95": 3.0,
    }
    write_evaluation(finished, rows)
    run = read_contents(finished, None)
    assert sections.score_table(run.score_rows())[1]["macro F1, %"] == "43.2"
    assert sections.detail_table(run.score_rows())[1]["speedup of a text"] == "1.2x to 3.0x"


def test_the_orders_of_a_reranker_have_columns_and_their_meaning(finished):
    rows = evaluation_rows(("dense", "adapler"))
    rows[1] |= {"kendall_tau": 0.8765, "top10_overlap": 0.95}
    write_evaluation(finished, rows)
    run = read_contents(finished, None)
    dense, pruned = sections.score_table(run.score_rows())
    assert (pruned["tau, %"], pruned["same top 10, %"], dense["tau, %"]) == ("87.6", "95.0", "")
    assert "Kendall's tau with its order" in sections.scores(run).about
    rows[1]["kendall_tau"] = "high"
    write_evaluation(finished, rows)
    with pytest.raises(ValueError, match="kendall_tau"):
        read_contents(finished, None)


def test_rows_at_other_budgets_are_no_models_of_the_run(finished):
    rows = evaluation_rows(("dense", "adapler", "adapler at 0.5"))
    rows[2]["budget"] = 0.5
    write_evaluation(finished, rows)
    run = read_contents(finished, None)
    names = [row["model"] for row in sections.score_table(run.score_rows())]
    assert names == ["dense", "adapler", "adapler at 0.5"]
    assert [row["method"] for row in run.model_rows()] == ["dense", "adapler"]


def test_many_classes_show_the_worst(finished):
    classes = [
        {"name": f"class{place}", "precision": 0.5, "recall": 0.5, "f1": place / 100, "support": 3}
        for place in range(30)
    ]
    write_evaluation(finished, evaluation_rows(classes=classes))
    section = sections.classes(read_contents(finished, None))
    assert [len(table.rows) for table in section.tables] == [20, 20, 20]
    assert [table.is_folded for table in section.tables] == [False, True, True]
    assert (
        "adapt-1.2x on test: the 20 classes of 30 with the lowest F1" == section.tables[0].caption
    )


def test_a_claimed_workdir_without_a_phase_gives_a_page(make_config, tmp_path):
    claim_workdir(tmp_path / "run", make_config().to_dict())
    text, notes = report(tmp_path / "run")
    words = " ".join(check_page(text).texts)
    assert (
        words.count("No model is finished") == 1
        and "not begun" in words
        and "No step was recorded" in words
    )
    assert any("No model is finished" in line for line in notes)


def test_a_half_finished_run_shows_what_is_there(finished):
    (finished / "adapt-1.2x" / "done.json").unlink()
    journal = finished / "adapt-1.2x" / "metrics.jsonl"
    journal.write_text('{"step": 1, "group": "train", "main": 0.5}\n{"step": 2, "gro')
    words = " ".join(check_page(report(finished)[0]).texts)
    for expected in (
        "The run is not finished",
        "not finished",
        "adapt-1.2x: loss",
        "adapler: loss",
        "in adapler",
    ):
        assert expected in re.sub(r"\s+", " ", words), expected


def test_a_dense_run_shows_all_but_words(finished):
    for name in ("adapler", "adapt-1.2x", "saliency"):
        shutil.rmtree(finished / name)
    words = " ".join(check_page(report(finished)[0]).texts)
    assert "dense drops no words" in words
    config = json.loads((finished / "run.json").read_text())
    replace_text(finished / "run.json", json.dumps(config | {"method": "finetune"}), checksum=True)
    text, _ = report(finished)
    assert "drops no words" not in text and "explorer" not in check_page(text).ids


def test_data_that_is_gone_is_named(finished):
    config = json.loads((finished / "run.json").read_text())
    config["data"]["source"] = f"file:{finished}/gone"
    replace_text(finished / "run.json", json.dumps(config), checksum=True)
    words = " ".join(check_page(report(finished)[0]).texts)
    assert words.count("The run's data cannot be read") == 1 and "finetune: loss" in words


def test_another_model_can_be_chosen(finished):
    text, _ = report(finished, model="adapler")
    assert '"model": "adapler"' in text
    with pytest.raises(
        ValueError, match=r"no finished model 'adapt-9x'; there are dense, adapler, adapt-1.2x"
    ):
        report(finished, model="adapt-9x")


def test_a_folder_as_output_is_refused_before_texts_are_explained(finished, tmp_path):
    notes = []
    with pytest.raises(
        ValueError, match=f"--output={tmp_path} is a folder; give a file, as .*report.html"
    ):
        write_report(finished, tmp_path, num_examples=20, log=notes.append)
    assert notes == []


def test_the_title_names_the_folder_of_a_relative_workdir(finished, monkeypatch):
    monkeypatch.chdir(finished)
    run = read_contents(pathlib.Path("."), None)
    assert "<title>custom: run</title>" in page.render(run, [], page.Note("none"))


def test_labels_name_the_split(finished):
    rows = evaluation_rows()
    write_evaluation(finished, [row | {"split": "validation"} for row in rows])
    run = read_contents(finished, None)
    assert sections.scores(run).tables[0].caption == "Each model on validation"
    assert "validation score, %" in sections.tradeoff(run).panels[0].svg
    assert "validation split" in sections.lengths(np.array([3]), "validation", 16).panels[0].caption


def test_efficiency_is_the_speedup_in_seconds_over_that_in_operations():
    """adapler: 2.1x in seconds at 1.5x, adapt-1.2x: 3.1x at 2x."""
    dense, *pruned = sections.detail_table(evaluation_rows())
    name = "efficiency, batch\N{NO-BREAK SPACE}32"
    assert name not in dense and [row[name] for row in pruned] == ["1.40", "1.55"]


@pytest.mark.long
def test_the_command_ends_on_a_mistake_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "adapler_jax", "report", f"--workdir={tmp_path}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"ADAPLER_TRACEBACK": "0"},
        check=False,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "holds no run" in done.stderr.strip().splitlines()[-1]
