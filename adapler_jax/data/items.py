"""The items of a data set one after another: of JSON lines, of a JSON list of any size, of tensorflow-datasets."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

import numpy as np

from adapler_jax.data.files import json_lines, split_name
from adapler_jax.data.sources import first_line
from adapler_jax.data.streams import decode_lines

_CHARACTERS = 1 << 20  # of a JSON list that are read at once
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
    place = pathlib.Path(name).expanduser()
    if place.is_file():
        found = _split_of(place) or "train"
        if split not in (found, split_name(place.stem)):
            raise ValueError(f"{str(place)!r} is the split {found!r} by its name; asked: {split!r}")
        return place
    if not place.is_dir():
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
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
    place = pathlib.Path(name).expanduser()
    if place.is_file():
        return split == (_split_of(place) or "train")
    if not place.is_dir():
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
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
            for number, item in json_lines(decode_lines(file, str(path)), str(path)):
                yield f"{path}: line {number}", item
        return
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for number, item in enumerate(_json_items(file, str(path)), start=1):
                yield f"{path}: item {number}", item
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8; convert it") from error


def _json_items(file: TextIO, where: str) -> Iterator[object]:
    """Yield the items of a list, or what stands there without one."""
    text = file.read(_CHARACTERS)
    while text.isspace() and (more := file.read(_CHARACTERS)):
        text += more
    place = _GAP.match(text).end()
    if text[place : place + 1] != "[":
        yield from _unlisted(text + file.read(), where)
        return
    decoder, number, place = json.JSONDecoder(), 0, place + 1
    while True:
        text, place, item = _next_item(decoder, file, text, place, f"{where}: item {number + 1}", is_first=not number)
        if item is None:
            break
        yield item[0]
        number += 1
    if (text[place:] + file.read(_CHARACTERS)).strip():
        raise ValueError(f"{where} goes on behind its list; keep one list")


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
        more = file.read(max(_CHARACTERS, len(text) - place)) if is_separated or start >= len(text) else ""
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


def open_tfds(name: str, split: str) -> Iterator[Placed]:
    """Yield the rows of a split of a tensorflow-datasets builder as they are read, as plain values, without TensorFlow.

    Args:
      name: of the builder, as race/high; it is downloaded and prepared the first time.
      split: train, validation (also where the builder calls it dev) or test.

    Raises:
      ValueError: the package is missing or cannot give it, or there is no such split.
    """
    try:
        import tensorflow_datasets as tfds  # heavy, and needed for these sources only
        import tensorflow_datasets.text  # registers the text builders
    except ImportError as error:
        raise ValueError(f"tfds:{name} needs `pip install tensorflow-datasets array_record`: {error}") from error
    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
        splits = builder.as_data_source()
    except Exception as error:  # not found, no network, changed checksum, a missing module: no common base
        raise ValueError(f"tensorflow-datasets cannot give {name!r}: {_reason(error)}") from error
    rows = next((rows for found, rows in splits.items() if split_name(found) == split), None)
    if rows is None:
        raise ValueError(f"tfds:{name} has no split {split!r}; there are {', '.join(splits)}")
    return ((f"tfds:{name} {split}: row {number}", _plain(row)) for number, row in enumerate(rows, start=1))


def _reason(error: Exception) -> str:
    """What went wrong; lists of lists, as RACE's options, are prepared with TensorFlow's help, but read without it."""
    if "No module named 'tensorflow'" not in str(error):
        return first_line(error)
    return (
        f"{first_line(error)}; prepare it once where TensorFlow is installed and set TFDS_DATA_DIR to the folder, or "
        "unpack the data set's own archive and give it as file:FOLDER"
    )


def _plain(value):
    """Turn bytes into strings, NumPy's numbers into plain ones, arrays into lists, also inside of each other."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
        return _plain(value) if isinstance(value, bytes | list) else value
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
