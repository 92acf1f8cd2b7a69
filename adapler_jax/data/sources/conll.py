"""Read CoNLL files: a word and its tag in each line, and an empty line between sentences."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

WORDS, TAGS = "words", "tags"  # the columns of a file
DOCUMENT = "-DOCSTART-"  # first column of a line between documents


class Line(NamedTuple):
    """A line with a word."""

    word: str  # its first column
    tag: str  # its last column


def conll_rows(lines: Iterable[str], where: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield (location, row) of the sentences, a row with the columns WORDS and TAGS.

    Columns have a tab between them, or blanks in a line without a tab. Lines between documents are
    left out.

    Args:
      lines: of the file.
      where: names the file in messages.

    Raises:
      ValueError: a line has one column; the message names the line.
    """
    sentence: list[Line] = []
    first = 1
    for number, line in enumerate(lines, start=1):
        cells = line.rstrip("\r\n").split("\t") if "\t" in line else line.split()
        is_blank = not any(cell.strip() for cell in cells)
        if sentence and (is_blank or cells[0] == DOCUMENT):
            yield _row(sentence, f"{where}: line {first}")
            sentence = []
        if is_blank or cells[0] == DOCUMENT:
            continue
        if len(cells) < 2 or not cells[-1].strip():
            raise ValueError(
                f"{where}: line {number} has the word {cells[0]!r:.60} without a tag; expected a "
                "word in the first column and its tag in the last one"
            )
        first = first if sentence else number
        sentence.append(Line(cells[0].strip(), cells[-1].strip()))
    if sentence:
        yield _row(sentence, f"{where}: line {first}")


def _row(sentence: list[Line], location: str) -> tuple[str, dict[str, list[str]]]:
    """Return a sentence as a row with its location."""
    words, tags = map(list, zip(*sentence, strict=True))
    return location, {WORDS: words, TAGS: tags}
