"""Replace a directory in one step: write a sibling of it, then rename both."""

import contextlib
import filecmp
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from adapler_jax.io.atomic_files import files_of, flush_file, flush_names


def temporary_sibling(directory: Path, role: str) -> Path:
    """Return the path of a hidden sibling of the directory, which is on the same disk."""
    return directory.with_name(f".{directory.name}.{role}")


@contextlib.contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Yield an empty directory to fill; it replaces `directory` if the block raises no error.

    After an error `directory` is unchanged, and the unfinished directory is removed. There may be
    one writer at a time.
    """
    partial = temporary_sibling(directory, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        flush(partial)
        swap_in(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def swap_in(partial: Path, directory: Path) -> None:
    """Rename the written directory to its final name and remove the previous one."""
    previous = temporary_sibling(directory, "previous")
    if directory.exists():
        directory.rename(previous)
    try:
        partial.rename(directory)
    except OSError:
        restore_previous(directory)
        raise
    flush_names(directory.parent)
    shutil.rmtree(previous, ignore_errors=True)


def restore_previous(directory: Path) -> None:
    """End a swap that a kill interrupted: restore the previous directory, or remove it."""
    previous = temporary_sibling(directory, "previous")
    if previous.exists() and not directory.exists():
        previous.rename(directory)
    shutil.rmtree(previous, ignore_errors=True)


def recover(directory: Path) -> Path:
    """Return the directory, or the previous one if a kill interrupted a swap.

    The function changes no file.
    """
    previous = temporary_sibling(directory, "previous")
    return previous if previous.exists() and not directory.exists() else directory


def have_equal_files(first: Path, second: Path, names: Iterable[str]) -> bool:
    """Return whether each file has the same content in two directories, or is absent in both."""
    return all(
        filecmp.cmp(first / name, second / name, shallow=False)
        if (first / name).exists() and (second / name).exists()
        else not ((first / name).exists() or (second / name).exists())
        for name in names
    )


def copy_entries(source: Path, target: Path, *, skip: Collection[str] = ()) -> None:
    """Copy the files and folders of a directory, if it exists, except the names in `skip`."""
    for path in sorted(source.iterdir()) if source.exists() else ():
        if path.name not in skip:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, target / path.name)


def flush(directory: Path) -> None:
    """Force the files onto the disk: else a power cut may keep a rename and lose the contents."""
    for path in files_of(directory):
        flush_file(path)
    flush_names(directory)
