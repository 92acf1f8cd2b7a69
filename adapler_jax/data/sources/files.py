"""Read files of every kind, and folders of them, into tables by split."""

import functools
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence

from adapler_jax.data.sources.class_folders import class_folders, read_class_folders
from adapler_jax.data.sources.compression import open_source
from adapler_jax.data.sources.delimited import Lines, read_delimited
from adapler_jax.data.sources.formats import (
    TABLE_KINDS,
    Options,
    is_table,
    kind_of,
    open_table,
    parquet_file,
    stem_of,
)
from adapler_jax.data.sources.parquet import read_parquet
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table, check_once, table_from_rows
from adapler_jax.io.messages import list_names

SUFFIXES = tuple(f".{kind}" for kind in TABLE_KINDS)
_SPLIT_WORDS = {"train": "train", "test": "test"} | dict.fromkeys(
    ("validation", "valid", "val", "dev"), "validation"
)
_ADVICE = "any of them may be packed as .gz, .bz2, .xz, .zst or .zip"


def split_name(stem: str) -> str | None:
    """Read the split off a file's stem: `dev` is validation, `validation_matched` itself, `reviews` None."""
    match = re.fullmatch(r"([a-z]+)([_-]\w+)?", stem.lower())
    word = _SPLIT_WORDS.get(match[1]) if match else None
    return None if word is None else word + (match[2] or "").replace("-", "_")


def load_files(
    path: str, *, columns: Collection[str] | None = None, options: Options = Options()
) -> dict[str, Table]:
    """Read one file, or the train, validation and test files of a folder, or its folders of texts a class.

    Args:
      path: a file with one of SUFFIXES, packed or not, or a folder. A single file is the split that its name says,
        else `train`. A folder without such files holds `train/CLASS/*.txt` (aclImdb's form), or `CLASS/*.txt`.
      columns: the columns to keep; None keeps all. A name with a point is a field inside of a column.
      options: how text files are written.

    Returns:
      Tables by split name.

    Raises:
      ValueError: nothing is there, the kind is unknown, the content is malformed, or two files claim one split.
    """
    place = resolve_path(path)
    read = functools.partial(read_table, columns=columns, options=options)
    if place.is_file():
        name = split_name(stem_of(place)) or "train"
        return {"train" if name.startswith("train") else name: read(place)}
    files = {file for file in place.iterdir() if is_table(file) and split_name(stem_of(file))}
    if not files and (folders := class_folders(place, split_name)):
        return {
            name: read_class_folders(found, top=place, encoding=options.encoding)
            for name, found in folders.items()
        }
    files = files_by_split(
        place, lambda file: split_name(stem_of(file)) if file in files else None, endings=SUFFIXES
    )
    return {name: read(file) for name, file in files.items()}


def resolve_path(path: str) -> pathlib.Path:
    """Return the file or folder of this path. Raises ValueError where there is neither."""
    place = pathlib.Path(path).expanduser()
    if not (place.is_file() or place.is_dir()):
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
    return place


def files_by_split(
    folder: pathlib.Path, split_of: Callable[[pathlib.Path], str | None], *, endings: Sequence[str]
) -> dict[str, pathlib.Path]:
    """Return the files of a folder by their splits.

    Args:
      folder: it exists.
      split_of: the split of a file; None for one that is none.
      endings: of the files that are looked at, for messages.

    Raises:
      ValueError: two files are one split, none is any, or a file is a link out of the folder.
    """
    files: dict[str, pathlib.Path] = {}
    for file in sorted(folder.iterdir()):
        name = split_of(file)
        if name in files:
            raise ValueError(
                f"{str(files[name])!r} and {file.name!r} are both the split {name!r}; keep one"
            )
        if name:
            files[name] = check_inside(folder, file.name, str(folder))
    if not files:
        names = sorted(file.name for file in folder.iterdir())
        present = list_names(names[:10]) if names else "nothing"
        raise ValueError(
            f"folder {str(folder)!r} holds {present}; expected train, validation or test files ending in "
            f"{', '.join(endings)}"
        )
    return files


def read_table(
    path: pathlib.Path, *, columns: Collection[str] | None = None, options: Options = Options()
) -> Table:
    """Read one file into a table; the suffix names the kind.

    Raises:
      ValueError: the suffix is unknown or the content is malformed; the line is named.
    """
    kind = kind_of(str(path), TABLE_KINDS, advice=_ADVICE)
    found: dict[str, None] = {}
    notes: list[str] = []

    def pick(header: Sequence[str]) -> list[str]:
        found.update(dict.fromkeys(header))
        return [name for name in header if columns is None or name in columns]

    with open_source(path) as source:
        if kind == "parquet":
            return read_parquet(parquet_file(source), str(path), columns)
        opened = open_table(source, kind, pick, columns=columns, options=options, log=notes.append)
        table = table_from_rows((row for _, row in opened.rows), str(path), columns=columns)
    held = table.columns or {name: [] for name in found if columns is None or name in columns}
    return table.replace(columns=held, found=tuple(found) or table.found, notes=tuple(notes))


def csv_rows(
    text: str, kind: str, where: str, *, columns: Collection[str] | None = None
) -> Iterator[dict]:
    """Yield the rows of CSV or TSV text with a header line; `columns`, of None all, must not be there twice."""
    header, rows = read_delimited(Lines.of_text(text, where), kind.removeprefix("."))
    check_once(header if columns is None else columns, header, where)
    return (dict(zip(header, fields)) for fields in rows)
