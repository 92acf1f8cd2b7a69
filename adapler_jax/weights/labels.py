"""Classes of a checkpoint's classifier and of the data: which row is which class."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from adapler_jax.io.messages import listed

UNNAMED = re.compile(r"(?:LABEL_)?(\d{1,9})")  # in place of a name that is not given
NUMBER = re.compile(r"[+-]?\d{1,9}")
DIGITS = re.compile(r"(?<!\w)[-+]?\d+|\d+")  # of a name, as in 5 stars
TRUTHS = ("False", "True")  # names of truth values; runs of before call them 0 and 1
SEPARATORS = re.compile(r"[\s_-]+")


class Alignment(NamedTuple):
    """How the rows of a classifier serve the classes of the data."""

    rows: (
        tuple[int, ...] | None
    )  # the row of each class of the data; None where the classifier does not serve
    note: str  # what a user should know; empty where the names are equal


def align_classes(own: Sequence[str] | None, wanted: Sequence[str]) -> Alignment:
    """Return which rows of a classifier are the classes of the data, by their names.

    Names are equal, equal but for case and separators, or numbers on one side: of the data, whose numbers count the
    checkpoint's classes; of the checkpoint, as in LABEL_0, whose classes are taken in the order of the data.

    Args:
      own: names of the checkpoint's classes in the order of its logits; None where it names none.
      wanted: names of as many classes of the data, in their order.
    """
    if own is None:
        return Alignment(tuple(range(len(wanted))), assumed("names no classes", wanted))
    if tuple(own) == tuple(wanted):
        return Alignment(tuple(range(len(own))), "")
    if rows := match_rows(own, wanted):
        order = f"{listed(wanted)} by name; the checkpoint has {listed(own)}"
        return Alignment(rows, f"the classifier's rows were put into the data's order {order}")
    if rows := match_rows([folded(name) for name in own], [folded(name) for name in wanted]):
        pairs = listed(f"{own[row]} as {name}" for row, name in zip(rows, wanted))
        return Alignment(
            rows,
            f"the checkpoint's classes were matched to the data's though written otherwise: {pairs}",
        )
    own_numbers, wanted_numbers = numbers_of(UNNAMED, own), numbers_of(NUMBER, wanted)
    if rows := (own_numbers or wanted_numbers) and match_rows(digits_of(own), digits_of(wanted)):
        pairs = listed(f"{name} is {own[row]}" for row, name in zip(rows, wanted))
        return Alignment(rows, f"classes were matched by the numbers in their names: {pairs}")
    places = ranks(wanted_numbers or range(len(wanted)))
    rows = tuple(ranks(own_numbers or range(len(own))).index(place) for place in places)
    if wanted_numbers:
        pairs = listed(f"{name} is {own[row]}" for row, name in zip(rows, wanted))
        return Alignment(
            rows, f"the data numbers its classes; they are taken in the checkpoint's order: {pairs}"
        )
    if own_numbers:
        return Alignment(rows, assumed(f"calls its classes {listed(own)}", wanted))
    names = f"the checkpoint's classes are {listed(own)}, the data's {listed(wanted)}"
    advice = "to keep the classifier, give the data's classes the checkpoint's names in config.data.class_names"
    return Alignment(None, f"{names}; {advice}")


def kept_names(own: Sequence[str] | None, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names that classes have in a saved model.

    Args:
      own: names that a checkpoint or a saved model has, in the order of the data; None where it
        names none.
      wanted: names of the data.

    Returns:
      The own names where the data only numbers its classes and they are words; else the data's.
    """
    is_named = own is not None and len(own) == len(wanted) and not numbers_of(UNNAMED, own)
    return tuple(own if is_named and numbers_of(NUMBER, wanted) else wanted)


def names_in_run(saved: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the names that a run's classes have where its saved model has these: as `kept_names`,
    and those of runs of before, which call truth values 0 and 1."""
    if tuple(saved) == ("0", "1") and tuple(wanted) == TRUTHS:
        return tuple(saved)
    return kept_names(saved, wanted)


def assumed(what: str, wanted: Sequence[str]) -> str:
    """Return the note on an order that no file names."""
    return (
        f"the checkpoint {what}; its classifier is kept, and the order of its classes is assumed to be the data's: "
        f"{listed(wanted)}"
    )


def match_rows(own: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...] | None:
    """Return the place of each wanted name among the own ones; None where they are not the same, each once."""
    if sorted(own) != sorted(wanted) or len(set(own)) != len(own):
        return None
    return tuple(list(own).index(name) for name in wanted)


def folded(name: str) -> str:
    """Return a name without case, with one blank for separators, in one Unicode form."""
    name = unicodedata.normalize("NFC", name)
    return unicodedata.normalize("NFC", SEPARATORS.sub(" ", name).strip().casefold())


def digits_of(names: Sequence[str]) -> list[str]:
    """Return the only number that each name has, as `5` of `5 stars`; the whole name where it has
    none or several."""
    found = [DIGITS.findall(name) for name in names]
    return [
        str(int(digits[0])) if len(digits) == 1 and len(digits[0]) <= 10 else name
        for digits, name in zip(found, names)
    ]


def numbers_of(pattern: re.Pattern, names: Sequence[str]) -> list[int] | None:
    """Return the numbers that all names are, each another one; None where they are not."""
    found = [pattern.fullmatch(name) for name in names]
    if not all(found):
        return None
    numbers = [int(match[match.lastindex or 0]) for match in found]
    return numbers if len(set(numbers)) == len(numbers) else None


def ranks(numbers: Sequence[int]) -> tuple[int, ...]:
    """Return the place of each number among the sorted ones."""
    ordered = sorted(numbers)
    return tuple(ordered.index(number) for number in numbers)


def is_name(value) -> bool:
    """Return whether a value is a text that can be written to a file."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)
