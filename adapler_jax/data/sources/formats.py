"""Rows of a table in any kind of file, read in one way for training and for predictions."""

import contextlib
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from adapler_jax.data.sources.compression import (
    ENDINGS,
    Source,
    check_ratio,
    inner_path,
    zip_errors,
)
from adapler_jax.data.sources.conll import conll_rows
from adapler_jax.data.sources.delimited import Lines, Log, ignore, read_delimited
from adapler_jax.data.sources.encodings import TextReader, decode_lines
from adapler_jax.data.sources.json_tables import LocatedRow, json_line_rows, json_rows
from adapler_jax.data.sources.parquet import open_parquet, parquet_rows
from adapler_jax.data.sources.tables import check_once
from adapler_jax.io.messages import explain_unknown

TABLE_KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx", "conll")
KINDS = ("txt", *TABLE_KINDS)
_BATCH_ROWS = 1024
_ADVICE = "any of them may be packed as .gz, .bz2, .xz, .zst or .zip"

# Returns the columns to read, given all columns of the header.
Pick = Callable[[Sequence[str]], Sequence[str]]
# Returns the fraction of the input that so many rows are; None if it is unknown.
Progress = Callable[[int], float | None]


class Options(NamedTuple):
    """Properties of a text file that the file does not state itself.

    Attributes:
      encoding: of its text; empty means its byte order mark's, or UTF-8.
      delimiter: between its columns; empty means detected.
      field: names the user's setting in messages; `{}` is replaced by encoding or delimiter.
      reads_conll: files that end in .txt are CoNLL files.
    """

    encoding: str = ""
    delimiter: str = ""
    field: str = "config.data.{}"
    reads_conll: bool = False


DEFAULT_OPTIONS = Options()


class OpenTable(NamedTuple):
    """Rows with their locations for messages, and the fraction of the input read so far."""

    rows: Iterator[LocatedRow]
    fraction: Progress


def kind_of(path: str, kinds: Sequence[str], *, advice: str) -> str:
    """Return the kind that a file's ending names; reviews.csv.gz is csv.

    Args:
      path: of the file.
      kinds: the kinds that can be read.
      advice: ends the message of the error.

    Raises:
      ValueError: the ending names none of `kinds`.
    """
    kind = _ending(path)
    if kind not in kinds:
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', kind, kinds)}; {advice}")
    return kind


def _ending(path: str | pathlib.Path) -> str:
    """Return the ending of a file's name without its compression and point."""
    return inner_path(path).suffix.lower().removeprefix(".")


def table_kind(path: str | pathlib.Path, options: Options = DEFAULT_OPTIONS) -> str:
    """Return the kind of a table by the ending of its file.

    Raises:
      ValueError: the ending is no table's.
    """
    if options.reads_conll and _ending(path) == "txt":
        return "conll"
    return kind_of(str(path), TABLE_KINDS, advice=_ADVICE)


def is_table(path: pathlib.Path, options: Options = DEFAULT_OPTIONS) -> bool:
    """Return whether a file's ending is a table's, compressed or not."""
    known = (*TABLE_KINDS, "txt") if options.reads_conll else TABLE_KINDS
    try:
        return path.is_file() and _ending(path) in known
    except ValueError:  # a zip archive of several files, or of none
        return False


def stem_of(path: pathlib.Path) -> str:
    """Return a file's name without the endings of compression and kind: dev for dev.csv.gz."""
    inner = path.with_suffix("")
    is_doubled = path.suffix.lower() in ENDINGS and inner.suffix
    return inner.stem if is_doubled else path.stem


def open_table(
    source: Source,
    kind: str,
    pick: Pick,
    *,
    columns: Collection[str] | None = None,
    options: Options = DEFAULT_OPTIONS,
    log: Log = ignore,
) -> OpenTable:
    """Open the rows of a table.

    Args:
      source: the bytes of the table.
      kind: one of TABLE_KINDS.
      pick: selects the columns of a header; called before the first row. JSON has no header.
      columns: names that distinguish rows from columns in JSON; None means all.
      options: of text files.
      log: receives a sentence on each unusual property of the input.

    Raises:
      ValueError: the content is malformed, or a picked column is there twice. The message names
        the line. Iterating raises it for later rows.
    """
    if kind == "parquet":
        return _open_parquet(source, pick)
    if kind == "xlsx":
        return _open_excel(source, pick)
    if kind in ("csv", "tsv"):
        header, cells = read_delimited(
            text_lines(source, options),
            kind,
            delimiter=options.delimiter,
            field=options.field.format("delimiter"),
            log=log,
        )
        rows = _headed_rows(header, cells, pick, where=source.where)
    elif kind == "conll":
        rows = conll_rows(text_lines(source, options).once, source.where)
    elif kind == "jsonl":
        rows = json_line_rows(text_lines(source, options).once, source.where, columns=columns)
    else:
        reader = TextReader(source.open(), source.where, encoding=options.encoding)
        rows = json_rows(reader, source.where, columns=columns)
    return OpenTable(rows, fraction_of(source))


