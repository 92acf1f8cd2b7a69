"""Save what a phase computes about every training example, in one npz file for later phases."""

import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from adapler_jax.data.batching.padding import PerExampleArrays
from adapler_jax.io.atomic_files import check_file, replacing_file

TEACHER = "teacher_logits"
BY_NAME = f"{TEACHER}."  # before the names of logits
# Errors of NumPy and zipfile on a damaged file.
DAMAGES = (
    AttributeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def empty_logits(shape: Any, num_rows: int) -> Any:
    """Return float32 zeros for the logits of all examples, [rows, *shape] or a dict of such.

    Args:
      shape: of one example's logits, from `Head.logits_shape`.
    """
    if isinstance(shape, Mapping):
        return {name: empty_logits(part, num_rows) for name, part in shape.items()}
    return np.zeros((num_rows, *shape), np.float32)


def put_logits(logits, rows, found, real_B) -> None:
    """Write the logits of a batch, which may be shorter, into the rows of its examples."""
    if isinstance(logits, Mapping):
        for name, part in logits.items():
            put_logits(part, rows, found[name], real_B)
        return
    found = np.asarray(found)[real_B]
    logits[(rows, *(slice(size) for size in found.shape[1:]))] = found


def save_arrays(path: pathlib.Path, *, teacher_logits, **arrays: np.ndarray) -> None:
    """Write an npz file, whole or not at all.

    A dict of logits becomes one array for each name: teacher_logits.NAME.
    """
    parts: dict[str, Any] = {TEACHER: teacher_logits}
    if isinstance(teacher_logits, Mapping):
        parts = {BY_NAME + name: part for name, part in teacher_logits.items()}
    with replacing_file(path, checksum=True) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **parts)


def load_arrays(path: pathlib.Path) -> PerExampleArrays:
    """Read the arrays that `save_arrays` wrote.

    Raises:
      ValueError: the file is damaged.
    """
    advice = (
        f"remove {path.parent} and give the training command again; it repeats this phase alone"
    )
    check_file(path, advice)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except DAMAGES as error:
        raise ValueError(
            f"{path} is damaged ({type(error).__name__}: {error}); {advice}"
        ) from error
    names = [name for name in arrays if name.startswith(BY_NAME)]
    by_name = {name.removeprefix(BY_NAME): arrays.pop(name) for name in names}
    logits: dict[str, Any] = {TEACHER: by_name} if by_name else {}
    return PerExampleArrays(**arrays, **logits)
