"""Convert labels, as a source writes them, to class numbers."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.sources.values import parse_boolean
from adapler_jax.io.messages import list_names, shown

UNLABELLED = "-1"  # how public benchmarks write the labels of their test splits
_MIN_ROWS = 4  # from here on, a column with another label in each row holds no classes
# 0.5, 0,5 and 1e-1
_DECIMAL = re.compile(r"[-+]?((\d*[.,]\d+|\d+[.,]\d*)([eE][-+]?\d+)?|\d+[eE]-\d+)")
# The start of a list or an object in JSON or Python.
_LIST = re.compile(r"\{|\[\s*([-+\d.'\"\[{\]]|(true|false|null|none|nan)\b)", re.IGNORECASE)
_TRUTHS = ("False", "True")  # classes of a column of truth values
_MAX_NUMBER = float(np.finfo(np.float32).max)


def has_labels(labels: Sequence, class_names: Sequence[str] = ()) -> bool:
    """Return True if any row is labelled.

    Public test splits have no labels, or -1 in every row. -1 is a label like others if it is the
    name of a class.
    """
    unlabelled = ("",) if UNLABELLED in map(str, class_names) else ("", UNLABELLED)
    return any(not is_missing(label) and _key(label) not in unlabelled for label in labels)


def is_missing(label) -> bool:
    """Return True for the forms of "no label": None, NaN or an empty string.

    Of a tuple, which has several numbers, one of them may be missing.
    """
    if isinstance(label, tuple):
        return any(map(is_missing, label))
    return label is None or _is_nan(label) or _key(label) == ""


def _is_nan(label) -> bool:
    """Return True for NaN."""
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def classes_seen(labels: Sequence, *, where: str = "the labels") -> tuple[str, ...]:
    """Return the names of the classes in labels: numbers by size, other names alphabetically.

    Raises:
      ValueError: the labels are no classes: lists, numbers with decimals, or another one in each
        row. The message says what to do.
    """
    for row, label in enumerate(labels, start=1):
        _check_kind(label, f"{where}: row {row}")
    present = [label for label in labels if not is_missing(label)]
    if all(isinstance(label, bool | np.bool_) for label in present):
        return tuple(name for name in _TRUTHS if any(str(label) == name for label in labels))
    names = _one_form({_key(label) for label in present})
    if len(names) == len(labels) >= _MIN_ROWS:
        some = list_names(sorted(names)[:3])
        raise ValueError(
            f"{where}: each of the {len(labels)} rows has a label of its own ({some} ...); this is "
            "a column of texts or ids: name the column of the classes with config.data.columns, or "
            "the classes with config.data.class_names"
        )
    return tuple(sorted(names, key=_sort_key))


def _sort_key(name: str) -> tuple[int, int, str]:
    """Return a key that sorts numbers by size, before other names."""
    return (0, int(name), "") if _is_number(name) else (1, 0, name)


def _one_form(names: set[str]) -> set[str]:
    """Return names without other Unicode forms of the same name."""
    return {name for name in names if _composed(name) == name or _composed(name) not in names}


def _composed(name: str) -> str:
    """Return a name in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def _check_kind(label, location: str) -> None:
    """Raise ValueError for a label that is no class."""
    plain = _plain(label)
    is_list_text = isinstance(plain, str) and _is_list(plain)
    if is_list_text or isinstance(label, list | tuple | Mapping | np.ndarray):
        kind = "list or an object" if is_list_text else type(label).__name__
        raise ValueError(
            f"{location} has the label {shown(label)}, which is a {kind}; expected one class a "
            "row: of a one-hot list take the index of its 1; the task custom_multi_label takes "
            "several labels a text"
        )
    is_fraction = isinstance(plain, float | np.floating) and not _is_nan(plain)
    if is_fraction or _DECIMAL.fullmatch(_str_of(plain)[:60]):
        raise ValueError(
            f"{location} has the label {shown(label)}, a number with decimals, which is no class "
            "(the task custom_scores takes numbers); round the numbers, write them as words, or "
            "list them in config.data.class_names"
        )


def _is_list(text: str) -> bool:
    """Return True for a text that spells a list or an object."""
    return bool(text) and text[-1] in "]}" and _LIST.match(text[:60]) is not None


