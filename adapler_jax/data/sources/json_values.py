"""Parse JSON as it is read: lines, one list of any size, or one value, with locations.

The list parser is ours for two reasons. Streaming libraries reject NaN and integers of more than
64 bits, and they change lone surrogates. Their errors name neither the item nor the line.
"""

import itertools
import json
import re
from collections.abc import Generator, Iterable, Iterator
from typing import Any, Protocol

from adapler_jax.data.sources.encodings import check_line

CHARACTERS = 1 << 20  # of a JSON list that are read at once
LIST_START = re.compile(r"\s*\[")
_NOT_BLANK = re.compile(r"\S|\Z")

LocatedItem = tuple[str, Any]  # the location of an item, for messages, and the item


class CharacterReader(Protocol):
    """An object that reads text as a TextReader does."""

    def read(self, size: int = ...) -> str:
        """Return about `size` characters; all if it is negative; empty at the end."""
        ...


def parse_json(text: str, location: str) -> Any:
    """Parse a JSON value.

    Raises:
      ValueError: the text is not JSON, nested too deeply, or has too long a number.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        problem = error.msg.removesuffix(" at")
        raise ValueError(
            f"{location} is not JSON: {problem} at {line}column {error.colno}"
        ) from error
    except RecursionError as error:
        raise ValueError(f"{location} is nested too deeply; leave the field out") from error
    except ValueError as error:  # Python's limit of digits
        raise ValueError(
            f"{location} has a number of too many digits; write it as a string"
        ) from error


def json_lines(lines: Iterable[str], where: str) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) for the lines that are not blank."""
    for number, line in enumerate(lines, start=1):
        if line and not line.isspace():
            text = line.removeprefix("\ufeff")  # of a file that was appended to another
            yield number, parse_json(text, f"{where}: line {number}")


def json_items(reader: CharacterReader, where: str) -> Iterator[LocatedItem]:
    """Yield the items of a list without holding it, the values of lines, or one value.

    Raises:
      ValueError: the content is not JSON; the message names the line or item.
    """
    text = read_start(reader)
    start = LIST_START.match(text)
    if start is None:
        for number, item in enumerate(_unlisted(text + reader.read(), where), start=1):
            yield f"{where}: item {number}", item
        return
    text, end = yield from list_items(reader, text, start.end(), where)
    check_end(text[end:] + reader.read(CHARACTERS), where)


def read_start(reader: CharacterReader) -> str:
    """Read up to CHARACTERS from the first character that is not blank."""
    text = reader.read(CHARACTERS)
    while not (text := text.lstrip()) and (more := reader.read(CHARACTERS)):
        text = more
    return text


def _unlisted(text: str, where: str) -> Iterator[Any]:
    """Yield the only value of a text, or the values of its lines."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            location = f"line {error.lineno}, column {error.colno}"
            raise ValueError(f"{where} is not JSON: {error.msg} at {location}") from error
        yield from (item for _, item in json_lines(text.split("\n"), where))
    except (RecursionError, ValueError):
        yield parse_json(text, where)  # which raises with a message


def check_end(rest: str, where: str, *, in_object: bool = False) -> None:
    """Raise ValueError on text after the list of a file.

    Args:
      rest: the text.
      where: names the file in messages.
      in_object: the list is a field of an object, so other fields may follow.
    """
    rest = rest.strip()
    is_end = _is_object("{" + rest.removeprefix(",")) if in_object else not rest
    if not is_end:
        raise ValueError(
            f"{where} continues after its list with {rest[:40]!r}; keep one list, or one object "
            "with it"
        )


def _is_object(text: str) -> bool:
    """Return whether a text is a JSON object."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def list_items(
    reader: CharacterReader, text: str, start: int, where: str
) -> Generator[LocatedItem, None, tuple[str, int]]:
    """Yield the items of a JSON list, with about CHARACTERS and one item in memory.

    Args:
      reader: at the end of `text`.
      text: the text read so far.
      start: index in `text` after the bracket that opens the list.
      where: names the file in messages.

    Returns:
      The text read last, and the index in it after the bracket that closes the list.

    Raises:
      ValueError: the list is not JSON, or has no end; the message names the item.
    """
    buffer = _ListBuffer(reader, text, start)
    for number in itertools.count(1):
        location = f"{where}: item {number}"
        if not buffer.starts_item(location, is_first=number == 1):
            break
        yield location, buffer.next_item(location)
    return buffer.text, buffer.index


class _ListBuffer:
    """The part of a list's text that is in memory."""

    def __init__(self, reader: CharacterReader, text: str, index: int):
        """Start at an index of the text."""
        self.text, self.index = text, index
        self._reader, self._decoder = reader, json.JSONDecoder()

    def starts_item(self, location: str, *, is_first: bool) -> bool:
        """Move to the next item; return False after the end of the list.

        Raises:
          ValueError: there is neither a comma nor the end of the list.
        """
        character = self._skip_blanks()
        if character == "]":
            self.index += 1
            return False
        if is_first:
            return True
        if character != ",":
            raise ValueError(f"{location} is not JSON: expected ',' or ']'")
        self.index += 1
        return True

    def next_item(self, location: str) -> Any:
        """Parse the item at the index and move after it; read on until it is whole.

        Raises:
          ValueError: the item is not JSON, or longer than any text.
        """
        self._skip_blanks()
        while True:
            try:
                item, end = self._decoder.raw_decode(self.text, self.index)
                if end < len(self.text):  # otherwise a number may continue
                    self.index = end
                    return item
                problem = "the list has no end"
            except RecursionError as error:
                raise ValueError(
                    f"{location} is not JSON: {error}; it is nested too deeply"
                ) from error
            except ValueError as error:  # cut off, malformed, or too many digits
                problem = getattr(error, "msg", str(error))
            length = len(self.text) - self.index
            check_line(length, location)
            if not self._read_more(max(CHARACTERS, length)):
                raise ValueError(f"{location} is not JSON: {problem}")

    def _skip_blanks(self) -> str:
        """Move to the next character that is not blank; return it, or nothing at the end."""
        while True:
            found = _NOT_BLANK.search(self.text, self.index)
            self.index = found.start() if found else len(self.text)
            if self.index < len(self.text) or not self._read_more(CHARACTERS):
                return self.text[self.index : self.index + 1]

    def _read_more(self, size: int) -> bool:
        """Append about `size` characters and drop the text before the index."""
        more = self._reader.read(size)
        self.text, self.index = self.text[self.index :] + more, 0
        return bool(more)
