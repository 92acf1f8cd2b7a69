"""Truth values and whole numbers in the forms that programs write them."""

from adapler_jax.io.messages import shown

_TRUE, _FALSE = ("true", "yes", "1", "t", "y"), ("false", "no", "0", "f", "n")
_MAX_DIGITS = 18  # of a count or a place


def parse_boolean(value) -> bool | None:
    """Return the truth value that a value is or writes, as true, 1, 1.0, "True", "yes" and their
    opposites; None where it writes none."""
    if not isinstance(value, str | int | float):
        return None
    if isinstance(value, int):
        return bool(value) if value in (0, 1) else None
    text = str(value).strip().casefold().removesuffix(".0")
    return text in _TRUE if text in _TRUE or text in _FALSE else None


def as_boolean(value, field: str, where: str) -> bool:
    """Return a truth value: true, 1, 1.0, "True", "yes" and their opposites; null and "" are false.

    Raises:
      ValueError: it is none of them; the field is named.
    """
    if value is None or value != value or value == "":  # NaN, as pandas writes a gap
        return False
    truth = parse_boolean(value)
    if truth is not None:
        return truth
    raise ValueError(f"{where} has {shown(value)} as {field!r}; expected true or false")


def as_integer(value) -> int | None:
    """Return a whole number: 16, 16.0, "16" and "16.0" are 16; None where it is none, as true
    is.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        whole, _, zeros = value.strip().partition(".")
        digits = whole.removeprefix("-")
        is_whole = (
            digits.isascii()
            and digits.isdecimal()
            and len(digits) <= _MAX_DIGITS
            and not zeros.strip("0")
        )
        return int(whole) if is_whole else None
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 10**_MAX_DIGITS else None
    return value if isinstance(value, int) and abs(value) < 10**_MAX_DIGITS else None
