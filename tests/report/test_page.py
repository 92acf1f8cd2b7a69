"""The page holds what a run left, says what it lacks, and keeps every text a text."""

import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from adapler_jax.io.atomic_files import checksum_path, replace_text
from adapler_jax.io.records import write_json
from adapler_jax.report import contents, page, plots, sections
from adapler_jax.report.contents import read_contents
from adapler_jax.report.explorer import build_explorer
from adapler_jax.report.page import write_report
from adapler_jax.training.metrics_log import read_metrics_log
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import claim_workdir
from tests.report.explained import CLASSES, NUM_LAYERS, SITES, explain

ROOT = pathlib.Path(__file__).parents[2]
EVIL = '</script><script>alert("x")</script><img src=x onerror=alert(1)>'
VOID = {"meta", "br", "img", "input", "link"}


class Elements(html.parser.HTMLParser):
    """Checks that elements are closed in order and counts them."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.texts, self.ids = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def silent(_):
    pass


def check_page(text) -> Elements:
    """Check properties of every page."""
    found = Elements(text)
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    for _, attributes in found.seen:
        assert not any(
            name in ("src", "srcset", "onclick", "onerror", "onload") for name in attributes
        )
        assert all(attributes.get(name, "#").startswith("#") for name in ("href", "xlink:href"))
    assert not re.search(r"url\((?!#)|@import", text)
    return found


def evaluation_rows(methods=("dense", "adapler", "adapt-1.2x"), **more):
    rows = []
    for place, method in enumerate(methods):
        row = {
            "task": "custom",
            "split": "test",
            "num_texts": 32,
            "method": method,
            "seed": 0,
            "dtype": "float32",
            "metric": "accuracy",
            "test_score": 0.9 - 0.01 * place,
            "dense_score": 0.9,
            "flops_speedup": 1.0 + 0.5 * place,
            "kept_tokens": [8.0, 8.0 - place, 8.0 - 2 * place, 1.5],
        }
        row |= {"majority_share": 0.6, "ece": 0.03, "confusion": [[15, 1], [2, 14]]}
        row["classes"] = [
            {"name": name, "precision": 0.875, "recall": 0.9375, "f1": 0.9, "support": 16}
            for name in ("bad", "good")
        ]
        for size in (1, 32) if place else ():
            row |= {
                f"wall_ms_{size}": 1.0,
                f"wall_speedup_{size}": 1.1 + place,
                f"efficiency_{size}": 0.9,
            }
        rows.append(row | more)
    return rows


def write_evaluation(workdir, rows):
    record = {
        "command": "python evaluate.py --workdir=w",
        "commit": "abc",
        "device": "a device",
        "versions": {"jax": "1"},
        "date": "2026-01-01",
        "rows": rows,
    }
    (workdir / "evaluation.json").write_text(json.dumps(record))


TRAINED_BY = "python train.py --config=c.py:custom --workdir='<my run>'"


@pytest.fixture(scope="module")
def trained(make_config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("reported") / "run"
    run_all(
        make_config(adapt__target_speedups=(1.2,), data__cache_dir="none"),
        workdir,
        log=silent,
        command=TRAINED_BY,
    )
    return workdir


@pytest.fixture
def finished(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def report(workdir, **options):
    """Return the page of a run, and the logged notes."""
    notes = []
    path = write_report(workdir, **{"num_examples": 20} | options, log=notes.append)
    return path.read_text(encoding="utf-8"), notes


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


def test_two_reports_of_one_run_are_the_same(finished):
    assert report(finished)[0] == report(finished)[0]


def test_what_was_not_asked_for_is_left_out(finished):
    text, notes = report(finished, num_examples=0)
    found = check_page(text)
    words = " ".join(found.texts)
    command = f"python evaluate.py --workdir={finished}"
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


def rows_with(**more):
    return json.dumps({"rows": evaluation_rows(**more)})


def test_a_flipped_digit_in_a_record_is_found(finished):
    write_json(finished / "evaluation.json", {"rows": evaluation_rows()}, checksum=True)
    read_contents(finished, None)
    path = finished / "evaluation.json"
    path.write_text(path.read_text().replace("0.9", "0.8", 1))
    with pytest.raises(
        ValueError,
        match=r"evaluation.json is damaged .*; remove it or write it again with `adapler evaluate`",
    ):
        read_contents(finished, None)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"rows": 3}', '{"rows": [3]}', '{"rows": [{"method": "a"}]}']
)
def test_a_damaged_record_is_named(finished, content):
    (finished / "rationales.json").write_text(content)
    with pytest.raises(ValueError, match=r"rationales.json.*remove it or write it again"):
        report(finished)
    assert not (finished / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "evaluation.json",
            rows_with(test_score=None),
            "no or wrong test_score; remove it or write it again",
        ),
        ("evaluation.json", rows_with(kept_tokens=[]), "no or wrong kept_tokens"),
        ("evaluation.json", rows_with(classes=[{"name": "a"}]), "no or wrong classes"),
        ("evaluation.json", rows_with(confusion=[[1, 2]]), "no or wrong confusion"),
        ("evaluation.json", rows_with(flops_speedup=0), "no or wrong flops_speedup"),
        ("evaluation.json", rows_with(wall_speedup_1="2x"), "no or wrong wall_speedup_1"),
        ("evaluation.json", '{"rows": [], "versions": null}', "no or wrong versions"),
        (
            "run.json",
            "{}",
            "no or wrong method, model, task, data.cache_dir, data.class_names, "
            ".*data.max_length, .*data.split_fractions",
        ),
        ("run.json", '{"data": {"split_fractions": null}}', "no or wrong .*data.split_fractions"),
        ("run.json", '{"method": "lstm"}', "no or wrong .*method"),
        ("run.json", "[]", "no JSON object.*restore it or train in another --workdir"),
        ("run.json", "{", "damaged.*restore it"),
        ("seconds.json", "{", "remove it; only the seconds are lost"),
        ("seconds.json", '{"finetune": "long"}', "no number for finetune.; remove it"),
        ("commands.txt", b"\xff", "remove it; only the commands are lost"),
        ("adapler/done.json", "{", "remove it and give the training command again"),
        (
            "adapler/done.json",
            '{"validation": null}',
            "it lacks validation scores.; remove it and give",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(finished, name, content, message):
    (finished / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    checksum_path(finished / name).unlink(missing_ok=True)  # release 0.1 wrote no checksums
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        report(finished)


def test_a_config_without_the_section_of_its_method_is_named(finished):
    config = json.loads((finished / "run.json").read_text())
    del config["adapt"]
    replace_text(finished / "run.json", json.dumps(config), checksum=True)
    with pytest.raises(ValueError, match=r"run.json is damaged .*adapt.*; restore it"):
        report(finished)


METHODS_ROW = {
    "split": "test",
    "method": "dense",
    "flops_speedup": 1.0,
    "test_score": 0.9,
    "test_score_sd": None,
}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"summary": [METHODS_ROW | {"method": "adapler"}, METHODS_ROW | {"split": "other"}]},
            "no row of the dense",
        ),
        ({"summary": [METHODS_ROW], "config": None}, "no or wrong config"),
        ({"summary": []}, "no row of the dense"),
    ],
)
def test_a_damaged_record_of_methods_is_named(finished, tmp_path, record, message):
    (tmp_path / "methods.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"methods.json.*{message}.*write it again"):
        report(finished, methods=tmp_path / "methods.json")


def test_lines_of_a_journal_that_are_no_records_are_skipped(finished):
    lines = (
        {"step": 1},
        3,
        {"step": 2, "group": "train", "main": 0.5},
        {"step": 3, "group": "train", "main": ""},
    )
    (finished / "adapler" / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.warns(UserWarning, match="2 of 3 lines are damaged and left out"):
        entries = read_metrics_log(finished / "adapler")
    assert contents.curve(entries, "train", "main") == [(2, 0.5)]


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


def test_a_folder_without_a_run_and_a_missing_record_are_errors(finished, tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: there is no run.json"):
        report(tmp_path)
    with pytest.raises(ValueError, match=r"--methods=.*there is no such file"):
        report(finished, methods=tmp_path / "gone.json")


def test_a_failed_write_leaves_the_page_of_before(finished, monkeypatch):
    (finished / "report.html").write_text("before")
    monkeypatch.setattr(page, "replace_text", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError):
        report(finished)
    assert (finished / "report.html").read_text() == "before"


def rendered(finished, explanations, classes=CLASSES, **meta):
    explorer = build_explorer(
        iter([explanations]),
        [0] * len(explanations),
        model=EVIL,
        class_names=classes,
        num_layers=NUM_LAYERS,
        site_layers=SITES,
    )
    explorer.meta.update({"split": "test", "splitSize": len(explanations)} | meta)
    run = read_contents(finished, None)
    return page.render(run, [page.sections.phases(run)], explorer)


def test_markup_in_texts_names_and_labels_stays_text(finished):
    plain = check_page(rendered(finished, [explain("good")]))
    found = check_page(rendered(finished, [explain(EVIL, label=EVIL)], classes=("bad", EVIL)))
    assert [tag for tag, _ in found.seen] == [tag for tag, _ in plain.seen]
    assert EVIL in "".join(found.texts)  # the model's name


def test_the_policy_lets_only_the_page_s_own_script_run(finished):
    text = rendered(finished, [explain("good")])
    (policy,) = [
        attributes["content"]
        for attributes in check_page(text).all("meta")
        if "http-equiv" in attributes
    ]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_the_script_writes_texts_as_texts_only():
    script = page.source("explorer.js")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "</script",
    ):
        assert word not in script


def test_panels_take_the_page_s_colours_and_escape_names():
    name = "<b>a & $b$</b>"
    svg = plots.panel(
        "x", lambda axis: plots.draw_layers(axis, {name: [(1, 0.5), (2, 0.1)]}, label="y")
    )
    found = Elements(svg)
    assert found.open == [] and name in "".join(found.texts)
    assert "var(--series-1)" in svg and "currentColor" in svg and "var(--grid)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg) and "<style" not in svg


def drawn(draw, *data, **options):
    axis = Figure().add_subplot()
    draw(axis, *data, **options)
    return axis


def test_axes_of_nearly_equal_numbers_have_few_decimals():
    axis = drawn(plots.draw_training, [(1, 0.99314), (2, 0.99316)], [], label="y")
    low, high = axis.get_ylim()
    assert (
        low < 0.98
        and high > 1.0
        and all(round(tick, 2) == pytest.approx(tick) for tick in axis.get_yticks())
    )
    assert drawn(
        plots.draw_training, [(1, 0.2), (2, 0.6)], [], label="y"
    ).get_ylim() == pytest.approx((0.18, 0.62))


def test_lengths_are_counted_in_whole_texts_and_bars_of_as_many_lengths():
    axis = drawn(plots.draw_lengths, np.array([5, 5, 7]))
    assert [patch.get_height() for patch in axis.patches] == [2, 0, 1]
    assert all(tick == int(tick) for tick in axis.get_yticks())
    bars = drawn(plots.draw_lengths, np.arange(1, 101)).patches
    assert {patch.get_height() for patch in bars[:-1]} == {3} and sum(
        patch.get_height() for patch in bars
    ) == 100


def test_long_curves_are_thinned():
    steps, values = plots.mean_bins(range(10_000), [1.0] * 10_000)
    assert len(steps) == plots.MAX_POINTS and set(values) == {1.0}
    assert plots.mean_bins([1, 2], [3.0, 4.0])[1].tolist() == [3.0, 4.0]


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
