"""How a command ends on a mistake of its user: one line, exit code 2, no traceback."""

import contextlib
import os
import sys


@contextlib.contextmanager
def exit_on_user_error():
    """Turns ValueError, OSError and FloatingPointError into one line on stderr and exit code 2.

    With ADAPLER_TRACEBACK=1 in the environment they pass, traceback and all.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("ADAPLER_TRACEBACK") == "1":
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
