"""Columns of the input are copied next to predictions, without formulas or control characters."""

import csv
import datetime
import io
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.io.terminal import print_note
from adapler_jax.serving import predictors, streams
from adapler_jax.serving.copied_columns import (
    ALL,
    NONE,
    CopiedColumns,
    as_json,
    as_text,
    parse_copy,
)
from adapler_jax.serving.highlight import highlight_predictions
from adapler_jax.serving.prediction_files import OUTPUT_KINDS, escape_formula, text_writer
from adapler_jax.serving.streams import Window, read_windows
from tests.serving.outputs import NAMES, read_rows, read_table
from tests.serving.requests import run

ROWS = [
    {"id": 7, "text": "good film", "label": "pos", "more": [1, {"a": None}], "score": float("nan")},
    {"id": 8, "text": "bad", "label": None, "more": "=1+1", "when": True},
]


@pytest.fixture(name="loaded", scope="module", autouse=True)
def _loaded(classifier):
    """One classifier for all tests: nothing is compiled twice."""
    patch = pytest.MonkeyPatch()
    patch.setattr(predictors.Classifier, "load", lambda *_, **options: classifier)
    yield classifier
    patch.undo()


def json_file(tmp_path, rows=ROWS):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", OUTPUT_KINDS)
def test_the_input_s_columns_follow_in_every_kind_of_output(tiny_classifier, tmp_path, kind):
    notes, output = [], tmp_path / f"out.{kind}"
    run(tiny_classifier, json_file(tmp_path), output, copy=ALL, log=notes.append)
    rows = read_rows(output)
    assert tuple(rows[0]) == (*NAMES, "id", "text", "label_input", "more", "score", "when")
    assert "the input's column 'label' is copied as 'label_input'" in notes[0]
    found = [
        [row[name] for name in ("id", "text", "label_input", "more", "score", "when")]
        for row in rows
    ]
    if kind == "jsonl":
        expected = [
            [7, "good film", "pos", [1, {"a": None}], None, None],
            [8, "bad", None, "=1+1", None, True],
        ]
    else:
        nothing = None if kind == "parquet" else ""
        expected = [
            ["7", "good film", "pos", '[1, {"a": null}]', nothing, nothing],
            ["8", "bad", nothing, "=1+1", nothing, "true"],
        ]
    assert found == expected


def test_columns_can_be_named_and_text_lines_have_one(tiny_classifier, tmp_path):
    run(tiny_classifier, json_file(tmp_path), tmp_path / "out.csv", copy=("when", "id"))
    assert tuple(read_rows(tmp_path / "out.csv")[0]) == (*NAMES, "when", "id")
    (tmp_path / "in.txt").write_text("good\n\n日本\n")
    run(tiny_classifier, tmp_path / "in.txt", tmp_path / "out.jsonl", copy=ALL)
    assert [row["text"] for row in read_rows(tmp_path / "out.jsonl")] == ["good", "", "日本"]


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_columns_of_tables_are_copied_as_they_are(tiny_classifier, tmp_path, kind):
    path, cells = tmp_path / f"in.{kind}", ['a "quoted"\ncell', "", "=x", "0012"]
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter="," if kind == "csv" else "\t")
        table.writerows(
            [["text", "note", "twice", "twice"], *(["good", cell, "a", "b"] for cell in cells)]
        )
    notes = []
    run(tiny_classifier, path, tmp_path / "out.csv", copy=ALL, log=notes.append)
    rows = read_rows(tmp_path / "out.csv")
    assert [row["note"] for row in rows] == cells and tuple(rows[0]) == (*NAMES, "text", "note")
    assert f"{path}: columns of one name are not copied: twice" in notes


def test_types_of_parquet_stay(tiny_classifier, tmp_path):
    day = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    table = {
        "text": ["good", "bad"],
        "day": [day, None],
        "tags": [["a"], []],
        "blob": [b"\x00", b""],
    }
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "in.parquet")
    run(tiny_classifier, tmp_path / "in.parquet", tmp_path / "out.parquet", copy=ALL)
    before, after = (
        pyarrow.parquet.read_table(tmp_path / f"{name}.parquet") for name in ("in", "out")
    )
    assert after.select(list(table)).equals(before)


def test_later_windows_have_the_columns_of_the_first(tiny_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "WINDOW_ROWS", 2)
    rows = [
        {"text": "good", "n": number} | ({"new": 1} if number > 2 else {}) for number in range(5)
    ]
    run(tiny_classifier, json_file(tmp_path, rows), tmp_path / "out.jsonl", copy=ALL)
    assert [(row["n"], "new" in row) for row in read_rows(tmp_path / "out.jsonl")] == [
        (n, False) for n in range(5)
    ]


