"""Files of every kind give the same table; malformed ones say where."""

import io
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings, strategies

from adapler_jax.data.sources.files import csv_rows, load_files, split_name
from adapler_jax.data.sources.load import load_source
from adapler_jax.serving.streams import read_windows

ROWS = [
    {"text": "plain", "label": "1"},
    {"text": 'says "no", twice', "label": "0"},
    {"text": "", "label": "1"},
    {"text": "日本 привет", "label": "0"},
]


def damaged_parquet():
    """A file whose end is whole and whose first page is not."""
    sink = io.BytesIO()
    texts = [f"film {number * 7919 % 10007}" for number in range(5000)]
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), sink, use_dictionary=False)
    content = bytearray(sink.getvalue())
    content[200:240] = b"\xff" * 40
    return bytes(content)


def parquet_of_bytes():
    """A file whose column of texts holds bytes that are none."""
    texts = pyarrow.array([b"a", b"\xff\xfe"]).view(pyarrow.string())
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), sink)
    return sink.getvalue()


def read_streamed(path):
    """The texts of a Parquet file as `predict` reads them."""
    with open(path, "rb") as file:
        return [
            text
            for window in read_windows(file, "parquet", path, columns=["text"])
            for text in window.texts
        ]


def _write(path, kind):
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [
            mark.join('"' + row[key].replace('"', '""') + '"' for key in ("text", "label"))
            for row in ROWS
        ]
        path.write_text("\n".join([mark.join(("text", "label")), *lines]), encoding="utf-8")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_columns(tmp_path, kind):
    _write(tmp_path / f"reviews.{kind}", kind)
    tables = load_source(f"file:{tmp_path}/reviews.{kind}")
    assert list(tables) == ["train"]
    assert list(tables["train"].columns["text"]) == [row["text"] for row in ROWS]
    assert list(tables["train"].columns["label"]) == [row["label"] for row in ROWS]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_other_columns_are_named_but_not_kept(tmp_path, kind):
    _write(tmp_path / f"train.{kind}", kind)
    table = load_files(str(tmp_path), columns={"text"})["train"]
    assert (
        list(table.columns) == ["text"]
        and set(table.found) == {"text", "label"}
        and len(table) == 4
    )


def test_a_folder_gives_its_splits_whatever_they_are_called(tmp_path):
    for name in (
        "train.jsonl",
        "dev.csv",
        "test.parquet",
        "validation_mismatched.tsv",
        "notes.txt",
        "other.csv",
    ):
        _write(tmp_path / name, name.rpartition(".")[2])
    assert set(load_files(str(tmp_path))) == {
        "train",
        "validation",
        "test",
        "validation_mismatched",
    }


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("train", "train"),
        ("Dev", "validation"),
        ("val-matched", "validation_matched"),
        ("training", None),
        ("x", None),
    ],
)
def test_split_names_are_read_off_file_names(stem, name):
    assert split_name(stem) == name


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train_2023.csv", "train"),
        ("train-clean.csv", "train"),
        ("a.csv", "train"),
        ("test_2023.csv", "test_2023"),
    ],
)
def test_a_single_file_is_train_unless_its_name_says_otherwise(tmp_path, name, split):
    _write(tmp_path / name, "csv")
    assert set(load_files(str(tmp_path / name))) == {split}


def test_two_files_for_one_split_raise(tmp_path):
    _write(tmp_path / "dev.csv", "csv")
    _write(tmp_path / "validation.jsonl", "jsonl")
    with pytest.raises(ValueError, match="both the split 'validation'"):
        load_files(str(tmp_path))


def test_a_tsv_with_loose_quotes_keeps_them(tmp_path):
    path = tmp_path / "glue.tsv"
    path.write_text('sentence\tlabel\n"open quote\t1\n"it " ends\t0\n', encoding="utf-8")
    table = load_files(str(path))["train"]
    assert table.columns == {"sentence": ['"open quote', '"it " ends'], "label": ["1", "0"]}


def test_tsv_quotes_around_whole_rows_are_characters(tmp_path):
    path = tmp_path / "glue.tsv"
    path.write_text('text\tlabel\n"good film\t1\na film\t2\n\nbad film"\t3\n', encoding="utf-8")
    columns = {"text": ['"good film', "a film", 'bad film"'], "label": ["1", "2", "3"]}
    assert load_files(str(path))["train"].columns == columns
    path.write_text(
        'text\tlabel\n"good film\t1\na film\t2\nbad film"\t3\n"two\nlines"\t4\n', encoding="utf-8"
    )
    table = load_files(str(path))["train"]  # plain rows would not be as wide
    assert table.columns == {
        k: v + extra for (k, v), extra in zip(columns.items(), (["two\nlines"], ["4"]))
    }
    assert (
        len(table.notes) == 1 and "a quote in line 2 opens a text of 3 whole rows" in table.notes[0]
    )


