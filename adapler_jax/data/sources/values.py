"""Parse truth values and whole numbers in the forms that programs write."""

import math

from adapler_jax.io.messages import shown

_TRUE, _FALSE = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n")
_MAX_DIGITS = 18  # of a count or an offset


def parse_boolean(value: object) -> bool | None:
    """Return the truth value of true, 1, 1.0, "True", "yes" and their opposites, or None."""
    if not isinstance(value, str | int | float):
        return None
    if isinstance(value, int):
        return bool(value) if value in (0, 1) else None
    text = str(value).strip().casefold().removesuffix(".0")
    return text in _TRUE if text in _TRUE or text in _FALSE else None


def as_boolean(value: object, field: str, where: str) -> bool:
    """Return the truth value of a field; null, NaN and the empty text are False.

    Raises:
      ValueError: the value is no truth value; the message names the field.
    """
    is_nan = isinstance(value, float) and math.isnan(value)  # pandas writes NaN for a gap
    if value is None or is_nan or value == "":
        return False
    truth = parse_boolean(value)
    if truth is None:
        raise ValueError(f"{where} has {shown(value)} as {field!r}; expected true or false")
    return truth


def as_integer(value: object) -> int | None:
    """Return 16 for 16, 16.0, "16" and "16.0"; None for other values, also for true."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return _parse_integer(value)
    if isinstance(value, float) and not value.is_integer():
        return None
    if isinstance(value, int | float) and abs(value) < 10**_MAX_DIGITS:
        return int(value)
    return None


def _parse_integer(text: str) -> int | None:
    """Return the whole number that a text writes, or None."""
    whole, _, zeros = text.strip().partition(".")
    digits = whole.removeprefix("-")
    is_decimal = digits.isascii() and digits.isdecimal() and len(digits) <= _MAX_DIGITS
    return int(whole) if is_decimal and not zeros.strip("0") else None
