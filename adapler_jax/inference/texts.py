"""Convert the texts that users give to lists of strings, and check the size of their batches."""

from collections.abc import Iterable, Mapping

import numpy as np

PAIR_KEYS = ("text", "text_pair")  # of a dict, as in transformers


def split_pairs(texts) -> tuple[list[str], list[str] | None]:
    """Return first and second texts; None for the second if there are no pairs.

    Args:
      texts: an ordered iterable of strings, or of pairs: tuples, lists or arrays of two strings,
        or dicts with text and text_pair. A dict with text alone is a single text.

    Raises:
      TypeError: texts or an entry has another type; the message names the index of the entry.
    """
    check_iterable(texts)
    rows: list[tuple[str, ...]] = []
    for index, text in enumerate(texts):
        parts = _parts_of(text)
        if not parts or (rows and len(parts) != len(rows[0])):
            raise TypeError(
                f"text {index} is {text!r:.60}, of type {type(text).__name__}; expected all "
                "strings, or all pairs of strings"
            )
        rows.append(parts)
    has_pairs = bool(rows) and len(rows[0]) == 2
    return [parts[0] for parts in rows], [parts[1] for parts in rows] if has_pairs else None


def check_iterable(texts) -> None:
    """Raise TypeError for a table, for a single text, and for anything without an order."""
    if hasattr(texts, "iloc") and hasattr(texts, "columns"):
        raise TypeError(
            "expected a list of texts, not a table; give a column of it, as table['text']"
        )
    single = (str, bytes, bytearray, Mapping, set, frozenset)
    is_scalar = getattr(texts, "ndim", 1) == 0
    if isinstance(texts, single) or is_scalar or not isinstance(texts, Iterable):
        raise TypeError(
            f"expected a list of texts, not {texts!r:.60}; write [text] for a single one"
        )


def _parts_of(text) -> tuple[str, ...]:
    """Return one string, or the two of a pair; nothing for other types."""
    if isinstance(text, Mapping):
        return _parts_of_dict(text)
    if isinstance(text, str):
        return (str(text),)
    return _pair_of(text)


def _parts_of_dict(text: Mapping) -> tuple[str, ...]:
    """Return the texts of a dict; nothing if it has other keys."""
    if not text.keys() <= set(PAIR_KEYS):
        return ()
    first, second = (text.get(name) for name in PAIR_KEYS)
    if second is None:
        return (str(first),) if isinstance(first, str) else _pair_of(first)
    return _pair_of((first, second))


def _pair_of(texts) -> tuple[str, ...]:
    """Return the two strings of a list, tuple or array; nothing for other types."""
    if not isinstance(texts, tuple | list | np.ndarray) or len(np.shape(texts)) != 1:
        return ()
    if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
        return ()
    return tuple(map(str, texts))


def check_batch_size(batch_size: int) -> None:
    """Check a batch size from a user.

    Raises:
      TypeError: it is no whole number.
      ValueError: it is below 1.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer):
        raise TypeError(f"batch_size is {batch_size!r:.60}; expected a whole number, at least 1")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
