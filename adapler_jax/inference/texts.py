"""What users give as texts -> lists of strings."""

from collections.abc import Iterable, Mapping

import numpy as np

PAIR_KEYS = ("text", "text_pair")  # of a dict, as transformers has them


def split_pairs(texts) -> tuple[list[str], list[str] | None]:
    """First and second texts; None for the second where there are no pairs.

    Args: texts: an iterable with an order, of strings or of pairs: tuples, lists or arrays of two strings, or dicts
    with text and text_pair. A dict with text alone is a single text.

    Raises TypeError where it is another thing, or an entry is; the message names the entry's place, from 0, and type.
    """
    if hasattr(texts, "iloc") and hasattr(texts, "columns"):
        raise TypeError(
            "predict takes a list of texts, not a table; give a column of it, as predict(table['text'])"
        )
    is_one = (
        isinstance(texts, str | bytes | bytearray | Mapping | set | frozenset)
        or getattr(texts, "ndim", 1) == 0
    )
    if is_one or not isinstance(texts, Iterable):
        raise TypeError(
            f"predict takes a list of texts, not {texts!r:.60}; write predict([text]) for a single one"
        )
    rows, number = [], 0
    for place, text in enumerate(texts):
        parts = _parts_of(text)
        number = number or len(parts)
        if not parts or len(parts) != number:
            raise TypeError(
                f"text {place} is {text!r:.60}, of type {type(text).__name__}; expected all strings, or all pairs of "
                "strings"
            )
        rows.append(parts)
    return [parts[0] for parts in rows], [parts[1] for parts in rows] if number == 2 else None


def _parts_of(text) -> tuple[str, ...]:
    """One string, or the two of a pair; nothing where it is neither."""
    if isinstance(text, Mapping):
        if not text.keys() <= set(PAIR_KEYS):
            return ()
        text = [
            text.get(name) for name in PAIR_KEYS if name == "text" or text.get(name) is not None
        ]
        text = text[0] if len(text) == 1 else text
    if isinstance(text, str):
        return (str(text),)
    is_pair = (
        isinstance(text, tuple | list | np.ndarray) and len(np.shape(text)) == 1 and len(text) == 2
    )
    return tuple(map(str, text)) if is_pair and all(isinstance(part, str) for part in text) else ()
