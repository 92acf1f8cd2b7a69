"""Records in types that JSON has."""

import dataclasses
import math

import numpy as np


def plain(value):
    """Return a value in types that JSON has: arrays and tuples as lists, records as dicts, no NaN or infinity.

    Args:
      value: numbers, texts, NumPy arrays, and lists, tuples, dicts, dataclasses and named tuples of them. NaN and
        infinity become None.
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
