"""Read rows of a file or a pipe in windows, so that it may be larger than memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

from adapler_jax.data.classification.tasks import TASKS
from adapler_jax.data.sources.chunks import in_chunks
from adapler_jax.data.sources.compression import Source
from adapler_jax.data.sources.delimited import Log, ignore
from adapler_jax.data.sources.formats import (
    KINDS,
    Options,
    Pick,
    fraction_of,
    kind_of,
    open_table,
    text_lines,
)
from adapler_jax.data.sources.tables import check_once, has_field, look_up
from adapler_jax.io.messages import explain_unknown, list_names, shown

__all__ = [
    "KINDS",
    "WINDOW_ROWS",
    "Window",
    "kind_of",
    "pick_columns",
    "read_windows",
    "usual_columns",
]
WINDOW_ROWS = 1024
WINDOW_CHARACTERS = 1 << 24  # ends a window of long texts earlier

# A text, its words, a pair, or a question with options.
Text = str | list[str] | tuple[str, str] | tuple[str, str, list[str]]
Rows = Iterable[tuple[Text, Mapping]]
LINE = "text"  # name of the column of text lines
WORD_COLUMNS = (("words",), ("tokens",))  # of sentences that are split into words


class Window(NamedTuple):
    """Consecutive rows."""

    texts: list[Text]
    fraction: float | None  # of the input, up to the last row; None if its size is unknown
    rows: list[dict] | None = None  # the input's columns of each row, if they are kept


class Form(NamedTuple):
    """Functions that make a text of a table's columns."""

    pick: Callable[..., tuple[str, ...]]  # (found, columns, usual, where) -> needed columns
    read: Callable[[Mapping, Sequence[str], str], Text]  # (row, columns, location for messages)


def usual_columns(task: str | None) -> list[tuple[str, ...]]:
    """Return the text columns to look for, best first: of the task, then `text` and `sentence`.

    A task of pairs has no others: its model is not trained on single texts.
    """
    fields = [TASKS[task].text_fields] if task in TASKS else []
    return fields if fields and len(fields[0]) == 2 else [*fields, ("text",), ("sentence",)]


def read_windows(
    file: BinaryIO,
    kind: str,
    where: str,
    *,
    columns: Sequence[str] = (),
    usual: Sequence[Sequence[str]] = (),
    form: Form | None = None,
    keep: Pick | None = None,
    options: Options | None = None,
    log: Log = ignore,
) -> Iterator[Window]:
    """Read texts, or pairs of them, in their order.

    Args:
      file: text lines, a table with a header line, JSON, Excel, or Parquet; the last two must be
        seekable. It may be compressed (gzip, bzip2, xz, Zstandard, zip).
      kind: one of KINDS.
      where: names the input in messages.
      columns: one column of texts, two of pairs; empty for the first entry of `usual` whose columns
        all exist.
      usual: names of columns to look for, best first.
      form: of a row; None for a text or a pair.
      keep: found columns -> columns of `Window.rows` (of JSON all); None for no rows.
      options: encoding and delimiter, if the input does not say them.
      log: receives notes on the input.

    Yields:
      Windows of at most WINDOW_ROWS rows. Blank text lines are rows; blank lines of tables and of
      JSON lines are not.

    Raises:
      ValueError: a column is missing or occurs twice, a line is malformed, or a value is no text.
    """
    form = form or Form(pick_columns, read_text)
    options = options or Options()

    def pick(found: Sequence[str]) -> tuple[str, ...]:
        return form.pick(found, columns, usual, where)

    def needed(found: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*pick(found), *(keep(found) if keep else ()))))

    source = Source.of(file, where, name=where)
    if kind == "txt":
        if keep:
            keep((LINE,))
        fraction = fraction_of(source)
        rows: Rows = _line_rows(text_lines(source, options).once)
    else:
        names = columns or {name for names in usual for name in names}
        table = open_table(source, kind, needed, columns=names, options=options, log=log)
        rows, fraction = _texts_of(table.rows, pick, form.read), table.fraction
    if keep is None:
        rows = ((text, {}) for text, _ in rows)
    count = 0
    for chunk in cut(rows):
        count += len(chunk)
        texts = [text for text, _ in chunk]
        yield Window(texts, fraction(count), [dict(row) for _, row in chunk] if keep else None)


