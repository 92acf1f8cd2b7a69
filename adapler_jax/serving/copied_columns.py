"""Copy columns of the input next to the columns of predictions."""

import json
import math
from collections.abc import Callable, Iterable, Sequence

from adapler_jax.io.messages import explain_unknown
from adapler_jax.serving.streams import Window

ALL, NONE = "all", "none"
SUFFIX = "_input"  # after a name that a column of predictions has too


def parse_copy(names: Sequence[str]) -> str | tuple[str, ...]:
    """Return ALL, NONE, or the names of columns.

    Raises:
      ValueError: either word is mixed with names.
    """
    names = tuple(names)
    if names in ((ALL,), (NONE,)):
        return names[0]
    if not names or ALL in names or NONE in names:
        raise ValueError(
            f"--copy_columns is {','.join(names)!r}; expected all, none, or names of columns"
        )
    return names


class CopiedColumns:
    """Choose the columns of the input to copy, and their new names."""

    def __init__(self, requested: str | Sequence[str], where: str, log: Callable[[str], None]):
        """Take the requested columns.

        Args:
          requested: ALL, NONE, or names of columns.
          where: names the input in messages.
          log: receives notes.
        """
        self._requested, self._where, self._log = requested, where, log
        self._names: tuple[str, ...] | None = () if requested == NONE else None
        self._new_names: dict[str, str] = {}

    @property
    def keep(self) -> Callable | None:
        """Return the `keep` argument of `read_windows`; None if nothing is copied."""
        return None if self._requested == NONE else self.choose

    def choose(self, found: Sequence[str]) -> tuple[str, ...]:
        """Return the names of the columns to copy.

        Raises:
          ValueError: a requested column is missing or occurs twice.
        """
        once = [name for name in found if list(found).count(name) == 1]
        if self._requested == ALL:
            self._names = tuple(once)
            if twice := [name for name in dict.fromkeys(found) if name not in once]:
                self._log(f"{self._where}: columns of one name are not copied: {', '.join(twice)}")
            return self._names
        for name in self._requested:
            if name not in found:
                raise ValueError(f"{self._where}: {explain_unknown('column', name, found)}")
            if name not in once:
                raise ValueError(
                    f"{self._where}: several columns are called {name!r}; rename all but one"
                )
        self._names = tuple(dict.fromkeys(self._requested))
        return self._names

    def settle(self, windows: Iterable[Window], own: Sequence[str]) -> tuple[str, ...]:
        """Return the new names of the copied columns.

        Args:
          windows: the first window, or none; JSON lines get their columns from it.
          own: names of the columns of predictions.
        """
        if self._names is None:
            rows = [row for window in windows for row in window.rows or ()]
            if rows:
                self.choose(tuple(dict.fromkeys(name for row in rows for name in row)))
        taken = set(own)
        for name in self._names or ():
            new = name
            while new in taken:
                new += SUFFIX
            taken.add(new)
            self._new_names[name] = new
            if new != name:
                self._log(
                    f"the input's column {name!r} is copied as {new!r}, "
                    f"since the predictions have a {name!r}"
                )
        return tuple(self._new_names.values())

    def types(self, schema) -> dict:
        """Return Parquet types by new name: of a Parquet input's schema, else None for text."""
        return {
            new: None if schema is None else schema.field(name).type
            for name, new in self._new_names.items()
        }

    def columns(self, window: Window, convert: Callable) -> dict[str, list]:
        """Return the copied columns of a window, each value converted for the output."""
        return {
            new: [convert(row.get(name)) for row in window.rows or ()]
            for name, new in self._new_names.items()
        }


def as_text(value) -> str | None:
    """Return a value as a cell of CSV, TSV or a text column: lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bool | list | tuple | dict):
        return json.dumps(as_json(value), ensure_ascii=False, allow_nan=False)
    return str(value)


def as_json(value):
    """Return a value in types of JSON: no NaN and no infinity, other types as texts."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): as_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(entry) for entry in value]
    return str(value)


def as_is(value):
    """Return the value unchanged, for Parquet with the input's types."""
    return value
