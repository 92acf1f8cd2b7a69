"""Replacing a directory in one step: written next to it, swapped in by renaming. Files: `whole_files`."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from adapler_jax.io.atomic_files import files_of, flush_file, flush_names


def temporary_sibling(directory: Path, role: str) -> Path:
    """A hidden sibling of the directory, hence on the same disk."""
    return directory.with_name(f".{directory.name}.{role}")


@contextlib.contextmanager
def atomic_directory(directory: Path) -> Iterator[Path]:
    """Yields an empty directory to fill; it takes the place of `directory` where the block ends without an error.

    On an error `directory` stays as it was, and the unfinished directory is removed. One writer at a time.
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
    """Renames the written directory to its final name and removes the one that was there."""
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
    """Ends a swap that a kill interrupted: puts the previous directory back, or removes it where the new one is in."""
    previous = temporary_sibling(directory, "previous")
    if previous.exists() and not directory.exists():
        previous.rename(directory)
    shutil.rmtree(previous, ignore_errors=True)


def recover(directory: Path) -> Path:
    """The directory, or the previous one where a kill fell between the two renames of a swap. Changes nothing."""
    previous = temporary_sibling(directory, "previous")
    return previous if previous.exists() and not directory.exists() else directory


def copy_entries(source: Path, target: Path, *, skip: set[str]) -> None:
    """Copies the files and folders of a directory, if it exists, except those named in `skip`."""
    for path in sorted(source.iterdir()) if source.exists() else ():
        if path.name not in skip:
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, target / path.name)


def flush(directory: Path) -> None:
    """Forces the files onto the disk: a rename may otherwise outlive a power cut that the contents do not."""
    for path in files_of(directory):
        flush_file(path)
    flush_names(directory)
