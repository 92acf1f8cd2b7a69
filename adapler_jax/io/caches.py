"""What is kept between processes, under the user's cache directory: tokenized texts and compiled programs."""

import contextlib
import os
import pathlib
import stat
import warnings
from collections.abc import Callable

import jax
from jax.experimental.compilation_cache import compilation_cache

VARIABLE = "ADAPLER_COMPILATION_CACHE"
OFF = "none"
MIN_COMPILE_S = 0.1  # of a program that is kept: reading one back costs milliseconds, and a file
MAX_BYTES = 2 << 30  # of the default folder; the oldest programs go first
SUFFIX = "-cache"  # of jax's files
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_cache(name: str) -> pathlib.Path:
    """The folder of that name among ours in the user's cache directory; it need not exist."""
    users = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return users.absolute() / "adapler_jax" / name


def user_data(name: str) -> pathlib.Path:
    """The file or folder of that name among ours in the user's data directory; it need not exist."""
    users = pathlib.Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return users.absolute() / "adapler_jax" / name


def use_compilation_cache(
    where: str = "", *, log: Callable[[str], object] = warnings.warn
) -> pathlib.Path | None:
    """Makes jax keep compiled programs in a folder, for this and later processes; returns the folder in use.

    Args: where: a folder, or "none" to keep nothing; "" for the environment's ADAPLER_COMPILATION_CACHE, and without it
    for `compiled` in the user's cache directory. tell: receives one sentence where the folder cannot be used; all works
    without it, compilation is only repeated.
    The setting is the process's: a folder that jax has been given before, by whomever, stays; where `where` asks for
    another one, that is told. Entries are code, so a folder that others may write to is not used, and a new one is only
    its owner's.
    """
    in_use = jax.config.jax_compilation_cache_dir
    if in_use is not None:
        if where and (
            where == OFF or pathlib.Path(where).expanduser().absolute() != pathlib.Path(in_use)
        ):
            log(
                f"compiled programs of this process are kept in {in_use} already; {where!r} changes nothing"
            )
        return pathlib.Path(in_use)
    where = where or os.environ.get(VARIABLE, "")
    if where == OFF:
        return None
    try:
        folder = pathlib.Path(where).expanduser().absolute() if where else user_cache("compiled")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(folder)
        if not where:
            remove_oldest(folder, max_bytes=MAX_BYTES)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a user without a home
        log(
            f"compiled programs are not kept ({error}); name another folder, or {OFF}, in {VARIABLE} or in "
            "config.inference.compilation_cache"
        )
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_S)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()  # a process that has compiled before has noted that there is none
    return folder


def check_private(folder: pathlib.Path) -> None:
    """Raises ValueError where somebody else than this user, or root, may write into a folder, or this user may not."""
    found = folder.stat()
    if hasattr(os, "getuid"):
        if found.st_uid not in (os.getuid(), 0):
            raise ValueError(f"{folder} belongs to another user")
        if found.st_mode & OTHERS_WRITE:
            raise ValueError(f"others may write to {folder}, and programs are code; chmod go-w it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written")


def remove_oldest(folder: pathlib.Path, *, max_bytes: int) -> None:
    """Removes the oldest programs until the others take at most so many bytes."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process does the same
            found.append((path.stat(), path))
    excess = sum(status.st_size for status, _ in found) - max_bytes
    for status, path in sorted(found, key=lambda pair: pair[0].st_mtime) if excess > 0 else ():
        if excess <= 0:
            return
        path.unlink(missing_ok=True)
        excess -= status.st_size
