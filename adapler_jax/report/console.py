"""How a command ends on a mistake of its user, or on Ctrl-C: one line, no traceback."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from absl import app, flags, logging

EMPTY_GROUP = "--config.data.carve=\"{'validation': 0.1}\""
INTERRUPTED = 130  # what shells give for SIGINT


@contextlib.contextmanager
def exit_on_user_error():
    """Turns ValueError, OSError and FloatingPointError into one line and exit code 2, Ctrl-C into one and 130.

    With ADAPLER_TRACEBACK=1 in the environment the errors pass, traceback and all.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("ADAPLER_TRACEBACK") == "1":
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "; make room and give the same command again" if full else ""
        print(f"error: {' '.join(str(error).split())}{advice}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; give the same command again to go on", file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(INTERRUPTED)  # a checkpoint half written would keep other threads talking


def _parse_flags(argv):
    """absl's parser; what it refuses, a config file's own error included, becomes a ValueError of one line."""
    if any(argument in ("--help", "-h", "--helpfull", "--helpshort") for argument in argv):
        return app.parse_flags_with_usage(argv)
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError) as error:
        text = str(error)
        text = text[1:-1] if text[:1] in "\"'" else text  # a KeyError's text is quoted
        if text.strip("'").isidentifier():
            text = f"there is no config field {text}; a group that starts empty is given whole, as in {EMPTY_GROUP}"
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        raise ValueError(lines[-1].replace("\\n", " ").replace("\\'", "'").removeprefix("ValueError: ")) from error
    if len(rest) > 1:
        raise ValueError(f"unknown arguments {rest[1:]}; flags are written --name=value")
    return rest


def run_command(main: Callable[[], None]) -> None:
    """Runs a command with absl's flags: mistakes end it by `exit_on_user_error`, info lines of packages are quiet."""

    def parse(argv):
        with exit_on_user_error():
            return _parse_flags(argv)

    def run(_):
        logging.set_verbosity(logging.WARNING)
        with exit_on_user_error():
            main()

    app.run(run, flags_parser=parse)
