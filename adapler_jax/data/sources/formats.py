"""Rows of a table in any kind of file, read the same way for training and for predictions."""

import contextlib
import pathlib
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from adapler_jax.data.sources.compression import (
    ENDINGS,
    Source,
    check_ratio,
    inner_path,
    zip_errors,
)
from adapler_jax.data.sources.delimited import Lines, Log, ignore, read_delimited
from adapler_jax.data.sources.encodings import TextReader, decode_lines
from adapler_jax.data.sources.json_tables import json_line_rows, json_rows
from adapler_jax.data.sources.parquet import open_parquet, parquet_rows
from adapler_jax.data.sources.tables import check_once
from adapler_jax.io.messages import explain_unknown

TABLE_KINDS = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
KINDS = ("txt", *TABLE_KINDS)
_BATCH_ROWS = 1024

Pick = Callable[[Sequence[str]], Sequence[str]]  # of the columns found, those that are wanted


class Options(NamedTuple):
    """How a text file is written, where it does not say so itself.

    Attributes:
      encoding: of its text; empty: what its byte order mark says, else UTF-8.
      delimiter: between its columns; empty: it is found.
      field: what the user sets these by, `{}` for the name of each.
    """

    encoding: str = ""
    delimiter: str = ""
    field: str = "config.data.{}"


class OpenTable(NamedTuple):
    """Rows with their places for messages, and the share of the input that so many rows are."""

    rows: Iterator[tuple[str, Mapping]]
    fraction: Callable[[int], float | None]


def kind_of(path: str, kinds: Sequence[str], *, advice: str) -> str:
    """Read the kind of a file off its ending; reviews.csv.gz is csv.

    Raises:
      ValueError: it has none of `kinds`; advice says what else can be done.
    """
    kind = inner_path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', kind, kinds)}; {advice}")
    return kind


def is_table(path: pathlib.Path) -> bool:
    """Say whether a file's ending is one of a table, packed or not."""
    try:
        return path.is_file() and inner_path(path).suffix.lower().removeprefix(".") in TABLE_KINDS
    except ValueError:  # a zip archive of several files, or none
        return False


def open_table(
    source: Source,
    kind: str,
    pick: Pick,
    *,
    columns: Collection[str] | None = None,
    options: Options = Options(),
    log: Log = ignore,
) -> OpenTable:
    """Open the rows of a table.

    Args:
      source: its bytes.
      kind: one of TABLE_KINDS.
      pick: of a header, the columns that are read; it is called before there are rows. JSON has no
        header.
      columns: names that tell rows from columns in JSON; None: all.
      options: how a text is written.
      tell: receives a sentence on what a user should know of how it is read.

    Raises:
      ValueError: here or later: the content is malformed or a wanted column is there twice; the
        line is named.
    """
    if kind == "parquet":
        return _open_parquet(source, pick)
    if kind == "xlsx":
        header, cells, total = _open_sheet(source)
        rows = _headed_rows(header, cells, pick, where=source.where)
        return OpenTable(rows, lambda count: count / max(total - 1, count) if total else None)
    if kind in ("csv", "tsv"):
        lines = text_lines(source, options)
        header, cells = read_delimited(
            lines,
            kind,
            delimiter=options.delimiter,
            field=options.field.format("delimiter"),
            log=log,
        )
        rows = _headed_rows(header, cells, pick, where=source.where)
    elif kind == "jsonl":
        rows = json_line_rows(text_lines(source, options).once, source.where, columns=columns)
    else:
        reader = TextReader(source.open(), source.where, encoding=options.encoding)
        rows = json_rows(reader, source.where, columns=columns)
    return OpenTable(rows, fraction_of(source))


def fraction_of(source: Source) -> Callable[[int], float | None]:
    """Return a function that says which share of a source is read."""
    size = source.size()
    return lambda count: min(source.file.tell() / size, 1.0) if size else None


def text_lines(source: Source, options: Options = Options()) -> Lines:
    """Return the lines of a source, which can be read again where it is no pipe."""

    @contextlib.contextmanager
    def again() -> Iterator[Iterator[str]]:
        place = source.file.tell()
        try:
            yield decode_lines(source.open(), source.where, encoding=options.encoding)
        finally:
            source.file.seek(place)

    once = decode_lines(source.open(), source.where, encoding=options.encoding)
    return Lines(source.where, once, again if source.can_reopen else None)


