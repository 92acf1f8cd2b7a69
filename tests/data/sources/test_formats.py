"""Compressed files, encodings, delimiters, JSON, Excel and folders give the rows of plain files."""

import bz2
import gzip
import io
import json
import lzma
import random
import shutil
import tracemalloc
import zipfile

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.sources import compression
from adapler_jax.data.sources.delimited import find_delimiter
from adapler_jax.data.sources.files import load_files
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.json_tables import object_rows
from adapler_jax.data.sources.load import load_source
from adapler_jax.serving.streams import read_windows

ROWS = [{"text": f"film {number} é", "label": ("neg", "pos")[number % 2]} for number in range(12)]
CSV = "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
COLUMNS = {name: [row[name] for row in ROWS] for name in ("text", "label")}


def zipped(content, *names):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return sink.getvalue()


def zstd(content):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
    "zip": lambda content: zipped(content, "__MACOSX/x", "folder/reviews.csv"),
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def table(path, **options):
    (found,) = load_files(str(path), **options).values()
    return found


def streamed(content, kind, where="in", **options):
    found = []
    windows = read_windows(
        io.BytesIO(content), kind, where, columns=["text"], log=found.append, **options
    )
    return [text for window in windows for text in window.texts], found


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_give_the_rows_of_plain_files(tmp_path, ending):
    content = PACKERS[ending](CSV.encode())
    assert table(write(tmp_path / f"reviews.csv.{ending}", content)).columns == COLUMNS
    assert streamed(content, "csv", f"reviews.csv.{ending}")[0] == COLUMNS["text"]
    assert streamed(content, "csv", "reviews.csv")[0] == COLUMNS["text"]  # the content decides


@pytest.mark.parametrize("ending", PACKERS)
def test_compressed_files_of_a_folder_are_its_splits(tmp_path, ending):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.csv.{ending}", PACKERS[ending](CSV.encode()))
    assert set(load_files(str(tmp_path))) == {"train", "validation"}


def test_a_zip_archive_has_the_kind_of_its_only_file(tmp_path):
    assert table(write(tmp_path / "reviews.zip", zipped(CSV, "../../a.csv"))).columns == COLUMNS
    several = ("a.csv", "b.csv")
    for names, message in (
        (several, "holds 2 files .*'a.csv'.*expected one"),
        ((), "is not a whole zip file"),
    ):
        with pytest.raises(ValueError, match=message):
            table(write(tmp_path / "several.csv.zip", zipped(CSV, *names)))


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
def test_concatenated_streams_are_one(tmp_path, ending):
    half = len(CSV) // 2
    content = b"".join(PACKERS[ending](part) for part in (CSV.encode()[:half], CSV.encode()[half:]))
    assert table(write(tmp_path / f"a.csv.{ending}", content)).columns == COLUMNS


