"""Rows of JSON in the forms that programs write: lists, lines, columns, and what
DataFrame.to_json() gives.
"""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from adapler_jax.data.sources.encodings import TextReader
from adapler_jax.data.sources.json_values import (
    check_end,
    json_lines,
    list_items,
    parse_json,
    read_start,
)
from adapler_jax.data.sources.tables import look_up
from adapler_jax.io.messages import list_names, shown

_WRAPPERS = ("data", "rows", "records", "examples", "items", "instances")
_IDS = ("id", "qid", "_id", "example_id")  # of questions
_ADVICE = (
    "expected rows: a list of objects, JSON lines as DataFrame.to_json(orient='records', "
    "lines=True) writes them, or "
    "columns of equal length"
)


def json_rows(
    reader: TextReader, where: str, *, columns: Collection[str] | None = None
) -> Iterator[tuple[str, Mapping]]:
    """Yield (place, row) of a JSON file in any form. A list, and lines, are read without holding
    them.

    Args:
      reader: the text.
      where: names it in messages.
      columns: names that tell rows from columns where both would do; None: the names of rows are
        numbers.

    Raises:
      ValueError: the content is not JSON, or holds no rows; the line or item is named.
    """
    head = read_start(reader)
    if head.startswith("["):
        yield from _list_rows(reader, head, where)
        return
    lines = _lines_of(reader, head)
    first = next(lines, "")
    second, blanks = _next_line(lines)
    if second and _is_json(first):
        yield from _line_rows(itertools.chain([first], blanks, [second], lines), where, "item")
    elif first.strip():
        text = "".join([first, *blanks, second, *lines])
        rows = object_rows(parse_json(text, where), where, columns)
        yield from (
            (f"{where}: item {n}", _checked(row, f"{where}: item {n}"))
            for n, row in enumerate(rows, 1)
        )


def json_line_rows(
    lines: Iterator[str], where: str, *, columns: Collection[str] | None = None
) -> Iterator[tuple[str, Mapping]]:
    """Yield (place, row) of JSON lines; of one line also in the other forms of `json_rows`, which
    it describes.
    """
    first, blanks = _next_line(lines)
    if first.lstrip().startswith("["):
        reader = _LineReader(itertools.chain([first], lines))
        yield from _list_rows(reader, read_start(reader), where)
        return
    second, more_blanks = _next_line(lines)
    number = len(blanks) + 1
    if second or not first:
        yield from _line_rows(
            itertools.chain(blanks, [first], more_blanks, [second], lines), where, "line"
        )
        return
    value = parse_json(first, f"{where}: line {number}")
    for item, row in enumerate(object_rows(value, where, columns, may_be_row=True), start=1):
        place = f"{where}: line {number}" if row is value else f"{where}: item {item}"
        yield place, _checked(row, place)


def _line_rows(lines: Iterator[str], where: str, unit: str) -> Iterator[tuple[str, Mapping]]:
    """Yield the rows of lines."""
    for number, row in json_lines(lines, where):
        yield f"{where}: {unit} {number}", _checked(row, f"{where}: {unit} {number}")


def _next_line(lines: Iterator[str]) -> tuple[str, Sequence[str]]:
    """Return the next line that is not blank, empty at the end, and the blank ones before it."""
    blanks = 0
    for line in lines:
        if not line.isspace():
            return line, _Repeated("\n", blanks)
        blanks += 1
    return "", _Repeated("\n", blanks)


class _Repeated(Sequence):
    """A text so many times, without holding it so often."""

    def __init__(self, text: str, count: int):
        self._text, self._count = text, count

    def __len__(self) -> int:
        """Return how often it is there."""
        return self._count

    def __getitem__(self, place: int) -> str:
        """Return the text. Raises IndexError past the end."""
        if not 0 <= place < self._count:
            raise IndexError(place)
        return self._text


