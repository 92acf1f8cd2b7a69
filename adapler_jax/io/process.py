"""The process of a command: how it ends on SIGINT and SIGTERM, and which lines of packages are quiet.

The first signal raises KeyboardInterrupt or Terminated in the main thread, while a command runs that can tidy up. An
exception that is raised within a destructor or a hook of the garbage collector is lost, so the signal is noted too, and
loops call `check` in each step. A thread ends the process where the main thread has not done so within GRACE_S, as in a
compilation. A second signal, or one during the imports, ends it at once. Each way there is one line and the exit code
that shells give. All files are written whole or not at all, so it is safe to leave at any moment.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

from adapler_jax.io import atomic_files as whole_files

GRACE_S = 3.0  # for the main thread to tidy up
SIGNALS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
AGAIN = "; give the same command again to go on"
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


class Terminated(BaseException):
    """SIGTERM came."""


class _State:
    """What is known of signals in this process."""

    received: int | None = None  # the first
    unwinds = False  # whether the main thread can end by an exception
    resumes = False  # whether the same command continues what this one leaves
    is_ready = False  # whether the handlers are in place
    leaving = threading.Lock()


def begin(*, resumes: bool = True) -> None:
    """Take over SIGINT and SIGTERM, and silence the log lines of XLA; called before the imports that take seconds.

    A signal that the process ignores, as a shell's background jobs do SIGINT, stays ignored. In another than the main
    thread nothing changes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what goes wrong in XLA is raised too
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


def _on_signal(number: int, _) -> None:
    """Note a signal, and raise where the main thread can tidy up; end the process otherwise."""
    if _State.received is not None or not _State.unwinds:
        leave(_State.received or number)
    _State.received = number
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(reader: socket.socket, writer: socket.socket) -> None:
    """Wait for a signal, then for a second one or the end of the grace; end the process.

    The writer is kept open by the thread.
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
    """Let signals raise in the block, which tidies up."""
    _State.unwinds, _State.resumes = True, resumes
    try:
        yield
        check()
    finally:
        _State.unwinds = False


def received() -> int | None:
    """Return the number of the first signal; None where none came."""
    return _State.received


def check() -> None:
    """Raise again what a hook of the garbage collector swallowed; do nothing where no signal came."""
    if _State.received is not None:
        raise Terminated if _State.received == signal.SIGTERM else KeyboardInterrupt


def leave(number: int, *, flushes: bool = True) -> None:
    """End the process with one line, without waiting for its threads; unfinished files are removed.

    Args:
      number: of the signal; the exit code is 128 more.
      flushes: whether standard output is flushed, which another thread may hold.
    """
    if not _State.leaving.acquire(blocking=False):
        threading.Event().wait()  # another thread ends the process
    for path in list(whole_files.unfinished):
        path.unlink(missing_ok=True)
    if flushes:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    line = SIGNALS[number] + (AGAIN if _State.resumes else "") + "\n"
    with contextlib.suppress(OSError):
        os.write(2, ((SHOW_CURSOR + "\n" if os.isatty(2) else "") + line).encode())
    os._exit(128 + number)
