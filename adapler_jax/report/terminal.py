"""What reaches a terminal: lines without characters that steer it."""

import sys


def one_line(text: str) -> str:
    """The text with a blank for every character that cannot be printed, so that it cannot steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_note(line: str) -> None:
    """Prints on standard error, where that is open; `print` by itself would take standard output
    instead.

    Control characters, as of names of files and classes, become blanks.
    """
    if sys.stderr is not None:
        print(one_line(line), file=sys.stderr)
