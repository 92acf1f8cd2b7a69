"""Folders with one folder of text files for each class, in folders on disk and in archives of
packages.
"""

import pathlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence

from adapler_jax.data.sources.encodings import TextReader
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tables import Table

Place = pathlib.Path | zipfile.Path
_UNLABELLED = (
    "unsup",
    "unsupervised",
    "unlabeled",
    "unlabelled",
)  # as aclImdb calls the folder of texts without
_MAX_TEXT_BYTES = 1 << 27


def class_folders(
    root: pathlib.Path, split_of: Callable[[str], str | None]
) -> dict[str, Sequence[pathlib.Path]]:
    """Return the class folders of a folder by split, `train` where it has no folders of splits;
    none where none is.

    Args:
      root: it exists.
      split_of: the split that a folder's name says.

    Raises:
      ValueError: two folders are one split.
    """
    found: dict[str, Sequence[pathlib.Path]] = {}
    for folder in _folders_of(root):
        split = split_of(folder.name)
        classes = [inner for inner in _folders_of(folder) if _holds_texts(inner)] if split else []
        if classes and split in found:
            raise ValueError(
                f"{str(found[split][0].parent)!r} and {folder.name!r} are both the split {split!r}"
            )
        if classes:
            found[split] = classes
    classes = [] if found else [folder for folder in _folders_of(root) if _holds_texts(folder)]
    return found or ({"train": classes} if classes else {})


def _folders_of(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders inside of a folder, hidden ones left out."""
    return [
        item for item in sorted(folder.iterdir()) if item.is_dir() and not item.name.startswith(".")
    ]


def _holds_texts(folder: pathlib.Path) -> bool:
    """Say whether a folder has a text file."""
    return any(item.suffix.lower() == ".txt" for item in folder.iterdir())


def read_class_folders(
    folders: Sequence[pathlib.Path], *, top: pathlib.Path, encoding: str = ""
) -> Table:
    """Read the text files of folders into a table of `text` and `label`, which is the name of the
    folder.

    Args:
      folders: one a class.
      top: the folder that a user names, which they are inside of.
      encoding: of the texts; empty: found out.

    Raises:
      ValueError: a file or folder is a link that leads out of the top folder, or a text is not of
        the encoding.
    """
    root = folders[0].parent
    left_out = [folder.name for folder in folders if folder.name.lower() in _UNLABELLED]
    texts, labels = [], []
    for folder in folders:
        if folder.name not in left_out:
            for file in text_files(folder, top):
                texts.append(read_text(file, encoding=encoding))
                labels.append(folder.name)
    notes = tuple(f"{root / name} is left out: its texts have no class" for name in left_out)
    return Table({"text": texts, "label": labels}, str(root), ("text", "label"), notes=notes)


def text_files(folder: pathlib.Path, root: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the text files of a folder by name.

    Raises ValueError where one leads out of the root.
    """
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() == ".txt":
            yield check_inside(root, file.relative_to(root), str(folder))


def read_text(path: pathlib.Path, *, encoding: str = "") -> str:
    """Read a text file; a byte order mark decides its encoding.

    Raises ValueError where it is not of that.
    """
    size = path.stat().st_size
    if size > _MAX_TEXT_BYTES:
        raise ValueError(
            f"{path} is {size} bytes long; a text has at most {_MAX_TEXT_BYTES >> 20} MiB"
        )
    with open(path, "rb") as file:
        return TextReader(file, str(path), encoding=encoding).read()


def packaged_rows(place: Place) -> Iterator[Mapping]:
    """Yield the documents of the class folders of a package, which may be inside of an archive."""
    for folder in sorted(
        (item for item in place.iterdir() if item.is_dir()), key=lambda item: item.name
    ):
        for file in sorted(folder.iterdir(), key=lambda item: item.name):
            if file.name.endswith(".txt"):
                if isinstance(file, pathlib.Path):
                    check_inside(place, file.relative_to(place), str(folder))
                text = file.read_bytes().decode("utf-8", errors="replace")
                yield {"text": text, "label": folder.name}
