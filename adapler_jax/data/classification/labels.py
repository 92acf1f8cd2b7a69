"""Labels as a source writes them -> class numbers."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from adapler_jax.data.sources.values import parse_boolean
from adapler_jax.io.messages import list_names, shown

UNLABELLED = "-1"  # how public benchmarks write the labels of their test splits
_MIN_ROWS = 4  # where each has a class of its own, the column is none of classes
# 0.5, 0,5 and 1e-1
_DECIMAL = re.compile(r"[-+]?((\d*[.,]\d+|\d+[.,]\d*)([eE][-+]?\d+)?|\d+[eE]-\d+)")
# how a list or an object in JSON or Python begins
_LIST = re.compile(r"\{|\[\s*([-+\d.'\"\[{\]]|(true|false|null|none|nan)\b)", re.IGNORECASE)
_TRUTHS = ("False", "True")  # classes of a column of truth values


def has_labels(labels: Sequence, class_names: Sequence[str] = ()) -> bool:
    """Say whether any row is labelled. Public test splits carry nothing, or -1 in every row.

    -1 is a label like others where it is the name of a class.
    """
    nothing = ("",) if UNLABELLED in map(str, class_names) else ("", UNLABELLED)
    return any(not is_missing(label) and _str_of(_plain(label)) not in nothing for label in labels)


def is_missing(label) -> bool:
    """Say whether this is how sources write 'no label': None, NaN or an empty string."""
    return label is None or _is_nan(label) or _str_of(_plain(label)) == ""


def _is_nan(label) -> bool:
    """Say whether a label is a number that is none."""
    return isinstance(label, float | np.floating) and bool(np.isnan(label))


def classes_seen(labels: Sequence, *, where: str = "the labels") -> tuple[str, ...]:
    """Return the names of the classes in these labels: numbers in order of size, other names alphabetically.

    Raises:
      ValueError: the labels are lists, numbers with decimals, or each row has one of its own, so that they are no
        classes; the message says what to do.
    """
    for row, label in enumerate(labels, start=1):
        _check_kind(label, f"{where}: row {row}")
    if all(isinstance(label, bool | np.bool_) for label in labels if not is_missing(label)):
        return tuple(name for name in _TRUTHS if any(str(label) == name for label in labels))
    names = _one_form({_str_of(_plain(label)) for label in labels if not is_missing(label)})
    if len(names) == len(labels) >= _MIN_ROWS:
        some = list_names(sorted(names)[:3])
        raise ValueError(
            f"{where}: each of the {len(labels)} rows has a label of its own ({some} ...); this is a column of "
            "texts or ids: name the column of the classes with config.data.columns, or the classes "
            "with config.data.class_names"
        )
    return tuple(
        sorted(names, key=lambda name: (0, int(name), "") if _is_number(name) else (1, 0, name))
    )


def _one_form(names: set[str]) -> set[str]:
    """Return names without those that are others in another Unicode form."""
    return {name for name in names if _composed(name) == name or _composed(name) not in names}


def _composed(name: str) -> str:
    """Return a name in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def _is_list(text: str) -> bool:
    """Say whether a text is a list or an object, as files of tables hold them."""
    return bool(text) and text[-1] in "]}" and _LIST.match(text[:60]) is not None


def _check_kind(label, place: str) -> None:
    """Refuse labels that are no classes."""
    plain = _plain(label)
    is_text = isinstance(plain, str) and _is_list(plain)
    if is_text or isinstance(label, list | tuple | Mapping | np.ndarray):
        kind = "list or an object" if is_text else type(label).__name__
        raise ValueError(
            f"{place} has the label {shown(label)}, which is a {kind}; expected one class a row: of a "
            "one-hot list take the place of its 1, several labels a text are not supported"
        )
    if (
        isinstance(plain, float | np.floating)
        and not _is_nan(plain)
        or _DECIMAL.fullmatch(_str_of(plain)[:60])
    ):
        raise ValueError(
            f"{place} has the label {shown(label)}, a number with decimals, which is no class (regression is not "
            "supported); round the numbers, write them as words, or list them in config.data.class_names"
        )


def encode_labels(labels: Sequence, class_names: Sequence[str], *, where: str) -> np.ndarray:
    """Turn labels into class numbers.

    A label is the name of a class, or its number (also as a string, as CSV files give it). Where the names
    themselves are numbers, say 1 to 5, a label is always read as a name. Of two classes, True is the one that is
    called so, else number 1. Names are the same in all Unicode forms.

    Args:
      labels: strings, ints, whole floats or truth values, one a row.
      class_names: the names of the C classes.
      where: the file or split, for the message.

    Returns:
      int32 [rows], in [0, C).

    Raises:
      ValueError: a label is missing or is no class; row (from 1), value and classes are named.
    """
    numbers = {str(_plain(name)): number for number, name in enumerate(class_names)}
    numbers |= {name: number for number, name in enumerate(class_names)}
    if not all(_is_number(name) for name in class_names):
        numbers = {str(number): number for number in range(len(class_names))} | numbers
    truths = {parse_boolean(name): number for number, name in enumerate(class_names)}
    truths = truths if len(class_names) == 2 and truths.keys() == {True, False} else {}
    composed = {_composed(name): number for name, number in numbers.items()}
    encoded = np.empty(len(labels), np.int32)
    for row, label in enumerate(labels):
        name = _str_of(_plain(label))
        number = truths.get(bool(label)) if isinstance(label, bool | np.bool_) else None
        if number is None:
            number = numbers.get(name, composed.get(_composed(name)))
        if number is None and len(class_names) == 2 and (truth := parse_boolean(name)) is not None:
            number = truths.get(truth, numbers.get(str(int(truth))))
        if number is None:
            advice = "correct the row or set config.data.class_names"
            if is_missing(label):
                advice += "; config.data.skip_incomplete=True leaves such rows out"
            raise ValueError(
                f"{where}: row {row + 1} has the label {shown(label)}, which is none of the {len(class_names)} classes "
                f"{list_names(class_names)} nor their numbers; {advice}"
            )
        encoded[row] = number
    return encoded


def _str_of(value) -> str:
    """Return a value as text. Python refuses numbers of too many digits."""
    try:
        return str(value)
    except ValueError:
        return f"a number of {value.bit_length()} bits"


def _plain(label):
    """Turn true, 1.0, '1.0' and ' 1 ' into the integer that they mean; leave the rest."""
    if isinstance(label, str):
        label = label.strip()
        return str(int(float(label))) if _is_whole_decimal(label) else label
    if isinstance(label, (bool, np.bool_)):
        return int(label)
    return (
        int(label)
        if isinstance(label, (float, np.floating)) and float(label).is_integer()
        else label
    )


def _is_whole_decimal(text: str) -> bool:
    """Say whether text is a whole number written with a point, as spreadsheets do."""
    whole, point, zeros = text.removeprefix("-").partition(".")
    is_short = len(whole) < 16 and whole.isascii()
    return bool(point) and is_short and whole.isdecimal() and set(zeros) == {"0"}


def _is_number(name: str) -> bool:
    """Say whether a class name is an integer."""
    digits = name.removeprefix("-")
    return digits.isdecimal() and len(digits) < 1000
