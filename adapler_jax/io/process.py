"""End the process of a command on SIGINT and SIGTERM, and silence log lines of packages.

The first signal raises KeyboardInterrupt or Terminated in the main thread if a command runs that
can clean up. Python loses an exception that is raised in a destructor or in a hook of the garbage
collector. The signal is therefore recorded too, and loops call `check` in each step.

A thread ends the process if the main thread has not done so within GRACE_S, as in a compilation. A
second signal, or a signal during the imports, ends it at once. The process always prints one line
and exits with the code that shells use. Files are written in one step, so no moment is unsafe.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

from adapler_jax.io import atomic_files

GRACE_S = 3.0  # for the main thread to clean up
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
AGAIN = "; give the same command again to continue"
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class Terminated(BaseException):
    """Report that SIGTERM arrived."""


class _State:
    """Hold what is known of signals in this process."""

    received: int | None = None  # the first
    unwinds = False  # True if the main thread can end by an exception
    resumes = False  # True if the same command continues an interrupted one
    is_ready = False  # True if the handlers are installed
    leaving = threading.Lock()


def begin(*, resumes: bool = True) -> None:
    """Take over SIGINT and SIGTERM, and silence the log lines of XLA, before slow imports.

    A signal that the process ignores stays ignored: a shell's background jobs ignore SIGINT.
    Outside the main thread nothing changes.

    Args:
      resumes: whether a second call of the command continues the first.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA raises its errors too
    _State.resumes = resumes
    if _State.is_ready or threading.current_thread() is not threading.main_thread():
        return
    _State.is_ready = True
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, writer), daemon=True, name="signals").start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    sys.unraisablehook = functools.partial(_report_lost, sys.unraisablehook)


def _report_lost(report: Callable, lost) -> None:
    """Report an exception that Python loses, unless a signal raised it: `check` raises it again."""
    if _State.received is None or not issubclass(lost.exc_type, Terminated | KeyboardInterrupt):
        report(lost)


def _on_signal(number: int, _) -> None:
    """Record a signal; raise if the main thread can clean up, else end the process."""
    if _State.received is not None or not _State.unwinds:
        leave(_State.received or number)
    _State.received = number
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for a signal, then for a second one or the end of GRACE_S; end the process.

    The argument keeps the writer open as long as the thread runs.
    """
    number = _next_signal(reader)
    reader.settimeout(GRACE_S)
    with contextlib.suppress(TimeoutError):
        _next_signal(reader)
    leave(number, flushes=False)


def _next_signal(reader: socket.socket) -> int:
    """Return the next of our signals."""
    while True:
        (number,) = reader.recv(1)
        if number in SIGNALS and signal.getsignal(number) is _on_signal:
            return number


@contextlib.contextmanager
def unwinding(*, resumes: bool) -> Iterator[None]:
    """Let signals raise in the block, which cleans up."""
    _State.unwinds, _State.resumes = True, resumes
    try:
        yield
        check()
    finally:
        _State.unwinds = False


def received() -> int | None:
    """Return the number of the first signal; None before it."""
    return _State.received


def check() -> None:
    """Raise if a signal arrived: a hook of the garbage collector can lose the first exception."""
    if _State.received is not None:
        raise Terminated if _State.received == signal.SIGTERM else KeyboardInterrupt


def leave(number: int, *, flushes: bool = True) -> None:
    """End the process with one line, without waiting for its threads; unfinished files are removed.

    Args:
      number: of the signal; the exit code is 128 more.
      flushes: whether standard output is flushed, which another thread may hold.
    """
    if not _State.leaving.acquire(blocking=False):
        threading.Event().wait()  # another thread is ending the process
    for path in list(atomic_files.unfinished):
        path.unlink(missing_ok=True)
    if flushes:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    line = SIGNALS[signal.Signals(number)] + (AGAIN if _State.resumes else "") + "\n"
    with contextlib.suppress(OSError):
        os.write(2, ((SHOW_CURSOR + "\n" if os.isatty(2) else "") + line).encode())
    os._exit(128 + number)
