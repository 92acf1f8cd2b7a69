"""Quote unknown content in messages: on one line, of bounded length, without control characters."""

import contextlib
import difflib
import re
import reprlib
from collections.abc import Iterable, Iterator

MAX_MESSAGE = 1000  # characters
ENDING = 300  # of these, how many are kept of the end, where the advice is
SPACES = re.compile(r"\s+")
GAP = " ... "
_NAME_SIZE = 60  # characters of one name
_NAMES_SIZE = 600  # characters of a list of names
_MAX_NAMES = 1000  # that are compared with an unknown name
_MAX_BITS = 1000  # of a number; Python raises on texts of longer ones
# Python's own repr writes a nested value of any size in full before it is cut.
_REPR = reprlib.Repr()
_REPR.maxtuple = _REPR.maxlist = _REPR.maxdict = _REPR.maxset = 30
_REPR.maxstring = _REPR.maxother = 300


def shown(value: object, limit: int = 60) -> str:
    """Return a value as Python writes it, on one line, cut to `limit` characters."""
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return f"a number of {value.bit_length()} bits"
    written = repr(value[: limit + 1]) if isinstance(value, str) else _REPR.repr(value)
    return clip(squeeze(written), limit)


def excerpt(text: str, limit: int = 300) -> str:
    """Return a text for use in a message: on one line, cut to `limit` characters."""
    return clip(squeeze(text), limit)


def clip(text: str, limit: int) -> str:
    """Return the text, or its first characters and an ellipsis if it is longer."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def listed(items: Iterable[str], *, limit: int = 400, separator: str = ", ") -> str:
    """Return as many items as fit into `limit` characters, and the number of the others."""
    items = [clip(squeeze(item), limit) for item in items]
    kept, length = 0, 0
    while kept < len(items) and (kept == 0 or length + len(items[kept]) <= limit):
        length += len(items[kept]) + len(separator)
        kept += 1
    more = f"{separator}and {len(items) - kept} more" if kept < len(items) else ""
    return separator.join(items[:kept]) + more


def short_name(name: object, limit: int = _NAME_SIZE) -> str:
    """Return a name on one line, cut to `limit` characters."""
    return excerpt(str(name)[: limit + 1], limit)


def list_names(names: Iterable[object]) -> str:
    """Return short names with commas between them, or "none"."""
    return listed(map(short_name, names), limit=_NAMES_SIZE) or "none"


def explain_unknown(kind: str, name: object, known: Iterable[object]) -> str:
    """Return a sentence on an unknown name: its kind, the nearest known names, then all of them.

    Args:
      kind: noun for the names, as in "column".
      name: the name that was given.
      known: the names that exist.
    """
    names = [short_name(item) for item in known]
    given = short_name(name)
    nearest = difflib.get_close_matches(given, names[:_MAX_NAMES], n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, nearest))}? " if nearest else ""
    return f"unknown {kind} {given!r}; {hint}known: {list_names(names)}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type if the text is empty."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:300]


def one_line(text: str) -> str:
    """Return the text with a blank for each character that a terminal could interpret."""
    return "".join(char if char.isprintable() else " " for char in text)


def squeeze(text: str) -> str:
    """Return the text on one line, each run of white space as one blank."""
    return one_line(SPACES.sub(" ", text))


def bounded(text: str) -> str:
    """Return the text on one line; of more than MAX_MESSAGE characters the middle is left out."""
    text = squeeze(text)
    if len(text) <= MAX_MESSAGE:
        return text
    return text[: MAX_MESSAGE - ENDING - len(GAP)] + GAP + text[-ENDING:]


@contextlib.contextmanager
def bounded_errors() -> Iterator[None]:
    """Bound the message of a ValueError or OSError of the block to one line.

    The context manager is a decorator too. An error with a bounded message passes unchanged.
    """
    try:
        yield
    except OSError as error:
        if bounded(str(error)) == str(error):
            raise
        path = f": {error.filename}" if error.filename else ""
        raise OSError(error.errno or 0, bounded(f"{error.strerror or error}{path}")) from error
    except ValueError as error:
        if bounded(str(error)) == str(error):
            raise
        raise ValueError(bounded(str(error))) from error
