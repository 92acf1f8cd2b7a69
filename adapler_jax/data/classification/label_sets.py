"""Read the labels of texts that have several: lists, separated names, or a column a label.

Shape letters:

    E rows of a table
"""

import ast
import json
import re
from collections.abc import Iterable, Sequence

import numpy as np

from adapler_jax.data.classification.labels import is_missing
from adapler_jax.data.classification.tasks import Task
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.values import parse_boolean
from adapler_jax.io.messages import explain_unknown, list_names, shown

SEPARATOR = ","  # between the names of a text
MIN_NAMES = 2
BRACKETS = "[({"  # first characters of a list, a tuple or a set
ADJACENT_TEXTS = re.compile(r"""['"]\s+['"]""")
LIST_TYPES = (list, tuple, set, frozenset, np.ndarray)

LabelSet = tuple[str, ...] | None  # None: a text whose labels nobody wrote down


def read_label_sets(task: Task, table: Table, separator: str) -> Table:
    """Return a table whose column of labels has the names of each row; others for other tasks.

    Args:
      task: with one column of labels, or a column for each label.
      table: of a source.
      separator: between names that are no list.

    Raises:
      ValueError: a column of a label is missing, or a row has something else than labels.
    """
    field = task.label_field
    if not task.has_label_sets:
        return table
    if task.label_columns:
        return join_columns(table, task.label_columns, field)
    if field not in table.columns:
        return table  # whose lack is reported with other missing columns
    labels = table.columns[field]
    if all(is_missing(label) for label in labels):
        sets: list[LabelSet] = [None] * len(labels)  # of a test split that is not published
    else:
        sets = split_labels(labels, separator, where=table.where)
    return table.replace(columns={**table.columns, field: sets})


def any_labels(sets: Sequence[LabelSet]) -> bool:
    """Return whether the labels of a text are known; a text may have none of them."""
    return any(labels is not None for labels in sets)


def join_columns(table: Table, columns: Sequence[str], field: str) -> Table:
    """Return a table with one column of label names, made of a column of truth values a label.

    Args:
      table: with the columns.
      columns: whose names are the labels.
      field: name of the new column.

    Raises:
      ValueError: a column is missing, or a value of it is neither 0 nor 1 nor missing.
    """
    for name in columns:
        if name not in table.columns:
            raise ValueError(
                f"{table.where}: {explain_unknown('column', name, table.found)}; "
                "config.data.columns.label lists a column for each label"
            )
    truths = [_truths(table.columns[name], name, table.where) for name in columns]
    joined = [_names_of(columns, row) for row in zip(*truths, strict=True)]
    found = tuple(dict.fromkeys((*table.found, field)))
    return table.replace(columns={**table.columns, field: joined}, found=found)


def _truths(values: Sequence, name: str, where: str) -> list[bool | None]:
    """Return the truth values of a label's column; None where a value is missing."""
    found = []
    for row, value in enumerate(values, start=1):
        truth = None if is_missing(value) else parse_boolean(_plain(value))
        if truth is None and not is_missing(value):
            raise ValueError(
                f"{where}: row {row} has {shown(value)} in the label's column {name!r}; expected "
                "0 or 1, or true or false"
            )
        found.append(truth)
    return found


def _plain(value):
    """Return a number of NumPy as a number of Python."""
    return value.item() if isinstance(value, np.generic) else value


def _names_of(names: Sequence[str], truths: Sequence[bool | None]) -> LabelSet:
    """Return the names of the labels that are true; None where a truth is missing."""
    if any(truth is None for truth in truths):
        return None
    return tuple(name for name, truth in zip(names, truths) if truth)


def split_labels(labels: Sequence, separator: str, *, where: str) -> list[LabelSet]:
    """Return the label names of each text.

    Args:
      labels: of each text a list; or a text with names, a list in JSON, or empty for no label.
      separator: between names of a text that is no list in JSON.
      where: the file or split, for the message.

    Raises:
      ValueError: an entry is none of these; the row, counted from 1, is named.
    """
    if not isinstance(separator, str) or not separator:
        raise ValueError(
            f"config.data.label_separator is {shown(separator)}; expected a text, as ','"
        )
    return [_split(label, separator, f"{where}: row {row}") for row, label in enumerate(labels, 1)]


