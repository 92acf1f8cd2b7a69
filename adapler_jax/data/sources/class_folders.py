"""Folders that hold one folder of text files for each class, on disk and in package archives."""

import pathlib
import zipfile
from collections.abc import Callable, Iterator, Sequence

from adapler_jax.data.sources.encodings import TextReader
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table

AnyPath = pathlib.Path | zipfile.Path
# Folder names of texts without a class, as in aclImdb.
_UNLABELLED = ("unsup", "unsupervised", "unlabeled", "unlabelled")
_MAX_TEXT_BYTES = 1 << 27


def class_folders(
    root: pathlib.Path, split_of: Callable[[str], str | None]
) -> dict[str, list[pathlib.Path]]:
    """Return the class folders by split.

    Args:
      root: an existing folder, with `SPLIT/CLASS/*.txt` or `CLASS/*.txt`.
      split_of: returns the split that a folder's name says, or None.

    Returns:
      Class folders by split; `train` if the folder has no split folders; empty if no text file
      is found.

    Raises:
      ValueError: two folders are the same split.
    """
    found: dict[str, list[pathlib.Path]] = {}
    for folder in _subfolders(root):
        split = split_of(folder.name)
        classes = _folders_with_texts(folder) if split else []
        if not split or not classes:
            continue
        if split in found:
            first = str(found[split][0].parent)
            raise ValueError(f"{first!r} and {folder.name!r} are both the split {split!r}")
        found[split] = classes
    if found:
        return found
    classes = _folders_with_texts(root)
    return {"train": classes} if classes else {}


def _subfolders(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders inside a folder, without hidden ones."""
    items = sorted(folder.iterdir())
    return [item for item in items if item.is_dir() and not item.name.startswith(".")]


def _folders_with_texts(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders inside a folder that hold text files."""
    return [inner for inner in _subfolders(folder) if _holds_texts(inner)]


def _holds_texts(folder: pathlib.Path) -> bool:
    """Return whether a folder holds a text file."""
    return any(item.suffix.lower() == ".txt" for item in folder.iterdir())


def read_class_folders(
    folders: Sequence[pathlib.Path], *, top: pathlib.Path, encoding: str = ""
) -> Table:
    """Read the text files of class folders into a table.

    Args:
      folders: one for each class.
      top: the folder that the user names; it contains the class folders.
      encoding: of the texts; empty means detected.

    Returns:
      A table of `text` and `label`; the label is the name of the folder.

    Raises:
      ValueError: a link leads out of `top`, or a text does not have the encoding.
    """
    root = folders[0].parent
    texts, labels, notes = [], [], []
    for folder in folders:
        if folder.name.lower() in _UNLABELLED:
            notes.append(f"{folder} is left out: its texts have no class")
            continue
        for file in text_files(folder, top):
            texts.append(read_text(file, encoding=encoding))
            labels.append(folder.name)
    columns = {"text": texts, "label": labels}
    return Table(columns, str(root), ("text", "label"), notes=tuple(notes))


def text_files(folder: pathlib.Path, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the text files of a folder in the order of their names.

    Raises:
      ValueError: a link leads out of the root.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() == ".txt":
            yield check_inside(root, file.relative_to(root), str(folder))


def read_text(path: pathlib.Path, *, encoding: str = "") -> str:
    """Read a text file; a byte order mark overrides the encoding.

    Raises:
      ValueError: the file is too large or does not have the encoding.
    """
    size = path.stat().st_size
    if size > _MAX_TEXT_BYTES:
        limit = f"{_MAX_TEXT_BYTES >> 20} MiB"
        raise ValueError(f"{path} is {size} bytes long; a text has at most {limit}")
    with open(path, "rb") as file:
        return TextReader(file, str(path), encoding=encoding).read()


def packaged_rows(root: AnyPath) -> Iterator[dict[str, str]]:
    """Yield the documents of the class folders of a package, on disk or in an archive."""
    for folder in _by_name(root):
        if not folder.is_dir():
            continue
        for file in _by_name(folder):
            if not file.name.endswith(".txt"):
                continue
            if isinstance(file, pathlib.Path) and isinstance(root, pathlib.Path):
                check_inside(root, file.relative_to(root), str(folder))
            text = file.read_bytes().decode("utf-8", errors="replace")
            yield {"text": text, "label": folder.name}


def _by_name(folder: AnyPath) -> list[AnyPath]:
    """Return the items of a folder sorted by name."""
    items: list[AnyPath] = list(folder.iterdir())
    return sorted(items, key=lambda item: item.name)
