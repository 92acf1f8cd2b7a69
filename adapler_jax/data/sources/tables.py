"""A table of named columns, and the sentences that a wrong name and another's error are answered with."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from adapler_jax.io.messages import explain_unknown


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of equal length, read from one place.

    Attributes:
      columns: the values by column name; strings, numbers or nested lists, as the source holds them.
      where: the file or split they came from, for error messages.
      found: every column that the source holds, also those that were not read.
      class_names: by column, the names of the classes that its numbers count, where the source stores them.
      notes: what a user should know of how it was read, one sentence each.
    """

    columns: Mapping[str, Sequence]
    where: str
    found: tuple[str, ...]
    class_names: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        advice = (
            "; one column with the class of each row is expected, not a column a class"
            if role == "label"
            else ""
        )
        raise ValueError(
            f"{self.where}: {explain_unknown('column', name, self.found)}; "
            f"map it with --config.data.columns=\"{{'{role}': NAME}}\"{advice}"
        )

    def replace(self, **fields) -> "Table":
        """Return the table with these attributes."""
        return dataclasses.replace(self, **fields)

    def take(self, rows: np.ndarray) -> "Table":
        """Return the table of these rows, in this order."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns)


def check_once(names: Iterable[str], found: Sequence[str], where: str) -> None:
    """Raise ValueError where one of the names is more than once among the columns found."""
    for name in names:
        if found.count(name) > 1:
            raise ValueError(
                f"{where}: {found.count(name)} columns are called {name!r}; rename all but one"
            )


def look_up(row: Mapping, name: str):
    """Return a field of a row: of this very name, else `review.text` as the field text inside of review; else None."""
    if name in row or "." not in name:
        return row.get(name)
    value = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def has_field(row: Mapping, name: str) -> bool:
    """Say whether a row has a field of this name, or one inside of others for a dotted name."""
    return name in row or ("." in name and look_up(row, name) is not None)


def table_from_rows(
    rows: Iterable[Mapping], where: str, *, columns: Iterable[str] | None = None
) -> Table:
    """Turn rows (mappings) into a table; a key that a row lacks becomes None there."""
    wanted = None if columns is None else set(columns)
    dotted = [name for name in wanted or () if "." in name]
    values: dict[str, list] = {}
    found: dict[str, None] = {}
    count = 0
    for row in rows:
        found.update(dict.fromkeys(row))
        for name in (*row, *(name for name in dotted if has_field(row, name))):
            if name not in values and (wanted is None or name in wanted):
                values[name] = [None] * count
        for name, column in values.items():
            column.append(look_up(row, name))
        count += 1
    return Table(columns=values, where=where, found=tuple(found))
