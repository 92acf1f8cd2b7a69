"""Load sentences whose words have tags, by split, from files or other sources."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.data.classification.examples import resolve
from adapler_jax.data.classification.splits import holdout_rows, subset
from adapler_jax.data.classification.task_tables import (
    TAG_ROLES,
    check_user_columns,
    read_tables,
)
from adapler_jax.data.classification.tasks import Task, get_task
from adapler_jax.data.sources.formats import Options
from adapler_jax.data.sources.tables import Table
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.split_names import sort_splits
from adapler_jax.io.messages import explain_unknown, list_names, listed, shown
from adapler_jax.metrics.entities import OUTSIDE, split_tag

MAX_SHOWN = 12  # tags in the table before a training


@dataclasses.dataclass(frozen=True)
class Sentences:
    """The sentences of one split."""

    words: list[tuple[str, ...]]
    tags: list[tuple[str, ...]]  # one for each word
    where: str  # names the file or split in messages

    def __len__(self) -> int:
        """Count the sentences."""
        return len(self.words)

    def take(self, rows: np.ndarray) -> "Sentences":
        """Return the sentences of these rows, in this order."""
        words, tags = ([column[row] for row in rows] for column in (self.words, self.tags))
        return Sentences(words, tags, self.where)


class TaggedData(NamedTuple):
    """A loaded task of tagged words."""

    task: Task  # with the tags as its classes, in their order
    splits: dict[str, Sentences]
    notes: tuple[str, ...]  # one sentence for each change to the data


def load_sentences(
    name: str,
    *,
    source: str | None = None,
    sources: Mapping[str, str] | None = None,
    columns: Mapping[str, Any] | None = None,
    class_names: Sequence[str] | None = None,
    own_names: Sequence[str] = (),
    split_seed: int = 0,
    split_fractions: Mapping[str, int | float] | None = None,
    num_train_examples: int | None = None,
    options: Options | None = None,
    skip_incomplete: bool = False,
) -> TaggedData:
    """Load a task of tagged words; arguments that are not here are as in `load_task`.

    Args:
      name: of the task.
      source: as in `load_task`; a file that ends in .txt or .conll is a CoNLL file.
      sources: a source for single splits.
      columns: names of the columns by role, as {"words": "tokens", "tags": "ner"}.
      class_names: the tags in their order; None for the tags of the training sentences.
      own_names: tags of a model. They are taken where they include all tags of the sentences.
      split_seed: decides which sentences are split off and drawn.
      split_fractions: sizes of the splits to take from train if the source lacks them.
      num_train_examples: train on a seeded subset of at most this size; None on all.
      options: form of text files.
      skip_incomplete: leave out sentences without words or tags.

    Raises:
      ValueError: a column is missing, a row has no list of words or other tags than words, or a tag
        is unknown.
    """
    columns = {role: column for role, column in (columns or {}).items() if column}
    base = get_task(name)
    check_user_columns(base, columns)
    task = resolve(base, source=source, columns={}, split_fractions=split_fractions)
    words, tags = (columns.get(role, role) for role in TAG_ROLES)
    task = dataclasses.replace(task, text_fields=(words,), label_field=tags)
    options = (options or Options())._replace(reads_conll=True)
    tables = read_tables(task, sources or {}, options)
    notes = [note for table in tables.values() for note in table.notes]
    splits = {}
    for split, table in tables.items():
        check_tag_columns(table, words, tags)
        if split != "train" and all(tag is None for tag in table.columns[tags]):
            notes.append(f"{table.where} has no tags and is left out")
            continue
        splits[split] = read_sentences(task, table, skip_incomplete=skip_incomplete, notes=notes)
    stored = [stored_tags(table, tags) for table in tables.values()]
    names = tuple(class_names or ()) or choose_tags(splits, own_names, *stored)
    for sentences in splits.values():
        check_tags(sentences, names)
    splits = _split_train(task, splits, notes, seed=split_seed)
    if num_train_examples:
        splits["train"] = _draw(splits["train"], num_train_examples, notes, seed=split_seed)
    ordered = {split: splits[split] for split in sort_splits(splits)}
    return TaggedData(dataclasses.replace(task, class_names=names), ordered, tuple(notes))


def _draw(train: Sentences, number: int, notes: list[str], *, seed: int) -> Sentences:
    """Return a seeded subset of the training sentences."""
    rows = subset(len(train), min(number, len(train)), seed=seed)
    notes.append(f"train: {len(rows)} of {len(train)} sentences drawn by seed {seed}")
    return train.take(rows)


def stored_tags(table: Table, column: str) -> tuple[str, ...]:
    """Return the names of numbered tags that a table has, as files of the Hugging Face hub do."""
    return tuple(table.class_names.get(column, ()))


def _named(row_tags, names: Sequence[str]):
    """Return the names of a row's numbered tags; another row, and numbers without a name, as is."""
    found = row_tags.tolist() if isinstance(row_tags, np.ndarray) else row_tags
    are_numbers = isinstance(found, list | tuple) and all(type(tag) is int for tag in found)
    if not are_numbers or not all(0 <= tag < len(names) for tag in found):
        return row_tags
    return [names[tag] for tag in found]


def check_tag_columns(table: Table, *names: str) -> None:
    """Raise ValueError where a table lacks the columns of words and tags."""
    if missing := [name for name in names if name not in table.columns]:
        mapping = ", ".join(f"'{role}': NAME" for role in TAG_ROLES)
        raise ValueError(
            f"{table.where} has no {' and '.join(map(repr, missing))}; there are "
            f'{list_names(table.found)}; name both with --config.data.columns="{{{mapping}}}"'
        )