@pytest.mark.parametrize("ending", PACKERS)
def test_errors_of_damaged_compressed_files_name_the_file(tmp_path, ending):
    pack = PACKERS[ending] if ending != "zip" else lambda content: zipped(content, "a.csv")
    content = pack("".join(f"film {random.Random(n).random()},1\n" for n in range(500)).encode())
    changed = (
        [] if ending == "zst" else [content[:40] + b"\0\xff" * 20 + content[80:]]
    )  # zst: without a checksum
    for damaged in (content[: len(content) // 2], b"plain text", *changed):
        with pytest.raises(ValueError, match=f"a.csv.{ending} .*fetch it again"):
            table(write(tmp_path / f"a.csv.{ending}", damaged))


@pytest.mark.parametrize("ending", ["gz", "xz", "zst", "zip"])
def test_a_file_that_decompresses_to_far_more_than_text_raises(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(compression, "FREE_BYTES", 1 << 20)
    pack = PACKERS[ending] if ending != "zip" else lambda content: zipped(content, "a.csv")
    path = write(
        tmp_path / f"a.csv.{ending}", pack(b"text,label\n" + (b"a" * 10_000 + b",1\n") * 400)
    )
    with pytest.raises(
        ValueError, match=f"a.csv.{ending} unpacks to more than 250 times its .*unpack it yourself"
    ):
        table(path)
    with (
        pytest.raises(ValueError, match="unpacks to more than 250 times"),
        open(path, "rb") as file,
    ):
        list(read_windows(file, "csv", path, columns=["text"]))


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


def texts_of_classes(root, *parts):
    for part in parts:
        for name in ("neg", "pos"):
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                write(root / part / name / f"{number}.txt", f"{name} {number} é")


def test_a_folder_of_texts_a_class_is_a_table(tmp_path):
    texts_of_classes(tmp_path / "aclImdb", "train", "test")
    (tmp_path / "aclImdb" / "train" / "unsup").mkdir()
    write(tmp_path / "aclImdb" / "train" / "unsup" / "0.txt", "no class")
    data = load_task(
        "imdb", source=f"file:{tmp_path / 'aclImdb'}", split_fractions={"validation": 2}
    )
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 4,
        "validation": 2,
        "test": 6,
    }
    assert any("unsup is left out" in note for note in data.notes)
    texts_of_classes(tmp_path / "flat", ".")
    assert load_files(str(tmp_path / "flat"))["train"].columns["label"] == ["neg"] * 3 + ["pos"] * 3


@pytest.mark.parametrize("is_folder", [False, True])
def test_links_out_of_class_folders_raise(tmp_path, is_folder):
    texts_of_classes(tmp_path / "data", ".")
    write(tmp_path / "secret.txt", "secret")
    (tmp_path / "away").mkdir()
    write(tmp_path / "away" / "1.txt", "secret")
    link, target = (
        ("more", tmp_path / "away") if is_folder else ("pos/9.txt", tmp_path / "secret.txt")
    )
    (tmp_path / "data" / link).symlink_to(target)
    with pytest.raises(ValueError, match=r"which is outside of .*data"):
        load_files(str(tmp_path / "data"))
    (tmp_path / "data" / link).unlink()
    (tmp_path / "link").symlink_to(
        tmp_path / "data"
    )  # the folder that a user names may be a link itself
    assert len(load_files(str(tmp_path / "link"))["train"]) == 6


@pytest.mark.parametrize("link", ["train", "train.csv", "train/neg"])
def test_links_out_of_the_named_folder_raise_one_level_up(tmp_path, link):
    texts_of_classes(tmp_path / "away", ".")
    write(tmp_path / "away" / "train.csv", "text,label\nsecret,1\n")
    if link == "train/neg":
        texts_of_classes(tmp_path / "data", "train")
        shutil.rmtree(tmp_path / "data" / link)
    else:
        (tmp_path / "data").mkdir()
    target = {"train": ".", "train.csv": "train.csv", "train/neg": "neg"}[link]
    (tmp_path / "data" / link).symlink_to(tmp_path / "away" / target)
    with pytest.raises(ValueError, match=r"which is outside of .*data'"):
        load_files(str(tmp_path / "data"))
    given = tmp_path / "data" / link.partition("/")[0]  # a path that a user gives may be a link
    if link != "train/neg":
        assert load_files(str(given))["train"].columns["text"]


def test_links_of_the_hubs_cache_lead_to_its_blobs(tmp_path):
    snapshot = tmp_path / "datasets--a--b" / "snapshots" / "1f"
    snapshot.mkdir(parents=True)
    write(tmp_path / "datasets--a--b" / "blobs" / "0a", "text,label\na,1\n")
    (snapshot / "train.csv").symlink_to("../../blobs/0a")
    assert load_files(str(snapshot))["train"].columns["text"] == ["a"]
    write(tmp_path / "other" / "blobs" / "0a", "text,label\nb,1\n")
    (snapshot / "test.csv").symlink_to(tmp_path / "other" / "blobs" / "0a")
    with pytest.raises(ValueError, match=r"test.csv', which is outside of"):
        load_files(str(snapshot))


def test_links_out_of_a_saved_data_set_raise(tmp_path):
    write(tmp_path / "saved" / "state.json", "{}")
    write(tmp_path / "away.arrow", "secret")
    (tmp_path / "saved" / "data.arrow").symlink_to(tmp_path / "away.arrow")
    with pytest.raises(ValueError, match=r"data.arrow', which is outside of"):
        load_source(f"file:{tmp_path / 'saved'}")


def test_a_saved_data_set_is_a_file_source_with_class_names(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": names})
    rows = datasets.Dataset.from_dict(
        {"text": list("abcd"), "label": [1, 0, 1, 0]}, features=features
    )
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    for kind in ("file", "hf"):
        tables = load_source(f"{kind}:{tmp_path / 'saved'}")
        assert tables["train"].class_names == {"label": ("bad", "good")}
    assert load_task(
        "custom", source=f"file:{tmp_path / 'saved'}", split_fractions={}
    ).task.class_names == (
        "bad",
        "good",
    )


def test_parquet_that_claims_far_more_than_it_holds_raises(tmp_path):
    pyarrow.parquet.write_table(
        pyarrow.table({"text": pyarrow.repeat("a", 2_000_000)}), tmp_path / "a.parquet"
    )
    with pytest.raises(
        ValueError, match=r"a.parquet claims 2000000 rows in .*no table of texts is so"
    ):
        table(tmp_path / "a.parquet")
