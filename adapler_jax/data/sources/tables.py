"""A table of named columns."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adapler_jax.io.messages import explain_unknown


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length from one source.

    Attributes:
      columns: values by column name: strings, numbers or nested lists, as in the source.
      where: names the file or split in messages.
      found: every column of the source, also the columns that were not read.
      class_names: by column, the class names that its numbers index, if the source stores them.
      notes: sentences for the user on how the source was read.
    """

    columns: Mapping[str, Sequence]
    where: str
    found: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str, *, role: str) -> Sequence:
        """Return a column.

        Args:
          name: of the column.
          role: the config field that maps it: text, text_pair or label.

        Raises:
          ValueError: there is no such column.
        """
        if name in self.columns:
            return self.columns[name]
        advice = ""
        if role == "label":
            advice = "; one column with the class of each row is expected, not a column a class"
        raise ValueError(
            f"{self.where}: {explain_unknown('column', name, self.found)}; "
            f"map it with --config.data.columns=\"{{'{role}': NAME}}\"{advice}"
        )

    def replace(self, **fields: Any) -> "Table":
        """Return the table with other attributes."""
        return dataclasses.replace(self, **fields)

    def take(self, rows: np.ndarray) -> "Table":
        """Return the table of these rows, in this order."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns)


def check_once(names: Iterable[str], found: Sequence[str], where: str) -> None:
    """Raise ValueError if a name appears more than once among the columns found."""
    for name in names:
        count = found.count(name)
        if count > 1:
            raise ValueError(f"{where}: {count} columns are called {name!r}; rename all but one")


def look_up(row: Mapping, name: str) -> Any:
    """Return a field of a row, or None.

    `a.b` is the field of this very name, or else the field b of the field a.
    """
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def has_field(row: Mapping, name: str) -> bool:
    """Return whether a row has a field of this name, which may be dotted."""
    return name in row or ("." in name and look_up(row, name) is not None)


def table_from_rows(
    rows: Iterable[Mapping], where: str, *, columns: Iterable[str] | None = None
) -> Table:
    """Build a table from rows; a key that a row lacks becomes None there.

    Args:
      rows: mappings from column names to values.
      where: names the source in messages.
      columns: columns to keep; None keeps all.
    """
    selected = None if columns is None else set(columns)
    dotted = [name for name in selected or () if "." in name]
    values: dict[str, list] = {}
    found: dict[str, None] = {}
    for count, row in enumerate(rows):
        found.update(dict.fromkeys(row))
        nested = [name for name in dotted if has_field(row, name)]
        for name in (*row, *nested):
            is_selected = selected is None or name in selected
            if name not in values and is_selected:
                values[name] = [None] * count
        for name, column in values.items():
            column.append(look_up(row, name))
    return Table(columns=values, where=where, found=tuple(found))
