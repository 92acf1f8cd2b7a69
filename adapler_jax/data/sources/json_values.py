"""JSON as it is read: lines, one list of any size, or one object, each value with its place for
messages.
"""

import itertools
import json
import re
from collections.abc import Generator, Iterable, Iterator

from adapler_jax.data.sources.encodings import TextReader, check_line

CHARACTERS = 1 << 20  # of a JSON list that are read at once
LIST_START = re.compile(r"\s*\[")
_GAP = re.compile(r"\s*")

LocatedItem = tuple[str, object]  # the place of an item, for messages, and the item


def parse_json(text: str, place: str):
    """Parse a JSON value; ValueError names the place."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        problem = error.msg.removesuffix(" at")
        raise ValueError(f"{place} is not JSON: {problem} at {line}column {error.colno}") from error
    except RecursionError as error:
        raise ValueError(f"{place} is nested too deeply; leave the field out") from error
    except ValueError as error:  # Python's limit of digits
        raise ValueError(
            f"{place} has a number of too many digits; write it as a string"
        ) from error


def json_lines(lines: Iterable[str], where: str) -> Iterator[tuple[int, object]]:
    """Yield (line number, value) of the lines that are not blank."""
    for number, line in enumerate(lines, start=1):
        if not line.isspace() and line:
            text = line.removeprefix("\ufeff")  # of a file that was put after another one
            yield number, parse_json(text, f"{where}: line {number}")


def json_items(reader: TextReader, where: str) -> Iterator[LocatedItem]:
    """Yield the items of a list without holding it, or of lines, or one value.

    Raises:
      ValueError: the content is not JSON; the line or item is named.
    """
    text = read_start(reader)
    start = LIST_START.match(text)
    if start is None:
        found = enumerate(_unlisted(text + reader.read(), where), start=1)
        yield from ((f"{where}: item {number}", item) for number, item in found)
        return
    text, place = yield from list_items(reader, text, start.end(), where)
    check_end(text[place:] + reader.read(CHARACTERS), where)


def read_start(reader: TextReader) -> str:
    """Read up to CHARACTERS; blanks before the first value are left out, however many there are."""
    text = reader.read(CHARACTERS)
    while not (text := text.lstrip()) and (more := reader.read(CHARACTERS)):
        text = more
    return text


def _unlisted(text: str, where: str) -> Iterator[object]:
    """Yield the one value of a text, or the values of its lines."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            place = f"line {error.lineno}, column {error.colno}"
            raise ValueError(f"{where} is not JSON: {error.msg} at {place}") from error
        yield from (item for _, item in json_lines(text.split("\n"), where))
    except (RecursionError, ValueError):
        yield parse_json(text, where)  # which says it


def check_end(rest: str, where: str, *, in_object: bool = False) -> None:
    """Refuse what follows the list of a file, but, where the list is in an object, for its other
    fields.
    """
    rest = rest.strip()
    try:
        is_end = (
            isinstance(json.loads("{" + rest.removeprefix(",")), dict) if in_object else not rest
        )
    except (ValueError, RecursionError):
        is_end = False
    if not is_end:
        raise ValueError(
            f"{where} goes on behind its list with {rest[:40]!r}; keep one list, or one object "
            f"with it"
        )


def list_items(
    reader: TextReader, text: str, place: int, where: str
) -> Generator[LocatedItem, None, tuple[str, int]]:
    """Yield the items of a JSON list without holding more of it than about CHARACTERS and an item.

    Args:
      reader: at the end of `text`.
      text: the part that is read.
      place: in `text`, after the bracket that opens the list.
      where: names the file in messages.

    Returns:
      The text read last, and the place in it after the bracket that closes the list.

    Raises:
      ValueError: the list is not JSON, or has no end; the item is named.
    """
    decoder = json.JSONDecoder()
    for number in itertools.count(1):
        item_place = f"{where}: item {number}"
        text, place, item = _next_item(
            decoder, reader, text, place, item_place, is_first=number == 1
        )
        if item is None:
            return text, place
        yield item_place, item[0]


def _next_item(decoder, reader: TextReader, text: str, place: int, where: str, *, is_first: bool):
    """Return the text read so far, the place after the next item of a list, and (item,), None
    where the list ends.
    """
    while True:
        start = _GAP.match(text, place).end()
        if start == len(text) and (more := reader.read(CHARACTERS)):
            text, place = more, 0
            continue
        if text[start : start + 1] == "]":
            return text, start + 1, None
        is_separated = is_first or text[start : start + 1] == ","
        first = start if is_first else _GAP.match(text, start + 1).end()
        problem = "expected ',' or ']'"
        if is_separated:
            try:
                item, end = decoder.raw_decode(text, first)
                if end < len(text):  # else a number may go on
                    return text, end, (item,)
                problem = "the list has no end"
            except RecursionError as error:
                raise ValueError(
                    f"{where} is not JSON: {error}; it is nested too deeply"
                ) from error
            except ValueError as error:  # cut off, malformed, too many digits
                problem = getattr(error, "msg", str(error))
        check_line(len(text) - start, where)
        more = reader.read(max(CHARACTERS, len(text) - start)) if is_separated else ""
        if not more:
            raise ValueError(f"{where} is not JSON: {problem}")
        text, place = text[start:] + more, 0
