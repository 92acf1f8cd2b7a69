"""Error messages about what strangers wrote: one line, of bounded length, without control characters."""

import contextlib
import re
from collections.abc import Iterable, Iterator

MAX_MESSAGE = 1000  # characters
ENDING = 300  # of these, how many are kept of the end, where the advice is
SPACES = re.compile(r"\s+")
GAP = " ... "


def shown(value, limit: int = 60) -> str:
    """Return a value as Python writes it, cut to `limit` characters, on one line."""
    return clip(one_line(repr(value)), limit)


def excerpt(text: str, limit: int = 300) -> str:
    """Return what an error or a file says as a part of a message: on one line, cut to `limit` characters."""
    return clip(one_line(text), limit)


def clip(text: str, limit: int) -> str:
    """Return the text, or its first characters and a mark where it is longer."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listed(items: Iterable[str], *, limit: int = 400, separator: str = ", ") -> str:
    """Return the items with separators, as many as fit into `limit` characters, and how many more there are."""
    items = [clip(one_line(item), limit) for item in items]
    kept, length = 0, 0
    while kept < len(items) and (kept == 0 or length + len(items[kept]) <= limit):
        length += len(items[kept]) + len(separator)
        kept += 1
    more = f"{separator}and {len(items) - kept} more" if kept < len(items) else ""
    return separator.join(items[:kept]) + more


def one_line(text: str) -> str:
    """Return the text with blanks for line breaks, and `?` for what no terminal should receive."""
    return "".join(char if char.isprintable() else "?" for char in SPACES.sub(" ", text))


def bounded(text: str) -> str:
    """Return the text on one line of at most MAX_MESSAGE characters; the middle is left out of a longer one."""
    text = one_line(text)
    if len(text) <= MAX_MESSAGE:
        return text
    return text[: MAX_MESSAGE - ENDING - len(GAP)] + GAP + text[-ENDING:]


@contextlib.contextmanager
def bounded_errors() -> Iterator[None]:
    """Raise the ValueError or OSError of the block with its message on one line of bounded length.

    As a decorator it does so for a function. An error whose message is such a line already passes as it is.
    """
    try:
        yield
    except OSError as error:
        if bounded(str(error)) == str(error):
            raise
        place = f": {error.filename}" if error.filename else ""
        raise OSError(error.errno or 0, bounded(f"{error.strerror or error}{place}")) from error
    except ValueError as error:
        if bounded(str(error)) == str(error):
            raise
        raise ValueError(bounded(str(error))) from error
