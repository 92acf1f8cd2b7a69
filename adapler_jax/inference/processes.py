"""Models in several processes: what a fork breaks is said, and what is sent to another process is loaded there again.

JAX runs threads that no fork copies: a program that is started in the child of a process where JAX runs waits without
end. A model is sent by the folder that it was loaded from and the arguments of the load, never by its weights.
"""

import dataclasses
import functools
import logging
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

TASKS = "/proc/self/task"
THREAD_NAME = "tf_XLA"  # how names of threads of JAX's CPU client begin
ADVICE = "load the model in every worker, after the fork (docs/serving.md, Several processes)"


@dataclasses.dataclass
class _Process:
    """What this process knows of its forks."""

    has_models: bool = False  # an engine was made here, or before the fork
    jax_ran: bool = False  # when the last fork began
    is_forked: bool = False  # from a process where JAX ran


_process = _Process()


def jax_runs() -> bool:
    """Whether JAX has started its devices, and with them its threads; asking does not start them."""
    # JAX has no public name for it.
    probe = getattr(sys.modules.get("jax._src.xla_bridge"), "backends_are_initialized", None)
    return _process.has_models if probe is None else probe()


def _before_fork() -> None:
    _process.jax_ran = jax_runs()


def _after_fork() -> None:
    _process.is_forked = _process.is_forked or _process.jax_ran


def has_lost_threads() -> bool:
    """Return whether JAX runs, but not its threads, as after a fork only; False where the system does not list them.

    JAX's threads are no threads of Python. Other libraries have such threads too, so the names count as well in a
    process that was forked.
    """
    if not jax_runs():
        return False
    try:
        names = thread_names()
        if (
            not names.keys()
            - {thread.native_id for thread in threading.enumerate()}
            - {os.getpid()}
        ):
            return True
        has_cpu = "cpu" in getattr(sys.modules.get("jax._src.xla_bridge"), "_backends", {})
        is_named = any(name.startswith(THREAD_NAME) for name in names.values())
        return has_cpu and not is_named and is_younger_than_its_modules()
    except OSError:
        return False


def thread_names() -> dict[int, str]:
    """Return the names of this process's threads by their numbers. Raises OSError where the system lists none."""
    return {
        int(entry): pathlib.Path(TASKS, entry, "comm").read_text().strip()
        for entry in os.listdir(TASKS)
    }


def is_younger_than_its_modules() -> bool:
    """Return whether this process started after its module `logging`, as after a fork. Raises OSError off Linux."""
    ticks = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    logging_s = logging.LogRecord("", 0, "", 0, "", (), None).relativeCreated / 1000
    return age_s < logging_s


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
_process.is_forked = has_lost_threads()  # a fork before this import, which the hooks have not seen


def check_process() -> None:
    """Raises RuntimeError in a process that was forked from one where JAX had started: no program would end here."""
    if _process.is_forked:
        raise RuntimeError(
            f"this process was forked after JAX had started, so no model can run in it; {ADVICE}, or start workers "
            "with the method spawn"
        )
    _process.has_models = True


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a model was loaded from, and how."""

    directory: str
    options: dict[str, Any]  # keywords of `load`


def origin_of(directory, options: dict[str, Any]) -> Origin:
    """The origin of a model, with paths that hold in every folder, and values that pickle."""
    kept = dict(options)
    table = kept.get("autotune_table")
    if isinstance(table, str | os.PathLike) and str(table):
        kept["autotune_table"] = str(pathlib.Path(table).expanduser().resolve())
    if kept.get("buckets") is not None:
        kept["buckets"] = tuple(kept["buckets"])
    if not isinstance(kept.get("dtype", ""), str):
        kept["dtype"] = np.dtype(kept["dtype"]).name
    return Origin(str(pathlib.Path(directory).expanduser().resolve()), kept)


def with_origin(load: Callable) -> Callable:
    """A class's `load`, whose models remember the folder and the arguments that they were loaded with."""

    @functools.wraps(load)
    def load_and_remember(cls, directory, **options):
        options = {name: tuple(x) if isinstance(x, Iterator) else x for name, x in options.items()}
        model = load(cls, directory, **options)
        object.__setattr__(model, "origin", origin_of(directory, options))
        return model

    return load_and_remember


@dataclasses.dataclass(frozen=True, eq=False)
class Portable:
    """A class whose `load` is made by `with_origin`: models are pickled by their origin; a copy is the model itself.

    `dataclasses.replace` gives a model without an origin, since a load would not give it again.
    """

    origin: Origin | None = dataclasses.field(
        default=None, init=False, repr=False, compare=False, kw_only=True
    )

    def __reduce__(self):
        """What pickle keeps. Raises TypeError where the model was not made by `load`."""
        name = type(self).__name__
        if self.origin is None:
            raise TypeError(
                f"this {name} was not made by {name}.load, so it cannot be sent to another process; load it there with "
                f"{name}.load(directory)"
            )
        return load_again, (type(self), self.origin)

    def __getattr__(self, name: str):
        """Raises what the load raised where the model was sent here and could not be loaded, else AttributeError."""
        error = self.__dict__.get("load_error")
        if error is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        raise error.with_traceback(None)

    def __copy__(self):
        """The model itself: nothing in it changes."""
        return self

    def __deepcopy__(self, memo):
        """The model itself: nothing in it changes."""
        return self


def load_again(kind: type, origin: Origin):
    """Return the model that another process sent, or, where its load fails, one whose every use raises that error.

    Nothing is raised here: a worker of a pool that cannot read its task ends, and the pool waits for it without end.
    """
    try:
        return kind.load(origin.directory, **origin.options)
    except (OSError, RuntimeError, ValueError) as error:
        model = object.__new__(kind)
        model.__dict__.update(origin=origin, load_error=error)
        return model
