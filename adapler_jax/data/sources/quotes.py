"""Quotes of delimited texts that are not what they seem: where they open, and the rows that they
swallow.
"""

from collections.abc import Sequence

_MAX_VALUES = 1000  # of a column that may be one of classes


def opening_line(raw: Sequence[str], delimiter: str) -> tuple[int, str] | None:
    """Find the last quote that opens a field in the lines of one row.

    Returns:
      The index of its line and the text after it; None where no quote opens a field.
    """
    text = "".join(raw)
    place, opened, is_inside = text.find('"'), None, False
    while place >= 0:
        if is_inside:
            if text[place + 1 : place + 2] == '"':
                place += 1
            else:
                is_inside = False
        elif place == 0 or text[place - 1] in (delimiter, "\n", "\r"):
            is_inside, opened = True, place
        place = text.find('"', place + 1)
    if opened is None:
        return None
    return text.count("\n", 0, opened), text[opened + 1 : opened + 61].split("\n")[0].strip()


def inner_rows(raw: Sequence[str], delimiter: str, width: int) -> list[tuple[int, list[str]]]:
    """Return the rows that the lines of one row would be without quotes, each with the index of
    its line.

    None where they are one line, or not each as wide as the header. One column says nothing.
    """
    if len(raw) < 2 or width < 2:
        return []
    rows = [
        (place, line.rstrip("\r\n").split(delimiter))
        for place, line in enumerate(raw)
        if line.strip("\r\n")
    ]
    return rows if len(rows) > 1 and all(len(fields) == width for _, fields in rows) else []


def some_rows(raw: Sequence[str], delimiter: str, width: int) -> list[tuple[int, list[str]]]:
    """Return the lines of one row that would be rows without quotes, where they are most of several."""
    if len(raw) < 3 or width < 2:
        return []
    rows = [(place, line.rstrip("\r\n").split(delimiter)) for place, line in enumerate(raw)]
    rows = [(place, fields) for place, fields in rows if len(fields) == width]
    return rows if len(rows) > 1 and 2 * len(rows) > len(raw) else []


class ColumnValues:
    """The values of columns that have few, and which columns hold numbers alone."""

    def __init__(self, width: int):
        """Start with columns that have none."""
        self._values: list[set[str] | None] = [set() for _ in range(width)]
        self._are_numbers = [True] * width
        self._count = 0

    def add(self, fields: Sequence[str]) -> None:
        """Count in one row."""
        self._count += 1
        for column, field in enumerate(fields):
            values = self._values[column]
            if values is not None:
                values.add(field)
                if len(values) > _MAX_VALUES:
                    self._values[column] = None
            if self._are_numbers[column] and not _is_number(field):
                self._are_numbers[column] = False

    def explain(self, rows: Sequence[tuple[int, Sequence[str]]]) -> bool:
        """Say whether these rows look like the others: in a column of few values or of numbers,
        all have such.

        Where nothing is known of others, a value that comes again in the rows speaks for rows.
        """
        columns = list(zip(*(fields for _, fields in rows)))
        if not self._count:
            return any(_comes_again(values) for values in columns)
        return any(self._fits(number, values) for number, values in enumerate(columns))

    def _fits(self, column: int, values: Sequence[str]) -> bool:
        """Say whether all values are like the others of a column that decides."""
        if not all(value.strip() for value in values):
            return False
        known = self._values[column]
        if known is not None and len(known) <= max(2, self._count // 2):
            return all(value in known for value in values)
        return self._are_numbers[column] and all(map(_is_number, values))


def _comes_again(values: Sequence[str]) -> bool:
    """Say whether a value that does not start with a blank, as a clause after a comma does, is
    there twice.
    """
    found = [value for value in values if value.strip() and value == value.lstrip()]
    return len(found) == len(values) and len(set(found)) < len(found)


def _is_number(text: str) -> bool:
    """Say whether a field is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
