"""Show that long work runs: a spinner on a terminal, elsewhere a line where it is silent.

A thread prints, because one compilation or one wait for the device can take minutes.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from adapler_jax.io.terminal import print_note

SILENCE_S = 55.0  # with CHECK_S less than a minute
CHECK_S = 2.0
SPINNER_S = 0.5  # between updates of the text of a spinner

Item = TypeVar("Item")


def is_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Heartbeat:
    """Print a line after SILENCE_S without one. Use it as a context manager.

    On a terminal it shows a spinner with the line and the time, which disappears at the end.
    """

    def __init__(
        self,
        describe: Callable[[], str],
        *,
        log: Callable[[str], None] = print_note,
        clock: Callable[[], float] = time.monotonic,
        has_bar: bool = False,
    ):
        """Set what is printed.

        Args:
          describe: returns the line; another thread calls it.
          log: receives the line.
          clock: returns seconds.
          has_bar: whether the caller shows a progress bar on a terminal, in place of the spinner.
        """
        self._describe, self._log, self._clock = describe, log, clock
        self._start = self._last = clock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_bar = has_bar

    def __enter__(self) -> "Heartbeat":
        """Start the thread, unless a progress bar is on the terminal."""
        if not (is_terminal() and self._has_bar):
            run = self._spin if is_terminal() else self._run
            self._thread = threading.Thread(target=run, daemon=True, name="heartbeat")
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

    def _spin(self) -> None:
        """Show the line with a spinner until the end."""
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=Console(stderr=True, force_jupyter=False, force_terminal=True),
            redirect_stdout=False,
            transient=True,
        )
        with progress:
            spinner = progress.add_task(self._describe(), total=None)
            while not self._stopped.wait(SPINNER_S):
                progress.update(spinner, description=self._describe())


def watch(
    items: Iterable[Item],
    label: str,
    *,
    total: int,
    log: Callable[[str], None] = print_note,
    has_bar: bool = False,
) -> Iterator[Item]:
    """Yield the items; where that takes long, print how many are done.

    Args:
      items: to yield.
      label: of the line.
      total: number of items.
      log: receives the line.
      has_bar: as of `Heartbeat`.
    """
    done = 0
    with Heartbeat(lambda: f"{label}: {done} of {total}", log=log, has_bar=has_bar):
        for item in items:
            yield item
            done += 1
