"""The texts of a file or a pipe, a window of rows at a time, so that it may be larger than memory."""

import collections
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from adapler_jax.data.files import PLAIN_TSV, delimited_rows, json_lines
from adapler_jax.data.tables import explain_unknown
from adapler_jax.data.tasks import TASKS

KINDS = ("txt", "csv", "tsv", "jsonl", "parquet")
WINDOW_ROWS = 1024
WINDOW_CHARACTERS = 1 << 24  # ends a window of long texts earlier

Text = str | tuple[str, str]


class Window(NamedTuple):
    """Rows that follow each other."""

    texts: list[Text]
    share: float | None  # of the input, up to the last of these rows; None where its size is unknown


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
    """Return the text columns to look for, best first: those of the task where there is one of this name."""
    fields = [TASKS[task].text_fields] if task in TASKS else []
    return [*fields, ("text",), ("sentence",)]


def read_windows(
    file: BinaryIO, kind: str, where: str, *, columns: Sequence[str] = (), usual: Sequence[Sequence[str]] = ()
) -> Iterator[Window]:
    """Read texts, or pairs of them, in their order.

    Args:
      file: text lines, a table with a header line, JSON lines, or Parquet, which must be seekable.
      kind: one of KINDS.
      where: names the input in messages.
      columns: one column of texts, two of pairs; none for the first of `usual` whose columns are all there.

    Yields:
      Windows of at most WINDOW_ROWS rows. Blank text lines are rows, blank lines of tables and JSON lines are not.

    Raises:
      ValueError: a column is missing, a line is malformed or not UTF-8, a value is no text; the line is named.
    """
    if kind == "parquet":
        rows, share = _parquet_rows(file, where, lambda found: pick_columns(found, columns, usual, where))
    else:
        size = _size_of(file)
        rows, share = _line_rows(file, kind, where), lambda _: file.tell() / size if size else None
    unit = "line" if kind == "jsonl" else "row"
    texts = rows if kind == "txt" else _texts_of(rows, columns, usual, f"{where}: {unit}", where)
    count = 0
    for window in cut(texts):
        count += len(window)
        yield Window(window, share(count))


def pick_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the columns that are asked for, or the first usual ones that are all among those found.

    Raises:
      ValueError: there are none; those found are listed.
    """
    for name in columns:
        if name not in found:
            raise ValueError(f"{where}: {explain_unknown('column', name, found)}")
    for names in [columns] if columns else usual:
        if set(names) <= set(found):
            return tuple(names)
    known = ", ".join(map(str, found)) or "none"
    raise ValueError(f"{where}: which column holds the texts? Name it with --column; there are {known}")


def cut(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Yield lists of WINDOW_ROWS texts, or of fewer that have WINDOW_CHARACTERS characters."""
    window, num_characters = [], 0
    for text in texts:
        window.append(text)
        num_characters += len(text) if isinstance(text, str) else sum(map(len, text))
        if len(window) == WINDOW_ROWS or num_characters >= WINDOW_CHARACTERS:
            yield window
            window, num_characters = [], 0
    if window:
        yield window


def decode_lines(file: Iterable[bytes], where: str) -> Iterator[str]:
    """Yield lines with their ends; only a line feed ends one, whatever Unicode separators a text holds."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: line {number} is not UTF-8 at its byte {error.start}; convert it") from error


def _line_rows(file: BinaryIO, kind: str, where: str) -> Iterator:
    """Yield the texts of text lines, (number, row) of the others."""
    if kind == "txt":
        return (line.removesuffix("\n").removesuffix("\r") for line in decode_lines(file, where))
    if kind == "jsonl":
        return json_lines(decode_lines(file, where), where)
    form = {"delimiter": ","} if kind == "csv" else _tsv_form(file, where)
    return enumerate(delimited_rows(decode_lines(file, where), where, **form), start=1)


def _tsv_form(file: BinaryIO, where: str) -> dict:
    """Tell whether quotes are as in CSV, since all of the file reads so, or plain characters (the GLUE form).

    A pipe is not read twice: its quotes are as in CSV.
    """
    form = {"delimiter": "\t"}
    if not file.seekable():
        return form
    start = file.tell()
    try:
        collections.deque(delimited_rows(decode_lines(file, where), where, **form), maxlen=0)
    except ValueError:
        form = PLAIN_TSV
    file.seek(start)
    return form


def _parquet_rows(
    file: BinaryIO, where: str, pick: Callable[[list[str]], Sequence[str]]
) -> tuple[Iterator, Callable[[int], float]]:
    """Return (number, row) of the wanted columns, and the share of the file that so many rows are."""
    import pyarrow
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    if not file.seekable():
        raise ValueError(f"{where} is a pipe, and Parquet is read from its end; give the file by name")
    try:
        table = pyarrow.parquet.ParquetFile(file)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{where} is not a readable Parquet file: {error}") from error
    batches = table.iter_batches(WINDOW_ROWS, columns=list(pick(table.schema_arrow.names)))
    rows = enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    return rows, lambda count: count / table.metadata.num_rows


def _texts_of(rows: Iterable, columns: Sequence[str], usual, place: str, where: str) -> Iterator[Text]:
    """Yield the text or the pair of every (number, row)."""
    names: tuple[str, ...] = ()
    for number, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{place} {number} is {type(row).__name__}; expected an object with named fields")
        names = names or pick_columns(tuple(row), columns, usual, where)
        for name in names:
            if not isinstance(row.get(name), str):
                raise ValueError(f"{place} {number} has {row.get(name)!r:.60} as {name!r}; expected a text")
        yield row[names[0]] if len(names) == 1 else (row[names[0]], row[names[1]])


def _size_of(file: BinaryIO) -> int | None:
    """Bytes of a file; None where it is a pipe or empty."""
    if not file.seekable():
        return None
    start = file.tell()
    size = file.seek(0, 2)
    file.seek(start)
    return size or None
