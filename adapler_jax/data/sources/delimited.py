"""CSV, TSV and their relatives: which character separates the columns, and what the quotes mean."""

import collections
import contextlib
import csv
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from adapler_jax.data.sources.quotes import ColumnValues, inner_rows, opening_line, some_rows
from adapler_jax.io.messages import shown

CSV, TSV = {"delimiter": ","}, {"delimiter": "\t"}
PLAIN_TSV = TSV | {"quoting": csv.QUOTE_NONE}  # quotes are characters as others, the GLUE form
DELIMITERS = (",", ";", "\t", "|")
_FIELD_LIMIT = 1 << 26  # characters; the module's own default refuses texts over 131,072
_HEAD_LINES, _HEAD_CHARACTERS = 64, 1 << 20  # what the delimiter is found from
_MIN_CONSISTENT = 0.9  # of the first rows are as wide as the header by a delimiter that is found
_MAX_NOTES = 3
_HINT = re.compile(r"\ufeff?sep=.\r?\n", re.IGNORECASE)
_NAMES = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar"}

Log = Callable[[str], None]


def ignore(note: str) -> None:
    """Take a note that nobody reads."""


class Lines(NamedTuple):
    """The text lines of one input.

    Attributes:
      where: names it in messages.
      once: its lines from the first on, read once.
      again: opens them once more, with `once` at its place afterwards; None for a pipe.
    """

    where: str
    once: Iterator[str]
    again: Callable[[], contextlib.AbstractContextManager[Iterator[str]]] | None = None

    @classmethod
    def of_text(cls, text: str, where: str) -> "Lines":
        """Return the lines of a text; only a line feed ends one."""

        def lines() -> Iterator[str]:
            return (match[0] for match in re.finditer(r"[^\n]*\n|[^\n]+", text))

        return cls(where, lines(), lambda: contextlib.nullcontext(lines()))


class Record(NamedTuple):
    """One row: the number of its first line, its fields, and its lines as they are."""

    line: int
    fields: list[str]
    raw: Sequence[str]


