"""The texts of a file or a pipe, a window of rows at a time, so that it may be larger than memory."""

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

Text = (
    str | tuple[str, str] | tuple[str, str, list[str]]
)  # a text, a pair, or a question with options
LINE = "text"  # what the column of text lines is called


class Window(NamedTuple):
    """Rows that follow each other."""

    texts: list[Text]
    share: (
        float | None
    )  # of the input, up to the last of these rows; None where its size is unknown
    rows: list[dict] | None = None  # what was read of each row, where it is kept


class Form(NamedTuple):
    """How the columns of a table make a text."""

    pick: Callable[
        ..., tuple[str, ...]
    ]  # (found, columns, usual, where) -> the columns that are needed
    read: Callable[[dict, Sequence[str], str], Text]  # (row, those columns, place for messages)


def usual_columns(task: str | None) -> list[tuple[str, ...]]:
    """Return the text columns to look for, best first: those of the task where there is one of this name.

    A task of pairs has no others: a model of pairs answers single texts too, but not as it was trained.
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
    options: Options = Options(),
    log: Log = ignore,
) -> Iterator[Window]:
    """Read texts, or pairs of them, in their order.

    Args:
      file: text lines, a table with a header line, JSON, Excel, or Parquet; the last two must be seekable. It may be
        packed (gzip, bzip2, xz, Zstandard, zip).
      kind: one of KINDS.
      where: names the input in messages.
      columns: one column of texts, two of pairs; none for the first of `usual` whose columns are all there.
        Those of a header are looked up before there are rows.
      form: what a row is; None: a text or a pair.
      keep: of the columns of a header or of Parquet, those that `Window.rows` has next to the texts';
        of JSON it has the whole objects. None: windows hold no rows.
      options: encoding and delimiter, where the input does not say them itself.
      tell: receives a sentence on what a user should know of how the input is read.

    Yields:
      Windows of at most WINDOW_ROWS rows. Blank text lines are rows, blank lines of tables and JSON lines are not.

    Raises:
      ValueError: a column is missing or there twice, a line is malformed or not of the encoding, a value is no text;
        the line is named, of Parquet the file.
    """
    form = form or Form(pick_columns, read_text)

    def pick(found: Sequence[str]) -> tuple[str, ...]:
        return form.pick(found, columns, usual, where)

    def wanted(found: Sequence[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*pick(found), *(keep(found) if keep else ()))))

    source = Source.of(file, where, name=where)
    if kind == "txt":
        if keep:
            keep((LINE,))
        share = fraction_of(source)
        lines = (
            line.removesuffix("\n").removesuffix("\r") for line in text_lines(source, options).once
        )
        pairs = ((line, {LINE: line}) for line in lines)
    else:
        names = columns or {name for names in usual for name in names}
        table = open_table(source, kind, wanted, columns=names, options=options, log=log)
        pairs, share = _texts_of(table.rows, pick, form.read), table.fraction
    count = 0
    for window in cut(pairs if keep else ((text, None) for text, _ in pairs)):
        count += len(window)
        texts, kept = [text for text, _ in window], [row for _, row in window] if keep else None
        yield Window(texts, share(count), kept)


def pick_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the columns that are asked for, or the first usual ones that are all among those found.

    A name with a point, as review.text, is also the field `text` inside of the column `review`.

    Raises:
      ValueError: there are none, those found are listed; or one is there twice.
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
        known = list_names(found)
        raise ValueError(
            f"{where}: which column holds the texts? Name it with --column; there are {known}"
        )
    check_once(names, found, where)
    return tuple(names)


def cut(pairs: Iterable[tuple[Text, dict | None]]) -> Iterator[list[tuple[Text, dict | None]]]:
    """Return lists of WINDOW_ROWS (text, row), or of fewer that have WINDOW_CHARACTERS characters."""
    return in_chunks(pairs, WINDOW_ROWS, weigh=_num_characters, max_weight=WINDOW_CHARACTERS)


def _num_characters(value) -> int:
    """Count the characters of a text and all that is in lists and rows."""
    if isinstance(value, dict):
        value = value.values()
    elif isinstance(value, str | bytes) or not isinstance(value, list | tuple):
        return len(value) if isinstance(value, str | bytes) else 0
    return sum(map(_num_characters, value))


def _texts_of(
    rows: Iterable[tuple[str, Mapping]], pick: Pick, read: Callable
) -> Iterator[tuple[Text, Mapping]]:
    """Yield the text, the pair or the question of every (place, row), and the row."""
    names: tuple[str, ...] = ()
    for place, row in rows:
        names = names or tuple(pick(tuple(row)))
        yield read(row, names, place), row


def read_text(row: Mapping, names: Sequence[str], place: str) -> Text:
    """Return the text of a row, or the pair of two columns. Raises ValueError where one is not a text."""
    values = [look_up(row, name) for name in names]
    for name, value in zip(names, values):
        if not isinstance(value, str):
            found = f"{shown(value)} as {name!r}" if has_field(row, name) else f"no {name!r}"
            raise ValueError(f"{place} has {found}; expected a text")
    return values[0] if len(names) == 1 else (values[0], values[1])
