"""Load labelled examples of a task by split, from its own source or from the user's."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from adapler_jax.data.classification.label_sets import (
    SEPARATOR,
    any_labels,
    encode_label_sets,
    names_seen,
    read_label_sets,
)
from adapler_jax.data.classification.labels import (
    classes_seen,
    encode_labels,
    encode_numbers,
    has_labels,
    is_missing,
)
from adapler_jax.data.classification.number_lists import (
    encode_number_lists,
    name_outputs,
    read_numbers,
)
from adapler_jax.data.classification.splits import (
    first_occurrences,
    grouped_holdout_rows,
    holdout_rows,
    stratified_holdout_rows,
    subset,
)
from adapler_jax.data.classification.task_tables import (
    CONTRASTS,
    ROLES,
    check_columns,
    check_user_columns,
    read_tables,
)
from adapler_jax.data.classification.tasks import Task, get_task
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.split_names import SPLITS, evaluation_splits, sort_splits
from adapler_jax.io.messages import explain_unknown, list_names, shown


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples of one split."""

    texts: list[str]  # or the first text of each pair
    text_pairs: list[str] | None  # the second text of each pair; None for single texts
    # Class numbers, int32 [rows]; numbers, float32 [rows], or several a text, float32 [rows,
    # outputs]; or 1 for the labels of a text, int32 [rows, classes].
    labels: np.ndarray
    # Row numbers of this split, int32 [rows]; the index of per-example arrays.
    example_ids: np.ndarray

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.texts)

    @property
    def inputs(self) -> list[str] | list[tuple[str, str]]:
        """Return the texts, or the pairs of texts."""
        return self.texts if self.text_pairs is None else list(zip(self.texts, self.text_pairs))


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A loaded task.

    Attributes:
      task: the task with the class names of this data.
      splits: examples by split name: train, validation, test, and others of the task.
      notes: one sentence for each change to the data: rows removed, split off or left out.
      is_drawn: True if the training rows are a random subset.
    """

    task: Task
    splits: dict[str, Examples]
    notes: tuple[str, ...] = ()
    is_drawn: bool = False

    @property
    def num_classes(self) -> int:
        """Return the number of classes C."""
        return len(self.task.class_names)

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Return the test splits, or the validation splits if no test split is labelled."""
        return evaluation_splits(self.splits)

    def split(self, name: str) -> Examples:
        """Return a split.

        Raises:
          ValueError: the data has no such split.
        """
        if name not in self.splits:
            raise ValueError(
                f"task {self.task.name!r}: {explain_unknown('split', name, self.splits)}"
            )
        return self.splits[name]


def load_task(
    name: str,
    *,
    source: str | None = None,
    sources: Mapping[str, str] | None = None,
    columns: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    split_seed: int = 0,
    split_fractions: Mapping[str, int | float] | None = None,
    num_train_examples: int | None = None,
    options: Options | None = None,
    skip_incomplete: bool = False,
    label_separator: str = SEPARATOR,
) -> Dataset:
    """Load a task from its own source or from the user's.

    Args:
      name: a key of TASKS; `custom` for the user's own data.
      source: replaces the task's source (see load_source).
      sources: a source for single splits, as {"test": "file:held_out.csv"}; replaces `source`.
      columns: column names by role, as {"text": "a", "text_pair": "b", "label": "stars"}; for
        several labels or numbers a text, "label" may list a column for each.
      class_names: replaces the task's; for `custom` the default is the classes in the training
        labels. Of several numbers a text their names; the default is the names of the columns.
      split_seed: decides which rows are split off and drawn, whatever the training seed.
      split_fractions: replaces the task's: sizes of the splits to take from train if the source
        lacks them.
      num_train_examples: train on a seeded subset of at most this size; None on all.
      options: format of text files; None for the default options.
      skip_incomplete: leave out rows whose text or label is missing or empty; `notes` counts them.
      label_separator: between the names of a text with several labels.

    Returns:
      The examples by split. Splits without any label (GLUE test) are left out, and `notes` says so.

    Raises:
      ValueError: a name is unknown, a column missing, a label outside the classes, a text missing,
        or a split empty.
    """
    task = resolve(get_task(name), source=source, columns=columns, split_fractions=split_fractions)
    tables = read_tables(task, sources or {}, options or Options())
    for split, table in tables.items():
        tables[split] = read_numbers(task, read_label_sets(task, table, label_separator))
        check_columns(task, tables[split])
    notes = [note for table in tables.values() for note in table.notes]
    if skip_incomplete:
        tables = {split: _complete_rows(task, table, notes) for split, table in tables.items()}
    if task.has_numbers:
        names = name_outputs(task, class_names, tables)
        task = dataclasses.replace(task, class_names=names)
    else:
        task = _with_classes(task, class_names, tables)
    tables, left_out = _leave_out_unlabelled(task, tables)
    splits = {split: _encode_examples(task, table, notes) for split, table in tables.items()}
    notes += left_out
    if "train" in splits:
        splits = _split_train(task, splits, notes, seed=split_seed)
        splits = _draw_train(splits, num_train_examples, notes, seed=split_seed)
    ordered = {split: splits[split] for split in sort_splits(splits)}
    return Dataset(task, ordered, tuple(notes), is_drawn=bool(num_train_examples))


