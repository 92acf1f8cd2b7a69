"""The texts of a file or a pipe, a window of rows at a time, so that it may be larger than memory."""

import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from adapler_jax.data.chunks import in_chunks
from adapler_jax.data.files import (
    CSV,
    TSV,
    check_once,
    delimited_rows,
    holds_rows,
    json_lines,
    parquet_errors,
    tsv_form,
)
from adapler_jax.data.tables import explain_unknown
from adapler_jax.data.tasks import TASKS

KINDS = ("txt", "csv", "tsv", "jsonl", "parquet")
WINDOW_ROWS = 1024
WINDOW_CHARACTERS = 1 << 24  # ends a window of long texts earlier

Text = str | tuple[str, str] | tuple[str, str, list[str]]  # a text, a pair, or a question with options
Pick = Callable[[Sequence[str]], Sequence[str]]  # of the columns found, those of the texts
LINE = "text"  # what the column of text lines is called


class Window(NamedTuple):
    """Rows that follow each other."""

    texts: list[Text]
    share: float | None  # of the input, up to the last of these rows; None where its size is unknown
    rows: list[dict] | None = None  # what was read of each row, where it is kept


class Form(NamedTuple):
    """How the columns of a table make a text."""

    pick: Callable[..., tuple[str, ...]]  # (found, columns, usual, where) -> the columns that are needed
    read: Callable[[dict, Sequence[str], str], Text]  # (row, those columns, place for messages)


def kind_of(path: str, kinds: Sequence[str], *, advice: str) -> str:
    """Read the kind of a file off its ending.

    Raises:
      ValueError: it has none of `kinds`; advice says what else can be done.
    """
    kind = pathlib.Path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', kind, kinds)}; {advice}")
    return kind


def usual_columns(task: str | None) -> list[tuple[str, ...]]:
    """Return the text columns to look for, best first: those of the task where there is one of this name.

    A task of pairs has no others: a model of pairs answers single texts too, but not as it was trained.
    """
    fields = [TASKS[task].text_fields] if task in TASKS else []
    return fields if fields and len(fields[0]) == 2 else [*fields, ("text",), ("sentence",)]


def read_windows(
    file: BinaryIO,
    kind: str,
    where: str,
    *,
    columns: Sequence[str] = (),
    usual: Sequence[Sequence[str]] = (),
    form: Form | None = None,
    keep: Pick | None = None,
) -> Iterator[Window]:
    """Read texts, or pairs of them, in their order.

    Args:
      file: text lines, a table with a header line, JSON lines, or Parquet, which must be seekable.
      kind: one of KINDS.
      where: names the input in messages.
      columns: one column of texts, two of pairs; none for the first of `usual` whose columns are all there.
        Those of a header are looked up before there are rows.
      form: what a row is; None: a text or a pair.
      keep: of the columns of a header or of Parquet, those that `Window.rows` has next to the
        texts';
        of JSON lines it has the whole objects. None: windows hold no rows.

    Yields:
      Windows of at most WINDOW_ROWS rows. Blank text lines are rows, blank lines of tables and JSON lines are not.

    Raises:
      ValueError: a column is missing or there twice, a line is malformed or not UTF-8, a value is no text; the line is
        named, of Parquet the file.
    """

    form = form or Form(pick_columns, read_text)

    def pick(found: Sequence[str]) -> tuple[str, ...]:
        return form.pick(found, columns, usual, where)

    def wanted(found: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*pick(found), *(keep(found) if keep else ()))))

    if kind == "parquet":
        rows, share = _parquet_rows(file, where, wanted)
    else:
        size = _size_of(file)
        rows, share = _line_rows(file, kind, where, wanted), lambda _: file.tell() / size if size else None
    unit = "line" if kind == "jsonl" else "row"
    if kind == "txt":
        if keep:
            keep((LINE,))
        pairs = ((line, {LINE: line}) for line in rows)
    else:
        pairs = _texts_of(rows, pick, f"{where}: {unit}", read=form.read)
    count = 0
    for window in cut(pairs if keep else ((text, None) for text, _ in pairs)):
        count += len(window)
        texts, kept = [text for text, _ in window], [row for _, row in window] if keep else None
        yield Window(texts, share(count), kept)


