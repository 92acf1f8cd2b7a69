"""Print a line where a long phase is silent off a terminal, so that a log shows that it runs.

A thread prints, because one compilation or one wait for the device can take minutes. On a terminal
nothing is printed; the phases of a training move a progress bar there.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from adapler_jax.io.terminal import print_note

SILENCE_S = 55.0  # with CHECK_S less than a minute
CHECK_S = 2.0

Item = TypeVar("Item")


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Heartbeat:
    """Print a line after SILENCE_S without one. Use it as a context manager.

    On a terminal it does nothing.
    """

    def __init__(
        self,
        describe: Callable[[], str],
        *,
        log: Callable[[str], None] = print_note,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Set what is printed.

        Args:
          describe: returns the line; another thread calls it.
          log: receives the line.
          clock: returns seconds.
        """
        self._describe, self._log, self._clock = describe, log, clock
        self._start = self._last = clock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Heartbeat":
        """Start the thread, unless standard error is a terminal."""
        if not is_terminal():
            self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        """Stop the thread."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def touch(self) -> None:
        """Count the silence from now on: the caller printed a line."""
        self._last = self._clock()

    def check(self) -> None:
        """Print the line, with the minutes since the start, if the silence was long enough."""
        now = self._clock()
        if now - self._last >= SILENCE_S:
            self._last = now
            self._log(f"{self._describe()}, after {(now - self._start) / 60:.0f} min")

    def _run(self) -> None:
        """Check from time to time until the end."""
        while not self._stopped.wait(CHECK_S):
            self.check()


def watch(
    items: Iterable[Item], label: str, *, total: int, log: Callable[[str], None] = print_note
) -> Iterator[Item]:
    """Yield the items; where that takes long, print how many are done.

    Args:
      items: to yield.
      label: of the line.
      total: number of items.
      log: receives the line.
    """
    done = 0
    with Heartbeat(lambda: f"{label}: {done} of {total}", log=log):
        for item in items:
            yield item
            done += 1
