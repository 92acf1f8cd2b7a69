"""Use models in several processes: detect a broken fork, and send a model to another process.

A fork does not copy the threads of JAX. A program that starts in the child of a process where JAX
runs never ends. A model is sent as its directory and the arguments of its load, without weights.
"""

import dataclasses
import logging
import os
import pathlib
import sys
import threading
import time
from typing import Any

import numpy as np

TASKS = "/proc/self/task"
THREAD_NAME = "tf_XLA"  # first part of the names of threads of JAX's CPU client
ADVICE = "load the model in every worker, after the fork (docs/serving.md, Several processes)"


@dataclasses.dataclass
class _Process:
    """The state of this process."""

    has_models: bool = False  # an engine was made here, or before the fork
    jax_ran: bool = False  # when the last fork began
    is_forked: bool = False  # from a process where JAX ran


_process = _Process()


def jax_runs() -> bool:
    """Return True if JAX has started its devices and threads; this call does not start them."""
    # JAX has no public name for it.
    probe = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return _process.has_models if probe is None else probe()


def _before_fork() -> None:
    """Record the state of JAX before a fork."""
    _process.jax_ran = jax_runs()


def _after_fork() -> None:
    """Mark the child of a process where JAX ran."""
    _process.is_forked = _process.is_forked or _process.jax_ran


def has_lost_threads() -> bool:
    """Return True if JAX runs without its threads, as after a fork.

    JAX's threads are no threads of Python. Other libraries have such threads too, so the names
    count as well in a process that was forked. False where the system does not list threads.
    """
    if not jax_runs():
        return False
    try:
        names = thread_names()
        python_threads = {thread.native_id for thread in threading.enumerate()} | {os.getpid()}
        if not names.keys() - python_threads:
            return True
        has_cpu = "cpu" in getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {})
        is_named = any(name.startswith(THREAD_NAME) for name in names.values())
        return has_cpu and not is_named and is_younger_than_its_modules()
    except OSError:
        return False


def thread_names() -> dict[int, str]:
    """Return the names of this process's threads by their numbers.

    Raises:
      OSError: the system lists no threads.
    """
    return {
        int(entry): pathlib.Path(TASKS, entry, "comm").read_text().strip()
        for entry in os.listdir(TASKS)
    }


def is_younger_than_its_modules() -> bool:
    """Return True if this process started after its module `logging`, as after a fork.

    Raises:
      OSError: the system is not Linux.
    """
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - start_s
    logging_s = logging.LogRecord("", 0, "", 0, "", (), None).relativeCreated / 1000
    return age_s < logging_s


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
_process.is_forked = has_lost_threads()  # a fork before this import, without the hooks


def check_process() -> None:
    """Check that programs can run in this process.

    Raises:
      RuntimeError: it was forked from a process where JAX had started.
    """
    if _process.is_forked:
        raise RuntimeError(
            "this process was forked after JAX had started, so no model can run in it; "
            f"{ADVICE}, or start workers with the method spawn"
        )
    _process.has_models = True


@dataclasses.dataclass(frozen=True)
class Origin:
    """The directory and the arguments of a model's load."""

    directory: str
    options: dict[str, Any]  # keywords of `load`


def origin_of(directory, options: dict[str, Any]) -> Origin:
    """Return the origin of a model, with absolute paths and values that pickle.

    Args:
      directory: of the model.
      options: keywords of its load.
    """
    portable = dict(options)
    table = portable.get("autotune_table")
    if isinstance(table, str | os.PathLike) and str(table):
        portable["autotune_table"] = str(pathlib.Path(table).expanduser().resolve())
    if portable.get("buckets") is not None:
        portable["buckets"] = tuple(portable["buckets"])
    if not isinstance(portable.get("dtype", ""), str):
        portable["dtype"] = np.dtype(portable["dtype"]).name
    return Origin(str(pathlib.Path(directory).expanduser().resolve()), portable)


@dataclasses.dataclass(frozen=True, eq=False)
class Portable:
    """A class of models that pickle as their origin; a copy is the model itself.

    `loading.with_origin` wraps its `load`. `dataclasses.replace` returns a model without an origin,
    because a load would not return the same model.
    """

    origin: Origin | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False, kw_only=True
    )

    def __reduce__(self):
        """Return the class and the origin for pickle.

        Raises:
          TypeError: the model was not made by `load`.
        """
        name = type(self).__name__
        if self.origin is None:
            raise TypeError(
                f"this {name} was not made by {name}.load, so it cannot be sent to another "
                f"process; load it there with {name}.load(directory)"
            )
        return load_from_origin, (type(self), self.origin)

    def __getattr__(self, name: str):
        """Raise AttributeError, or the error of the load if the model arrived and did not load."""
        error = self.__dict__.get("load_error")
        if error is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise error.with_traceback(None)

    def __copy__(self):
        """Return the model itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo):
        """Return the model itself: nothing in it changes."""
        return self


def load_from_origin(kind: Any, origin: Origin) -> Any:
    """Load a model that another process sent.

    An error of the load is raised by the first use of the model, never here. A worker of a pool
    that cannot unpickle its task ends, and the pool would wait for it forever.

    Args:
      kind: class of the model.
      origin: of the model.
    """
    try:
        return kind.load(origin.directory, **origin.options)
    except (OSError, RuntimeError, ValueError) as error:
        model = object.__new__(kind)
        model.__dict__.update(origin=origin, load_error=error)
        return model
