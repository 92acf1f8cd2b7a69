"""Files that one process at a time may hold."""

import contextlib
import os
from collections.abc import Iterator

import filelock


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, waits: bool = True) -> Iterator[None]:
    """Holds a lock file, for which it waits; the system lets it go when the process ends.

    On a file system without locks it holds nothing. Raises filelock.Timeout where another process holds it and `waits`
    is False.
    """
    lock = filelock.FileLock(path)
    with contextlib.suppress(NotImplementedError):
        lock.acquire(blocking=waits)
    try:
        yield
    finally:
        lock.release()
