"""Windows of rows of every kind of input, and what is wrong with an input, by its line."""

import io
import itertools
import json

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.serving import streams
from adapler_jax.serving.streams import KINDS, kind_of, pick_columns, read_windows, usual_columns

TEXTS = ["plain", 'says "no", twice', "a\ttab", "日本 привет", "", "two\u2028lines", "\x1b[2Jred"]
USUAL = usual_columns(None)


class Pipe(io.BytesIO):
    def seekable(self):
        return False


TEXT_KINDS = [kind for kind in KINDS if kind != "conll"]  # which has words


def write_bytes(kind, texts, column="text", pairs=None):
    """The bytes of an input with these texts; `pairs` is a second column, `reply`."""
    rows = [
        {column: text} | ({"reply": pairs[index]} if pairs else {})
        for index, text in enumerate(texts)
    ]
    if kind == "txt":
        return "".join(text + "\n" for text in texts).encode()
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for values in [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []:
            book.active.append(values)
        sink = io.BytesIO()
        book.save(sink)
        return sink.getvalue()
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        return sink.getvalue()
    mark = "," if kind == "csv" else "\t"
    lines = [
        mark.join('"' + value.replace('"', '""') + '"' for value in row.values()) for row in rows
    ]
    return "\n".join([mark.join(rows[0]), *lines]).encode()


def read(kind, content, *, file=io.BytesIO, columns=(), usual=USUAL):
    windows = list(read_windows(file(content), kind, "in", columns=columns, usual=usual))
    return [text for window in windows for text in window.texts]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_every_kind_of_input_gives_the_same_texts(kind):
    texts = [text for text in TEXTS if text.isprintable() and text] if kind == "xlsx" else TEXTS
    assert read(kind, write_bytes(kind, texts)) == texts


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "jsonl", "json"])
def test_pipes_are_read_as_files(kind):
    assert read(kind, write_bytes(kind, TEXTS), file=Pipe) == TEXTS


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_two_columns_are_pairs(kind):
    content = write_bytes(kind, TEXTS, pairs=TEXTS[::-1])
    assert read(kind, content, columns=["text", "reply"]) == list(zip(TEXTS, TEXTS[::-1]))
    assert read(kind, content, columns=["reply"]) == TEXTS[::-1]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_line_feeds_inside_of_texts_end_no_row(kind):
    assert read(kind, write_bytes(kind, ["a\nb", "c\r\nd"])) == ["a\nb", "c\r\nd"]


def test_blank_text_lines_are_rows():
    assert read("txt", b"a\n\n  \r\nb\r\n\n") == ["a", "", "  ", "b", ""]
    assert read("txt", b"\n") == [""]


def test_a_byte_order_mark_is_no_text():
    assert read("txt", b"\xef\xbb\xbfa\n") == ["a"]
    assert read("csv", b"\xef\xbb\xbftext\na\n") == ["a"]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_windows_keep_the_order_and_end_with_the_whole(kind, monkeypatch):
    monkeypatch.setattr(streams, "WINDOW_ROWS", 3)
    texts = [f"text {number}" for number in range(8)]
    windows = list(read_windows(io.BytesIO(write_bytes(kind, texts)), kind, "in", usual=USUAL))
    assert [window.texts for window in windows] == [texts[:3], texts[3:6], texts[6:]]
    shares = [window.fraction for window in windows]
    assert shares == sorted(shares) and shares[-1] == 1.0


def test_a_pipe_has_no_share():
    (window,) = read_windows(Pipe(b"a\n"), "txt", "in")
    assert window.fraction is None


def test_long_texts_end_a_window_earlier(monkeypatch):
    monkeypatch.setattr(streams, "WINDOW_CHARACTERS", 10)
    assert list(streams.cut(["a" * 6, "b" * 6, "c"])) == [["a" * 6, "b" * 6], ["c"]]
    assert list(streams.cut([("a" * 5, "b" * 5), ("c", "d")])) == [
        [("a" * 5, "b" * 5)],
        [("c", "d")],
    ]


def test_no_more_is_read_than_a_window_needs():
    lines = itertools.count()
    windows = streams.cut(f"text {number}" for number in lines)
    assert len(next(windows)) == streams.WINDOW_ROWS
    assert next(lines) == streams.WINDOW_ROWS


def test_a_tsv_whose_quotes_do_not_pair_up_has_plain_quotes():
    content = b'text\tlabel\n"good film\t1\nbad " film\t0\n'
    assert read("tsv", content) == ['"good film', 'bad " film']
    with pytest.raises(ValueError, match="in: line"):
        read("tsv", content, file=Pipe)


