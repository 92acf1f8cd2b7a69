"""CSV, TSV and related forms: which character separates the columns, and what quotes mean."""

import collections
import contextlib
import csv
import itertools
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from adapler_jax.data.sources.quotes import ColumnValues, inner_rows, opening_line, some_rows
from adapler_jax.io.messages import shown

DELIMITERS = (",", ";", "\t", "|")
_FIELD_LIMIT = 1 << 26  # characters; the csv module's own limit is 131,072
_HEAD_LINES, _HEAD_CHARACTERS = 64, 1 << 20  # the delimiter is detected in them
_MIN_CONSISTENT = 0.9  # fraction of the first rows that a detected delimiter must split evenly
_MAX_NOTES = 3
_HINT = re.compile(r"\ufeff?sep=.\r?\n", re.IGNORECASE)
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar"}

Log = Callable[[str], None]


def ignore(note: str) -> None:
    """Discard a note."""


class Dialect(NamedTuple):
    """The form of delimited text; without quoting, quotes are ordinary characters (GLUE)."""

    delimiter: str
    is_quoted: bool = True

    def reader(self, lines: Iterable[str], *, strict: bool = False) -> Iterator[list[str]]:
        """Return the csv reader of lines in this form."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.is_quoted else csv.QUOTE_NONE
        return csv.reader(lines, delimiter=self.delimiter, quoting=quoting, strict=strict)


TSV, PLAIN_TSV = Dialect("\t"), Dialect("\t", is_quoted=False)


class Lines(NamedTuple):
    """The text lines of one input.

    Attributes:
      where: names the input in messages.
      once: its lines from the first one, read once.
      again: reopens them, and leaves the position of `once` unchanged; None for a pipe.
    """

    where: str
    once: Iterator[str]
    again: Callable[[], contextlib.AbstractContextManager[Iterator[str]]] | None = None

    @classmethod
    def of_text(cls, text: str, where: str) -> "Lines":
        """Return the lines of a text; only a line feed ends a line."""

        def lines() -> Iterator[str]:
            return (match[0] for match in re.finditer(r"[^\n]*\n|[^\n]+", text))

        return cls(where, lines(), lambda: contextlib.nullcontext(lines()))


class Record(NamedTuple):
    """One row: the number of its first line, its fields, and its raw lines."""

    line: int
    fields: list[str]
    raw: Sequence[str]


_NO_RECORD = Record(1, [], ())


def read_delimited(
    lines: Lines,
    kind: str,
    *,
    delimiter: str = "",
    field: str = "config.data.delimiter",
    log: Log = ignore,
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header, empty for a file without rows, and the rows below it.

    Args:
      lines: the input.
      kind: csv or tsv; it decides the delimiter if the first rows do not imply another.
      delimiter: the character between columns; empty means detected.
      field: names the user's setting of the delimiter in messages.
      log: receives a sentence on an unusual delimiter and on misplaced quotes.

    Raises:
      ValueError: a quote never closes, or a row has another number of fields. The message names
        the line. Iterating raises it for later rows.
    """
    usual = "\t" if kind == "tsv" else ","
    lines = lines._replace(once=_without_hint(lines.once), again=_again_without_hint(lines))
    head = list(_take_head(lines.once))
    lines = lines._replace(once=itertools.chain(head, lines.once))
    found = check_delimiter(delimiter, field) or find_delimiter(head, usual)
    if found != usual and not delimiter:
        log(f"{lines.where}: columns are separated by {_NAMES[found]}; {field} names another")
    dialect = Dialect(found)
    if found == "\t" and lines.again:
        dialect = sniff_tsv_dialect(lines, log)
    records: Iterator[Record] = read_records(lines.once, lines.where, dialect)
    header = next(records, _NO_RECORD).fields
    if header and header[0].lstrip().startswith(("{", "[{")):
        raise ValueError(
            f"{lines.where}: the first line is JSON, not a header; rename the file to .jsonl"
        )
    if dialect.is_quoted:
        records = _split_swallowed(records, lines, len(header), delimiter=found, log=log)
    return header, _check_widths(records, header, lines.where)


