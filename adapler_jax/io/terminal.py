"""What reaches a terminal: lines without characters that steer it."""

import sys


def one_line(text: str) -> str:
    """The text with a blank for every character that cannot be printed, so that it cannot steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_note(line: str) -> None:
    """Print on standard error, where that is open; `print` by itself would take standard output.

    Control characters, as of names of files and classes, become blanks; line feeds stay.
    """
    if sys.stderr is not None:
        print("\n".join(map(one_line, line.split("\n"))), file=sys.stderr)
