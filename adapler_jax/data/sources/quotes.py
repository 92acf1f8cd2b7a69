"""Misplaced quotes in delimited text: where they open, and the rows that they swallow."""

from collections.abc import Sequence

_MAX_VALUES = 1000  # a column with more distinct values holds no classes
_EXCERPT = 60  # characters

NumberedRow = tuple[int, list[str]]  # index of a line, and its fields


def opening_line(raw: Sequence[str], delimiter: str) -> tuple[int, str] | None:
    """Find the last quote that opens a field.

    Args:
      raw: the lines of one record.
      delimiter: separates the fields.

    Returns:
      The index of the quote's line and the text after the quote; None if no quote opens a field.
    """
    text = "".join(raw)
    opened, is_inside = None, False
    position = text.find('"')
    while position >= 0:
        if is_inside:
            is_escaped = text[position + 1 : position + 2] == '"'
            position += is_escaped
            is_inside = is_escaped
        elif position == 0 or text[position - 1] in (delimiter, "\n", "\r"):
            is_inside, opened = True, position
        position = text.find('"', position + 1)
    if opened is None:
        return None
    excerpt = text[opened + 1 : opened + 1 + _EXCERPT].split("\n")[0].strip()
    return text.count("\n", 0, opened), excerpt


def inner_rows(raw: Sequence[str], delimiter: str, width: int) -> list[NumberedRow]:
    """Return the rows of a record's lines read without quotes, if every line is such a row.

    Args:
      raw: the lines of one record.
      delimiter: separates the fields.
      width: fields of the header; in a single column every line would be a row.

    Returns:
      The index and the fields of each line that is not blank. The result is empty if fewer than
      two lines remain, or one of them has another width.
    """
    if len(raw) < 2 or width < 2:
        return []
    rows = [(index, fields) for index, fields in _split(raw, delimiter) if fields != [""]]
    is_block = len(rows) > 1 and all(len(fields) == width for _, fields in rows)
    return rows if is_block else []


def some_rows(raw: Sequence[str], delimiter: str, width: int) -> list[NumberedRow]:
    """Return the lines that are rows without quotes, if they are more than half of the lines."""
    if len(raw) < 3 or width < 2:
        return []
    rows = [(index, fields) for index, fields in _split(raw, delimiter) if len(fields) == width]
    return rows if len(rows) > 1 and 2 * len(rows) > len(raw) else []


def _split(raw: Sequence[str], delimiter: str) -> list[NumberedRow]:
    """Split lines into fields without regard to quotes."""
    return [(index, line.rstrip("\r\n").split(delimiter)) for index, line in enumerate(raw)]


class ColumnValues:
    """The distinct values of columns that have few, and which columns hold only numbers."""

    def __init__(self, width: int):
        """Start with `width` empty columns."""
        self._values: list[set[str] | None] = [set() for _ in range(width)]
        self._are_numbers = [True] * width
        self._count = 0

    def add(self, fields: Sequence[str]) -> None:
        """Add one row."""
        self._count += 1
        for column, field in enumerate(fields):
            values = self._values[column]
            if values is not None:
                values.add(field)
                if len(values) > _MAX_VALUES:
                    self._values[column] = None
            if self._are_numbers[column] and not _is_number(field):
                self._are_numbers[column] = False

    def explain(self, rows: Sequence[NumberedRow]) -> bool:
        """Return whether rows look like the rows that were added.

        They do if one column of few values, or of numbers, holds only such values in them. If no
        row was added, a value that repeats in a column is taken as a sign of rows.
        """
        columns = list(zip(*(fields for _, fields in rows)))
        if not self._count:
            return any(_has_repeats(values) for values in columns)
        return any(self._fits(column, values) for column, values in enumerate(columns))

    def _fits(self, column: int, values: Sequence[str]) -> bool:
        """Return whether all values look like the known values of a column."""
        if not all(value.strip() for value in values):
            return False
        known = self._values[column]
        if known is not None and len(known) <= max(2, self._count // 2):
            return all(value in known for value in values)
        return self._are_numbers[column] and all(map(_is_number, values))


def _has_repeats(values: Sequence[str]) -> bool:
    """Return whether a value repeats, if none is blank or starts with a blank.

    A clause after a comma starts with a blank; a class name does not.
    """
    found = [value for value in values if value.strip() and value == value.lstrip()]
    return len(found) == len(values) and len(set(found)) < len(found)


def _is_number(text: str) -> bool:
    """Return whether a field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
