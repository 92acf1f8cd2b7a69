"""Damaged records are named with what to do, and a failed write leaves the old page."""

import json

import pytest

from adapler_jax.io.atomic_files import checksum_path, replace_text
from adapler_jax.io.records import write_json
from adapler_jax.report import contents, page
from adapler_jax.report.contents import read_contents
from adapler_jax.training.metrics_log import read_metrics_log
from tests.report.pages import evaluation_rows, report

pytestmark = pytest.mark.long


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