def _line_rows(lines: Iterable[str]) -> Iterator[tuple[Text, Mapping]]:
    """Yield the text of every line, and a row with it."""
    for line in lines:
        text = line.removesuffix("\n").removesuffix("\r")
        yield text, {LINE: text}


def pick_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the requested columns, or the first usual ones that all exist.

    A name with a point, as review.text, is also the field `text` of the column `review`.

    Args:
      found: columns of the input.
      columns: names by the user, or none.
      usual: names of columns to look for, best first.
      where: names the input in messages.

    Raises:
      ValueError: no such columns exist, or one occurs twice.
    """
    wanted = columns or (usual[0] if len(usual) == 1 else ())
    for name in wanted:
        if name not in found and name.partition(".")[0] not in found:
            advice = (
                ""
                if columns
                else "; the model is for pairs: name their columns with --column=FIRST,SECOND"
            )
            raise ValueError(f"{where}: {explain_unknown('column', name, found)}{advice}")
    names = wanted or next((names for names in usual if set(names) <= set(found)), ())
    if not names:
        raise ValueError(f"{where}: {_ask_for_columns(usual)}; found: {list_names(found)}")
    check_once(names, found, where)
    return tuple(names)


def _ask_for_columns(usual: Sequence[Sequence[str]]) -> str:
    """Return a question for the columns, by the usual ones."""
    if all(len(names) == 2 for names in usual) and usual:
        first, second = usual[0]
        return (
            f"which columns hold the {first} and the {second}? Name them with --column=FIRST,SECOND"
        )
    return "which column holds the texts? Name it with --column"


def cut(rows: Rows) -> Iterator[list[tuple[Text, Mapping]]]:
    """Yield lists of WINDOW_ROWS (text, row), or shorter ones of WINDOW_CHARACTERS characters."""
    return in_chunks(rows, WINDOW_ROWS, weigh=_num_characters, max_weight=WINDOW_CHARACTERS)


def _num_characters(value) -> int:
    """Count the characters of a text, or of all texts in a list or row."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str | bytes) or not isinstance(value, list | tuple):
        return len(value) if isinstance(value, str | bytes) else 0
    return sum(map(_num_characters, value))


def _texts_of(
    rows: Iterable[tuple[str, Mapping]], pick: Pick, read: Callable
) -> Iterator[tuple[Text, Mapping]]:
    """Yield the text, the pair or the question of every (location, row), and the row."""
    names: tuple[str, ...] = ()
    for location, row in rows:
        names = names or tuple(pick(tuple(row)))
        yield read(row, names, location), row


def read_text(row: Mapping, names: Sequence[str], location: str) -> Text:
    """Return the text of a row, or the pair of two columns.

    Raises:
      ValueError: a value is not a text.
    """
    values = [look_up(row, name) for name in names]
    for name, value in zip(names, values):
        if not isinstance(value, str):
            found = f"{shown(value)} as {name!r}" if has_field(row, name) else f"no {name!r}"
            raise ValueError(f"{location} has {found}; expected a text")
    return values[0] if len(names) == 1 else (values[0], values[1])


def read_text_or_words(row: Mapping, names: Sequence[str], location: str) -> Text:
    """Return the text of a row, or its list of words.

    Raises:
      ValueError: the value is neither.
    """
    value = look_up(row, names[0])
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return value
    if isinstance(value, list):
        wrong = next(word for word in value if not isinstance(word, str))
        raise ValueError(f"{location} has the word {shown(wrong)} in {names[0]!r}; expected texts")
    return read_text(row, names, location)


TEXT_OR_WORDS = Form(pick_columns, read_text_or_words)
