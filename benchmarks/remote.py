"""Run an object in a process of its own, with its own threads, memory layout and settings."""

import contextlib
import functools
import multiprocessing
import traceback
from collections.abc import Callable

PATIENCE_S = 2.0  # for a process that is no longer needed


class Remote:
    """A proxy of the object that `factory(*args, **keywords)` makes in a fresh process.

    It has the object's methods. Use it in a `with`. The object is made at once; entering waits for
    it. Factory, arguments and results must be picklable. An error in the process is a RuntimeError
    here. A process that ended is a ChildProcessError.
    """

    def __init__(self, factory: Callable, *args, **keywords):
        """Start the process."""
        context = multiprocessing.get_context(
            "spawn"
        )  # a fork would inherit JAX without its threads
        self._name = factory.__name__
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, factory, args, keywords), daemon=True
        )
        self._process.start()
        there.close()

    def __getattr__(self, method: str) -> Callable:
        """Return a function that calls the object's method."""
        return functools.partial(self._call, method)

    def __enter__(self) -> "Remote":
        """Wait until the object is made."""
        self._answer()
        return self

    def __exit__(self, *_) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(PATIENCE_S)
        self._process.terminate()  # one that works on is not waited for

    def _call(self, method: str, *args, **keywords):
        with self._told():
            self._pipe.send((method, args, keywords))
        return self._answer()

    def _answer(self):
        with self._told():
            value, error = self._pipe.recv()
        if error is not None:
            raise RuntimeError(f"in the process of {self._name}: {error}")
        return value

    @contextlib.contextmanager
    def _told(self):
        """Return a message that says that the process ended."""
        try:
            yield
        except (EOFError, OSError):
            raise ChildProcessError(
                f"the process of {self._name} has ended; is there enough memory?"
            ) from None


def _serve(pipe, factory: Callable, args, keywords) -> None:
    """Make the object and answer calls of its methods until the other end is closed."""
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            held = factory(*args, **keywords)
        except Exception:  # any kind: the other end raises it
            pipe.send((None, traceback.format_exc()))
            return
        pipe.send((None, None))
        while True:
            method, args, keywords = pipe.recv()
            try:
                answer = getattr(held, method)(*args, **keywords), None
            except Exception:
                answer = None, traceback.format_exc()
            pipe.send(answer)
