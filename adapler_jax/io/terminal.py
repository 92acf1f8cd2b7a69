"""Print on a terminal that texts cannot control."""

import sys

from adapler_jax.io.messages import one_line


def print_note(line: str) -> None:
    """Print on standard error, if it is open; `print` alone would take standard output.

    Control characters, as in names of files and classes, become blanks; line feeds stay.
    """
    if sys.stderr is not None:
        print("\n".join(map(one_line, line.split("\n"))), file=sys.stderr)
