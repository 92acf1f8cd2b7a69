"""The items of a data set one after another: of JSON lines, of a JSON list of any size."""

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


def check_text(value, field: str, place: str) -> str:
    """Return a text; ValueError where the field is none."""
    if not isinstance(value, str):
        raise ValueError(f"{place} has {shown(value)} as {field}; expected a text")
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
    place = resolve_path(name)
    if place.is_file():
        found = _split_of(place) or "train"
        if split not in (found, split_name(stem_of(place))):
            raise ValueError(f"{str(place)!r} is the split {found!r} by its name; asked: {split!r}")
        return place
    files, found = _files_of_split(place, split, suffixes)
    if len(found) != 1:
        names = ", ".join(path.name for path in (found or files)[:10]) or "nothing"
        raise ValueError(
            f"folder {str(place)!r} holds {names}; expected one {split} file: name the file itself"
        )
    return found[0]


def _files_of_split(
    folder: pathlib.Path, split: str, suffixes: Sequence[str]
) -> tuple[list[pathlib.Path], list[pathlib.Path]]:
    """All files of a folder, and those of a split; one whose name is the split's alone goes before the others."""
    there = [path for path in sorted(folder.iterdir()) if path.is_file()]
    files = [path for path in there if inner_path(path.name).suffix.lower() in suffixes]
    exact = [path for path in files if split_name(stem_of(path)) == split]
    found = exact or [path for path in files if _split_of(path) == split]
    return files, [check_inside(folder, path.name, str(folder)) for path in found]


def has_split(name: str, split: str, suffixes: Sequence[str]) -> bool:
    """Whether a folder has files of a split, or a file is it. Raises ValueError where there is neither."""
    place = resolve_path(name)
    if place.is_file():
        return split == (_split_of(place) or "train")
    return bool(_files_of_split(place, split, suffixes)[1])


def _split_of(path: pathlib.Path) -> str | None:
    """The split that the first of a file's words that names one tells; None where there is none."""
    words = (split_name(word) for word in re.split(r"[^a-zA-Z]+", stem_of(path)))
    return next((word for word in words if word), None)


def open_items(path: pathlib.Path) -> Iterator[LocatedItem]:
    """Yield the items of JSON lines (.jsonl), or of a JSON list, without holding the file; one object is one item.

    An object of columns, as DataFrame.to_json() writes it, gives the items of its rows.

    The file may be packed (see ENDINGS); UTF-16 and UTF-32 are known by their byte order marks.

    Raises:
      ValueError: the content is not JSON or not text; the line or item is named.
    """
    with open_source(path) as source:
        if inner_path(path).suffix.lower() == ".jsonl":
            items = line_items(source.open(), str(path))
        else:
            items = json_items(TextReader(source.open(), str(path)), str(path))
        yield from (row for place, item in items for row in expand_columns(item, place))


def line_items(file: BinaryIO, where: str) -> Iterator[LocatedItem]:
    """Yield the items of JSON lines. Raises ValueError, naming the line, where one is not JSON or no text."""
    for number, item in json_lines(decode_lines(file, where), where):
        yield f"{where}: line {number}", item


def json_endings(suffixes: Sequence[str] = (".jsonl", ".json")) -> tuple[str, ...]:
    """Return the endings of JSON files, plain ones and packed ones."""
    return tuple(suffix + packed for suffix in suffixes for packed in ("", *ENDINGS))
