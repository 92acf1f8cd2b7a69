"""Rows of JSON in the forms that programs write: lists, lines, columns, and DataFrame.to_json()."""

import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from adapler_jax.data.sources.encodings import TextReader
from adapler_jax.data.sources.json_values import (
    CharacterReader,
    check_end,
    json_lines,
    list_items,
    parse_json,
    read_start,
)
from adapler_jax.data.sources.tables import look_up
from adapler_jax.io.messages import list_names, shown

_WRAPPERS = ("data", "rows", "records", "examples", "items", "instances")
_WORDS = ("words", "tokens")  # columns with a list of words in each row
_IDS = ("id", "qid", "_id", "example_id")  # of questions
_ADVICE = (
    "expected rows: a list of objects, JSON lines as DataFrame.to_json(orient='records', "
    "lines=True) writes them, or columns of equal length"
)

LocatedRow = tuple[str, Mapping]  # the location of a row, for messages, and the row


def json_rows(
    reader: TextReader, where: str, *, columns: Collection[str] | None = None
) -> Iterator[LocatedRow]:
    """Yield (location, row) of a JSON file in any form; a list and lines are not held in memory.

    Args:
      reader: the text.
      where: names the file in messages.
      columns: names that distinguish rows from columns if both are possible. None: the names of
        rows are numbers.

    Raises:
      ValueError: the content is not JSON, or holds no rows; the message names the line or item.
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
        for number, row in enumerate(rows, start=1):
            location = f"{where}: item {number}"
            yield location, _checked(row, location)


def json_line_rows(
    lines: Iterator[str], where: str, *, columns: Collection[str] | None = None
) -> Iterator[LocatedRow]:
    """Yield (location, row) of JSON lines; a single line may have any form of `json_rows`.

    Args and errors are as in `json_rows`.
    """
    first, blanks = _next_line(lines)
    if first.lstrip().startswith("["):
        reader = _LineReader(itertools.chain([first], lines))
        yield from _list_rows(reader, read_start(reader), where)
        return
    second, more_blanks = _next_line(lines)
    number = len(blanks) + 1
    if second or not first:
        every_line = itertools.chain(blanks, [first], more_blanks, [second], lines)
        yield from _line_rows(every_line, where, "line")
        return
    value = parse_json(first, f"{where}: line {number}")
    for item, row in enumerate(object_rows(value, where, columns, may_be_row=True), start=1):
        location = f"{where}: line {number}" if row is value else f"{where}: item {item}"
        yield location, _checked(row, location)


def _line_rows(lines: Iterator[str], where: str, unit: str) -> Iterator[LocatedRow]:
    """Yield the rows of lines."""
    for number, row in json_lines(lines, where):
        location = f"{where}: {unit} {number}"
        yield location, _checked(row, location)


def _next_line(lines: Iterator[str]) -> tuple[str, "_BlankLines"]:
    """Return the next line that is not blank, empty at the end, and the blank lines before it."""
    num_blanks = 0
    for line in lines:
        if not line.isspace():
            return line, _BlankLines(num_blanks)
        num_blanks += 1
    return "", _BlankLines(num_blanks)


class _BlankLines:
    """A number of blank lines, without the memory of a list."""

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        """Return the number of lines."""
        return self._count

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""
        return itertools.repeat("\n", self._count)


class _LineReader:
    """Lines that are read as one text."""

    def __init__(self, lines: Iterator[str]):
        self._lines = lines

    def read(self, size: int = -1) -> str:
        """Return lines of about `size` characters; all if it is negative."""
        parts, count = [], 0
        for line in self._lines:
            parts.append(line)
            count += len(line)
            if 0 <= size <= count:
                break
        return "".join(parts)


def _list_rows(reader: CharacterReader, head: str, where: str) -> Iterator[LocatedRow]:
    """Yield the rows of a list whose text starts with `head`."""
    items = list_items(reader, head, 1, where)
    while True:
        try:
            location, row = next(items)
        except StopIteration as end:
            text, start = end.value
            check_end(text[start:] + reader.read(), where)
            return
        yield location, _checked(row, location)


def _lines_of(reader: TextReader, head: str) -> Iterator[str]:
    """Yield the lines of the text read so far and of the rest."""
    rest = reader.lines()
    *whole, last = head.split("\n")
    yield from (line + "\n" for line in whole)
    last += next(rest, "")
    if last:
        yield last
    yield from rest


def _is_json(line: str) -> bool:
    """Return whether a line is a JSON value."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _checked(row: Any, location: str) -> Mapping:
    """Return a row; raise ValueError if it has no named fields."""
    if not isinstance(row, Mapping):
        advice = "; write a data frame with orient='records'" if isinstance(row, list) else ""
        found = type(row).__name__
        raise ValueError(f"{location} is {found}; expected an object with named fields{advice}")
    return row


