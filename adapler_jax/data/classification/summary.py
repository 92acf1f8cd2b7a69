"""Summarize labelled texts before training, with notes on likely mistakes."""

import collections
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.classification.examples import Dataset, Examples
from adapler_jax.io.messages import short_name
from adapler_jax.metrics.classification import majority_share

_MAX_CLASSES = 12  # lines of the table
_NAME_SIZE = 32  # characters of a class in the table
_MANY_CLASSES = 1 / 3  # fraction of the training rows above which the labels may be no classes


def majority_shares(dataset: Dataset) -> dict[str, float]:
    """Return by split the fraction of its most frequent class.

    Numbers and several labels a text have none. It is the accuracy of a constant class.
    """
    if dataset.task.has_numbers or dataset.task.has_label_sets:
        return {}
    return {name: majority_share(part.labels) for name, part in dataset.splits.items() if len(part)}


def majority_note(share: float) -> str:
    """Return the baseline of an accuracy as text: "majority class: 61.3%"."""
    return f"majority class: {100 * share:.1f}%"


def summarize(dataset: Dataset) -> tuple[str, ...]:
    """Return lines that a user should check before training: labels by split, suspicious texts."""
    if dataset.task.has_numbers:
        return (*_number_lines(dataset), *_text_notes(dataset.splits))
    if dataset.task.has_label_sets:
        return (*_label_table(dataset), *_text_notes(dataset.splits))
    counts = {
        name: np.bincount(part.labels, minlength=dataset.num_classes)
        for name, part in dataset.splits.items()
    }
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    lines = _class_table(dataset.task.class_names, counts, sizes)
    shares = majority_shares(dataset)
    scored = next(
        (name for name in shares if name.startswith("validation")), next(iter(shares), None)
    )
    if scored:
        majority = int(counts[scored].argmax())
        name = short_name(dataset.task.class_names[majority], _NAME_SIZE)
        lines.append(f"{majority_note(shares[scored])} of {scored} ({name})")
    return (*lines, *_class_notes(dataset, counts), *_text_notes(dataset.splits))


def _number_lines(dataset: Dataset) -> list[str]:
    """Return the range and the mean of the labels that are numbers; of several a line for each."""
    numbers = np.concatenate([examples.labels for examples in dataset.splits.values()])
    sizes = ", ".join(f"{len(examples)} {name}" for name, examples in dataset.splits.items())
    if numbers.ndim == 1:
        return [f"data: numbers {_range_of(numbers)}, in {sizes} texts"]
    ranges = [
        f"  {short_name(name, _NAME_SIZE)}: {_range_of(column)}"
        for name, column in zip(dataset.task.class_names, numbers.T, strict=True)
    ]
    return [f"data: {len(ranges)} numbers a text, in {sizes} texts", *ranges]


def _range_of(numbers: np.ndarray) -> str:
    """Return the range and the mean of numbers in words."""
    return f"from {numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.3g}"


def _label_table(dataset: Dataset) -> list[str]:
    """Return the lines of a table of labels, and their mean number a text."""
    counts = {name: part.labels.sum(axis=0) for name, part in dataset.splits.items()}
    sizes = {name: len(part) for name, part in dataset.splits.items()}
    mean = sum(int(count.sum()) for count in counts.values()) / max(1, sum(sizes.values()))
    lines = _class_table(dataset.task.class_names, counts, sizes, kind="labels")
    train = counts.get("train", np.ones(dataset.num_classes))
    if absent := _select(dataset.task.class_names, train == 0):
        lines.append(f"train: no text has {_listed(absent)}")
    return [*lines, f"{mean:.2f} labels a text on the mean"]


def _class_table(
    names: Sequence[str],
    counts: Mapping[str, np.ndarray],
    sizes: Mapping[str, int],
    *,
    kind: str = "classes",
) -> list[str]:
    """Return the lines of a table of classes, or another kind, by their counts in each split."""
    splits = ", ".join(f"{size} {split}" for split, size in sizes.items())
    lines = [f"data: {len(names)} {kind} in {splits} texts"]
    order = np.arange(len(names))
    if len(names) > _MAX_CLASSES:
        order = np.argsort(-next(iter(counts.values()), order), kind="stable")[:_MAX_CLASSES]
    labels = [short_name(names[index], _NAME_SIZE) for index in order.tolist()]
    width = max(len(label) for label in ("class", *labels))
    widths = [max(len(split), 7) for split in counts]
    cells = [f"{split:>{size}}" for split, size in zip(counts, widths)]
    lines.append("  ".join(["", f"{'class':<{width}}", *cells]))
    for index, label in zip(order, labels):
        cells = [f"{int(count[index]):>{size}}" for count, size in zip(counts.values(), widths)]
        lines.append("  ".join(["", f"{label:<{width}}", *cells]))
    if len(names) > _MAX_CLASSES:
        lines.append(f"  and {len(names) - _MAX_CLASSES} more, all with fewer rows or as many")
    return lines


