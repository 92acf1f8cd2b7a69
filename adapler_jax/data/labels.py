"""Labels as a source writes them -> class numbers."""

from collections.abc import Sequence

import numpy as np


def has_labels(labels: Sequence) -> bool:
    """Say whether any row is labelled; test splits of public benchmarks carry -1 or nothing."""
    return any(not _is_missing(label) for label in labels)


def classes_seen(labels: Sequence) -> tuple[str, ...]:
    """Return the names of the classes in these labels: numbers in order of size, other names alphabetically."""
    names = {str(_plain(label)) for label in labels if not _is_missing(label)}
    return tuple(sorted(names, key=lambda name: (0, int(name), "") if _is_number(name) else (1, 0, name)))


def encode_labels(labels: Sequence, class_names: Sequence[str], *, where: str) -> np.ndarray:
    """Turn labels into class numbers.

    A label is the name of a class, or its number (also as a string, as CSV files give it). Where the names
    themselves are numbers, say 1 to 5, a label is always read as a name.

    Args:
      labels: strings, ints or whole floats, one a row.
      class_names: the names of the C classes.
      where: the file or split, for the message.

    Returns:
      int32 [rows], in [0, C).

    Raises:
      ValueError: a label is missing or is no class; row (from 1), value and classes are named.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    if not all(_is_number(name) for name in class_names):
        numbers = {str(number): number for number in range(len(class_names))} | numbers
    encoded = np.empty(len(labels), np.int32)
    for row, label in enumerate(labels):
        number = numbers.get(str(_plain(label)))
        if number is None:
            raise ValueError(
                f"{where}: row {row + 1} has the label {label!r}, which is none of the {len(class_names)} classes "
                f"{', '.join(class_names)} nor their numbers; correct the row or set config.data.class_names"
            )
        encoded[row] = number
    return encoded


def _is_missing(label) -> bool:
    """Say whether this is how sources write 'no label': None, NaN, an empty string or -1."""
    return label is None or label != label or str(_plain(label)) in ("", "-1")


def _plain(label):
    """Turn true, 1.0, '1.0' and ' 1 ' into the integer that they mean; leave the rest."""
    if isinstance(label, str):
        label = label.strip()
        return str(int(float(label))) if _is_whole_decimal(label) else label
    if isinstance(label, (bool, np.bool_)):
        return int(label)
    return int(label) if isinstance(label, (float, np.floating)) and float(label).is_integer() else label


def _is_whole_decimal(text: str) -> bool:
    """Say whether text is a whole number written with a point, as spreadsheets do."""
    whole, point, zeros = text.removeprefix("-").partition(".")
    return bool(point) and whole.isdecimal() and set(zeros) == {"0"}


def _is_number(name: str) -> bool:
    """Say whether a class name is an integer."""
    return name.removeprefix("-").isdecimal()
