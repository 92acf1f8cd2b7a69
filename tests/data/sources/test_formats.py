"""Encodings, delimiters, forms of JSON and Excel files give the rows of plain files."""

import io
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.sources.delimited import find_delimiter
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.json_tables import object_rows
from adapler_jax.serving.streams import read_windows
from tests.data.sources.plain_rows import COLUMNS, CSV, ROWS, streamed, table, write, zipped


def test_blank_lines_take_no_memory(tmp_path):
    path = write(
        tmp_path / "a.jsonl",
        b"\n" * (1 << 16) + b'{"text": "a"}\n' + b"\n" * (1 << 16) + b'{"text": "b"}',
    )
    tracemalloc.start()
    try:
        assert table(path).columns == {"text": ["a", "b"]}
        assert tracemalloc.get_traced_memory()[1] < 1 << 18  # a list of the lines has twice as many
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_decide_the_encoding(tmp_path, kind, encoding):
    texts = {
        "csv": CSV,
        "tsv": CSV.replace(",", "\t"),
        "json": json.dumps(ROWS, ensure_ascii=False),
    }
    texts["jsonl"] = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS)
    content = texts[kind].encode(encoding)
    assert table(write(tmp_path / f"a.{kind}", content)).columns == COLUMNS
    assert streamed(content, kind)[0] == COLUMNS["text"]


@pytest.mark.parametrize("kind", ["csv", "json", "txt"])
def test_an_option_sets_the_encoding(tmp_path, kind):
    text = {"csv": "text\né\n", "json": '[{"text": "é"}]', "txt": "é\n"}[kind]
    for encoding in ("latin-1", "cp037", "utf-16-le"):
        assert streamed(text.encode(encoding), kind, options=Options(encoding=encoding))[0] == ["é"]
    if kind != "txt":
        path = write(tmp_path / f"a.{kind}", text.encode("latin-1"))
        assert table(path, options=Options(encoding="latin-1")).columns == {"text": ["é"]}
        with pytest.raises(
            ValueError, match=r"is not UTF-8 at .*name its encoding with config.data.encoding"
        ):
            table(path)
        with pytest.raises(
            ValueError, match="encoding: unknown encoding 'latin-l'; did you mean 'latin-1'"
        ):
            table(path, options=Options(encoding="latin-l"))


def test_the_error_names_utf_16_without_a_mark():
    with pytest.raises(ValueError, match="looks like utf-16-le"):
        streamed("text\nfilm é 日\n".encode("utf-16-le"), "csv")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_detected_and_noted(tmp_path, delimiter):
    texts = ["good, really", 'a "quoted" one', "plain"]
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    content = (
        delimiter.join(("text", "label"))
        + "\n"
        + "".join(f"{text}{delimiter}1\n" for text in quoted)
    )
    found = table(write(tmp_path / "a.csv", content))
    assert found.columns == {"text": texts, "label": ["1"] * 3}
    assert "columns are separated by" in found.notes[0]
    assert streamed(content.encode(), "csv") == (
        texts,
        [found.notes[0].replace(str(tmp_path / "a.csv"), "in")],
    )


@pytest.mark.parametrize(
    ("lines", "usual", "found"),
    [
        (["text,label\n", "a;b,1\n"], ",", ","),
        (["text;label\n", "a, b;1\n", "c;0\n"], ",", ";"),
        (["text\n", "a; b\n", "c\n"], ",", ","),
        (["a;b\n"], ",", ";"),
        (["text\tlabel\n", "a, b\t1\n"], "\t", "\t"),
        (["text,label\n", "a,1\n"], "\t", ","),
        (["id;text, all;label\n", "1;a;x\n", "2;b;y\n"], ",", ";"),
        (["text,label\n", "a, b,1\n"], ",", ","),  # ragged, not of another delimiter
        ([], ",", ","),
    ],
)
def test_header_and_rows_decide_the_delimiter(lines, usual, found):
    assert find_delimiter(lines, usual) == found


def test_the_delimiter_line_of_excel_is_not_a_row(tmp_path):
    path = write(tmp_path / "a.csv", 'sep=;\r\ntext;label\r\na, b;1\r\n"open;0\r\n')
    with pytest.raises(ValueError, match="line 4: a quote opens"):
        table(path)
    found = table(write(tmp_path / "a.csv", "sep=;\ntext;label\na, b;1\n"))
    assert found.columns["text"] == ["a, b"]


