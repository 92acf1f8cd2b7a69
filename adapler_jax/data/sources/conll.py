"""Read CoNLL files: a word and its tag in each line, and an empty line between sentences."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapler_jax.io.messages import shown

WORDS, TAGS = "words", "tags"  # the columns of a file
DOCUMENT = "-DOCSTART-"  # first column of a line between documents
_EXPECTED = "expected a word in the first column and its tag in the last one"


class Line(NamedTuple):
    """A line with a word."""

    number: int  # from 1
    cells: list[str]


def conll_rows(lines: Iterable[str], where: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Yield (location, row) of the sentences, a row with the columns WORDS and TAGS.

    Columns have a tab between them, or blanks in a line without a tab. Other spaces, as the
    no-break space, are parts of words. Lines between documents are left out, and so are comments
    before a sentence, as `# id = 3`.

    Args:
      lines: of the file.
      where: names the file in messages.

    Raises:
      ValueError: a line lacks its word or tag, or has another number of columns than the first, or
        the first column counts the words. The message names the line.
    """
    first = None
    for sentence in _sentences(lines):
        if first is None:
            first = sentence[0]
            _check_no_counts(sentence, where)
        for line in sentence:
            _check_line(line, first, where)
        columns = {WORDS: [line.cells[0] for line in sentence]}
        columns[TAGS] = [line.cells[-1] for line in sentence]
        yield f"{where}: line {sentence[0].number}", columns


def _sentences(lines: Iterable[str]) -> Iterator[list[Line]]:
    """Yield the lines of each sentence."""
    sentence: list[Line] = []
    for number, text in enumerate(lines, start=1):
        cells = _cells(text.rstrip("\r\n"))
        is_between = not text.strip() or cells[0] == DOCUMENT
        if is_between and sentence:
            yield sentence
            sentence = []
        is_comment = not sentence and text.startswith("# ") and "=" in text
        if not is_between and not is_comment:
            sentence.append(Line(number, cells))
    if sentence:
        yield sentence


def _cells(text: str) -> list[str]:
    """Return the columns of a line, without the blanks around them."""
    if "\t" in text:
        return [cell.strip(" ") for cell in text.split("\t")]
    return [cell for cell in text.split(" ") if cell]


def _check_no_counts(sentence: list[Line], where: str) -> None:
    """Raise ValueError if the first of three columns or more counts the words, as in CoNLL-U."""
    counts = [str(number) for number in range(1, len(sentence) + 1)]
    has_more = len(sentence) > 1 and len(sentence[0].cells) > 2
    if has_more and [line.cells[0] for line in sentence] == counts:
        raise ValueError(
            f"{where}: line {sentence[0].number} and the next ones count the words in their first "
            f"column; {_EXPECTED}"
        )


def _check_line(line: Line, first: Line, where: str) -> None:
    """Raise ValueError unless a line has a word, a tag, and as many columns as the first line."""
    here = f"{where}: line {line.number}"
    word, tag = line.cells[0], line.cells[-1] if len(line.cells) > 1 else ""
    if any("\r" in cell for cell in line.cells):
        raise ValueError(f"{here} has a carriage return inside; expected lines that end in \\n")
    if not tag:
        raise ValueError(f"{here} has the word {shown(word)} without a tag; {_EXPECTED}")
    if not word:
        raise ValueError(f"{here} has the tag {shown(tag)} without a word; {_EXPECTED}")
    if len(line.cells) != len(first.cells):
        raise ValueError(
            f"{here} has {len(line.cells)} columns, and line {first.number} has "
            f"{len(first.cells)}; expected the same number in each line. Tabs between the columns "
            "allow blanks in words"
        )
