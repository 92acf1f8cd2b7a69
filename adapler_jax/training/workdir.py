"""The directory of a run: who may write there, and files that are there whole or not at all."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator

import filelock

CONFIG_FILE = "run.json"
LOCK_FILE = ".lock"
# Fields that change nothing in the result: they may differ between calls on one workdir.
FREE_FIELDS = ("data.cache_dir",)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in one step: a kill leaves the old content or the new."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


@contextlib.contextmanager
def only_process(workdir: pathlib.Path) -> Iterator[None]:
    """Holds the workdir until the process ends. Raises ValueError where another one trains there."""
    lock = filelock.FileLock(workdir / LOCK_FILE)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise ValueError(f"{workdir}: another process trains there; wait for it or give another --workdir") from None
    except NotImplementedError:
        pass  # a file system without locks
    try:
        yield
    finally:
        lock.release()


def flatten(config: dict, prefix: str = "") -> dict:
    """Nested config as {"a.b": value}, values as JSON gives them back."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = json.loads(json.dumps(value))
    return flat


def claim_workdir(workdir: pathlib.Path, config: dict) -> None:
    """Writes the run's config into an empty workdir, or checks that the one there is the same.

    Raises ValueError with the differences where it holds another run; nothing is overwritten then.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        there, here = flatten(json.loads(path.read_text())), flatten(config)
        names = sorted((there.keys() | here.keys()) - set(FREE_FIELDS))
        missing = "(absent)"
        differences = [
            f"{name}: {there.get(name, missing)!r} there, {here.get(name, missing)!r} now"
            for name in names
            if there.get(name, missing) != here.get(name, missing)
        ]
        if differences:
            raise ValueError(
                f"{workdir} holds another run ({'; '.join(differences)}); give the same config or another --workdir"
            )
        return
    if workdir.exists() and any(workdir.iterdir()):
        raise ValueError(f"{workdir} is not empty and holds no {CONFIG_FILE}; give another --workdir")
    workdir.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(config, indent=1, sort_keys=True))