def test_an_option_sets_the_delimiter(tmp_path):
    path = write(tmp_path / "a.csv", "text:label\na,b:1\n")
    assert table(path, options=Options(delimiter=":")).columns == {"text": ["a,b"], "label": ["1"]}
    with pytest.raises(ValueError, match=r"^--delimiter is '::'; expected one character"):
        streamed(b"a::b", "csv", options=Options(delimiter="::", field="--{}"))
    with pytest.raises(ValueError, match=r"config.data.delimiter is '::'; expected one character"):
        table(path, options=Options(delimiter="::"))


FORMS = {
    "columns": {name: dict(enumerate(values)) for name, values in COLUMNS.items()},
    "index": {f"row {number}": row for number, row in enumerate(ROWS)},
    "numbered index": dict(enumerate(ROWS)),
    "split": {
        "columns": ["text", "label"],
        "index": [*range(12)],
        "data": [list(row.values()) for row in ROWS],
    },
    "table": {"schema": {"fields": [{"name": "text"}], "pandas_version": "1.4.0"}, "data": ROWS},
    "lists": COLUMNS,
    "wrapped": {"version": "1.0", "data": ROWS},
    "records": ROWS,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("indent", [None, 1])
def test_json_is_read_in_every_form_of_pandas_and_others(tmp_path, form, indent):
    content = json.dumps(FORMS[form], indent=indent)
    found = table(write(tmp_path / "a.json", content), columns={"text", "label"})
    assert found.columns == COLUMNS
    assert streamed(content.encode(), "json")[0] == COLUMNS["text"]
    if indent is None:
        assert (
            table(write(tmp_path / "a.jsonl", content), columns={"text", "label"}).columns
            == COLUMNS
        )


def test_columns_as_pandas_writes_them_make_the_classes_of_a_task(tmp_path):
    path = write(tmp_path / "rows.json", json.dumps(FORMS["columns"]))
    assert load_task(
        "custom", source=f"file:{path}", split_fractions={"validation": 4}
    ).task.class_names == (
        "neg",
        "pos",
    )


def test_json_without_named_rows_raises(tmp_path):
    for content, message in (
        (
            [["a", 1], ["b", 0]],
            "item 1 is list; expected an object with named fields; .*orient='records'",
        ),
        (
            {"a": [1, 2], "b": [1]},
            "is one object with the fields a, b; expected rows: .*orient='records', lines=True",
        ),
        ({"columns": ["text"], "data": [["a", "b"]]}, "row 1 of 'data' is .*expected 1 values"),
        (3, "item 1 is int"),
    ):
        with pytest.raises(ValueError, match=message):
            table(write(tmp_path / "a.json", json.dumps(content)))
    assert list(object_rows({"text": "a", "tags": []}, "in")) == [{"text": "a", "tags": []}]


def test_one_object_over_several_lines_and_many_objects_are_rows(tmp_path):
    assert table(write(tmp_path / "a.json", '{"text":\n "a"}')).columns == {"text": ["a"]}
    assert table(write(tmp_path / "b.json", '{"text": "a"}\n\n{"text": "b"}\n')).columns == {
        "text": ["a", "b"]
    }
    assert table(write(tmp_path / "c.jsonl", '\n[{"text": "a"},\n {"text": "b"}]')).columns == {
        "text": ["a", "b"]
    }


def test_names_with_points_are_fields_inside_columns(tmp_path):
    rows = [
        {"review": {"text": "a", "more": {"label": 1}}},
        {"review": {"text": "b", "more": None}},
    ]
    columns = {"review.text": ["a", "b"], "review.more.label": [1, None]}
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    for kind in ("parquet", "jsonl"):
        assert table(tmp_path / f"a.{kind}", columns=set(columns)).columns == columns
        content = (tmp_path / f"a.{kind}").read_bytes()
        windows = read_windows(io.BytesIO(content), kind, "in", columns=["review.text"])
        assert [text for window in windows for text in window.texts] == ["a", "b"]
    literal = [{"a.b": "this", "a": {"b": "not this"}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(literal), tmp_path / "b.parquet")
    write(tmp_path / "b.jsonl", json.dumps(literal[0]))
    for kind in ("parquet", "jsonl"):
        assert table(tmp_path / f"b.{kind}", columns={"a.b"}).columns == {"a.b": ["this"]}


def test_an_excel_file_gives_its_first_sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label", None], ["a", 1, None], [None, None, None], [None, 0, None]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert table(tmp_path / "a.xlsx").columns == {"text": ["a", ""], "label": [1, 0]}


def test_an_excel_file_without_its_package_raises_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(
        ValueError, match=r"a.xlsx needs `pip install openpyxl`, or save the sheet as CSV"
    ):
        table(write(tmp_path / "a.xlsx", zipped("", "x")))
