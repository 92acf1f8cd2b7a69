"""Hold a lock file in one process at a time."""

import contextlib
import os
from collections.abc import Iterator

import filelock


@contextlib.contextmanager
def locked(path: str | os.PathLike, *, waits: bool = True) -> Iterator[None]:
    """Hold a lock file during the block; the system releases it if the process ends.

    On a file system without locks the block runs without one.

    Args:
      path: of the lock file.
      waits: whether to wait for another process that holds the lock.

    Raises:
      filelock.Timeout: another process holds the lock, and `waits` is False.
    """
    lock = filelock.FileLock(path)
    with contextlib.suppress(NotImplementedError):
        lock.acquire(blocking=waits)
    try:
        yield
    finally:
        lock.release()
