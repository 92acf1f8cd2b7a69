"""How a command ends on a mistake of its user, or on Ctrl-C: one line, no traceback."""

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Callable

from absl import app, flags, logging

from adapler_jax.report.terminal import one_line

EMPTY_GROUP = "--config.data.carve=\"{'validation': 0.1}\""
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143  # what shells give for SIGINT, SIGPIPE and SIGTERM


@contextlib.contextmanager
def exit_on_user_error(*, resumes: bool = True):
    """Turns ValueError, OSError and FloatingPointError into one line and exit code 2, Ctrl-C into one and 130.

    A reader of stdout that has read enough, as `head`, ends the command without a line. With ADAPLER_TRACEBACK=1 in the
    environment the errors pass, traceback and all. Args: resumes: whether a second call goes on after Ctrl-C.
    """
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the exit would flush into the pipe again
        sys.exit(PIPE_CLOSED)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("ADAPLER_TRACEBACK") == "1":
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; make room and give the same command again" if full else ""
        print(f"error: {one_line(' '.join(str(error).split()))}{advice}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted" + ("; give the same command again to go on" if resumes else ""), file=sys.stderr)
        _leave(INTERRUPTED)  # a checkpoint half written would keep other threads talking


def _explain(text: str) -> str:
    """One line of what absl or ml_collections says of a wrong flag."""
    text = text[1:-1] if text[:1] in "\"'" else text  # a KeyError's text is quoted
    if missing := re.match(r"flag --(\w+)=None:", text):
        return f"there is no --{missing[1]}; give --{missing[1]}=..."
    if text.strip("'").isidentifier():
        return f"there is no config field {text}; a group that starts empty is given whole, as in {EMPTY_GROUP}"
    line = [line.strip() for line in text.splitlines() if line.strip()][-1]
    line = line.replace("\\n", " ").replace("\\'", "'").removeprefix("ValueError: ")
    if field := re.match(r"('\w+') Did you mean (\"\w+\") instead", line):
        return f"unknown config field {field[1]}; did you mean {field[2]}?"
    return line


def _parse_flags(argv):
    """absl's parser; what it refuses, a config file's own error included, becomes a ValueError of one line."""
    if any(argument in ("--help", "-h", "--helpshort") for argument in argv):
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError) as error:
        raise ValueError(_explain(str(error))) from error
    if len(rest) > 1:
        raise ValueError(f"unknown arguments {rest[1:]}; flags are written --name=value")
    return rest


class _Terminated(BaseException):
    """SIGTERM came."""


@contextlib.contextmanager
def stop_on_sigterm():
    """SIGTERM ends the block as an error does, so that what it began is tidied up, and then the process at once, with
    the shells' exit code: a thread that was just starting would be waited for without end."""

    def stop(number, _):
        raise _Terminated

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Terminated:
        _leave(TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _leave(code: int) -> None:
    """Ends the process without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def run_command(main: Callable[[], None], *, resumes: bool = True) -> None:
    """Runs a command with absl's flags: mistakes end it by `exit_on_user_error`, info lines of packages are quiet."""

    def parse(argv):
        with exit_on_user_error():
            return _parse_flags(argv)

    def run(_):
        logging.set_verbosity(logging.WARNING)
        with exit_on_user_error(resumes=resumes):
            main()

    app.run(run, flags_parser=parse)