def _class_notes(dataset: Dataset, counts: Mapping[str, np.ndarray]) -> list[str]:
    """Return notes on classes that look wrong."""
    names = dataset.task.class_names
    notes = [
        f"classes {_listed(similar)} differ by case or blanks only; is that one class?"
        for similar in _similar_names(names)
    ]
    train = counts.get("train")
    if train is None:
        return notes
    num_rows = int(train.sum())
    prefix = f"train: of the {num_rows} rows drawn, " if dataset.is_drawn else "train: "
    single, absent = _select(names, train == 1), _select(names, train == 0)
    if single:
        notes.append(f"{prefix}{_counted(single)} with one row only: {_listed(single)}")
    if absent:
        notes.append(f"{prefix}{_counted(absent)} without a row: {_listed(absent)}")
    for split, count in counts.items():
        missing = _select(names, (count == 0) & (train > 0))
        if split.startswith("validation") and missing:
            notes.append(f"{split}: {_counted(missing)} of train without a row: {_listed(missing)}")
    if len(names) > 2 and len(names) > _MANY_CLASSES * num_rows:
        notes.append(
            f"train: {len(names)} classes in {num_rows} rows; is {dataset.task.label_field!r} a "
            "column of classes, not of texts or ids? config.data.columns names another"
        )
    return notes


def _select(names: Sequence[str], is_selected: np.ndarray) -> list[str]:
    """Return the names for which a bool array is True."""
    return [names[index] for index in np.flatnonzero(is_selected).tolist()]


def _similar_names(names: Sequence[str]) -> list[list[str]]:
    """Return groups of names that differ only by case, blanks or Unicode form."""
    similar = collections.defaultdict(list)
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        similar[key].append(name)
    return [found for found in similar.values() if len(found) > 1]


def _counted(names: Sequence[str]) -> str:
    """Return the number of classes as text."""
    return f"{len(names)} class{'es' if len(names) > 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    """Return the first names as text, and the number of other names."""
    some = ", ".join(repr(short_name(name, _NAME_SIZE)) for name in names[:4])
    return f"{some} and {len(names) - 4} more" if len(names) > 4 else some


def _text_notes(splits: Mapping[str, Examples]) -> list[str]:
    """Return notes on empty and repeated texts."""
    notes = [note for name, examples in splits.items() for note in _empty_notes(name, examples)]
    if "train" not in splits:
        return notes
    train = splits["train"]
    labels_of = collections.defaultdict(set)
    for key, label in zip(train.inputs, train.labels):
        labels_of[key].add(label.tobytes())
    num_repeated = len(train) - len(labels_of)
    if num_repeated:
        num_mixed = sum(len(labels) > 1 for labels in labels_of.values())
        more = f", {num_mixed} of these texts with different labels" if num_mixed else ""
        notes.append(
            f"train: {num_repeated} of {len(train)} texts {_are(num_repeated)} repeated{more}"
        )
    for name, examples in splits.items():
        num_seen = 0 if name == "train" else sum(key in labels_of for key in examples.inputs)
        if num_seen:
            notes.append(
                f"{name}: {num_seen} of {len(examples)} texts {_are(num_seen)} in train too, "
                "so its scores are too good"
            )
    return notes


def _empty_notes(name: str, examples: Examples) -> list[str]:
    """Return a note if texts of a split are empty."""
    columns = [examples.texts, examples.text_pairs or ()]
    empty = {row for texts in columns for row, text in enumerate(texts) if not text.strip()}
    if not empty:
        return []
    found = "1 text is empty" if len(empty) == 1 else f"{len(empty)} texts are empty"
    left_out = "it" if len(empty) == 1 else "them"
    return [f"{name}: {found}; config.data.skip_incomplete=True leaves {left_out} out"]


def _are(count: int) -> str:
    """Return the verb for a number of things."""
    return "is" if count == 1 else "are"