def _without_hint(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines, with a blank line for a first line such as `sep=;`, which Excel writes."""
    for number, line in enumerate(lines):
        yield "\n" if number == 0 and _HINT.fullmatch(line) else line


def _again_without_hint(
    lines: Lines,
) -> Callable[[], contextlib.AbstractContextManager[Iterator[str]]] | None:
    """Return a function that reopens the lines without Excel's first line."""
    reopen = lines.again
    if reopen is None:
        return None

    @contextlib.contextmanager
    def again() -> Iterator[Iterator[str]]:
        with reopen() as opened:
            yield _without_hint(opened)

    return again


def check_delimiter(delimiter: str, field: str) -> str:
    r"""Return a delimiter; `\t` and `tab` are a tab.

    Raises:
      ValueError: the delimiter is not a single character.
    """
    found = "\t" if delimiter in ("\\t", "tab") else delimiter
    if not isinstance(found, str) or len(found) > 1 or found in ("\n", "\r", '"'):
        raise ValueError(
            f"{field} is {shown(delimiter, 40)}; expected one character, as ';', or tab; "
            "empty: it is found"
        )
    return found


def _take_head(lines: Iterator[str]) -> Iterator[str]:
    """Yield the first lines; fewer if they are long."""
    num_characters = 0
    for line in itertools.islice(lines, _HEAD_LINES):
        yield line
        num_characters += len(line)
        if num_characters > _HEAD_CHARACTERS:
            return


def find_delimiter(lines: Sequence[str], usual: str) -> str:
    """Return the delimiter of the first lines of a table.

    It is `usual` unless another one fits better. Another one splits the header, and nearly all
    rows have the header's width with it. With `usual`, fewer rows have, or there is one column.
    """
    usual_width, usual_fraction = _consistency(lines, usual)
    if usual_width > 1 and usual_fraction == 1:
        return usual
    best, best_fraction = usual, 0.0
    for delimiter in DELIMITERS:
        width, fraction = _consistency(lines, delimiter)
        is_candidate = delimiter != usual and width > 1 and fraction >= _MIN_CONSISTENT
        if is_candidate and fraction > best_fraction:
            best, best_fraction = delimiter, fraction
    return best if usual_width == 1 or best_fraction > usual_fraction else usual


def _consistency(lines: Sequence[str], delimiter: str) -> tuple[int, float]:
    """Return the header's width and the fraction of rows with it, for the better quoting."""
    quoted = _consistency_of(lines, Dialect(delimiter))
    plain = _consistency_of(lines, Dialect(delimiter, is_quoted=False))
    return max((1, 0.0), quoted, plain, key=lambda found: found[1])


def _consistency_of(lines: Sequence[str], dialect: Dialect) -> tuple[int, float]:
    """Return the header's width and the fraction of the rows below it that have this width."""
    widths: list[int] = []
    with contextlib.suppress(csv.Error):
        widths.extend(len(row) for row in dialect.reader(lines) if row)
    header, *rows = widths or [1]
    if len(lines) >= _HEAD_LINES:
        rows = rows[:-1]  # the last row may be cut
    return header, sum(width == header for width in rows) / len(rows) if rows else 1.0


def sniff_tsv_dialect(lines: Lines, log: Log) -> Dialect:
    """Return TSV or PLAIN_TSV.

    The form is PLAIN_TSV if every row has the header's width without quoting, and with quoting a
    quote does not close, or encloses whole rows.
    """
    problem = _quoting_problem(lines)
    if problem is None:
        return TSV
    if _has_uneven_rows(lines):
        if isinstance(problem, ValueError):
            raise problem
        return TSV
    log(f"{lines.where}: its quotes do not enclose fields; they are read as other characters")
    return PLAIN_TSV


def _quoting_problem(lines: Lines) -> ValueError | Record | None:
    """Return the error of reading lines as TSV, or the first record of whole rows."""
    try:
        with _reopened(lines, TSV) as records:
            width = len(next(records, _NO_RECORD).fields)
            merged = (record for record in records if inner_rows(record.raw, "\t", width))
            found = next(merged, None)
            collections.deque(records, maxlen=0)
            return found
    except ValueError as error:
        return error


def _has_uneven_rows(lines: Lines) -> bool:
    """Return whether rows without quoting differ from the header in width, or cannot be read."""
    try:
        with _reopened(lines, PLAIN_TSV) as records:
            header = next(records, _NO_RECORD).fields
            collections.deque(_check_widths(records, header, lines.where), maxlen=0)
    except ValueError:
        return True
    return False


@contextlib.contextmanager
def _reopened(lines: Lines, dialect: Dialect) -> Iterator[Iterator[Record]]:
    """Open the records of an input once more."""
    assert lines.again is not None  # a pipe has no second reading
    with (
        lines.again() as opened,
        contextlib.closing(read_records(opened, lines.where, dialect)) as records,
    ):
        yield records


class _Tracked:
    """Lines, with the lines of the current record and a count."""

    def __init__(self, lines: Iterable[str]):
        self._lines = iter(lines)
        self.recent: list[str] = []
        self.count = 0

    def __iter__(self) -> "_Tracked":
        """Return itself."""
        return self

    def __next__(self) -> str:
        """Return the next line."""
        line = next(self._lines)
        self.recent.append(line)
        self.count += 1
        return line


def read_records(
    lines: Iterable[str], where: str, dialect: Dialect
) -> Generator[Record, None, None]:
    """Yield the records that are not empty; a quoted field may span several lines.

    Raises:
      ValueError: a quote or a line end is malformed; the message names the line.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    tracked = _Tracked(lines)
    try:
        for fields in dialect.reader(tracked, strict=True):
            raw, tracked.recent = tracked.recent, []
            if fields:
                yield Record(tracked.count - len(raw) + 1, fields, raw)
    except csv.Error as error:
        complaint = _complaint(str(error), tracked, dialect.delimiter)
        raise ValueError(f"{where}: {complaint}") from error


def _complaint(said: str, tracked: _Tracked, delimiter: str) -> str:
    """Describe a malformed record, and where the quote that causes it opens."""
    if "new-line character" in said:  # the csv module's own advice is for programmers
        problem = "a carriage return alone ends no line; convert the line ends to line feeds"
        return f"line {tracked.count}: {problem}"
    first = tracked.count - len(tracked.recent) + 1
    opened = opening_line(tracked.recent, delimiter)
    if opened is None:
        return f"line {tracked.count}: {said}"
    line, text = first + opened[0], f"a quote opens before {opened[1][:30]!r}"
    if "unexpected end" in said:
        advice = "remove it, or write it twice inside of a quoted text"
        return f"line {line}: {text} and never closes; {advice}"
    if "field limit" in said:
        size = f"more than {_FIELD_LIMIT} characters"
        return f"line {line}: {text} and encloses {size}; remove it, or close it"
    advice = "write a quote inside of a quoted text twice, or remove the first"
    return f"line {line}: {text}, closes in line {tracked.count}, and {said[:60]!r} there; {advice}"


def _split_swallowed(
    records: Iterator[Record], lines: Lines, width: int, *, delimiter: str, log: Log
) -> Iterator[Record]:
    """Yield the records; quotes that enclose whole rows become characters of these rows."""
    values: ColumnValues | None = None
    count = 0
    for record in records:
        rows = inner_rows(record.raw, delimiter, width)
        some = some_rows(record.raw, delimiter, width)
        if values is None and (rows or some):
            values = _sure_values(lines, delimiter, width)
        if rows and values and (delimiter == "\t" or values.explain(rows)):
            count += 1
            note = _swallowed_note(record, len(rows), lines)
            if count <= _MAX_NOTES:
                log(note)
            yield from (Record(record.line + offset, fields, ()) for offset, fields in rows)
            continue
        if some and values and values.explain(some):
            log(
                f"{lines.where}: a quote in line {record.line} opens a text of {len(record.raw)} "
                f"lines, of which {len(some)} look like rows; is it closed too late?"
            )
        yield record
    if count > _MAX_NOTES:
        log(f"{lines.where}: {count} quotes in all open texts of whole rows")


def _swallowed_note(record: Record, num_rows: int, lines: Lines) -> str:
    """Return the note on a record of whole rows; raise ValueError for a pipe."""
    if lines.again is None:
        raise ValueError(
            f"{lines.where}: the row of line {record.line} holds whole rows between its "
            "quotes; give the file by name, or remove the quotes"
        )
    return (
        f"{lines.where}: a quote in line {record.line} opens a text of {num_rows} whole rows; "
        "they are read as rows, with their quotes"
    )


def _sure_values(lines: Lines, delimiter: str, width: int) -> ColumnValues:
    """Collect the values of records that certainly are one row; none for a pipe."""
    values = ColumnValues(width)
    if lines.again is None:
        return values
    # The main reading reports a malformed line.
    with contextlib.suppress(ValueError), _reopened(lines, Dialect(delimiter)) as records:
        next(records, None)
        for record in records:
            if len(record.fields) == width and not inner_rows(record.raw, delimiter, width):
                values.add(record.fields)
    return values


def _check_widths(
    records: Iterator[Record], header: Sequence[str], where: str
) -> Iterator[list[str]]:
    """Yield the fields of records; raise ValueError if a record differs from the header in width.

    The message names the line.
    """
    for number, record in enumerate(records, start=1):
        if len(record.fields) != len(header):
            names = ", ".join(header)[:80]
            raise ValueError(
                f"{where}: row {number} has {len(record.fields)} fields, the header has "
                f"{len(header)} ({names!r}); correct line {record.line}, or quote texts that hold "
                "the delimiter"
            )
        yield record.fields
