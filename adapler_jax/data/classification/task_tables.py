"""Read the tables of a task's splits from their sources."""

import functools
from collections.abc import Mapping, Sequence

from adapler_jax.data.classification.tasks import OWN_TASKS, Task
from adapler_jax.data.ranking.contrasts import expand_contrasts
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.load import load_source
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.split_names import SPLITS, role_of
from adapler_jax.io.messages import explain_unknown, list_names, shown

ROLES = ("text", "text_pair", "label")
CONTRASTS = ("positive", "negative")  # in place of text_pair and label
TAG_ROLES = ("words", "tags")  # in place of text and label, where words have tags


def check_source(task: Task, sources: Mapping[str, str]) -> None:
    """Raise ValueError if a task has no source of training texts."""
    if not task.source and "train" not in sources:
        raise ValueError(
            f"task {task.name!r} has no source of its own; set config.data.source, "
            "as in file:reviews.csv"
        )


def read_tables(task: Task, sources: Mapping[str, str], options: Options) -> dict[str, Table]:
    """Read the tables of the splits that this library uses, by our names."""
    check_source(task, sources)
    labels = task.label_columns or (task.label_field,)
    fields = {*task.text_fields, *labels, *task.raw_fields, *task.contrast_fields}
    read = functools.partial(load_source, columns=fields, options=options)
    tables = {}
    for found, table in (read(task.source) if task.source else {}).items():
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
            tables[split] = _only_split(read(source), split, source)
    for table in tables.values():
        if not table.found or (table.columns and not len(table)):
            raise ValueError(
                f"{table.where} is empty; give a split with at least one row or leave it out"
            )
    return {split: _prepare(task, table) for split, table in tables.items()}


def _prepare(task: Task, table: Table) -> Table:
    """Return a table with the columns of the task's texts and labels, where it had another form."""
    if task.contrast_fields:
        query, document = task.text_fields
        names = (query, document, task.label_field)
        return expand_contrasts(table, query, *task.contrast_fields, names=names)
    return task.prepare(table) if task.prepare else table


def _only_split(tables: dict[str, Table], split: str, source: str) -> Table:
    """Return the split of this name, or the only one there is."""
    if split in tables:
        return tables[split]
    if len(tables) == 1:
        return next(iter(tables.values()))
    raise ValueError(f"{source}: {explain_unknown('split', split, tables)}")


def check_user_columns(task: Task, columns: Mapping[str, object]) -> None:
    """Raise ValueError if the user's columns have an unknown role or do not fit the task."""
    for role, column in columns.items():
        known: tuple[str, ...] = TAG_ROLES if task.has_tags else ROLES
        known = (*ROLES, *CONTRASTS) if task.name == "custom_scores" else known
        if role not in known:
            raise ValueError(explain_unknown("column role", role, known))
        takes_list = role == "label" and (task.has_label_sets or task.takes_lists)
        if takes_list and isinstance(column, list | tuple):
            check_different(column)
            continue
        if not isinstance(column, str) and task.has_numbers:
            raise ValueError(
                f"config.data.columns has {shown(column)} as {role}; expected the name of a column"
            )
        if not isinstance(column, str):
            raise ValueError(
                f"config.data.columns has {shown(column)} as {role}; expected the name of one "
                "column: of one-hot columns make one with the class of each row, or take the task "
                "custom_multi_label where a text has several labels"
            )
    given = [role for role in CONTRASTS if role in columns]
    if given and (len(given) < 2 or "text_pair" in columns or "label" in columns):
        raise ValueError(
            f"config.data.columns has {', '.join(columns)}; expected text, positive and negative, "
            "or text, text_pair and label"
        )
    if "text_pair" in columns and len(task.text_fields) == 1 and task.name not in OWN_TASKS:
        raise ValueError(
            f"task {task.name!r} has single texts; drop config.data.columns.text_pair "
            "or use the task 'custom'"
        )


def check_different(columns: Sequence[str]) -> None:
    """Raise ValueError for a list of columns of labels that repeats one, or has another value."""
    other = next((name for name in columns if not isinstance(name, str)), None)
    if other is not None:
        raise ValueError(
            f"config.data.columns.label has {shown(other)}; expected the names of columns"
        )
    twice = next((name for name in columns if list(columns).count(name) > 1), None)
    if twice is not None:
        raise ValueError(
            f"config.data.columns.label names {shown(twice)} twice; expected different columns"
        )


def check_columns(task: Task, table: Table) -> None:
    """Raise ValueError that names all columns, if a table lacks several.

    `Table.column` raises it for a single column.
    """
    roles = [*zip(ROLES, task.text_fields), ("label", task.label_field)]
    missing = {role: field for role, field in roles if field not in table.columns}
    if len(missing) > 1:
        names = " and ".join(map(repr, missing.values()))
        mapping = ", ".join(f"'{role}': NAME" for role in missing)
        delimiter = "; where that is several, name what is between them with config.data.delimiter"
        advice = delimiter if len(table.found) == 1 else ""
        raise ValueError(
            f"{table.where} has no columns {names}; there are {list_names(table.found)}{advice}; "
            f'map them with --config.data.columns="{{{mapping}}}"'
        )
