"""Errors and notes name the line of misplaced quotes; line breaks inside texts stay."""

import csv
import io

import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.sources import delimited
from adapler_jax.data.sources.files import load_files
from adapler_jax.data.sources.quotes import inner_rows, opening_line
from adapler_jax.serving.streams import read_windows

TAIL = "".join(f"the film was {number},{('neg', 'pos')[number % 2]}\n" for number in range(12))
CLOSED = 'text,label\n"oops it was good,pos\nnot great,neg\nawful,neg\nhe said fine",pos\n'


def read(tmp_path, content, name="a.csv"):
    (tmp_path / name).write_text(content)
    return load_files(str(tmp_path / name))["train"]


def stream(content, kind="csv", file=io.BytesIO):
    windows = read_windows(file(content.encode()), kind, "in", columns=["text"])
    return [text for window in windows for text in window.texts]


class Pipe(io.BytesIO):
    def seekable(self):
        return False


@pytest.mark.parametrize("mark", [",", "\t", ";"])
@pytest.mark.parametrize("line", [2, 9])
def test_a_quote_that_never_closes_is_named_by_its_line(tmp_path, mark, line):
    lines = ("text,label\n" + TAIL).split("\n")
    lines[line - 1] = '"' + lines[line - 1]
    content = "\n".join(lines).replace(",", mark)
    name, message = (
        "a.tsv" if mark == "\t" else "a.csv",
        f"line {line}: a quote opens before .* and never closes",
    )
    if mark == "\t":
        table = read(tmp_path, content, name)  # the GLUE form: quotes are characters
        assert (
            table.columns["text"][line - 2].startswith('"')
            and "do not enclose fields" in table.notes[0]
        )
        content = content.replace("neg", "neg\tmore", 1)  # and this is neither form
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, name)
    with pytest.raises(ValueError, match=message):
        stream(content, name[2:])


def test_a_quote_in_a_later_line_of_a_row_is_named_by_that_line(tmp_path):
    with pytest.raises(ValueError, match="line 3: a quote opens before 'open' and never closes"):
        read(tmp_path, 'text,label\n"two\nlines","open\nmore,1\n')
    with pytest.raises(
        ValueError, match=r"line 2: a quote opens before 'oops,1', closes in line 3, and .*twice"
    ):
        read(tmp_path, 'text,label\n"oops,1\n"quoted, well",0\n')


def test_rows_inside_quotes_are_rows_with_a_note(tmp_path):
    table = read(tmp_path, CLOSED + TAIL)
    assert table.columns["text"][:4] == ['"oops it was good', "not great", "awful", 'he said fine"']
    assert table.columns["label"][:4] == ["pos", "neg", "neg", "pos"] and len(table) == 16
    assert len(table.notes) == 1 and "line 2 opens a text of 4 whole rows" in table.notes[0]
    assert stream(CLOSED + TAIL)[:5] == [
        '"oops it was good',
        "not great",
        "awful",
        'he said fine"',
        "the film was 0",
    ]
    assert stream(CLOSED)[1] == "not great"  # nothing else to compare with: labels come again
    with pytest.raises(
        ValueError, match=r"the row of line 2 holds whole rows .*; give the file by name"
    ):
        stream(CLOSED, file=Pipe)


def test_many_rows_inside_quotes_are_counted(tmp_path):
    notes = read(tmp_path, "text,label\n" + CLOSED.split("\n", 1)[1] * 5 + TAIL).notes
    assert len(notes) == 4 and notes[-1].endswith("5 quotes in all open texts of whole rows")


def test_number_columns_reveal_rows_inside_quotes(tmp_path):
    tail = "".join(f"{number},film {number}\n" for number in range(5, 20))
    table = read(tmp_path, '"id",text\n1,"oops\n2,good\n3,bad"\n' + tail)
    assert table.columns["id"][:3] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir,\nthanks",
        "two\nlines",
        "no, thanks\nbye, now",
        "1,000\nbye",
        "a,\nb,\nc",
        "x,neg \ny",
    ],
)
def test_line_breaks_inside_quoted_texts_stay(tmp_path, text):
    content = f'text,label\n"{text}",pos\n' + TAIL
    assert read(tmp_path, content).columns["text"][0] == text
    assert stream(content)[0] == text and stream(content, file=Pipe)[0] == text
    assert read(tmp_path, content).notes == ()


def test_a_text_of_lines_that_look_like_rows_gives_a_note(tmp_path):
    content = 'text,label\n"oops,pos\nnot great,neg\na, b and c,neg\nfine",pos\n' + TAIL
    table = read(tmp_path, content)
    assert "\n" in table.columns["text"][0]
    assert (
        len(table.notes) == 1
        and "4 lines, of which 3 look like rows; is it closed too late?" in table.notes[0]
    )


def test_a_task_notes_the_rows_inside_quotes(tmp_path):
    (tmp_path / "a.csv").write_text(CLOSED + TAIL)
    data = load_task("custom", source=f"file:{tmp_path}/a.csv", split_fractions={"validation": 4})
    assert not [text for part in data.splits.values() for text in part.texts if "\n" in text]
    assert "whole rows" in data.notes[0]


def test_opening_lines_and_inner_rows():
    assert opening_line(['a,"b\n', 'c"",d\n'], ",") == (0, "b")
    assert opening_line(["a,b\n"], ",") is None
    assert inner_rows(["a,1\n", "\n", "b,2\n"], ",", 2) == [(0, ["a", "1"]), (2, ["b", "2"])]
    assert inner_rows(["a\n", "b\n"], ",", 1) == inner_rows(["a,1\n"], ",", 2) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "text,label\na,1\nb\n",
            r"row 2 has 1 fields, the header has 2 \('text, label'\); correct line 3",
        ),
        ('text,label\n"a\nb",1\nb\n', "row 2 has 1 fields, .*correct line 4"),
        ("text,label\na,1\rb,2\r\n", "a carriage return alone ends no line"),
        ("text,text\na,1\n", "2 columns are called 'text'; rename all but one"),
    ],
)
def test_malformed_tables_name_file_and_line(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"a.csv: .*{message}"):
        read(tmp_path, content)


def test_the_error_of_a_too_long_field_names_its_quote(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "_FIELD_LIMIT", 100)
    limit = csv.field_size_limit()
    try:
        with pytest.raises(
            ValueError, match="line 2: a quote opens before 'a' and encloses more than 100 char"
        ):
            read(tmp_path, 'text,label\n"' + "a\n" * 60 + '",1\n')
    finally:
        csv.field_size_limit(limit)


def test_a_header_alone_is_an_empty_table(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n")
    with pytest.raises(ValueError, match=r"a.csv is empty; give a split with at least one row"):
        load_task("custom", source=f"file:{tmp_path}/a.csv")


def test_marks_zeros_and_mixed_line_ends_inside_texts_are_text(tmp_path):
    (tmp_path / "a.csv").write_bytes("text,label\r\n\ufeffa\0b,1\nc,0\r\n".encode())
    assert load_files(str(tmp_path / "a.csv"))["train"].columns == {
        "text": ["\ufeffa\0b", "c"],
        "label": ["1", "0"],
    }
