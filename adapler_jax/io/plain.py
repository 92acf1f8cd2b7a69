"""Convert records to types that JSON has, and compare them."""

import dataclasses
import math

import numpy as np


def plain(value):
    """Return a value in types that JSON has: arrays and tuples as lists, records as dicts.

    Args:
      value: numbers, texts, NumPy arrays, and lists, tuples, dicts, dataclasses and named tuples of
        them. NaN and infinity become None.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value


class Comparable:
    """Make dataclasses equal if all their fields are, arrays by shapes and entries."""

    def __eq__(self, other):
        """Return whether all fields are equal."""
        if type(other) is not type(self):
            return NotImplemented
        names = [field.name for field in dataclasses.fields(self)]
        return all(_are_equal(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self):
        """Return a hash of the fields that are texts or numbers: arrays and dicts have none."""
        return hash(
            tuple(value for value in vars(self).values() if isinstance(value, str | int | float))
        )


def _are_equal(left, right) -> bool:
    """Return whether two values are equal."""
    if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
        return np.array_equal(left, right)
    return left == right
