"""The items of a data set one after another: of JSON lines, of a JSON list of any size."""

import itertools
import json
import pathlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import TextIO

from adapler_jax.data.files import find_place, json_lines, split_name
from adapler_jax.data.streams import decode_lines

CHARACTERS = 1 << 20  # of a JSON list that are read at once
LIST_START = re.compile(r"\s*\[")
_GAP = re.compile(r"\s*")

Placed = tuple[str, object]  # where an item stands, for messages, and the item


def check_text(value, field: str, place: str) -> str:
    """Return a text; ValueError where the field is none."""
    if not isinstance(value, str):
        raise ValueError(f"{place} has {value!r:.60} as {field}; expected a text")
    return value


def split_file(name: str, split: str, suffixes: Sequence[str]) -> pathlib.Path:
    """Find the file of a split, `hotpot_train_v1.1.json` being one of train.

    Args:
      name: a folder, or a file, which is the split that its name says, else train.
      split: train, validation or test.
      suffixes: of the files to look at.

    Raises:
      ValueError: there is none, or there are several; a file whose name is the split's alone goes before the others.
    """
    place = find_place(name)
    if place.is_file():
        found = _split_of(place) or "train"
        if split not in (found, split_name(place.stem)):
            raise ValueError(f"{str(place)!r} is the split {found!r} by its name; asked: {split!r}")
        return place
    files, found = _files_of_split(place, split, suffixes)
    if len(found) != 1:
        names = ", ".join(path.name for path in (found or files)[:10]) or "nothing"
        raise ValueError(f"folder {str(place)!r} holds {names}; expected one {split} file: name the file itself")
    return found[0]


def _files_of_split(
    folder: pathlib.Path, split: str, suffixes: Sequence[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """All files of a folder, and those of a split; one whose name is the split's alone goes before the others."""
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes and path.is_file()]
    exact = [path for path in files if split_name(path.stem) == split]
    return files, exact or [path for path in files if _split_of(path) == split]


def has_split(name: str, split: str, suffixes: Sequence[str]) -> bool:
    """Whether a folder has files of a split, or a file is it. Raises ValueError where there is neither."""
    place = find_place(name)
    if place.is_file():
        return split == (_split_of(place) or "train")
    return bool(_files_of_split(place, split, suffixes)[1])


def _split_of(path: pathlib.Path) -> str | None:
    """The split that the first of a file's words that names one tells; None where there is none."""
    words = (split_name(word) for word in re.split(r"[^a-zA-Z]+", path.stem))
    return next((word for word in words if word), None)


def open_items(path: pathlib.Path) -> Iterator[Placed]:
    """Yield the items of JSON lines (.jsonl), or of a JSON list, without holding the file; one object is one item.

    Raises:
      ValueError: the content is not JSON or not UTF-8; the line or item is named.
    """
    if path.suffix.lower() == ".jsonl":
        with open(path, "rb") as file:
            yield from line_items(file, str(path))
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _json_items(file, str(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8; convert it") from error


def line_items(file: Iterable[bytes], where: str) -> Iterator[Placed]:
    """Yield the items of JSON lines. Raises ValueError, naming the line, where one is not JSON or not UTF-8."""
    for number, item in json_lines(decode_lines(file, where), where):
        yield f"{where}: line {number}", item


def _json_items(file: TextIO, where: str) -> Iterator[Placed]:
    """Yield the items of a list, or what stands there without one."""
    text = file.read(CHARACTERS)
    while text.isspace() and (more := file.read(CHARACTERS)):
        text += more
    start = LIST_START.match(text)
    if start is None:
        found = enumerate(_unlisted(text + file.read(), where), start=1)
        yield from ((f"{where}: item {number}", item) for number, item in found)
        return
    text, place = yield from list_items(file, text, start.end(), where)
    check_end(text[place:] + file.read(CHARACTERS), where)


def check_end(rest: str, where: str, *, in_object: bool = False) -> None:
    """Refuse what stands behind the list of a file, but, where the list is in an object, for its other fields."""
    rest = rest.strip()
    try:
        is_end = isinstance(json.loads("{" + rest.removeprefix(",")), dict) if in_object else not rest
    except ValueError:
        is_end = False
    if not is_end:
        raise ValueError(f"{where} goes on behind its list with {rest[:40]!r}; keep one list, or one object with it")


def list_items(file: TextIO, text: str, place: int, where: str) -> Generator[Placed, None, tuple[str, int]]:
    """Yield the items of a JSON list without holding more of it than about CHARACTERS and an item.

    Args:
      file: at the end of `text`; a reader of codecs is one too.
      text: the part that is read.
      place: in `text`, behind the bracket that opens the list.
      where: names the file in messages.

    Returns:
      The text read last, and the place in it behind the bracket that closes the list.

    Raises:
      ValueError: the list is not JSON, or has no end; the item is named.
    """
    decoder = json.JSONDecoder()
    for number in itertools.count(1):
        item_place = f"{where}: item {number}"
        text, place, item = _next_item(decoder, file, text, place, item_place, is_first=number == 1)
        if item is None:
            return text, place
        yield item_place, item[0]


def _next_item(decoder, file: TextIO, text: str, place: int, where: str, *, is_first: bool):
    """Return the text read so far, the place behind the next item of a list, and (item,), None where the list ends."""
    while True:
        start = _GAP.match(text, place).end()
        if text[start : start + 1] == "]":
            return text, start + 1, None
        is_separated = is_first or text[start : start + 1] == ","
        start = start if is_first else _GAP.match(text, start + 1).end()
        problem = "expected ',' or ']'"
        if is_separated:
            try:
                item, end = decoder.raw_decode(text, start)
                if end < len(text):  # else a number may go on
                    return text, end, (item,)
                problem = "the list has no end"
            except (ValueError, RecursionError) as error:  # cut off, malformed, too many digits, too deep
                problem = getattr(error, "msg", str(error))
        more = file.read(max(CHARACTERS, len(text) - place)) if is_separated or start >= len(text) else ""
        if not more:
            raise ValueError(f"{where} is not JSON: {problem}")
        text, place = text[place:] + more, 0


def _unlisted(text: str, where: str) -> Iterator[object]:
    """Yield the one value of a text, or those of its lines."""
    try:
        yield json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            place = f"line {error.lineno}, column {error.colno}"
            raise ValueError(f"{where} is not JSON: {error.msg} at {place}") from error
        yield from (item for _, item in json_lines(text.split("\n"), where))