def fraction_of(source: Source) -> Progress:
    """Return a function of the fraction of a source that is read."""
    size = source.size()

    def fraction(count: int) -> float | None:
        return min(source.file.tell() / size, 1.0) if size else None

    return fraction


def text_lines(source: Source, options: Options = DEFAULT_OPTIONS) -> Lines:
    """Return the lines of a source; a file's lines can be read again."""

    def decode() -> Iterator[str]:
        return decode_lines(source.open(), source.where, encoding=options.encoding)

    @contextlib.contextmanager
    def again() -> Iterator[Iterator[str]]:
        position = source.file.tell()
        try:
            yield decode()
        finally:
            source.file.seek(position)

    return Lines(source.where, decode(), again if source.can_reopen else None)


def _headed_rows(
    header: Sequence[str], rows: Iterable[Sequence], pick: Pick, *, where: str
) -> Iterator[LocatedRow]:
    """Pick columns of a header now, and return the rows below it."""
    names = [name for name in (pick(header) if header else ()) if name in header]
    check_once(names, header, where)
    indices = [header.index(name) for name in names]
    return (
        (f"{where}: row {number}", dict(zip(names, [row[index] for index in indices])))
        for number, row in enumerate(rows, start=1)
    )


def _open_parquet(source: Source, pick: Pick) -> OpenTable:
    """Open a Parquet file; iterating keeps one batch of rows in memory."""
    file = parquet_file(source)
    with open_parquet(file, source.where) as table:
        names = list(pick(table.schema_arrow.names))
        total = table.metadata.num_rows

    def rows() -> Iterator[LocatedRow]:
        with open_parquet(file, source.where) as table:
            found = parquet_rows(table, names, _BATCH_ROWS, where=source.where)
            for number, row in enumerate(found, start=1):
                yield f"{source.where}: row {number}", row

    return OpenTable(rows(), lambda count: count / total if total else None)


def parquet_file(source: Source) -> BinaryIO:
    """Return the open file of a Parquet source.

    Raises:
      ValueError: the source is a pipe or compressed; Parquet is read from its end.
    """
    if not source.can_reopen:
        raise ValueError(
            f"{source.where} is a pipe, and Parquet is read from its end; give the file by name"
        )
    if source.compression:
        raise ValueError(
            f"{source.where} is Parquet, which is packed inside; unpack the {source.compression} "
            "file first"
        )
    return source.file


def _open_excel(source: Source, pick: Pick) -> OpenTable:
    """Open the first sheet of an Excel file."""
    header, cells, total = _open_sheet(source)
    rows = _headed_rows(header, cells, pick, where=source.where)
    return OpenTable(rows, lambda count: count / max(total - 1, count) if total else None)


def _open_sheet(source: Source) -> tuple[list[str], Iterator[Sequence], int]:
    """Return the header of an Excel file's first sheet, its rows, and their number.

    Blank rows are left out. The file states the number, with the header; 0 means unknown.
    """
    if not source.can_reopen:
        raise ValueError(
            f"{source.where} is a pipe, and Excel files are zip archives; give the file by name"
        )
    try:
        import openpyxl  # optional: needed only for this kind of file
    except ImportError as error:
        raise ValueError(
            f"{source.where} needs `pip install openpyxl`, or save the sheet as CSV: {error}"
        ) from error
    _check_archive(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on styles and extensions, which hold no text
            book = openpyxl.load_workbook(source.file, read_only=True, data_only=True)
        sheet = book.worksheets[0]
        total = sheet.max_row or 0
        rows = (row for row in sheet.iter_rows(values_only=True) if _holds_value(row))
        header = ["" if name is None else str(name) for name in next(rows, ())]
    except Exception as error:  # of zip, XML and openpyxl: no common base class
        raise ValueError(_sheet_complaint(source, error)) from error
    while header and not header[-1]:
        header.pop()
    return header, _sheet_rows(rows, len(header), source), total


def _holds_value(row: Sequence) -> bool:
    """Return whether a row of a sheet is not blank."""
    return any(value is not None for value in row)


def _sheet_rows(rows: Iterator[Sequence], width: int, source: Source) -> Iterator[Sequence]:
    """Yield rows of the header's width; a blank cell is an empty text, as in CSV."""
    try:
        for row in rows:
            cells = ["" if value is None else value for value in row[:width]]
            yield cells + [""] * (width - len(cells))
    except Exception as error:  # of zip, XML and openpyxl: no common base class
        raise ValueError(_sheet_complaint(source, error)) from error


def _sheet_complaint(source: Source, error: Exception) -> str:
    """Say why an Excel file cannot be read."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{source.where} is not a readable Excel file: {reason}; save it again, or as CSV"


def _check_archive(source: Source) -> None:
    """Raise ValueError if an Excel file decompresses to far more bytes than it has."""
    size = source.size() or 0
    source.rewind()
    with zip_errors(source.where), zipfile.ZipFile(source.file) as archive:
        check_ratio(sum(item.file_size for item in archive.infolist()), size, source.where)
    source.rewind()
