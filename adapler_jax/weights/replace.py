"""Replacing a file or a directory in one step: written beside it, swapped in by renaming."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Writes a text file in one step: a kill leaves the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def beside(directory: Path, role: str) -> Path:
    """A hidden sibling of the directory, hence on the same disk."""
    return directory.with_name(f".{directory.name}.{role}")


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yields a place beside `path` for a file that takes its place where the block ends without an error.

    On an error `path` stays as it was, and the unfinished file is removed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yields an empty directory to fill; it takes the place of `directory` where the block ends without an error.

    On an error `directory` stays as it was, and the unfinished directory is removed. One writer at a time.
    """
    partial = beside(directory, "partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        flush(partial)
        swap_in(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def swap_in(partial: Path, directory: Path) -> None:
    """Renames the written directory to its final name and removes the one that was there."""
    previous = beside(directory, "previous")
    if directory.exists():
        directory.rename(previous)
    try:
        partial.rename(directory)
    except OSError:
        restore_previous(directory)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def restore_previous(directory: Path) -> None:
    """Ends a swap that a kill interrupted: puts the previous directory back, or removes it where the new one is in."""
    previous = beside(directory, "previous")
    if previous.exists() and not directory.exists():
        previous.rename(directory)
    shutil.rmtree(previous, ignore_errors=True)


def readable(directory: Path) -> Path:
    """The directory, or the previous one where a kill fell between the two renames of a swap. Changes nothing."""
    previous = beside(directory, "previous")
    return previous if previous.exists() and not directory.exists() else directory


def copy_entries(source: Path, target: Path, *, skip: set[str]) -> None:
    """Copies the files and folders of a directory, if it exists, except those named in `skip`."""
    for path in sorted(source.iterdir()) if source.exists() else ():
        if path.name not in skip:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, target / path.name)


def flush(directory: Path) -> None:
    """Forces the files onto the disk: a rename may otherwise outlive a power cut that the contents do not."""
    for path in directory.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
