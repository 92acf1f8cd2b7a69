"""Read files of every kind, and folders of them, into tables by split."""

import functools
import pathlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence

from adapler_jax.data.sources.class_folders import class_folders, read_class_folders
from adapler_jax.data.sources.compression import open_source
from adapler_jax.data.sources.delimited import Lines, read_delimited
from adapler_jax.data.sources.formats import (
    DEFAULT_OPTIONS,
    TABLE_KINDS,
    Options,
    is_table,
    open_table,
    parquet_file,
    stem_of,
    table_kind,
)
from adapler_jax.data.sources.parquet import read_parquet
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table, check_once, table_from_rows
from adapler_jax.io.messages import list_names

SUFFIXES = tuple(f".{kind}" for kind in TABLE_KINDS)
_SPLIT_WORDS = {
    "train": "train",
    "test": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def split_name(stem: str) -> str | None:
    """Return the split that a file's stem names, or None.

    `dev` is validation, `validation_matched` is itself, and `reviews` is None.
    """
    match = re.fullmatch(r"([a-z]+)([_-]\w+)?", stem.lower())
    if match is None or match[1] not in _SPLIT_WORDS:
        return None
    return _SPLIT_WORDS[match[1]] + (match[2] or "").replace("-", "_")


def load_files(
    path: str, *, columns: Collection[str] | None = None, options: Options = DEFAULT_OPTIONS
) -> dict[str, Table]:
    """Read a file, or a folder with a file or a folder of texts for each split.

    Args:
      path: a file that ends in one of SUFFIXES, compressed or not, or a folder. A file is the
        split that its name says, or `train`. A folder without split files holds
        `train/CLASS/*.txt` (aclImdb's form) or `CLASS/*.txt`.
      columns: columns to keep; None keeps all. `a.b` is the field b of the column a.
      options: of text files.

    Returns:
      Tables by split name.

    Raises:
      ValueError: nothing is there, the kind is unknown, the content is malformed, or two files
        are one split.
    """
    root = resolve_path(path)
    read = functools.partial(read_table, columns=columns, options=options)
    if root.is_file():
        name = split_name(stem_of(root)) or "train"
        return {"train" if name.startswith("train") else name: read(root)}
    tables = {
        file for file in root.iterdir() if is_table(file, options) and split_name(stem_of(file))
    }
    if not tables and (folders := class_folders(root, split_name)):
        return {
            split: read_class_folders(classes, top=root, encoding=options.encoding)
            for split, classes in folders.items()
        }

    def split_of(file: pathlib.Path) -> str | None:
        return split_name(stem_of(file)) if file in tables else None

    files = files_by_split(root, split_of, endings=SUFFIXES)
    return {name: read(file) for name, file in files.items()}


def resolve_path(path: str) -> pathlib.Path:
    """Return an existing file or folder, with ~ expanded.

    Raises:
      ValueError: neither exists.
    """
    found = pathlib.Path(path).expanduser()
    if not (found.is_file() or found.is_dir()):
        raise ValueError(f"no file or folder {str(found)!r}; give file:PATH with an existing path")
    return found


def files_by_split(
    folder: pathlib.Path, split_of: Callable[[pathlib.Path], str | None], *, endings: Sequence[str]
) -> dict[str, pathlib.Path]:
    """Return the files of a folder by split.

    Args:
      folder: an existing folder.
      split_of: returns the split of a file, or None.
      endings: of the files that count, for messages.

    Raises:
      ValueError: two files are one split, no file is a split, or a link leads out of the folder.
    """
    files: dict[str, pathlib.Path] = {}
    for file in sorted(folder.iterdir()):
        name = split_of(file)
        if not name:
            continue
        if name in files:
            raise ValueError(
                f"{str(files[name])!r} and {file.name!r} are both the split {name!r}; keep one"
            )
        files[name] = check_inside(folder, file.name, str(folder))
    if not files:
        names = sorted(file.name for file in folder.iterdir())
        present = list_names(names[:10]) if names else "nothing"
        raise ValueError(
            f"folder {str(folder)!r} holds {present}; expected train, validation or test files "
            f"ending in {', '.join(endings)}"
        )
    return files


def read_table(
    path: pathlib.Path,
    *,
    columns: Collection[str] | None = None,
    options: Options = DEFAULT_OPTIONS,
) -> Table:
    """Read a file into a table; the suffix names the kind.

    Raises:
      ValueError: the suffix is unknown or the content is malformed; the message names the line.
    """
    kind = table_kind(path, options)
    header: dict[str, None] = {}
    notes: list[str] = []

    def pick(names: Sequence[str]) -> list[str]:
        header.update(dict.fromkeys(names))
        return [name for name in names if columns is None or name in columns]

    with open_source(path) as source:
        if kind == "parquet":
            return read_parquet(parquet_file(source), str(path), columns)
        opened = open_table(source, kind, pick, columns=columns, options=options, log=notes.append)
        table = table_from_rows((row for _, row in opened.rows), str(path), columns=columns)
    values = table.columns or {name: [] for name in pick(list(header))}
    return table.replace(columns=values, found=tuple(header) or table.found, notes=tuple(notes))


def csv_rows(
    text: str, kind: str, where: str, *, columns: Collection[str] | None = None
) -> Iterator[dict[str, str]]:
    """Yield the rows of CSV or TSV text with a header line.

    Raises:
      ValueError: the text is malformed, or a column of `columns` (None: any) is there twice.
    """
    header, rows = read_delimited(Lines.of_text(text, where), kind.removeprefix("."))
    check_once(header if columns is None else columns, header, where)
    return (dict(zip(header, fields)) for fields in rows)