def test_columns_that_are_not_there_are_named(tiny_classifier, tmp_path):
    (tmp_path / "in.csv").write_text("text,id,twin,twin\n")
    for name, message in (
        ("idd", "unknown column 'idd'"),
        ("twin", "several columns are called 'twin'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(tiny_classifier, tmp_path / "in.csv", copy=(name,))
    with pytest.raises(ValueError, match=r"in.jsonl: unknown column 'idd'"):
        run(tiny_classifier, json_file(tmp_path), copy=("idd",))


def test_the_flag_names_columns_or_one_word():
    assert [parse_copy(names) for names in (["all"], ["none"], ["a", "b"])] == [
        ALL,
        NONE,
        ("a", "b"),
    ]
    for names in ([], ["all", "id"]):
        with pytest.raises(ValueError, match="expected all, none, or names of columns"):
            parse_copy(names)


def test_a_name_that_is_taken_twice_gets_another_ending():
    copied = CopiedColumns(ALL, "in.csv", lambda _: None)
    assert copied.choose(("label", "label_input")) == ("label", "label_input")
    assert copied.settle([], ("label",)) == ("label_input", "label_input_input")
    window = Window(["good"], None, [{"label": 1, "label_input": 2}])
    assert copied.columns(window, as_text) == {"label_input": ["1"], "label_input_input": ["2"]}


def test_long_columns_end_a_window_earlier(monkeypatch):
    monkeypatch.setattr(streams, "WINDOW_CHARACTERS", 30)
    lines = b"".join(b'{"text": "a", "page": ["%s"]}\n' % (b"x" * 40) for _ in range(3))

    def sizes(keep):
        windows = read_windows(io.BytesIO(lines), "jsonl", "in", usual=[("text",)], keep=keep)
        return [len(window.texts) for window in windows]

    assert (sizes(None), sizes(tuple)) == ([3], [1, 1, 1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1-800", "'+1-800"),
        ("@a", "'@a"),
        ("\t=a", "'\t=a"),
        ("-a", "'-a"),
        ("\uff1da", "'\uff1da"),
        ("-1.5", "-1.5"),
        ("+3", "+3"),
        ("a=b", "a=b"),
        ("", ""),
        ("'=a", "'=a"),
    ],
)
def test_formulas_get_an_apostrophe_and_numbers_do_not(text, expected):
    assert escape_formula(text) == expected


def test_formulas_are_escaped_in_all_cells_and_the_header_when_asked_for(tiny_classifier, tmp_path):
    rows = [{"text": "=bad", "@n": "+x", "n": -1}]
    for escape, mark in ((False, ""), (True, "'")):
        run(
            tiny_classifier,
            json_file(tmp_path, rows),
            tmp_path / "out.csv",
            copy=ALL,
            overwrite=True,
            escape_formulas=escape,
        )
        (row,) = read_rows(tmp_path / "out.csv")
        assert (row["text"], row[f"{mark}@n"], row["n"]) == (f"{mark}=bad", f"{mark}+x", "-1")
    with pytest.raises(ValueError, match="--escape_formulas is for CSV and TSV"):
        run(tiny_classifier, json_file(tmp_path), tmp_path / "out.jsonl", escape_formulas=True)


EVIL = "\x1b[2Jb\u202ead\x07\n\x9b"


def test_nothing_of_a_row_steers_the_terminal(tiny_classifier, tmp_path, capsys, loaded):
    rows = [{"text": f"good{EVIL}", EVIL: EVIL}]
    run(tiny_classifier, json_file(tmp_path, rows), copy=ALL, log=print_note)
    names = (EVIL, "b", "c")
    text_writer(sys.stdout, "tsv", (f"probability_{EVIL}", "label"), clean=True)(
        {f"probability_{EVIL}": [0.5], "label": [EVIL]}
    )
    prediction = loaded.predict(["good film"])[0]
    evil = {"label": EVIL, "probabilities": dict.fromkeys(names, 0.3)}
    print(highlight_predictions([type(prediction)(**vars(prediction) | evil)], [EVIL]))
    print_note(f"{tmp_path}{EVIL} has no rows")
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text)
    assert len(read_table(captured.out.split("probability_ [2J")[0])) == 1


def test_json_has_null_where_a_number_is_none():
    stream = io.StringIO()
    text_writer(stream, "jsonl", ("score", "list"))(
        {"score": [float("nan"), 1.0], "list": [[float("inf")], []]}
    )
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"score": None, "list": [None]},
        {"score": 1.0, "list": []},
    ]
    assert as_json({1: (float("-inf"), datetime.date(2026, 1, 2))}) == {"1": [None, "2026-01-02"]}
    assert [
        as_text(value) for value in (None, "a", 1, float("nan"), False, {"a": float("inf")})
    ] == [
        None,
        "a",
        "1",
        None,
        "false",
        '{"a": null}',
    ]


def test_texts_that_are_shown_in_place_of_rows_are_told_no_copied_columns(
    tiny_classifier, tmp_path, capsys
):
    notes = []
    run(tiny_classifier, json_file(tmp_path), copy=ALL, explain=True, log=notes.append)
    assert "good" in capsys.readouterr().out and not any("copied" in note for note in notes)
    run(
        tiny_classifier,
        json_file(tmp_path),
        tmp_path / "a.csv",
        copy=ALL,
        explain=True,
        log=notes.append,
    )
    assert any("'label' is copied as 'label_input'" in note for note in notes)