def _split(label, separator: str, location: str) -> LabelSet:
    """Return the label names of one text."""
    if isinstance(label, str):
        text = label.strip()
        names = _listed_names(text, location)
        if names is None:
            names = text.split(separator)
        return _unique(names, location) if text else ()
    if isinstance(label, LIST_TYPES):
        return _unique(label, location)
    return None if is_missing(label) else _unique([label], location)


def _listed_names(text: str, location: str) -> Iterable | None:
    """Return the names in a text that spells a list, in JSON or in Python; None for other texts.

    Raises:
      ValueError: a text with a square bracket first is no list.
    """
    if not text or text[0] not in BRACKETS:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        names = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    # Python joins texts without a comma between them, as NumPy prints them.
    if isinstance(names, LIST_TYPES) and not ADJACENT_TEXTS.search(text):
        return names
    if text[0] != "[":
        return None
    raise ValueError(
        f'{location} has the labels {shown(text)}; expected a list in JSON, as ["sport", "health"]'
    )


def _unique(names: Iterable, location: str) -> tuple[str, ...]:
    """Return different names as texts, in their order."""
    names = list(names)
    _check_names(names, location)
    found: dict[str, None] = {}
    for name in names:
        value = _plain(name)
        is_name = isinstance(value, str | int) and str(value).strip()
        if not is_name:
            raise ValueError(
                f"{location} has {shown(value)} among its labels; expected names, as "
                '["sport", "health"], or [] for a text without labels'
            )
        found[str(value).strip()] = None
    return tuple(found)


def _check_names(names: list, location: str) -> None:
    """Raise ValueError for a list with a truth value for each label in place of names."""
    texts = [str(name).strip() for name in names]
    is_binary = len(set(texts)) < len(texts) and set(texts) <= {"0", "1"}
    if is_binary or any(isinstance(name, bool | np.bool_) for name in names):
        raise ValueError(
            f"{location} has the labels {shown(names)}, a truth value for each label; give the "
            "names of a text's labels, or a column for each label in config.data.columns.label"
        )


def names_seen(sets: Sequence[LabelSet], *, where: str) -> tuple[str, ...]:
    """Return the names of all labels, sorted; numbers by their size.

    Raises:
      ValueError: there are fewer than two.
    """
    names = {name for labels in sets for name in labels or ()}
    if len(names) < MIN_NAMES:
        raise ValueError(
            f"{where} has the labels {list_names(sorted(names))}; expected two or more "
            "different ones: set config.data.label_separator, or config.data.class_names"
        )
    is_numbered = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=int if is_numbered else None))


def encode_label_sets(
    sets: Sequence[LabelSet], class_names: Sequence[str], *, where: str
) -> np.ndarray:
    """Return 1 for the labels of each text and 0 for others, int32 [E, C].

    Args:
      sets: names of each text. Where no label of all texts is a name, and no name is a number, they
        are numbers of classes.
      class_names: of the C labels.
      where: the file or split, for the message.

    Raises:
      ValueError: a text has another label, or its labels are missing; the row is named.
    """
    number_of = {name: number for number, name in enumerate(class_names)}
    has_names = any(name in number_of for labels in sets for name in labels or ())
    if not has_names and not any(name.isdecimal() for name in class_names):
        number_of = {str(number): number for number in range(len(class_names))}
    is_label_EC = np.zeros((len(sets), len(class_names)), np.int32)
    for row, labels in enumerate(sets):
        if labels is None:
            raise ValueError(
                f"{where}: row {row + 1} has no labels; write [] for a text without labels, or "
                "leave such rows out by config.data.skip_incomplete=True"
            )
        for name in labels:
            if name not in number_of:
                raise ValueError(
                    f"{where}: row {row + 1} has the label {shown(name)}, which is none of the "
                    f"{len(class_names)} labels {list_names(class_names)}; correct the row, or set "
                    "config.data.label_separator or config.data.class_names"
                )
            is_label_EC[row, number_of[name]] = 1
    return is_label_EC
