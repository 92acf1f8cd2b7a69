"""Read JSON lines, JSON, CSV, TSV and Parquet files, and folders of them, into tables by split."""

import collections
import contextlib
import csv
import io
import json
import pathlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from adapler_jax.data.tables import Table, explain_unknown, table_from_rows

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_SPLIT_WORDS = {"train": "train", "test": "test"} | dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
CSV, TSV = {"delimiter": ","}, {"delimiter": "\t"}
PLAIN_TSV = TSV | {"quoting": csv.QUOTE_NONE}  # quotes are characters as others, the GLUE form
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
    place = find_place(path)
    if place.is_file():
        name = split_name(place.stem) or "train"
        return {"train" if name.startswith("train") else name: read_table(place, columns=columns)}
    files = files_by_split(
        place, lambda file: split_name(file.stem) if file.suffix.lower() in SUFFIXES else None, endings=SUFFIXES
    )
    return {name: read_table(file, columns=columns) for name, file in files.items()}


def find_place(path: str) -> pathlib.Path:
    """Return the file or folder of this path. Raises ValueError where there is neither."""
    place = pathlib.Path(path).expanduser()
    if not (place.is_file() or place.is_dir()):
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
    return place


def files_by_split(
    folder: pathlib.Path, split_of: Callable[[pathlib.Path], str | None], *, endings: Sequence[str]
) -> dict[str, pathlib.Path]:
    """Return the files of a folder by their splits.

    Args:
      folder: it exists.
      split_of: the split of a file; None for one that is none.
      endings: of the files that are looked at, for messages.

    Raises:
      ValueError: two files are one split, or none is any.
    """
    files: dict[str, pathlib.Path] = {}
    for file in sorted(folder.iterdir()):
        name = split_of(file)
        if name in files:
            raise ValueError(f"{str(files[name])!r} and {file.name!r} are both the split {name!r}; keep one")
        if name:
            files[name] = file
    if not files:
        present = ", ".join(sorted(file.name for file in folder.iterdir())[:10]) or "nothing"
        raise ValueError(
            f"folder {str(folder)!r} holds {present}; expected train, validation or test files ending in "
            f"{', '.join(endings)}"
        )
    return files


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
        text = path.read_bytes().decode("utf-8-sig")  # carriage returns stay, as `streams` reads them
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}; convert it") from error
    if kind.startswith(".json"):
        rows = _json_rows(text, str(path))
    else:
        rows = csv_rows(text, kind, str(path), columns=columns)
    return table_from_rows(rows, str(path), columns=columns)


def _read_parquet(path: pathlib.Path, columns: Collection[str] | None) -> Table:
    """Read only the wanted columns of a Parquet file."""
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    with parquet_errors(str(path)), pyarrow.parquet.ParquetFile(path) as file:
        found = tuple(file.schema_arrow.names)
        wanted = [name for name in found if columns is None or name in columns]
        check_once(wanted, found, str(path))
        values = file.read(columns=wanted)
        return Table({name: values.column(name).to_pylist() for name in wanted}, str(path), found)


@contextlib.contextmanager
def parquet_errors(where: str) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file, or of texts that are not UTF-8, into a ValueError that names it."""
    import pyarrow

    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} holds a text that is not UTF-8; write its column anew") from error
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{where} is not a readable Parquet file: {error}") from error


def check_once(names: Iterable[str], found: Sequence[str], where: str) -> None:
    """Raise ValueError where one of the names stands more than once among the columns found."""
    for name in names:
        if found.count(name) > 1:
            raise ValueError(f"{where}: {found.count(name)} columns are called {name!r}; rename all but one")


def _json_rows(text: str, where: str) -> Iterator[dict]:
    """Yield the objects of JSON lines, or of one JSON list."""
    if text.lstrip().startswith("["):
        numbered = enumerate(_parse_json(text, where), start=1)
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
            yield number, _parse_json(line, f"{where}: line {number}")


def _parse_json(text: str, place: str):
    """Parse a JSON value; ValueError names the place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        problem = error.msg.removesuffix(" at")
        raise ValueError(f"{place} is not JSON: {problem} at {line}column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"{place} is nested too deeply; leave the field out") from error
    except ValueError as error:  # Python's limit of digits
        raise ValueError(f"{place} has a number of too many digits; write it as a string") from error


def csv_rows(text: str, kind: str, where: str, *, columns: Collection[str] | None = None) -> Iterator[dict]:
    """Yield the rows of CSV or TSV text with a header line; `columns`, of None all, must not stand there twice."""
    form = CSV if kind == ".csv" else tsv_form(lambda: io.StringIO(text), where)
    header, rows = delimited_rows(io.StringIO(text), where, **form)
    check_once(header if columns is None else columns, header, where)
    return (dict(zip(header, fields)) for fields in rows)


def tsv_form(open_lines: Callable[[], Iterable[str]], where: str) -> dict:
    """Tell how a TSV is written, in lines that are read once or twice: TSV, quotes as in CSV, or PLAIN_TSV.

    It is plain where its quotes do not pair up, or pair up around whole rows while the plain rows are all as wide.
    """
    try:
        if not any(holds_rows(fields) for fields in delimited_rows(open_lines(), where, **TSV)[1]):
            return TSV
    except ValueError:
        return PLAIN_TSV
    try:
        collections.deque(delimited_rows(open_lines(), where, **PLAIN_TSV)[1], maxlen=0)
    except ValueError:
        return TSV
    return PLAIN_TSV


def holds_rows(fields: Sequence[str]) -> bool:
    """Say whether a row that was read with quotes is several, each as wide, without them. One column tells nothing."""
    if len(fields) == 1 or not any("\n" in field for field in fields):
        return False
    lines = "\t".join(fields).split("\n")
    return all(line.count("\t") == len(fields) - 1 for line in lines if line.strip("\r"))


def delimited_rows(lines: Iterable[str], where: str, **form) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header line, empty where there is none, and the rows below it; form: as in `csv.reader`."""
    csv.field_size_limit(_CSV_FIELD_LIMIT)
    parsed = _parse(lines, where, **form)
    header = next(parsed, [])
    return header, _check_widths(parsed, header, where)


def _parse(lines: Iterable[str], where: str, **form) -> Iterator[list[str]]:
    """Yield the fields of every line that is not empty."""
    reader = csv.reader(lines, strict=True, **form)
    try:
        yield from (fields for fields in reader if fields)
    except csv.Error as error:
        is_return = "new-line character" in str(error)  # whose own advice is for programs
        said = "a carriage return alone ends no line; convert the line ends to line feeds" if is_return else error
        raise ValueError(f"{where}: line {reader.line_num}: {said}") from error


def _check_widths(lines: Iterator[list[str]], header: Sequence[str], where: str) -> Iterator[list[str]]:
    """Yield the rows; every one must be as wide as the header."""
    for number, fields in enumerate(lines, start=1):
        if len(fields) != len(header):
            names = ", ".join(header)[:80]
            raise ValueError(f"{where}: row {number} has {len(fields)} fields, the header has {len(header)} ({names})")
        yield fields