def test_carriage_returns_inside_texts_stay(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'text,label\r\n"two\r\nlines",1\r\n')
    assert load_files(str(tmp_path / "a.csv"))["train"].columns == {
        "text": ["two\r\nlines"],
        "label": ["1"],
    }


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_duplicate_column_raises_only_if_it_is_read(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        arrays = [pyarrow.array([text]) for text in "abc"]
        pyarrow.parquet.write_table(
            pyarrow.Table.from_arrays(arrays, names=["text", "n", "n"]), path
        )
    else:
        path.write_text("text,n,n\na,b,c\n".replace(",", "," if kind == "csv" else "\t"))
    assert load_files(str(path), columns={"text"})["train"].columns == {"text": ["a"]}
    with pytest.raises(ValueError, match=f"a.{kind}: 2 columns are called 'n'; rename all but one"):
        load_files(str(path), columns={"text", "n"})


def test_a_csv_may_hold_line_breaks_long_texts_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.csv"
    long = "word " * 100_000
    path.write_text(f'text,label\n"two\nlines",1\n{long},0\n', encoding="utf-8-sig")
    assert load_files(str(path))["train"].columns["text"] == ["two\nlines", long]


def test_json_lines_end_at_line_feeds_only(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        json.dumps({"text": "one\u2028two\x85three"}, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    assert load_files(str(path))["train"].columns["text"] == ["one\u2028two\x85three"]


def test_concatenated_files_are_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"text": "a"}\n\ufeff{"text": "b"}\n')
    assert load_files(str(path))["train"].columns["text"] == ["a", "b"]


def test_keys_missing_from_some_json_rows_become_none(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n{"label": 1}\n{"text": "y", "label": 0}\n')
    assert load_files(str(path))["train"].columns == {
        "text": ["x", None, "y"],
        "label": [None, 1, 0],
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n3\n', "line 2 is int; expected an object"),
        ("a.json", b'[{"text": ', "not JSON"),
        ("a.json", b'[\n{"text": ', "a.json: item 1 is not JSON: Expecting value"),
        ("a.jsonl", b'{"text": "x"}\n' + b"[" * 100_000, "a.jsonl: line 2 is nested too deeply"),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"n": ' + b"1" * 5000 + b"}",
            "a.jsonl: line 2 has a number of too many digits",
        ),
        ("a.csv", b"text,label\nx,1\ny\n", "row 2 has 1 fields, the header has 2"),
        (
            "a.csv",
            b'{"text": "x, y", "label": 1}\n',
            "first line is JSON.*rename the file to .jsonl",
        ),
        (
            "a.csv",
            b'text,label\n"x,1\n',
            "line 2: a quote opens before 'x,1' and never closes; remove it",
        ),
        (
            "a.csv",
            b"text,label\n\xff\xfe,1\n",
            "line 2 is not UTF-8 at its byte 0; .*config.data.encoding",
        ),
        (
            "a.csv",
            b"text,label\rx,1\ry,0\r",
            "a.csv: line 1: a carriage return alone ends no line; convert",
        ),
        ("a.parquet", b"no parquet at all", "not a readable Parquet file"),
        ("a.xlsx", b"", "not a readable zip archive"),
        ("a.doc", b"", "unknown file kind 'doc'"),
    ],
)
def test_errors_of_malformed_files_name_problem_and_location(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_files(str(tmp_path / name))


@pytest.mark.parametrize("read", [load_files, read_streamed])
def test_errors_of_undecodable_parquet_name_the_file(tmp_path, read):
    path = tmp_path / "a.parquet"
    path.write_bytes(damaged_parquet())
    with pytest.raises(ValueError, match=r"a.parquet is not a readable Parquet file: .*"):
        read(str(path))
    path.write_bytes(parquet_of_bytes())
    with pytest.raises(ValueError, match=r"a.parquet holds a text that is not UTF-8"):
        read(str(path))


@settings(deadline=None, max_examples=200)
@given(strategies.text('ab"\t\n\r', max_size=24))
def test_training_and_prediction_read_the_same_table(content):
    def of_training(text, kind):
        try:
            return [row["text"] for row in csv_rows(text, f".{kind}", "in")]
        except ValueError as error:
            return str(error)

    def of_prediction(text, kind):
        file = io.BytesIO(text.encode())
        try:
            chunks = list(read_windows(file, kind, "in", columns=["text"]))
        except ValueError as error:
            return str(error)
        return [text for chunk in chunks for text in chunk.texts]

    for kind, delimiter in (("csv", ","), ("tsv", "\t")):
        text = f"text,n\n{content}".replace(",", delimiter)
        assert of_training(text, kind) == of_prediction(text, kind)


def test_missing_paths_and_folders_without_splits_are_explained(tmp_path):
    with pytest.raises(ValueError, match="no file or folder"):
        load_files(str(tmp_path / "nowhere"))
    (tmp_path / "readme.md").touch()
    with pytest.raises(
        ValueError, match=r"holds readme.md; expected train, validation or test files"
    ):
        load_files(str(tmp_path))
