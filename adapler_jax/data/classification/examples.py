"""From a task's name to labelled examples by split: the one place where sources, labels and splits meet."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.classification.labels import (
    classes_seen,
    encode_labels,
    has_labels,
    is_missing,
)
from adapler_jax.data.classification.splits import (
    first_occurrences,
    holdout_rows,
    stratified_holdout_rows,
    subset,
)
from adapler_jax.data.classification.tasks import Task, get_task
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.split_names import SPLITS, evaluation_splits, role_of, sort_splits
from adapler_jax.io.messages import explain_unknown, list_names, shown

ROLES = ("text", "text_pair", "label")


@dataclasses.dataclass(frozen=True)
class Examples:
    """One split.

    Attributes:
      texts: the texts, or the first of each pair.
      text_pairs: the second of each pair; None for single texts.
      labels: class numbers, int32 [rows].
      example_ids: row numbers of this split, int32 [rows]; what per-example arrays are indexed by.
    """

    texts: list[str]
    text_pairs: list[str] | None
    labels: np.ndarray
    example_ids: np.ndarray

    def __len__(self) -> int:
        """Count the examples."""
        return len(self.texts)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A task, loaded.

    Attributes:
      task: the task with the class names that hold for this data.
      splits: examples by split name: train, validation, test, and what else the task has.
      notes: what was removed, carved or left out, one sentence each.
      is_drawn: whether the training rows are a subset that was drawn.
    """

    task: Task
    splits: dict[str, Examples]
    notes: tuple[str, ...] = ()
    is_drawn: bool = False

    @property
    def num_classes(self) -> int:
        """Number of classes C."""
        return len(self.task.class_names)

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """Splits to report on: the test splits, or the validation splits where no test is labelled."""
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
    columns: Mapping[str, str] | None = None,
    class_names: Sequence[str] | None = None,
    split_seed: int = 0,
    split_fractions: Mapping[str, int | float] | None = None,
    num_train_examples: int | None = None,
    options: Options = Options(),
    skip_incomplete: bool = False,
) -> Dataset:
    """Load a task from its own source or from the user's.

    Args:
      name: a key of TASKS; `custom` for the user's own data.
      source: replaces the task's source (see load_source).
      sources: a source for single splits, as {"test": "file:held_out.csv"}; goes before `source`.
      columns: column names by role, as {"text": "sentence", "text_pair": "reply", "label": "stars"}.
      class_names: replaces the task's; for `custom` the default is the classes seen in the training labels.
      split_seed: decides which rows are carved and drawn; keep it while the training seed varies.
      carve: replaces the task's: sizes of the splits to cut from train where the source lacks them.
      num_train_examples: train on a seeded subset of at most this size; None on all.
      options: how text files are written, where they do not say so themselves.
      skip_incomplete: leave out rows whose text or label is missing or empty; `notes` counts them.

    Returns:
      The examples by split. Splits without any label (GLUE test) are left out, which `notes` says.

    Raises:
      ValueError: a name is unknown, a column missing, a label outside the classes, a text missing, a split empty.
    """
    task = _resolve(get_task(name), source=source, columns=columns, split_fractions=split_fractions)
    tables = _read_tables(task, sources or {}, options)
    for table in tables.values():
        _check_columns(task, table)
    notes = [note for table in tables.values() for note in table.notes]
    if skip_incomplete:
        tables = {split: _complete_rows(task, table, notes) for split, table in tables.items()}
    names = class_names or task.class_names or _names_of_train(task, tables)
    task = dataclasses.replace(task, class_names=tuple(str(name).strip() for name in names))
    tables, left_out = _leave_out_unlabelled(task, tables)
    _check_classes(task)
    splits = {split: _read_examples(task, table, notes) for split, table in tables.items()}
    splits, changes = _share_out(
        task, splits, split_seed=split_seed, num_train_examples=num_train_examples
    )
    ordered = sort_splits(splits)
    notes += [*left_out, *changes]
    ordered_splits = {split: splits[split] for split in ordered}
    return Dataset(
        task=task, splits=ordered_splits, notes=tuple(notes), is_drawn=bool(num_train_examples)
    )