def object_rows(
    value: Any, where: str, columns: Collection[str] | None = None, *, may_be_row: bool = False
) -> Iterator:
    """Return the rows of one JSON value: an object that is a row, holds rows, or holds columns.

    Args:
      value: the JSON value.
      where: names the file in messages.
      columns: names of the fields that are needed.
      may_be_row: an object of any other form is one row, as in JSON lines.

    Raises:
      ValueError: the value holds no rows.
    """
    if not isinstance(value, Mapping):
        found = type(value).__name__
        raise ValueError(f"{where}: item 1 is {found}; expected an object with named fields")
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list):
        return _split_rows(names, data, where)
    wrapped = _wrapped_rows(value)
    if wrapped is not None:
        return iter(wrapped)
    if _is_row(value, columns):
        return iter([value])
    inner = list(value.values())
    if _are_columns(inner):
        return _column_rows(value)
    if all(isinstance(column, Mapping) for column in inner):
        return _indexed_rows(value, columns)
    if may_be_row:
        return iter([value])
    fields = list_names(list(itertools.islice(value, 5)))
    raise ValueError(f"{where} is one object with the fields {fields}; {_ADVICE}")


def _wrapped_rows(value: Mapping) -> list | None:
    """Return the list of rows that an object holds under one of the usual names, or None."""
    wrapped = next((value[name] for name in _WRAPPERS if isinstance(value.get(name), list)), None)
    holds_rows = wrapped is not None and (not wrapped or isinstance(wrapped[0], Mapping))
    return wrapped if holds_rows else None


def _is_row(value: Mapping, columns: Collection[str] | None) -> bool:
    """Return whether an object is a row: it is empty or holds a text, a number or a truth value.

    A list of words is in a row too.
    """
    has_column = any(_is_scalar(look_up(value, name)) for name in columns or ())
    has_words = any(_are_words(value.get(name)) for name in _WORDS if name in (columns or ()))
    return has_column or has_words or not value or any(map(_is_scalar, value.values()))


def _are_words(value: Any) -> bool:
    """Return whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _is_scalar(value: Any) -> bool:
    """Return whether a value is a text, a number or a truth value."""
    return isinstance(value, str | int | float)


def _are_columns(values: Sequence) -> bool:
    """Return whether the values of an object are lists of one length."""
    are_lists = all(isinstance(column, list) for column in values)
    return are_lists and len({len(column) for column in values}) == 1


def _column_rows(value: Mapping[str, list]) -> Iterator[Mapping]:
    """Return the rows of {column: values}, or of an object with one list of rows."""
    first = next(iter(value.values()))
    if len(value) == 1 and first and isinstance(first[0], Mapping):
        return iter(first)
    return (dict(zip(value, row)) for row in zip(*value.values()))


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
    """Return the rows of {column: {index: value}}, or of {index: {column: value}}."""
    inner = next(iter(value.values()))
    top_names = [name.partition(".")[0] for name in columns or ()]
    is_by_column = any(name in value for name in top_names)
    is_by_row = any(name in inner for name in top_names)
    has_numbers = all(str(name).isdecimal() for name in value)
    if not is_by_column and (is_by_row or has_numbers):
        return iter(value.values())
    index = dict.fromkeys(key for column in value.values() for key in column)
    return ({name: column.get(key) for name, column in value.items()} for key in index)


def expand_columns(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield (location, row) of an object of columns; any other value is one row.

    An object is taken for columns if its ids are a list or an object.
    """
    ids = None
    if isinstance(value, Mapping):
        ids = next((value[key] for key in _IDS if key in value), None)
    if not isinstance(ids, Mapping | list):
        yield where, value
        return
    for number, row in enumerate(object_rows(value, where, _IDS, may_be_row=True), start=1):
        yield f"{where}, row {number}", row
