"""Read JSON lines, JSON, CSV, TSV and Parquet files, and folders of them, into tables by split."""

import csv
import io
import json
import pathlib
import re
from collections.abc import Collection, Iterable, Iterator

from adapler_jax.data.tables import Table, explain_unknown, table_from_rows

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_SPLIT_WORDS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
PLAIN_TSV = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}  # quotes are characters as others
_CSV_FIELD_LIMIT = 2**31 - 1  # the module's own default refuses texts over 131,072 characters


def split_name(stem: str) -> str | None:
    """Read the split off a file's stem: `dev` is validation, `validation_matched` itself, `reviews` None."""
    match = re.fullmatch(r"([a-z]+)([_-]\w+)?", stem.lower())
    word = _SPLIT_WORDS.get(match[1]) if match else None
    return None if word is None else word + (match[2] or "").replace("-", "_")


def load_files(path: str, *, columns: Collection[str] | None = None) -> dict[str, Table]:
    """Read one file, or the train, validation and test files of a folder.

    Args:
      path: a file with one of SUFFIXES, or a folder. A single file is the split that its name says, else `train`.
      columns: the columns to keep; None keeps all.

    Returns:
      Tables by split name.

    Raises:
      ValueError: nothing is there, the kind is unknown, the content is malformed, or two files claim one split.
    """
    place = pathlib.Path(path).expanduser()
    if place.is_file():
        name = split_name(place.stem) or "train"
        return {"train" if name.startswith("train") else name: read_table(place, columns=columns)}
    if not place.is_dir():
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
    files: dict[str, pathlib.Path] = {}
    for file in sorted(place.iterdir()):
        name = split_name(file.stem) if file.suffix.lower() in SUFFIXES else None
        if name in files:
            raise ValueError(f"{str(files[name])!r} and {file.name!r} are both the split {name!r}; keep one")
        if name:
            files[name] = file
    if not files:
        present = ", ".join(sorted(file.name for file in place.iterdir())[:10]) or "nothing"
        raise ValueError(
            f"folder {str(place)!r} holds {present}; expected train, validation or test files ending in "
            f"{', '.join(SUFFIXES)}"
        )
    return {name: read_table(file, columns=columns) for name, file in files.items()}


def read_table(path: pathlib.Path, *, columns: Collection[str] | None = None) -> Table:
    """Read one file into a table; the suffix names the kind.

    Raises:
      ValueError: the suffix is unknown or the content is malformed; the line is named.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', kind, SUFFIXES)}")
    if kind == ".parquet":
        return _read_parquet(path, columns)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error
    rows = _json_rows(text, str(path)) if kind.startswith(".json") else csv_rows(text, kind, str(path))
    return table_from_rows(rows, str(path), columns=columns)


def _read_parquet(path: pathlib.Path, columns: Collection[str] | None) -> Table:
    """Read only the wanted columns of a Parquet file."""
    import pyarrow
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            found = tuple(file.schema_arrow.names)
            wanted = [name for name in found if columns is None or name in columns]
            values = file.read(columns=wanted)
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error
    return Table({name: values.column(name).to_pylist() for name in wanted}, str(path), found)


def _json_rows(text: str, where: str) -> Iterator[dict]:
    """Yield the objects of JSON lines, or of one JSON list."""
    if text.lstrip().startswith("["):
        try:
            numbered = list(enumerate(json.loads(text), start=1))
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON: {error}") from error
    else:
        numbered = json_lines(text.split("\n"), where)  # only a line feed ends a line, not Unicode's separators
    for number, row in numbered:
        if not isinstance(row, dict):
            raise ValueError(f"{where}: item {number} is {type(row).__name__}; expected an object with named fields")
        yield row


def json_lines(lines: Iterable[str], where: str) -> Iterator[tuple[int, object]]:
    """Yield (line number, value) of the lines that are not blank."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: line {number} is not JSON: {error.msg} at column {error.colno}") from error


def csv_rows(text: str, kind: str, where: str) -> Iterator[dict]:
    """Yield the rows of CSV or TSV text with a header line.

    A TSV whose quotes do not pair up as CSV quotes is read with quotes as plain characters (the GLUE form).
    """
    if kind == ".csv":
        return delimited_rows(io.StringIO(text, newline=""), where, delimiter=",")
    try:
        return iter(list(delimited_rows(io.StringIO(text, newline=""), where, delimiter="\t")))
    except ValueError:
        return delimited_rows(io.StringIO(text, newline=""), where, **PLAIN_TSV)


def delimited_rows(lines: Iterable[str], where: str, **form) -> Iterator[dict]:
    """Yield the rows below a header line; form: as in `csv.reader`."""
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    return _check_widths(_parse(lines, where, **form), where)


def _parse(lines: Iterable[str], where: str, **form) -> Iterator[list[str]]:
    """Yield the fields of every line that is not empty."""
    reader = csv.reader(lines, strict=True, **form)
    try:
        yield from (fields for fields in reader if fields)
    except csv.Error as error:
        raise ValueError(f"{where}: line {reader.line_num}: {error}") from error


def _check_widths(lines: Iterator[list[str]], where: str) -> Iterator[dict]:
    """Yield rows by column name; every row must be as wide as the header."""
    header = next(lines, [])
    for number, fields in enumerate(lines, start=1):
        if len(fields) != len(header):
            names = ", ".join(header)[:80]
            raise ValueError(f"{where}: row {number} has {len(fields)} fields, the header has {len(header)} ({names})")
        yield dict(zip(header, fields))