def _headed_rows(
    header: Sequence[str], rows: Iterable[Sequence], pick: Pick, *, where: str
) -> Iterator[tuple[str, Mapping]]:
    """Return the rows below a header, of the columns that are picked from it now."""
    names = [name for name in (pick(header) if header else ()) if name in header]
    check_once(names, header, where)
    places = [header.index(name) for name in names]
    numbered = enumerate(rows, start=1)
    return (
        (f"{where}: row {n}", dict(zip(names, [row[place] for place in places])))
        for n, row in numbered
    )


def _open_parquet(source: Source, pick: Pick) -> OpenTable:
    """Open a Parquet file; what it holds is read some rows at a time."""
    file = parquet_file(source)
    with open_parquet(file, source.where) as table:
        names = list(pick(table.schema_arrow.names))
        total = table.metadata.num_rows

    def rows() -> Iterator[tuple[str, Mapping]]:
        with open_parquet(file, source.where) as table:
            for number, row in enumerate(
                parquet_rows(table, names, _BATCH_ROWS, where=source.where), start=1
            ):
                yield f"{source.where}: row {number}", row

    return OpenTable(rows(), lambda count: count / total if total else None)


def parquet_file(source: Source) -> BinaryIO:
    """Return the file of a source of Parquet, which is read from its end.

    Raises ValueError where it cannot be.
    """
    if not source.can_reopen:
        raise ValueError(
            f"{source.where} is a pipe, and Parquet is read from its end; give the file by name"
        )
    if source.compression:
        raise ValueError(
            f"{source.where} is Parquet, which is packed inside; unpack the {source.compression} file "
            f"first"
        )
    return source.file


def _open_sheet(source: Source) -> tuple[list[str], Iterator[Sequence], int]:
    """Return the first row of an Excel file's first sheet, the rows below it that are not blank,
    and their number.

    The number is as the file says it, the first row included; 0 where it says none.
    """
    if not source.can_reopen:
        raise ValueError(
            f"{source.where} is a pipe, and Excel files are zip archives; give the file by name"
        )
    try:
        import openpyxl  # optional: needed for this kind of file only
    except ImportError as error:
        raise ValueError(
            f"{source.where} needs `pip install openpyxl`, or save the sheet as CSV: {error}"
        ) from error
    _check_archive(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that no text needs
            book = openpyxl.load_workbook(source.file, read_only=True, data_only=True)
        total = book.worksheets[0].max_row or 0
        rows = book.worksheets[0].iter_rows(values_only=True)
        rows = (row for row in rows if any(value is not None for value in row))
        header = [str(name) if name is not None else "" for name in next(rows, ())]
    except Exception as error:  # of zip, of XML, of openpyxl: no common base
        raise ValueError(_sheet_complaint(source, error)) from error
    while header and not header[-1]:
        header.pop()
    return header, _sheet_rows(rows, len(header), source), total


def _sheet_rows(rows: Iterator[Sequence], width: int, source: Source) -> Iterator[Sequence]:
    """Yield rows as wide as the header; a blank cell is an empty text, as in CSV."""
    try:
        for row in rows:
            cells = ["" if value is None else value for value in row[:width]]
            yield cells + [""] * (width - len(cells))
    except Exception as error:  # as above
        raise ValueError(_sheet_complaint(source, error)) from error


def _sheet_complaint(source: Source, error: Exception) -> str:
    """Say why an Excel file cannot be read."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{source.where} is not a readable Excel file: {said}; save it again, or as CSV"


def _check_archive(source: Source) -> None:
    """Refuse an Excel file that unpacks to far more than it holds."""
    size = source.size() or 0
    source.file.seek(source.start)
    with zip_errors(source.where), zipfile.ZipFile(source.file) as archive:
        check_ratio(sum(item.file_size for item in archive.infolist()), size, source.where)
    source.file.seek(source.start)


def stem_of(path: pathlib.Path) -> str:
    """Return the name of a file without the endings of its packing and kind: dev of dev.csv.gz."""
    return (
        path.with_suffix("").stem
        if path.suffix.lower() in ENDINGS and path.with_suffix("").suffix
        else path.stem
    )