def pick_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the columns that are asked for, or the first usual ones that are all among those found.

    Raises:
      ValueError: there are none, those found are listed; or one is there twice.
    """
    wanted = columns or (usual[0] if len(usual) == 1 else ())
    for name in wanted:
        if name not in found:
            advice = "" if columns else "; the model is for pairs: name their columns with --column=FIRST,SECOND"
            raise ValueError(f"{where}: {explain_unknown('column', name, found)}{advice}")
    names = wanted or next((names for names in usual if set(names) <= set(found)), ())
    if not names:
        known = ", ".join(map(str, found)) or "none"
        raise ValueError(f"{where}: which column holds the texts? Name it with --column; there are {known}")
    check_once(names, found, where)
    return tuple(names)


def cut(pairs: Iterable[tuple[Text, dict | None]]) -> Iterator[list[tuple[Text, dict | None]]]:
    """Return lists of WINDOW_ROWS (text, row), or of fewer that have WINDOW_CHARACTERS
    characters."""
    return in_chunks(pairs, WINDOW_ROWS, weigh=_num_characters, max_weight=WINDOW_CHARACTERS)


def _num_characters(value) -> int:
    """Count the characters of a text and all that is in lists and rows."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str | bytes) or not isinstance(value, list | tuple):
        return len(value) if isinstance(value, str | bytes) else 0
    return sum(map(_num_characters, value))


def decode_lines(file: Iterable[bytes], where: str) -> Iterator[str]:
    """Yield lines with their ends; only a line feed ends one, whatever Unicode separators a text holds."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: line {number} is not UTF-8 at its byte {error.start}; convert it") from error


def _line_rows(file: BinaryIO, kind: str, where: str, pick: Pick) -> Iterator:
    """Yield the texts of text lines, (number, row) of the others."""
    if kind == "txt":
        return (line.removesuffix("\n").removesuffix("\r") for line in decode_lines(file, where))
    if kind == "jsonl":
        return json_lines(decode_lines(file, where), where)
    form = CSV if kind == "csv" else _tsv_form(file, where)
    header, rows = delimited_rows(decode_lines(file, where), where, **form)
    if kind == "tsv" and not file.seekable():
        rows = _refuse_merged(rows, where)
    names = pick(header) if header else ()
    places = [header.index(name) for name in names]
    return enumerate((dict(zip(names, [fields[place] for place in places])) for fields in rows), start=1)


def _tsv_form(file: BinaryIO, where: str) -> dict:
    """Tell how the quotes of a file are meant. A pipe is not read twice: they are as in CSV."""
    if not file.seekable():
        return TSV
    start = file.tell()

    def open_lines() -> Iterator[str]:
        file.seek(start)
        return decode_lines(file, where)

    form = tsv_form(open_lines, where)
    file.seek(start)
    return form


def _refuse_merged(rows: Iterable[list[str]], where: str) -> Iterator[list[str]]:
    """Yield rows that are read with CSV quotes; ValueError where one may be several, as a look ahead would tell."""
    for number, fields in enumerate(rows, start=1):
        if holds_rows(fields):
            raise ValueError(f"{where}: row {number} holds whole rows between its quotes; give the file by name")
        yield fields


def _parquet_rows(file: BinaryIO, where: str, pick: Pick) -> tuple[Iterator[tuple[int, dict]], Callable[[int], float]]:
    """Return (number, row) of the wanted columns, and the share of the file that so many rows are."""
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    if not file.seekable():
        raise ValueError(f"{where} is a pipe, and Parquet is read from its end; give the file by name")
    with parquet_errors(where):
        table = pyarrow.parquet.ParquetFile(file)
    names = list(pick(table.schema_arrow.names))

    def rows() -> Iterator[dict]:
        with parquet_errors(where):
            for batch in table.iter_batches(WINDOW_ROWS, columns=names):
                yield from batch.to_pylist()

    return enumerate(rows(), start=1), lambda count: count / table.metadata.num_rows


def _texts_of(rows: Iterable, pick: Pick, place: str, *, read: Callable) -> Iterator[tuple[Text, dict]]:
    """Yield the text, the pair or the question of every (number, row), and the row."""
    names: tuple[str, ...] = ()
    for number, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place} {number} is {type(row).__name__}; expected an object with named fields")
        names = names or pick(tuple(row))
        yield read(row, names, f"{place} {number}"), row


def read_text(row: dict, names: Sequence[str], place: str) -> Text:
    """Return the text of a row, or the pair of two columns. Raises ValueError where one is not a
    text."""
    for name in names:
        if not isinstance(row.get(name), str):
            found = f"{row[name]!r:.60} as {name!r}" if name in row else f"no {name!r}"
            raise ValueError(f"{place} has {found}; expected a text")
    return row[names[0]] if len(names) == 1 else (row[names[0]], row[names[1]])


def _size_of(file: BinaryIO) -> int | None:
    """Bytes of a file; None where it is a pipe or empty."""
    if not file.seekable():
        return None
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    return size or None
