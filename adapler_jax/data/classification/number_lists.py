"""Read several numbers of a text: a list in one column, or a column for each.

Shape letters:

    E rows of a table
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.classification.labels import advise_numbers, number_of
from adapler_jax.data.classification.tasks import Task
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.split_names import sort_splits
from adapler_jax.io.messages import explain_unknown, list_names, shown


def read_numbers(task: Task, table: Table) -> Table:
    """Return a table whose labels of several numbers are tuples; others for other tasks.

    Args:
      task: with one column of labels, or a column for each number.
      table: of a source.

    Raises:
      ValueError: a column is missing.
    """
    field = task.label_field
    if not task.takes_lists:
        return table
    if task.label_columns:
        for name in task.label_columns:
            if name not in table.columns:
                raise ValueError(
                    f"{table.where}: {explain_unknown('column', name, table.found)}; "
                    "config.data.columns.label lists a column for each number"
                )
        joined = list(zip(*(table.columns[name] for name in task.label_columns), strict=True))
        found = tuple(dict.fromkeys((*table.found, field)))
        return table.replace(columns={**table.columns, field: joined}, found=found)
    if field not in table.columns:
        return table  # whose lack is reported with other missing columns
    return table.replace(
        columns={**table.columns, field: [_as_tuple(label) for label in table.columns[field]]}
    )


def _as_tuple(label):
    """Return a list, or its text in JSON, as a tuple; of one entry this entry.

    Another label is returned as it is.
    """
    if isinstance(label, np.ndarray):
        label = label.tolist()
    if isinstance(label, str) and label.lstrip().startswith("["):
        try:
            label = json.loads(label)
        except ValueError:
            return label
    if not isinstance(label, list | tuple):
        return label
    return label[0] if len(label) == 1 else tuple(label)


def name_outputs(
    task: Task, class_names: Sequence[str] | None, tables: Mapping[str, Table]
) -> tuple[str, ...]:
    """Return the names of the numbers of a text; none where a text has one number.

    They are the user's, or the names of the columns, or numbers from 0.

    Args:
      task: whose labels `read_numbers` has read.
      class_names: by the user.
      tables: by split. The first row with several numbers, of train where it has one, says how
        many there are.

    Raises:
      ValueError: there is another number of names, or two are equal.
    """
    ordered = [tables[split] for split in sort_splits(tables)]
    columns = (table.columns.get(task.label_field, ()) for table in ordered)
    lists = (label for column in columns for label in column if isinstance(label, tuple))
    count = len(next(lists, ())) if task.takes_lists else 0
    if not count:
        return ()
    names = tuple(class_names or task.label_columns or map(str, range(count)))
    if len(names) != count or len(set(names)) < count:
        raise ValueError(
            f"config.data.class_names has the names {list_names(names)}, and the first text with "
            f"several numbers has {count}: give a different name for each"
        )
    return names


def encode_number_lists(labels: Sequence, names: Sequence[str], *, where: str) -> np.ndarray:
    """Return the numbers of each text, float32 [E, C].

    Args:
      labels: a tuple for each row, of numbers, truth values or texts of numbers.
      names: of the C numbers.
      where: the file or split, for the message.

    Raises:
      ValueError: a row has another length, or something else than a finite number; the row is
        named.
    """
    number_EC = np.empty((len(labels), len(names)), np.float32)
    for row, label in enumerate(labels):
        numbers = [number_of(value) for value in label] if isinstance(label, tuple) else []
        if len(numbers) != len(names) or None in numbers:
            raise ValueError(
                f"{where}: row {row + 1} has the label {shown(_plain(label))}; expected "
                f"{len(names)} numbers, for {list_names(names)}; {advise_numbers(label)}"
            )
        number_EC[row] = numbers
    return number_EC


def _plain(label):
    """Return a tuple as a list, as users write it."""
    return list(label) if isinstance(label, tuple) else label
