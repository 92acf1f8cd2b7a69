"""Tables of predictions keep lists and marks; impossible inputs and outputs raise an error."""

import io

import pytest

from adapler_jax.data.sources.formats import Options
from adapler_jax.serving import streams
from adapler_jax.serving.bulk import note_commas
from adapler_jax.serving.prediction_files import (
    check_output,
    column_names,
    open_writer,
    text_writer,
)
from adapler_jax.serving.prediction_inputs import open_input
from tests.serving.outputs import read_rows


def test_outputs_that_cannot_be_are_refused(tmp_path):
    for output, message in [
        (tmp_path / "no" / "out.csv", "there is no folder"),
        (tmp_path / "out.txt", "unknown file kind 'txt'.*known: csv, tsv, jsonl, parquet"),
        (tmp_path / "in.csv", "is the input too"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_output(str(output), overwrite=True, source=str(tmp_path / "in.csv"))
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(ValueError, match="is no regular file"):
        check_output(str(tmp_path / "out.csv"), overwrite=True, source="-")


def test_lists_with_marks_of_the_table_come_back(tmp_path):
    columns = {"label": ['a\t"b"', "c\nd,"], "kept_words": [['"', ","], ["x\ty", "\x1b"]]}
    for kind, kept in (
        ("csv", ['" ,', "x y  "]),
        ("tsv", ['" ,', "x y  "]),
        ("jsonl", columns["kept_words"]),
    ):
        with open_writer(tmp_path / f"out.{kind}", kind, tuple(columns)) as write:
            write(columns)
        rows = read_rows(tmp_path / f"out.{kind}")
        assert [row["label"] for row in rows] == columns["label"]
        assert [row["kept_words"] for row in rows] == kept


def test_columns_that_the_output_does_not_have_are_left_out():
    stream = io.StringIO()
    text_writer(stream, "tsv", ("label",))({"label": ["a"], "kept_words": [["b"]]})
    assert stream.getvalue() == "label\na\n"
    assert column_names(("x",), with_words=True) == (
        "label",
        "probability_x",
        "is_cut",
        "kept_words",
        "tokens_per_layer",
    )


def test_an_input_that_is_missing_or_a_folder_is_named(tmp_path):
    for path, message in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=message) as caught, open_input(str(path), print):
            pass
        assert "Errno" not in str(caught.value)


@pytest.mark.parametrize(
    ("output", "says"), [("out.csv", True), ("out.jsonl", False), (None, False)]
)
def test_a_note_on_semicolons_says_that_the_output_has_commas(tmp_path, output, says):
    notes = []
    target = (
        None
        if output is None
        else check_output(str(tmp_path / output), overwrite=False, source="-")
    )
    log = note_commas(target, notes.append)
    file = io.BytesIO(b"text;id\ngood;1\nbad;2\n")
    options = Options(field="--{}")
    list(streams.read_windows(file, "csv", "in", columns=["text"], options=options, log=log))
    end = "; the output has commas" if says else ""
    assert notes == [f"in: columns are separated by a semicolon; --delimiter names another{end}"]