def _split_train(
    task: Task, splits: dict[str, Sentences], notes: list[str], *, seed: int
) -> dict[str, Sentences]:
    """Split off of train what the source lacks."""
    sizes = {
        name: size for name, size in task.split_fractions.items() if name not in splits and size
    }
    if "train" not in splits or not sizes:
        return splits
    train = splits["train"]
    parts = holdout_rows(len(train), sizes, seed=seed, unit="training sentences")
    notes += [f"{name}: {len(parts[name])} rows split from train by seed {seed}" for name in sizes]
    return splits | {name: train.take(rows) for name, rows in parts.items()}


def read_sentences(
    task: Task, table: Table, *, skip_incomplete: bool = False, notes: list[str]
) -> Sentences:
    """Return the sentences of a table.

    Args:
      task: with the columns of words and tags.
      table: of a split.
      skip_incomplete: leave out rows without words or tags.
      notes: receives how many rows are left out.

    Raises:
      ValueError: a row has something else than a list of words and as many tags.
    """
    fields = (*task.text_fields, task.label_field)
    rows = list(enumerate(zip(*(table.columns[field] for field in fields), strict=True), start=1))
    complete = [(number, row) for number, row in rows if all(map(_is_given, row))]
    if skip_incomplete and len(complete) < len(rows):
        num_left_out = len(rows) - len(complete)
        notes.append(
            f"{table.where}: {num_left_out} of {len(rows)} rows are left out, without words or tags"
        )
        rows = complete
    words, tags = [], []
    names = stored_tags(table, task.label_field)
    for number, (row_words, row_tags) in rows:
        where = f"{table.where}: row {number}"
        words.append(_texts_of(row_words, where, "words", advice="split the text into words"))
        tags.append(
            _texts_of(
                _named(row_tags, names), where, "tags", advice="give the tags' names, as B-PER"
            )
        )
        if len(words[-1]) != len(tags[-1]):
            raise ValueError(
                f"{where} has {len(words[-1])} words and {len(tags[-1])} tags; expected a tag for "
                "each word"
            )
    return Sentences(words, tags, table.where)


def _is_given(value) -> bool:
    """Return whether there is a value, and it is no empty list or text."""
    is_sized = isinstance(value, list | tuple | str | np.ndarray)
    return len(value) > 0 if is_sized else value is not None


def _texts_of(value, where: str, role: str, *, advice: str) -> tuple[str, ...]:
    """Return a list of texts, or its text in JSON, as a tuple.

    Raises:
      ValueError: the value is no list of texts, or it is empty.
    """
    found = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = _parsed(found)
    if not isinstance(found, list | tuple):
        raise ValueError(f"{where} has {shown(found)} as {role}; expected a list: {advice}")
    if not found:
        raise ValueError(
            f"{where} has no {role}; config.data.skip_incomplete=True leaves such rows out"
        )
    for entry in found:
        if not isinstance(entry, str) or (role == "tags" and not entry.strip()):
            raise ValueError(
                f"{where} has {shown(entry)} among its {role}; expected texts: {advice}"
            )
    return tuple(replace_lone_surrogates(entry) for entry in found)


def _parsed(text: str) -> Any:
    """Return the value of a text in JSON; of another text, the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def choose_tags(splits: Mapping[str, Sentences], *known: Sequence[str]) -> tuple[str, ...]:
    """Return the first known tags that include all tags of the sentences; else the tags of train.

    OUTSIDE is the first of the latter, and tags of one kind are neighbours.

    Args:
      splits: sentences by split.
      *known: tags of a model, and those that tables store.

    Raises:
      ValueError: there is no train split to take them from.
    """
    seen = {tag for part in splits.values() for row in part.tags for tag in row}
    for tags in known:
        if tags and seen <= set(tags):
            return tuple(tags)
    if "train" not in splits:
        raise ValueError(
            f"there is no train split to take the tags from; there are {', '.join(splits)}: set "
            "config.data.class_names, or name one in config.data.sources"
        )
    names = {tag for tags in splits["train"].tags for tag in tags}
    return tuple(sorted(names, key=lambda tag: (tag != OUTSIDE, split_tag(tag)[::-1], tag)))


def check_tags(sentences: Sentences, names: Sequence[str]) -> None:
    """Raise ValueError where a sentence has a tag that is not among the names."""
    known = set(names)
    for words, tags in zip(sentences.words, sentences.tags, strict=True):
        for word, tag in zip(words, tags, strict=True):
            if tag not in known:
                raise ValueError(
                    f"{sentences.where}: the word {shown(word)} of {shown(' '.join(words))}: "
                    f"{explain_unknown('tag', tag, names)}; config.data.class_names names all tags"
                )


def describe(data: TaggedData) -> list[str]:
    """Return lines on the tags of the words in each split."""
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in data.splits.items())
    lines = [f"data: {len(data.task.class_names)} tags of words in {sizes} sentences"]
    for name, part in data.splits.items():
        counts = collections.Counter(tag for tags in part.tags for tag in tags)
        shares = [f"{tag} {count:,}" for tag, count in counts.most_common(MAX_SHOWN)]
        lines.append(f"{name}: {counts.total():,} words: {listed(shares)}")
    names = data.task.class_names
    if OUTSIDE not in names and OUTSIDE.lower() in names:
        lines.append(f"tags: {OUTSIDE.lower()!r} is a tag; only {OUTSIDE!r} is of no entity")
    return lines