def encode_labels(labels: Sequence, class_names: Sequence[str], *, where: str) -> np.ndarray:
    """Convert labels to class numbers.

    A label is the name of a class, or its number (also as a string, as CSV files have it). If all
    names are numbers, say 1 to 5, a label is always a name. Of two classes, True is the one with
    a name for true, else number 1. All Unicode forms of a name are equal.

    Args:
      labels: strings, ints, whole floats or truth values, one a row.
      class_names: the names of the C classes.
      where: the file or split, for the message.

    Returns:
      int32 [rows], in [0, C).

    Raises:
      ValueError: a label is missing or is no class; row (from 1), value and classes are named.
    """
    numbers = _numbers_by_name(class_names)
    composed = {_composed(name): number for name, number in numbers.items()}
    truths = _numbers_by_truth(class_names)
    encoded = np.empty(len(labels), np.int32)
    for row, label in enumerate(labels):
        name = _key(label)
        number = truths.get(bool(label)) if isinstance(label, bool | np.bool_) else None
        if number is None:
            number = numbers.get(name, composed.get(_composed(name)))
        if number is None and len(class_names) == 2 and (truth := parse_boolean(name)) is not None:
            number = truths.get(truth, numbers.get(str(int(truth))))
        if number is None:
            raise ValueError(f"{where}: row {row + 1} {_explain(label, class_names)}")
        encoded[row] = number
    return encoded


def encode_numbers(labels: Sequence, class_names: Sequence[str], *, where: str) -> np.ndarray:
    """Convert labels to numbers.

    Args:
      labels: numbers, truth values, or texts of numbers, one a row.
      class_names: none.
      where: the file or split, for the message.

    Returns:
      float32 [rows].

    Raises:
      ValueError: a label is missing or is no finite number; row (from 1) and value are named.
    """
    del class_names
    encoded = np.empty(len(labels), np.float32)
    for row, label in enumerate(labels):
        number = number_of(label)
        if number is None:
            raise ValueError(
                f"{where}: row {row + 1} has the label {shown(label)}; expected a number; "
                f"{advise_numbers(label)}"
            )
        encoded[row] = number
    return encoded


def number_of(label) -> float | None:
    """Return the finite number of a label, a number or its text; None for other labels."""
    try:
        number = math.nan if "_" in str(label) else float(label)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) <= _MAX_NUMBER else None


def advise_numbers(label) -> str:
    """Return what to do about a label that is no number, or not several."""
    if is_missing(label):
        return "config.data.skip_incomplete=True leaves such rows out"
    return "correct the row, or name the column of numbers with config.data.columns"


def _numbers_by_name(class_names: Sequence[str]) -> dict[str, int]:
    """Return class numbers by name and, unless all names are numbers, by number as text."""
    numbers = {_key(name): number for number, name in enumerate(class_names)}
    numbers |= {name: number for number, name in enumerate(class_names)}
    if all(_is_number(name) for name in class_names):
        return numbers
    return {str(number): number for number in range(len(class_names))} | numbers


def _numbers_by_truth(class_names: Sequence[str]) -> dict[bool | None, int]:
    """Return class numbers by truth value; none unless the two classes have names for them."""
    truths = {parse_boolean(name): number for number, name in enumerate(class_names)}
    return truths if len(class_names) == 2 and truths.keys() == {True, False} else {}


def _explain(label, class_names: Sequence[str]) -> str:
    """Return the end of a message about a label that is no class."""
    advice = "correct the row or set config.data.class_names"
    if is_missing(label):
        advice += "; config.data.skip_incomplete=True leaves such rows out"
    return (
        f"has the label {shown(label)}, which is none of the {len(class_names)} classes "
        f"{list_names(class_names)} nor their numbers; {advice}"
    )


def _key(label) -> str:
    """Return the text by which labels are compared."""
    return _str_of(_plain(label))


def _str_of(value) -> str:
    """Return a value as text; Python raises for numbers of too many digits."""
    try:
        return str(value)
    except ValueError:
        return f"a number of {value.bit_length()} bits"


def _plain(label):
    """Convert true, 1.0, '1.0' and ' 1 ' to the integer that they mean; leave other values."""
    if isinstance(label, str):
        label = label.strip()
        return str(int(float(label))) if _is_whole_decimal(label) else label
    if isinstance(label, bool | np.bool_):
        return int(label)
    is_whole = isinstance(label, float | np.floating) and float(label).is_integer()
    return int(label) if is_whole else label


def _is_whole_decimal(text: str) -> bool:
    """Return True for a whole number written with a point, as spreadsheets do."""
    whole, point, zeros = text.removeprefix("-").partition(".")
    is_short = len(whole) < 16 and whole.isascii()
    return bool(point) and is_short and whole.isdecimal() and set(zeros) == {"0"}


def _is_number(name: str) -> bool:
    """Return True for a class name that is an integer."""
    digits = name.removeprefix("-")
    return digits.isdecimal() and len(digits) < 1000