def resolve(
    task: Task,
    *,
    source: str | None,
    columns: Mapping[str, Any] | None,
    split_fractions: Mapping[str, int | float] | None,
) -> Task:
    """Replace the task's source, columns and sizes by the user's."""
    columns = {role: name for role, name in (columns or {}).items() if name}
    check_user_columns(task, columns)
    for split in split_fractions or {}:
        if split not in SPLITS[1:]:
            raise ValueError(
                f"config.data.split_fractions: {explain_unknown('split', split, SPLITS[1:])}"
            )
    fields = [columns.get(role, field) for role, field in zip(ROLES, task.text_fields)]
    if "text_pair" in columns and len(fields) == 1:
        fields.append(columns["text_pair"])
    label: Any = columns.get("label", task.label_field)
    by_label: tuple[str, ...] = ()
    if not isinstance(label, str):
        label, by_label = task.label_field, tuple(label)
    if task.has_numbers and len(by_label) == 1:
        (label,), by_label = by_label, ()
    contrasts = tuple(columns[role] for role in CONTRASTS if role in columns)
    if contrasts:
        fields.append("document")
    return dataclasses.replace(
        task,
        contrast_fields=contrasts,
        source=source or task.source,
        text_fields=tuple(fields),
        label_field=label,
        label_columns=by_label,
        class_names=task.class_names if task.has_numbers else by_label or task.class_names,
        split_fractions=task.split_fractions if split_fractions is None else dict(split_fractions),
    )


def _with_classes(
    task: Task, class_names: Sequence[str] | None, tables: Mapping[str, Table]
) -> Task:
    """Return the task with the user's class names, its own, or the names in the data.

    Raises:
      ValueError: there are fewer than two, or some are equal.
    """
    names = class_names or task.class_names or _names_of_train(task, tables)
    task = dataclasses.replace(task, class_names=tuple(str(name).strip() for name in names))
    _check_classes(task)
    return task


