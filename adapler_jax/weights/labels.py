"""Align the classes of a checkpoint's classifier with the data's."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from adapler_jax.io.messages import listed

UNNAMED = re.compile(r"(?:LABEL_)?(\d{1,9})")  # a class without a name
NUMBER = re.compile(r"[+-]?\d{1,9}")
DIGITS = re.compile(r"(?<!\w)[-+]?\d+|\d+")  # of a name, as in 5 stars
TRUTHS = ("False", "True")  # names of truth values; runs of release 0.1 call them 0 and 1
SEPARATORS = re.compile(r"[\s_-]+")


class Alignment(NamedTuple):
    """Rows of a classifier for the classes of the data."""

    # The row of each class of the data; None where the classifier does not fit.
    rows: tuple[int, ...] | None
    note: str  # for the user; empty where the names are equal


def align_classes(own: Sequence[str] | None, target: Sequence[str]) -> Alignment:
    """Return which rows of a classifier are the classes of the data, by their names.

    Names can be equal, equal but for case and separators, or numbers on one side. Numbers of the
    data count the checkpoint's classes. Numbers of the checkpoint, as in LABEL_0, take the order
    of the data.

    Args:
      own: names of the checkpoint's classes in the order of its logits; None where it has no names.
      target: names of as many classes of the data, in their order.
    """
    if own is None:
        return Alignment(tuple(range(len(target))), assumed("names no classes", target))
    found = align_by_name(own, target) or align_by_number(own, target)
    if found is not None:
        return found
    names = f"the checkpoint's classes are {listed(own)}, the data's {listed(target)}"
    advice = (
        "to keep the classifier, give the data's classes the checkpoint's names "
        "in config.data.class_names"
    )
    return Alignment(None, f"{names}; {advice}")


def align_by_name(own: Sequence[str], target: Sequence[str]) -> Alignment | None:
    """Align classes by names that are equal, or equal but for case and separators."""
    if tuple(own) == tuple(target):
        return Alignment(tuple(range(len(own))), "")
    if rows := match_rows(own, target):
        order = f"{listed(target)} by name; the checkpoint has {listed(own)}"
        return Alignment(rows, f"the classifier's rows were put into the data's order {order}")
    if rows := match_rows([folded(name) for name in own], [folded(name) for name in target]):
        pairs = listed(f"{own[row]} as {name}" for row, name in zip(rows, target))
        note = "the checkpoint's classes were matched to the data's though written otherwise"
        return Alignment(rows, f"{note}: {pairs}")
    return None


def align_by_number(own: Sequence[str], target: Sequence[str]) -> Alignment | None:
    """Align classes where the checkpoint or the data only numbers them."""
    own_numbers, target_numbers = numbers_of(UNNAMED, own), numbers_of(NUMBER, target)
    if not (own_numbers or target_numbers):
        return None
    if rows := match_rows(digits_of(own), digits_of(target)):
        pairs = listed(f"{name} is {own[row]}" for row, name in zip(rows, target))
        return Alignment(rows, f"classes were matched by the numbers in their names: {pairs}")
    own_ranks = ranks(own_numbers or range(len(own)))
    rows = tuple(own_ranks.index(rank) for rank in ranks(target_numbers or range(len(target))))
    if target_numbers:
        pairs = listed(f"{name} is {own[row]}" for row, name in zip(rows, target))
        note = "the data numbers its classes; they are taken in the checkpoint's order"
        return Alignment(rows, f"{note}: {pairs}")
    return Alignment(rows, assumed(f"calls its classes {listed(own)}", target))


def kept_names(own: Sequence[str] | None, target: Sequence[str]) -> tuple[str, ...]:
    """Return the names that classes have in a saved model.

    Args:
      own: names that a checkpoint or a saved model has, in the order of the data; None where it has
        no names.
      target: names of the data.

    Returns:
      The own names where the data only numbers its classes and they are words; else the data's.
    """
    if own is None or len(own) != len(target) or numbers_of(UNNAMED, own):
        return tuple(target)
    return tuple(own if numbers_of(NUMBER, target) else target)


def named_by_rows(
    own: Sequence[str] | None, target: Sequence[str], rows: Sequence[int] | None
) -> tuple[str, ...] | None:
    """Return the names of the data's classes by `kept_names`; None without rows.

    Args:
      own: names of the checkpoint's classes in the order of its logits; None if it has none.
      target: names of the data.
      rows: the row of each class of the data.
    """
    if rows is None:
        return None
    return kept_names(None if own is None else [own[row] for row in rows], target)


def names_in_run(saved: Sequence[str], target: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a run's classes have where its saved model has these.

    These are the names of `kept_names`; runs of release 0.1 call truth values 0 and 1.
    """
    if tuple(saved) == ("0", "1") and tuple(target) == TRUTHS:
        return tuple(saved)
    return kept_names(saved, target)


def assumed(what: str, target: Sequence[str]) -> str:
    """Return the note on an order that no file states."""
    return (
        f"the checkpoint {what}; its classifier is kept, and the order of its classes is assumed "
        "to be the data's: "
        f"{listed(target)}"
    )


def match_rows(own: Sequence[str], target: Sequence[str]) -> tuple[int, ...] | None:
    """Return the index of each data name among the own names; None unless both are equal sets."""
    if sorted(own) != sorted(target) or len(set(own)) != len(own):
        return None
    return tuple(list(own).index(name) for name in target)


def folded(name: str) -> str:
    """Return a name without case, with one blank for separators, in one Unicode form."""
    name = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", SEPARATORS.sub(" ", name).strip().casefold())


def digits_of(names: Sequence[str]) -> list[str]:
    """Return the only number in each name, as `5` of `5 stars`, or the whole name."""
    found = [DIGITS.findall(name) for name in names]
    return [
        str(int(digits[0])) if len(digits) == 1 and len(digits[0]) <= 10 else name
        for digits, name in zip(found, names)
    ]


def numbers_of(pattern: re.Pattern, names: Sequence[str]) -> list[int] | None:
    """Return the numbers that all names are, each a different one; None otherwise."""
    found = [pattern.fullmatch(name) for name in names]
    matches = [match for match in found if match is not None]
    if len(matches) < len(found):
        return None
    numbers = [int(match[match.lastindex or 0]) for match in matches]
    return numbers if len(set(numbers)) == len(numbers) else None


def ranks(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the rank of each number among the sorted numbers."""
    ordered = sorted(numbers)
    return tuple(ordered.index(number) for number in numbers)


def is_name(value) -> bool:
    """Return whether a value is a text that can be written to a file."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)