def test_tsv_quotes_around_whole_rows_are_plain():
    content = b'text\tlabel\n"good film\t1\na film\t2\n\nbad film"\t3\n'
    assert read("tsv", content) == ['"good film', "a film", 'bad film"']
    with pytest.raises(
        ValueError, match=r"in: the row of line 2 holds whole rows .*; give the file by name"
    ):
        read("tsv", content, file=Pipe)
    assert read("tsv", b'text\tlabel\n"a\nb"\t1\nc\t2\n') == ["a\nb", "c"]
    assert read("tsv", content + b'"two\nlines"\t4\n')[3:] == [
        "two\nlines"
    ]  # plain rows would not be as wide


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_no_rows_give_no_windows(kind):
    sink = io.BytesIO(write_bytes(kind, []) if kind == "xlsx" else b"")
    if kind == "parquet":
        pyarrow.parquet.write_table(
            pyarrow.table({"text": pyarrow.array([], pyarrow.string())}), sink
        )
    assert read(kind, sink.getvalue()) == []


def test_a_header_alone_has_no_rows():
    assert read("csv", b"text,label\n") == read("tsv", b"sentence\n") == []
    assert read("csv", b"text,review\n", columns=["review"]) == []


@pytest.mark.parametrize(("kind", "content"), [("csv", b"text,label\n"), ("tsv", b"text\tlabel\n")])
def test_a_header_alone_must_have_the_column(kind, content):
    with pytest.raises(ValueError, match="unknown column 'review'; known: text, label"):
        read(kind, content, columns=["review"])


def test_the_task_names_the_columns_where_they_are_there():
    usual = usual_columns("mnli")
    assert pick_columns(["premise", "hypothesis", "text"], (), usual, "in") == (
        "premise",
        "hypothesis",
    )
    assert pick_columns(["text", "sentence"], (), usual_columns("sst2"), "in") == ("sentence",)
    assert pick_columns(["text", "label"], (), usual_columns("sst2"), "in") == ("text",)
    assert usual_columns("not ours") == usual_columns(None) == [("text",), ("sentence",)]


def test_a_task_of_pairs_has_no_other_columns():
    usual = usual_columns("qnli")
    with pytest.raises(
        ValueError,
        match=r"in: unknown column 'question'; .*known: sentence, text; .* --column=FIRST,",
    ):
        pick_columns(["sentence", "text"], (), usual, "in")
    assert pick_columns(["sentence", "text"], ["text"], usual, "in") == ("text",)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_column_that_is_there_twice_is_refused_where_it_is_wanted(kind):
    content = ("text,n,n\na,b,c\n" if kind == "csv" else "text\tn\tn\na\tb\tc\n").encode()
    if kind == "parquet":
        sink = io.BytesIO()
        arrays = [pyarrow.array([text]) for text in "abc"]
        pyarrow.parquet.write_table(
            pyarrow.Table.from_arrays(arrays, names=["text", "n", "n"]), sink
        )
        content = sink.getvalue()
    assert read(kind, content) == ["a"]
    with pytest.raises(ValueError, match="in: 2 columns are called 'n'; rename all but one"):
        read(kind, content, columns=["n"])


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_missing_column_lists_those_that_there_are(kind):
    content = write_bytes(kind, ["a"], column="review", pairs=["b"])
    with pytest.raises(
        ValueError, match=r"unknown column 'reviews'; did you mean 'review'.* known: review, reply"
    ):
        read(kind, content, columns=["reviews"])
    with pytest.raises(ValueError, match="Name it with --column; found: review, reply"):
        read(kind, content)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("txt", b"a\nb\xff\n", "in: line 2 is not UTF-8 at its byte 1"),
        ("csv", b"text\na\n\xff\n", "in: line 3 is not UTF-8"),
        ("csv", b"text,label\na,1\nb\n", "in: row 2 has 1 fields"),
        ("csv", b'text\n"a\n', "in: line 2: a quote opens before 'a' and never closes"),
        ("jsonl", b'{"text": "a"}\n\n{"text": \n', "in: line 3 is not JSON"),
        (
            "csv",
            b"text,label\ra,1\rb,2\r",
            "in: line 1: a carriage return alone ends no line; convert",
        ),
        ("jsonl", b'{"text": "a"}\n' + b"[" * 100_000, "in: line 2 is nested too deeply"),
        (
            "jsonl",
            b'{"text": "a"}\n{"n": ' + b"1" * 5000 + b"}",
            "in: line 2 has a number of too many digits",
        ),
        ("jsonl", b'{"text": "a"}\n["b"]\n', "in: line 2 is list; expected an object"),
        ("jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "in: line 2 has no 'text'; expected a text"),
        ("jsonl", b'{"text": 3}\n', "in: line 1 has 3 as 'text'; expected a text"),
        ("parquet", b"text\na\n", "in is not a readable Parquet file"),
    ],
)
def test_the_bad_line_is_named(kind, content, message):
    with pytest.raises(ValueError, match=message):
        read(kind, content)


def test_parquet_from_a_pipe_is_refused():
    with pytest.raises(ValueError, match="in is a pipe"):
        read("parquet", b"", file=Pipe)


def test_kinds_are_read_off_endings():
    assert kind_of("a.b/reviews.CSV", KINDS, advice="") == "csv"
    assert kind_of("reviews.json.gz", KINDS, advice="") == "json"
    with pytest.raises(
        ValueError, match=r"unknown file kind 'jsn'; did you mean 'json'.*; name it"
    ):
        kind_of("reviews.jsn", KINDS, advice="name it")