def read_delimited(
    lines: Lines,
    kind: str,
    *,
    delimiter: str = "",
    field: str = "config.data.delimiter",
    log: Log = ignore,
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the header line, empty where there is none, and the rows below it.

    Args:
      lines: the input.
      kind: csv or tsv, which says what separates columns where the first rows do not say another.
      delimiter: the character between columns; empty: it is found.
      field: what the user sets the delimiter by, for messages.
      tell: receives a sentence where the delimiter is not the usual one, and where quotes are not
        what they seem.

    Raises:
      ValueError: here or later: a quote never closes, or a row has another number of fields; the
        line is named.
    """
    usual = "\t" if kind == "tsv" else ","
    lines = lines._replace(once=_without_hint(lines.once), again=_again_without_hint(lines))
    head = list(_take_head(lines.once))
    lines = lines._replace(once=itertools.chain(head, lines.once))
    found = check_delimiter(delimiter, field) or find_delimiter(head, usual)
    if found != usual and not delimiter:
        log(f"{lines.where}: columns are separated by {_NAMES[found]}; {field} names another")
    form = {"delimiter": found}
    if found == "\t" and lines.again:
        form = _tab_form(lines, log)
    records = read_records(lines.once, lines.where, **form)
    header = next(records, Record(1, [], ())).fields
    if "quoting" not in form:
        records = _split_swallowed(records, lines, len(header), delimiter=found, log=log)
    return header, _check_widths(records, header, lines.where)


def _without_hint(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines; a first line as `sep=;`, which Excel writes, is blank."""
    for number, line in enumerate(lines):
        yield "\n" if number == 0 and _HINT.fullmatch(line) else line


def _again_without_hint(lines: Lines) -> Callable | None:
    """Return what opens the lines once more, without the line that Excel writes."""

    @contextlib.contextmanager
    def again() -> Iterator[Iterator[str]]:
        with lines.again() as opened:
            yield _without_hint(opened)

    return again if lines.again else None


def check_delimiter(delimiter: str, field: str) -> str:
    """Return a delimiter; `\\\\t` and `tab` are a tab.

    Raises ValueError where it is no single character.
    """
    found = "\t" if delimiter in ("\\t", "tab") else delimiter
    if not isinstance(found, str) or len(found) > 1 or found in ("\n", "\r", '"'):
        raise ValueError(
            f"{field} is {shown(delimiter, 40)}; expected one character, as ';', or "
            f"tab; "
            "empty: it is found"
        )
    return found


def _take_head(lines: Iterator[str]) -> Iterator[str]:
    """Yield the first lines, fewer of long ones."""
    num_characters = 0
    for line in itertools.islice(lines, _HEAD_LINES):
        yield line
        num_characters += len(line)
        if num_characters > _HEAD_CHARACTERS:
            return


def find_delimiter(lines: Sequence[str], usual: str) -> str:
    """Return what separates the columns of the first lines of a table: `usual`, unless another
    fits better.

    Another one fits where it splits the header, nearly all rows are as wide as the header then,
    and by the usual one
    they are not, or the header is one column.
    """
    usual_width, usual_share = _consistency(lines, usual)
    if usual_width > 1 and usual_share == 1:
        return usual
    best, best_share = usual, 0.0
    for delimiter in DELIMITERS:
        width, share = _consistency(lines, delimiter)
        if delimiter != usual and width > 1 and share >= _MIN_CONSISTENT and share > best_share:
            best, best_share = delimiter, share
    return best if usual_width == 1 or best_share > usual_share else usual


def _consistency(lines: Sequence[str], delimiter: str) -> tuple[int, float]:
    """Return the width of the header, and the share of the rows below it that are as wide, with
    quotes or without.
    """
    best = (1, 0.0)
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        widths = []
        with contextlib.suppress(csv.Error):
            widths += (
                len(row) for row in csv.reader(lines, delimiter=delimiter, quoting=quoting) if row
            )
        header, *rows = widths or [1]
        rows = rows[:-1] if len(lines) >= _HEAD_LINES else rows  # the last may be cut
        share = sum(width == header for width in rows) / len(rows) if rows else 1.0
        best = max(best, (header, share), key=lambda found: found[1])
    return best


def _tab_form(lines: Lines, log: Log) -> dict:
    """Return how a TSV is written: TSV, quotes as in CSV, or PLAIN_TSV.

    It is plain where its quotes do not pair up, or pair up around whole rows while the plain rows
    are all as wide.
    """
    problem = _problem_of(lines, TSV)
    if problem is None:
        return TSV
    if _problem_of(lines, PLAIN_TSV):
        if isinstance(problem, ValueError):
            raise problem
        return TSV
    log(f"{lines.where}: its quotes do not enclose fields; they are read as other characters")
    return PLAIN_TSV


def _problem_of(lines: Lines, form: dict) -> ValueError | Record | None:
    """Return what is wrong with lines that are read in one form: an error, or a record of whole
    rows.
    """
    is_plain = "quoting" in form
    try:
        with (
            lines.again() as opened,
            contextlib.closing(read_records(opened, lines.where, **form)) as records,
        ):
            header = next(records, Record(1, [], ())).fields
            if is_plain:
                collections.deque(_check_widths(records, header, lines.where), maxlen=0)
                return None
            merged = next(
                (record for record in records if inner_rows(record.raw, "\t", len(header))), None
            )
            collections.deque(records, maxlen=0)
            return merged
    except ValueError as error:
        return error


class _Tracked:
    """Lines with those that the current row has had so far."""

    def __init__(self, lines: Iterable[str]):
        self._lines, self.recent, self.count = iter(lines), [], 0

    def __iter__(self) -> "_Tracked":
        """Return itself."""
        return self

    def __next__(self) -> str:
        """Return the next line."""
        line = next(self._lines)
        self.recent.append(line)
        self.count += 1
        return line


def read_records(lines: Iterable[str], where: str, **form) -> Iterator[Record]:
    """Yield every line, or lines that quotes hold together, that is not empty; form: as in
    `csv.reader`.
    """
    csv.field_size_limit(_FIELD_LIMIT)
    tracked = _Tracked(lines)
    reader = csv.reader(tracked, strict=True, **form)
    try:
        for fields in reader:
            raw, tracked.recent = tracked.recent, []
            if fields:
                yield Record(tracked.count - len(raw) + 1, fields, raw)
    except csv.Error as error:
        raise ValueError(
            f"{where}: {_complaint(str(error), tracked, form['delimiter'])}"
        ) from error


def _complaint(said: str, tracked: _Tracked, delimiter: str) -> str:
    """Say what is wrong with a row, and where the quote that it hangs on opens."""
    if "new-line character" in said:  # whose own advice is for programs
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
    """Yield the records; one whose quotes enclose whole rows is these rows, with their quotes,
    which a note says.
    """
    values, count = None, 0
    for record in records:
        rows = inner_rows(record.raw, delimiter, width)
        if rows and values is None:
            values = _values_of(lines, delimiter, width)
        if not rows or not (delimiter == "\t" or values.explain(rows)):
            some = some_rows(record.raw, delimiter, width)
            values = values or (_values_of(lines, delimiter, width) if some else None)
            if some and values.explain(some):
                log(
                    f"{lines.where}: a quote in line {record.line} opens a text of {len(record.raw)} "
                    f"lines, of which {len(some)} look like rows; is it closed too late?"
                )
            yield record
            continue
        if lines.again is None:
            raise ValueError(
                f"{lines.where}: the row of line {record.line} holds whole rows between its "
                f"quotes; give the file by "
                "name, or remove the quotes"
            )
        count += 1
        if count <= _MAX_NOTES:
            log(
                f"{lines.where}: a quote in line {record.line} opens a text of {len(rows)} whole "
                f"rows; they are read "
                "as rows, with their quotes"
            )
        yield from (Record(record.line + offset, fields, ()) for offset, fields in rows)
    if count > _MAX_NOTES:
        log(f"{lines.where}: {count} quotes in all open texts of whole rows")


def _values_of(lines: Lines, delimiter: str, width: int) -> ColumnValues:
    """Return what the columns hold in the rows that are surely rows; nothing of a pipe."""
    values = ColumnValues(width)
    if lines.again is None:
        return values
    with (
        lines.again() as opened,
        contextlib.suppress(ValueError),
    ):  # a later line is malformed; reading it says so
        records = read_records(opened, lines.where, delimiter=delimiter)
        next(records, None)
        for record in records:
            if len(record.fields) == width and not inner_rows(record.raw, delimiter, width):
                values.add(record.fields)
    return values


def _check_widths(
    records: Iterator[Record], header: Sequence[str], where: str
) -> Iterator[list[str]]:
    """Yield the fields of records; every one must be as wide as the header."""
    for number, record in enumerate(records, start=1):
        if len(record.fields) != len(header):
            names = ", ".join(header)[:80]
            found = f"row {number} has {len(record.fields)} fields"
            expected = f"the header has {len(header)} ({names!r})"
            raise ValueError(
                f"{where}: {found}, {expected}; correct line {record.line}, or quote texts that hold the "
                f"delimiter"
            )
        yield record.fields