def _resolve(task: Task, *, source, columns, split_fractions) -> Task:
    """Put the user's source, columns and sizes in place of the task's."""
    columns = {role: name for role, name in (columns or {}).items() if name}
    for role, column in columns.items():
        if role not in ROLES:
            raise ValueError(explain_unknown("column role", role, ROLES))
        if not isinstance(column, str):
            raise ValueError(
                f"config.data.columns has {shown(column)} as {role}; expected the name of one column: "
                "of one-hot columns make one with the class of each row"
            )
    if "text_pair" in columns and len(task.text_fields) == 1 and task.name != "custom":
        raise ValueError(
            f"task {task.name!r} has single texts; drop config.data.columns.text_pair or use the task 'custom'"
        )
    for split in split_fractions or {}:
        if split not in SPLITS[1:]:
            raise ValueError(
                f"config.data.split_fractions: {explain_unknown('split', split, SPLITS[1:])}"
            )
    fields = [columns.get(role, field) for role, field in zip(ROLES, task.text_fields)]
    if "text_pair" in columns and len(fields) == 1:
        fields.append(columns["text_pair"])
    return dataclasses.replace(
        task,
        source=source or task.source,
        text_fields=tuple(fields),
        label_field=columns.get("label", task.label_field),
        split_fractions=task.split_fractions if split_fractions is None else dict(split_fractions),
    )


def _names_of_train(task: Task, tables: Mapping[str, Table]) -> tuple[str, ...]:
    """Return the names of the classes: those that the source stores, else those seen in the training rows."""
    if "train" not in tables:
        raise ValueError(
            f"there is no train split to read the classes from; there are {', '.join(tables)}: "
            "set config.data.class_names, or name one in config.data.sources"
        )
    table = tables["train"]
    labels = table.column(task.label_field, role="label")
    return table.class_names.get(task.label_field) or classes_seen(labels, where=table.where)


def _complete_rows(task: Task, table: Table, notes: list[str]) -> Table:
    """Leave out the rows whose text or label is missing or empty, and say how many."""
    columns = [table.column(field, role=role) for role, field in zip(ROLES, task.text_fields)]
    labels = table.column(task.label_field, role="label")
    if not has_labels(labels, task.class_names):
        return table
    is_whole = np.array([not is_missing(label) for label in labels], bool)
    for column in columns:
        is_whole &= np.array(
            [isinstance(text, str) and bool(text.strip()) for text in column], bool
        )
    rows = np.flatnonzero(is_whole)
    if len(rows) == len(is_whole):
        return table
    left_out = f"{len(is_whole) - len(rows)} of {len(is_whole)} rows are left out"
    notes.append(f"{table.where}: {left_out}, without text or label")
    if not len(rows):
        raise ValueError(
            f"{table.where} has no row with a text and a label; correct config.data.columns"
        )
    return table.take(rows)


def _check_columns(task: Task, table: Table) -> None:
    """Raise ValueError where a table lacks several columns, and name them all; of one `Table.column` does so."""
    roles = [*zip(ROLES, task.text_fields), ("label", task.label_field)]
    missing = {role: field for role, field in roles if field not in table.columns}
    if len(missing) > 1:
        mapping = ", ".join(f"'{role}': NAME" for role in missing)
        lone = "; where that is several, name what is between them with config.data.delimiter"
        raise ValueError(
            f"{table.where} has no columns {' and '.join(map(repr, missing.values()))}; there are "
            f"{list_names(table.found)}{lone if len(table.found) == 1 else ''}; map them with "
            f'--config.data.columns="{{{mapping}}}"'
        )


def check_source(task: Task, sources: Mapping[str, str]) -> None:
    """Raise ValueError where a task has no source to read its training texts from."""
    if not task.source and "train" not in sources:
        raise ValueError(
            f"task {task.name!r} has no source of its own; set config.data.source, as in file:reviews.csv"
        )


def _read_tables(task: Task, sources: Mapping[str, str], options: Options) -> dict[str, Table]:
    """Read the tables of the splits that this library uses, by our names."""
    check_source(task, sources)
    wanted = {*task.text_fields, task.label_field, *task.raw_fields}
    tables = {}
    for found, table in (
        load_source(task.source, columns=wanted, options=options).items() if task.source else ()
    ):
        ours = task.split_names.get(found, found)
        if ours and role_of(ours) in SPLITS:
            tables[ours] = table
    for split, source in sources.items():
        if role_of(split) not in SPLITS:
            raise ValueError(f"config.data.sources: {explain_unknown('split', split, SPLITS)}")
        if not isinstance(source, str):
            raise ValueError(
                f"config.data.sources holds {source!r} for {split}; expected a source, as file:PATH"
            )
        if source:
            tables[split] = _only_split(
                load_source(source, columns=wanted, options=options), split, source
            )
    for table in tables.values():
        if not table.found or (table.columns and not len(table)):
            raise ValueError(
                f"{table.where} is empty; give a split with at least one row or leave it out"
            )
    return (
        {split: task.prepare(table) for split, table in tables.items()} if task.prepare else tables
    )


