"""What training understood of labelled texts, reported before any work."""

import collections
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.classification.examples import Dataset, Examples
from adapler_jax.io.messages import short_name
from adapler_jax.metrics.classification import majority_share

_MAX_CLASSES = 12  # lines of the table
_NAME_SIZE = 32  # characters of a class in the table
_MANY_CLASSES = 1 / 3  # of the training rows, from where on they may be no classes


def majority_shares(dataset: Dataset) -> dict[str, float]:
    """Return by split the share of its most frequent class, what always answering one class scores at best."""
    return {name: majority_share(part.labels) for name, part in dataset.splits.items() if len(part)}


def majority_note(share: float) -> str:
    """Return what a score of accuracy is compared with: "majority class: 61.3%"."""
    return f"majority class: {100 * share:.1f}%"


def summarize(dataset: Dataset) -> tuple[str, ...]:
    """Return what a user should check before training, a line each: classes by split, and texts
    that look wrong.
    """
    counts = {
        name: np.bincount(part.labels, minlength=dataset.num_classes)
        for name, part in dataset.splits.items()
    }
    lines = _class_table(dataset.task.class_names, counts)
    shares = majority_shares(dataset)
    scored = next(
        (name for name in shares if name.startswith("validation")), next(iter(shares), None)
    )
    if scored:
        majority = int(counts[scored].argmax())
        name = short_name(dataset.task.class_names[majority], _NAME_SIZE)
        lines.append(f"{majority_note(shares[scored])} of {scored} ({name})")
    return (*lines, *_class_notes(dataset, counts), *_text_notes(dataset.splits))


def _class_table(names: Sequence[str], counts: Mapping[str, np.ndarray]) -> list[str]:
    """Return the lines of a table of classes by their counts in each split."""
    splits = ", ".join(f"{int(count.sum())} {split}" for split, count in counts.items())
    lines = [f"data: {len(names)} classes in {splits} texts"]
    first = next(iter(counts.values()), np.zeros(len(names), np.int64))
    order = (
        np.arange(len(names)) if len(names) <= _MAX_CLASSES else np.argsort(-first, kind="stable")
    )
    shown_names = [short_name(names[place], _NAME_SIZE) for place in order[:_MAX_CLASSES]]
    width = max(map(len, ("class", *shown_names)))
    columns = [max(len(split), 7) for split in counts]
    cells = (f"{split:>{size}}" for split, size in zip(counts, columns))
    lines.append("  ".join(["", f"{'class':<{width}}", *cells]))
    for place, name in zip(order, shown_names):
        cells = (f"{int(count[place]):>{size}}" for count, size in zip(counts.values(), columns))
        lines.append("  ".join(["", f"{name:<{width}}", *cells]))
    if len(names) > _MAX_CLASSES:
        lines.append(f"  and {len(names) - _MAX_CLASSES} more, all with fewer rows or as many")
    return lines


def _class_notes(dataset: Dataset, counts: Mapping[str, np.ndarray]) -> list[str]:
    """Return what looks wrong with the classes."""
    names, train = dataset.task.class_names, counts.get("train")
    notes = [
        f"classes {_listed(group)} differ by case or blanks only; is that one class?"
        for group in _alike(names)
    ]
    if train is None:
        return notes
    rows = int(train.sum())
    single = [names[place] for place in np.flatnonzero(train == 1)]
    absent = [names[place] for place in np.flatnonzero(train == 0)]
    of = f"train: of the {rows} rows drawn, " if dataset.is_drawn else "train: "
    if single:
        notes.append(f"{of}{_counted(single)} with one row only: {_listed(single)}")
    if absent:
        notes.append(f"{of}{_counted(absent)} without a row: {_listed(absent)}")
    for split, count in counts.items():
        if split.startswith("validation"):
            missing = [names[place] for place in np.flatnonzero((count == 0) & (train > 0))]
            notes += (
                [f"{split}: {_counted(missing)} of train without a row: {_listed(missing)}"]
                if missing
                else []
            )
    if len(names) > 2 and len(names) > _MANY_CLASSES * rows:
        notes.append(
            f"train: {len(names)} classes in {rows} rows; is {dataset.task.label_field!r} a "
            f"column of classes, not of "
            "texts or ids? config.data.columns names another"
        )
    return notes


def _alike(names: Sequence[str]) -> list[list[str]]:
    """Return groups of names that are the same but for case, blanks and forms of Unicode."""
    groups = collections.defaultdict(list)
    for name in names:
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups[key].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _counted(names: Sequence[str]) -> str:
    """Return how many classes these are."""
    return f"{len(names)} class{'es' if len(names) > 1 else ''}"


def _listed(names: Sequence[str]) -> str:
    """Return some names."""
    some = ", ".join(repr(short_name(name, _NAME_SIZE)) for name in names[:4])
    return f"{some} and {len(names) - 4} more" if len(names) > 4 else some


def _text_notes(splits: Mapping[str, Examples]) -> list[str]:
    """Return what looks wrong with the texts: empty ones, and ones that are there twice."""
    notes = []
    for name, examples in splits.items():
        empty = [place for place, text in enumerate(examples.texts) if not text.strip()]
        if examples.text_pairs is not None:
            empty += [place for place, text in enumerate(examples.text_pairs) if not text.strip()]
        if empty:
            count = len(set(empty))
            found = "1 text is empty" if count == 1 else f"{count} texts are empty"
            left = "it" if count == 1 else "them"
            notes.append(f"{name}: {found}; config.data.skip_incomplete=True leaves {left} out")
    if "train" not in splits:
        return notes
    labels_of: dict = {}
    for key, label in zip(_keys(splits["train"]), splits["train"].labels.tolist()):
        labels_of.setdefault(key, set()).add(label)
    doubled = len(splits["train"]) - len(labels_of)
    if doubled:
        unlike = sum(len(labels) > 1 for labels in labels_of.values())
        more = f", {unlike} of these texts with several labels" if unlike else ""
        notes.append(
            f"train: {doubled} of {len(splits['train'])} texts {_are(doubled)} there before{more}"
        )
    for name, examples in splits.items():
        again = 0 if name == "train" else sum(key in labels_of for key in _keys(examples))
        if again:
            notes.append(
                f"{name}: {again} of {len(examples)} texts {_are(again)} in train too, so its scores "
                "are too good"
            )
    return notes


def _are(count: int) -> str:
    """Return the verb of so many."""
    return "is" if count == 1 else "are"


def _keys(examples: Examples) -> Sequence:
    """Return what makes two examples the same."""
    return (
        examples.texts
        if examples.text_pairs is None
        else list(zip(examples.texts, examples.text_pairs))
    )