def _names_of_train(task: Task, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Return the class names that the source stores, else the classes in the training rows."""
    if "train" not in tables:
        raise ValueError(
            f"there is no train split to read the classes from; there are {', '.join(tables)}: "
            "set config.data.class_names, or name one in config.data.sources"
        )
    table = tables["train"]
    labels = table.column(task.label_field, role="label")
    find_names = names_seen if task.has_label_sets else classes_seen
    return table.class_names.get(task.label_field) or find_names(labels, where=table.where)


def _is_labelled(task: Task, labels: Sequence) -> bool:
    """Return whether any row of a split has a label."""
    return any_labels(labels) if task.has_label_sets else has_labels(labels, task.label_names)


def _complete_rows(task: Task, table: Table, notes: list[str]) -> Table:
    """Leave out the rows whose text or label is missing or empty, and note how many."""
    columns = [table.column(field, role=role) for role, field in zip(ROLES, task.text_fields)]
    labels = table.column(task.label_field, role="label")
    if not _is_labelled(task, labels):
        return table
    is_complete = np.array([not is_missing(label) for label in labels], bool)
    for column in columns:
        has_text = [isinstance(text, str) and bool(text.strip()) for text in column]
        is_complete &= np.array(has_text, bool)
    rows = np.flatnonzero(is_complete)
    if len(rows) == len(is_complete):
        return table
    left_out = f"{len(is_complete) - len(rows)} of {len(is_complete)} rows are left out"
    notes.append(f"{table.where}: {left_out}, without text or label")
    if not len(rows):
        raise ValueError(
            f"{table.where} has no row with a text and a label; correct config.data.columns"
        )
    return table.take(rows)


def _leave_out_unlabelled(
    task: Task, tables: dict[str, Table]
) -> tuple[dict[str, Table], list[str]]:
    """Leave out splits, except for train, in which no row has a label; return notes on them."""
    kept, notes = {}, []
    for split, table in tables.items():
        labels = table.column(task.label_field, role="label")
        if split == "train" or _is_labelled(task, labels):
            kept[split] = table
        else:
            notes.append(f"{table.where} has no labels and is left out")
    return kept, notes


def _check_classes(task: Task) -> None:
    """Raise ValueError for fewer than two classes and for repeated names."""
    names = task.class_names
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"task {task.name!r} has the classes {shown(list(names), 200)}; expected two or more "
            "different ones: set config.data.class_names, or give training rows with labels"
        )


def _encode_examples(task: Task, table: Table, notes: list[str]) -> Examples:
    """Check and encode one table; append notes about its labels."""
    texts = [table.column(field, role=role) for role, field in zip(ROLES, task.text_fields)]
    for field, column in zip(task.text_fields, texts):
        _check_texts(column, field, table.where)
    labels = _encoder_of(task)(
        _named_labels(task, table, notes), task.class_names, where=table.where
    )
    ids = np.arange(len(labels), dtype=np.int32)
    first, *second = ([replace_lone_surrogates(text) for text in column] for column in texts)
    return Examples(first, second[0] if second else None, labels, ids)


def _encoder_of(task: Task) -> Callable[..., np.ndarray]:
    """Return the function that converts the labels of a task."""
    if task.has_label_sets:
        return encode_label_sets
    if task.has_numbers:
        return encode_number_lists if task.class_names else encode_numbers
    return encode_labels


def _check_texts(column: Sequence, field: str, where: str) -> None:
    """Raise ValueError if a row of a column is no text."""
    for row, text in enumerate(column, start=1):
        if not isinstance(text, str):
            left_out = "; config.data.skip_incomplete=True leaves such rows out"
            advice = left_out if is_missing(text) else "; store the column as text"
            found = f"row {row} has {shown(text)} in column {field!r}"
            raise ValueError(f"{where}: {found}; expected text{advice}")


def _named_labels(task: Task, table: Table, notes: list[str]) -> Sequence:
    """Return the labels; numbers become stored names if the task has classes of these names."""
    labels = table.column(task.label_field, role="label")
    stored = table.class_names.get(task.label_field, ())
    if not stored or task.has_label_sets or tuple(stored) == tuple(task.class_names):
        return labels
    if set(stored) <= set(task.class_names):
        names = dict(enumerate(stored))
        return [names.get(label, label) if isinstance(label, int) else label for label in labels]
    notes.append(
        f"{table.where}: its classes are called {list_names(stored)}; they are read by number"
    )
    return labels


def _split_train(
    task: Task, splits: Mapping[str, Examples], notes: list[str], *, seed: int
) -> dict[str, Examples]:
    """Remove duplicates from train, then split off what the source lacks; note each."""
    train, num_rows = splits["train"], len(splits["train"])
    if task.drop_duplicates:
        train = take_examples(train, first_occurrences(train.texts, train.text_pairs))
        if len(train) < num_rows:
            notes.append(f"removed {num_rows - len(train)} duplicates of {num_rows} rows")
    sizes = {
        name: size for name, size in task.split_fractions.items() if name not in splits and size
    }
    if not sizes:
        return {**splits, "train": train}
    has_queries = task.has_numbers and len(set(train.texts)) < len(train)
    if task.by_class:
        parts = stratified_holdout_rows(train.labels, sizes, seed=seed)
    elif has_queries:
        parts = grouped_holdout_rows(train.texts, sizes, seed=seed)
    else:
        parts = holdout_rows(len(train), sizes, seed=seed)
    whole = ", by whole first texts" if has_queries else ""
    for name in sizes:
        notes.append(f"{name}: {len(parts[name])} rows split from train by seed {seed}{whole}")
    return {**splits, **{name: take_examples(train, rows) for name, rows in parts.items()}}


def _draw_train(
    splits: dict[str, Examples], num_examples: int | None, notes: list[str], *, seed: int
) -> dict[str, Examples]:
    """Draw at most num_examples training examples and note it; None or 0 takes all."""
    train = splits["train"]
    if not num_examples:
        return splits
    rows = subset(len(train), min(num_examples, len(train)), seed=seed)
    notes.append(f"train: {len(rows)} of {len(train)} examples drawn by seed {seed}")
    return splits | {"train": take_examples(train, rows)}


def take_examples(examples: Examples, rows: np.ndarray) -> Examples:
    """Return these rows as a split, with example ids counted from 0."""
    pairs = examples.text_pairs
    return Examples(
        texts=[examples.texts[row] for row in rows],
        text_pairs=None if pairs is None else [pairs[row] for row in rows],
        labels=examples.labels[rows],
        example_ids=np.arange(len(rows), dtype=np.int32),
    )
