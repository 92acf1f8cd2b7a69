"""A table of named columns, and the sentences that a wrong name and another's error are answered with."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


def explain_unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is no known `kind`; the nearest names come first, then all of them."""
    known = [str(item) for item in known]
    nearest = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    return f"unknown {kind} {name!r}; {hint}known: {', '.join(known) or 'none'}"


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error).strip() or type(error).__name__).split("\n")[0]


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, read from one place.

    Attributes:
      columns: the values by column name; strings, numbers or nested lists, as the source holds them.
      where: the file or split they came from, for error messages.
      found: every column that the source holds, also those that were not read.
    """

    columns: Mapping[str, Sequence]
    where: str
    found: tuple[str, ...]

    def __len__(self) -> int:
        """Count the rows."""
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str, *, role: str) -> Sequence:
        """Return the column `name`; `role` (text, text_pair, label) is the config field that maps it.

        Raises:
          ValueError: there is no such column.
        """
        if name in self.columns:
            return self.columns[name]
        raise ValueError(
            f"{self.where}: {explain_unknown('column', name, self.found)}; "
            f"map it with --config.data.columns=\"{{'{role}': NAME}}\""
        )

    def take(self, rows: np.ndarray) -> "Table":
        """Return the table of these rows, in this order."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns)


def table_from_rows(rows: Iterable[Mapping], where: str, *, columns: Iterable[str] | None = None) -> Table:
    """Turn rows (mappings) into a table; a key that a row lacks becomes None there."""
    wanted = None if columns is None else set(columns)
    values: dict[str, list] = {}
    found: dict[str, None] = {}
    count = 0
    for row in rows:
        found.update(dict.fromkeys(row))
        for name in row:
            if name not in values and (wanted is None or name in wanted):
                values[name] = [None] * count
        for name, column in values.items():
            column.append(row.get(name))
        count += 1
    return Table(columns=values, where=where, found=tuple(found))