def _only_split(tables: dict[str, Table], split: str, source: str) -> Table:
    """Pick the split of this name, or the only one there is."""
    if split in tables:
        return tables[split]
    if len(tables) == 1:
        return next(iter(tables.values()))
    raise ValueError(f"{source}: {explain_unknown('split', split, tables)}")


def _leave_out_unlabelled(
    task: Task, tables: dict[str, Table]
) -> tuple[dict[str, Table], list[str]]:
    """Drop splits, other than train, in which no row has a label."""
    kept, notes = {}, []
    for split, table in tables.items():
        if split == "train" or has_labels(
            table.column(task.label_field, role="label"), task.class_names
        ):
            kept[split] = table
        else:
            notes.append(f"{table.where} has no labels and is left out")
    return kept, notes


def _check_classes(task: Task) -> None:
    """Refuse fewer than two classes and repeated names."""
    names = task.class_names
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"task {task.name!r} has the classes {shown(list(names), 200)}; expected two or more different ones: "
            "set config.data.class_names, or give training rows with labels"
        )


def _read_examples(task: Task, table: Table, notes: list[str]) -> Examples:
    """Check and encode one table; what a user should know of its labels goes to the notes."""
    texts = [table.column(field, role=role) for role, field in zip(ROLES, task.text_fields)]
    for field, column in zip(task.text_fields, texts):
        for row, text in enumerate(column, start=1):
            if not isinstance(text, str):
                left_out = "; config.data.skip_incomplete=True leaves such rows out"
                advice = left_out if is_missing(text) else "; store the column as text"
                found = f"row {row} has {shown(text)} in column {field!r}"
                raise ValueError(f"{table.where}: {found}; expected text{advice}")
    labels = encode_labels(_named_labels(task, table, notes), task.class_names, where=table.where)
    ids = np.arange(len(labels), dtype=np.int32)
    first, *second = ([replace_lone_surrogates(text) for text in column] for column in texts)
    return Examples(first, second[0] if second else None, labels, ids)


def _named_labels(task: Task, table: Table, notes: list[str]) -> Sequence:
    """Return the labels; numbers become the names that the source stores where the task calls its classes so."""
    labels, stored = (
        table.column(task.label_field, role="label"),
        table.class_names.get(task.label_field, ()),
    )
    if not stored or tuple(stored) == tuple(task.class_names):
        return labels
    if set(stored) <= set(task.class_names):
        numbered = dict(enumerate(stored))
        return [numbered.get(label, label) if isinstance(label, int) else label for label in labels]
    notes.append(
        f"{table.where}: its classes are called {list_names(stored)}; they are read by number"
    )
    return labels


def _share_out(
    task: Task, splits: dict[str, Examples], *, split_seed: int, num_train_examples: int | None
) -> tuple[dict[str, Examples], list[str]]:
    """Remove duplicates, carve what the source lacks, draw the training subset; say each."""
    notes = []
    if "train" not in splits:
        return splits, notes
    train, before = splits["train"], len(splits["train"])
    if task.drop_duplicates:
        train = take_examples(train, first_occurrences(train.texts, train.text_pairs))
        notes += (
            [f"removed {before - len(train)} duplicates of {before} rows"]
            if len(train) < before
            else []
        )
    sizes = {
        name: size for name, size in task.split_fractions.items() if name not in splits and size
    }
    if sizes:
        if task.by_class:
            parts = stratified_holdout_rows(train.labels, sizes, seed=split_seed)
        else:
            parts = holdout_rows(len(train), sizes, seed=split_seed)
        notes += [
            f"{name}: {len(parts[name])} rows carved from train by seed {split_seed}"
            for name in sizes
        ]
        splits = splits | {name: take_examples(train, parts[name]) for name in sizes}
        train = take_examples(train, parts["train"])
    if num_train_examples:
        rows = subset(len(train), min(num_train_examples, len(train)), seed=split_seed)
        notes.append(f"train: {len(rows)} of {len(train)} examples drawn by seed {split_seed}")
        train = take_examples(train, rows)
    return splits | {"train": train}, notes


def take_examples(examples: Examples, rows: np.ndarray) -> Examples:
    """Return these rows as a split of its own, with example ids counted from 0 again."""
    pairs = examples.text_pairs
    return Examples(
        texts=[examples.texts[row] for row in rows],
        text_pairs=None if pairs is None else [pairs[row] for row in rows],
        labels=examples.labels[rows],
        example_ids=np.arange(len(rows), dtype=np.int32),
    )
