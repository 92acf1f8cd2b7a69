"""An object in a process of its own, so that its threads, memory layout and settings touch nobody else's."""

import contextlib
import functools
import multiprocessing
import traceback
from collections.abc import Callable

PATIENCE_S = 2.0  # for a process that is no longer needed


class Remote:
    """Has the methods of the object that `factory(*args, **keywords)` makes in a fresh process; use it in a `with`.

    The object is made at once, and waited for on entering. Factory, arguments and answers must be picklable. What goes
    wrong there is a RuntimeError here; a process that is gone is a ChildProcessError.
    """

    def __init__(self, factory: Callable, *args, **keywords):
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
        return functools.partial(self._call, method)

    def __enter__(self) -> "Remote":
        self._answer()
        return self

    def __exit__(self, *_) -> None:
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
        """Says in words that the process is gone."""
        try:
            yield
        except (EOFError, OSError):
            raise ChildProcessError(
                f"the process of {self._name} has ended; is there enough memory?"
            ) from None


def _serve(pipe, factory: Callable, args, keywords) -> None:
    """Makes the object and answers calls of its methods until the other end is closed."""
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            held = factory(*args, **keywords)
        except Exception:  # of any kind: it is told at the other end
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
