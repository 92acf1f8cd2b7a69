"""Keep compiled programs between processes, in a private folder of limited size."""

import os
import pathlib
import stat
import warnings
from collections.abc import Callable

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache

from adapler_jax.io.user_folders import user_cache

VARIABLE = "ADAPLER_COMPILATION_CACHE"
OFF = "none"
MIN_COMPILE_S = 0.1  # of a program that is kept: loading one costs milliseconds, and a file
MAX_BYTES = 2 << 30  # of the default folder; jax removes the least recently used programs
LOCK_TIMEOUT_S = 10.0
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
# Names of jax's files: a program, the time of its last use, and the lock of the folder.
PROGRAM_SUFFIX = "-cache"
TIME_SUFFIX = "-atime"
LOCK_NAME = ".lockfile"


def use_compilation_cache(
    location: str = "", *, log: Callable[[str], object] = warnings.warn
) -> pathlib.Path | None:
    """Make jax keep compiled programs in a folder, for this process and later ones.

    The setting is global to the process: a folder that jax already has stays. Programs are code, so
    a folder that others can write to is rejected, and a new one belongs to its owner alone.

    Args:
      location: a folder, or "none" to keep nothing. If empty: the folder in the environment's
        ADAPLER_COMPILATION_CACHE, or `compiled` in the user's cache directory.
      log: receives a sentence if the folder cannot be used. Programs are then compiled again.

    Returns:
      The folder in use; None if programs are not kept.
    """
    in_use = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # made at run time
    if in_use is not None:
        return _folder_in_use(pathlib.Path(in_use), location, log=log)
    location = location or os.environ.get(VARIABLE, "")
    if location == OFF:
        return None
    try:
        folder = _open_folder(location)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a user without a home
        log(
            f"compiled programs are not kept ({error}); name another folder, or {OFF}, in "
            f"{VARIABLE} or in config.inference.compilation_cache"
        )
        return None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", MIN_COMPILE_S)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # If the process compiled before, jax recorded that there is no cache.
    compilation_cache.reset_cache()
    return folder


def _folder_in_use(
    folder: pathlib.Path, location: str, *, log: Callable[[str], object]
) -> pathlib.Path:
    """Return the folder that jax has; report a request for another one."""
    is_same = location != OFF and pathlib.Path(location).expanduser().absolute() == folder
    if location and not is_same:
        log(
            f"compiled programs of this process are kept in {folder} already; "
            f"{location!r} changes nothing"
        )
    return folder


def _open_folder(location: str) -> pathlib.Path:
    """Make the folder of compiled programs, check its owner, and limit the default folder."""
    is_default = not location
    folder = user_cache("compiled") if is_default else pathlib.Path(location).expanduser()
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_private(folder)
    if is_default:
        _limit_size(folder)
    return folder


def check_private(folder: pathlib.Path) -> None:
    """Raise ValueError if anybody but this user or root can write to a folder, or this user cannot.

    Raises:
      ValueError: the folder belongs to another user, is open to others, or is read-only.
    """
    found = folder.stat()
    if hasattr(os, "getuid"):
        if found.st_uid not in (os.getuid(), 0):
            raise ValueError(f"{folder} belongs to another user")
        if found.st_mode & OTHERS_WRITE:
            raise ValueError(f"others may write to {folder}, and programs are code; chmod go-w it")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written")


def _limit_size(folder: pathlib.Path) -> None:
    """Let jax remove the least recently used programs beyond MAX_BYTES.

    Programs without a time of use are removed first: with one of them jax can store no other
    program. Release 0.1 wrote no times, and a kill can leave a program without one.
    """
    with filelock.FileLock(folder / LOCK_NAME, timeout=LOCK_TIMEOUT_S):
        for program in folder.glob(f"*{PROGRAM_SUFFIX}"):
            key = program.name.removesuffix(PROGRAM_SUFFIX)
            if not (folder / f"{key}{TIME_SUFFIX}").exists():
                program.unlink(missing_ok=True)
    jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
