"""Items of a data set in sequence, from JSON lines or a JSON list of any size."""

import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from adapler_jax.data.sources.compression import ENDINGS, inner_path, open_source
from adapler_jax.data.sources.encodings import TextReader, decode_lines
from adapler_jax.data.sources.files import resolve_path, split_name
from adapler_jax.data.sources.formats import stem_of
from adapler_jax.data.sources.json_tables import expand_columns
from adapler_jax.data.sources.json_values import LocatedItem, json_items, json_lines
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.io.messages import shown


def check_text(value: object, field: str, location: str) -> str:
    """Return a text; raise ValueError if the field holds another type."""
    if not isinstance(value, str):
        raise ValueError(f"{location} has {shown(value)} as {field}; expected a text")
    return value


def split_file(name: str, split: str, suffixes: Sequence[str]) -> pathlib.Path:
    """Return the file of a split; hotpot_train_v1.1.json is a file of train.

    Args:
      name: a folder, or a file, which is the split that its name says, or train.
      split: train, validation or test.
      suffixes: of the files that count.

    Raises:
      ValueError: there is no such file, or there are several. A file with no other word in its
        name takes precedence.
    """
    root = resolve_path(name)
    if root.is_file():
        found = _split_of(root) or "train"
        if split not in (found, split_name(stem_of(root))):
            raise ValueError(f"{str(root)!r} is the split {found!r} by its name; asked: {split!r}")
        return root
    files, matches = _files_of_split(root, split, suffixes)
    if len(matches) != 1:
        names = ", ".join(path.name for path in (matches or files)[:10]) or "nothing"
        raise ValueError(
            f"folder {str(root)!r} holds {names}; expected one {split} file: name the file itself"
        )
    return matches[0]


def _files_of_split(
    folder: pathlib.Path, split: str, suffixes: Sequence[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """Return all files of a folder, and the files of a split."""
    present = [path for path in sorted(folder.iterdir()) if path.is_file()]
    files = [path for path in present if inner_path(path.name).suffix.lower() in suffixes]
    exact = [path for path in files if split_name(stem_of(path)) == split]
    matches = exact or [path for path in files if _split_of(path) == split]
    return files, [check_inside(folder, path.name, str(folder)) for path in matches]


def has_split(name: str, split: str, suffixes: Sequence[str]) -> bool:
    """Return whether a folder has files of a split, or a file is this split.

    Raises:
      ValueError: neither a file nor a folder exists.
    """
    root = resolve_path(name)
    if root.is_file():
        return split == (_split_of(root) or "train")
    return bool(_files_of_split(root, split, suffixes)[1])


def _split_of(path: pathlib.Path) -> str | None:
    """Return the split that the first such word of a file's name says, or None."""
    words = (split_name(word) for word in re.split(r"[^a-zA-Z]+", stem_of(path)))
    return next((word for word in words if word), None)


def open_items(path: pathlib.Path) -> Iterator[LocatedItem]:
    """Yield the items of JSON lines (.jsonl) or of a JSON list, without holding the file.

    One object is one item. An object of columns, as DataFrame.to_json() writes it, gives its
    rows. The file may be compressed (see ENDINGS). Byte order marks reveal UTF-16 and UTF-32.

    Raises:
      ValueError: the content is not JSON or not text; the message names the line or item.
    """
    with open_source(path) as source:
        if inner_path(path).suffix.lower() == ".jsonl":
            items = line_items(source.open(), str(path))
        else:
            items = json_items(TextReader(source.open(), str(path)), str(path))
        for location, item in items:
            yield from expand_columns(item, location)


def line_items(file: BinaryIO, where: str) -> Iterator[LocatedItem]:
    """Yield the items of JSON lines.

    Raises:
      ValueError: a line is not JSON or not text; the message names the line.
    """
    for number, item in json_lines(decode_lines(file, where), where):
        yield f"{where}: line {number}", item


def json_endings(suffixes: Sequence[str] = (".jsonl", ".json")) -> tuple[str, ...]:
    """Return the endings of JSON files, plain and compressed."""
    return tuple(suffix + ending for suffix in suffixes for ending in ("", *ENDINGS))