class _LineReader:
    """Lines as one text to read from."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines

    def read(self, size: int = -1) -> str:
        """Return lines of about `size` characters, of all where it is negative."""
        parts, count = [], 0
        for line in self._lines:
            parts.append(line)
            count += len(line)
            if 0 <= size <= count:
                break
        return "".join(parts)


def _list_rows(
    reader: TextReader | _LineReader, head: str, where: str
) -> Iterator[tuple[str, Mapping]]:
    """Yield the rows of a list whose text starts with `head`."""
    items = list_items(reader, head, 1, where)
    while True:
        try:
            place, row = next(items)
        except StopIteration as end:
            text, start = end.value
            check_end(text[start:] + reader.read(), where)
            return
        yield place, _checked(row, place)


def _lines_of(reader: TextReader, head: str) -> Iterator[str]:
    """Yield the lines of what was read and of what follows."""
    rest = reader.lines()
    *whole, last = head.split("\n")
    yield from (line + "\n" for line in whole)
    last += next(rest, "")
    if last:
        yield last
    yield from rest


def _is_json(line: str) -> bool:
    """Say whether a line is a JSON value by itself."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(row, place: str) -> Mapping:
    """Return a row; ValueError where it has no named fields."""
    if not isinstance(row, Mapping):
        advice = "; write a data frame with orient='records'" if isinstance(row, list) else ""
        raise ValueError(
            f"{place} is {type(row).__name__}; expected an object with named fields{advice}"
        )
    return row


def object_rows(
    value, where: str, columns: Collection[str] | None = None, *, may_be_row: bool = False
) -> Iterator:
    """Yield the rows of one JSON value: of an object that is a row, holds rows, or holds columns.

    Args:
      value: what JSON gave.
      where: names it in messages.
      columns: names that are looked for.
      may_be_row: whether an object of any other form is one row, as in JSON lines.

    Raises:
      ValueError: it holds no rows.
    """
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{where}: item 1 is {type(value).__name__}; expected an object with named fields"
        )
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return _split_rows(names, data, where)
    wrapped = next((value[name] for name in _WRAPPERS if isinstance(value.get(name), list)), None)
    if wrapped is not None and (not wrapped or isinstance(wrapped[0], Mapping)):
        return iter(wrapped)
    inner = list(value.values())
    is_row = columns and any(_is_scalar(look_up(value, name)) for name in columns)
    if is_row or not inner or any(map(_is_scalar, inner)):
        return iter([value])
    if (
        all(isinstance(column, list) for column in inner)
        and len({len(column) for column in inner}) == 1
    ):
        rows = value[next(iter(value))]
        if len(inner) == 1 and rows and isinstance(rows[0], Mapping):
            return iter(rows)
        return (dict(zip(value, row)) for row in zip(*inner))
    if all(isinstance(column, Mapping) for column in inner):
        return _indexed_rows(value, columns)
    if may_be_row:
        return iter([value])
    fields = list_names(list(itertools.islice(value, 5)))
    raise ValueError(f"{where} is one object with the fields {fields}; {_ADVICE}")


def expand_columns(value, where: str) -> Iterator[tuple[str, object]]:
    """Yield (place, row) of an object whose names of rows are a column; any other value is a row."""
    names = (
        next((value[key] for key in _IDS if key in value), None)
        if isinstance(value, Mapping)
        else None
    )
    if not isinstance(names, Mapping | list):
        yield where, value
        return
    for number, row in enumerate(object_rows(value, where, _IDS, may_be_row=True), start=1):
        yield f"{where}, row {number}", row


def _is_scalar(value) -> bool:
    """Say whether a value is a text, a number or a truth value."""
    return isinstance(value, str | int | float)


def _split_rows(names: list, data: list, where: str) -> Iterator[Mapping]:
    """Yield the rows of {columns, data}, which `orient='split'` and `tight` write."""
    for number, row in enumerate(data, start=1):
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"{where} has {shown(names)} as 'columns'; expected a list of names")
        if not isinstance(row, list) or len(row) != len(names):
            raise ValueError(
                f"{where}: row {number} of 'data' is {shown(row)}; expected {len(names)} values"
            )
        yield dict(zip(names, row))


def _indexed_rows(value: Mapping, columns: Collection[str] | None) -> Iterator[Mapping]:
    """Yield the rows of {column: {index: value}}, or of {index: {column: value}}."""
    inner = next(iter(value.values()))
    by_column = columns and any(name.partition(".")[0] in value for name in columns)
    by_row = columns and any(name.partition(".")[0] in inner for name in columns)
    if not by_column and (by_row or all(str(name).isdecimal() for name in value)):
        return iter(value.values())
    index = dict.fromkeys(key for column in value.values() for key in column)
    return ({name: column.get(key) for name, column in value.items()} for key in index)
