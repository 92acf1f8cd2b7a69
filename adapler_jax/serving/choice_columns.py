"""Read questions with options from the columns of a table, for `streams.read_windows`."""

import json
import re
from collections.abc import Mapping, Sequence

from adapler_jax.data.sources.tables import check_once
from adapler_jax.io.messages import explain_unknown
from adapler_jax.serving.streams import Form

QUESTION, ARTICLES, LISTS = "question", ("article", "context"), ("options", "choices")
# Names as option_a and ending0.
OPTION = re.compile(r"(option|choice|ending|answer)[ _-]?([a-z]|\d{1,2})", re.IGNORECASE)
ADVICE = (
    "name them with --column=QUESTION,ARTICLE,OPTIONS or --column=QUESTION,ARTICLE,FIRST,SECOND,..."
)


def pick_choice_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the columns of question, article and options: a column of lists, or one per option.

    Args:
      found: columns of the table.
      columns: names by the user; empty for `question`, `article` or `context`, and `options` or
        `option_a`, `option_b` ...
      usual: unused; other forms look for these columns.
      where: names the table in messages.

    Raises:
      ValueError: a column is missing or occurs twice.
    """
    for name in columns:
        if name not in found:
            raise ValueError(f"{where}: {explain_unknown('column', name, found)}")
    names = tuple(columns) or _find_columns(found, where)
    check_once(names, found, where)
    return names


def _find_columns(found: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the columns with known names.

    Raises:
      ValueError: a column is missing.
    """
    article = next((name for name in ARTICLES if name in found), None)
    lists = [name for name in LISTS if name in found][:1]
    single = [name for name in found if isinstance(name, str) and OPTION.fullmatch(name)]
    has_options = bool(lists) or len(single) > 1
    if QUESTION not in found or article is None or not has_options:
        known = ", ".join(map(str, found)) or "none"
        raise ValueError(
            f"{where}: expected the columns question, article or context, and options or "
            f"option_a, option_b ...; found {known}; {ADVICE}"
        )
    return (QUESTION, article, *(lists or single))


def read_choice(row: Mapping, names: Sequence[str], location: str) -> tuple[str, str, list[str]]:
    """Return question, article and options of a row, without empty option columns at the end.

    Raises:
      ValueError: a value is not a text, or there are fewer than two options.
    """
    question, article, *rest = names
    for name in (question, article):
        if not isinstance(row.get(name), str):
            raise ValueError(f"{location} has {row.get(name)!r:.60} as {name!r}; expected a text")
    if len(rest) == 1:
        options = _list_of(row.get(rest[0]))
    else:
        options = [row.get(name) for name in rest]
        while options and options[-1] in (None, ""):
            options.pop()
    is_list = isinstance(options, list) and len(options) >= 2
    if not is_list or not all(isinstance(option, str) for option in options):
        raise ValueError(
            f"{location} has {options!r:.60} as {', '.join(rest):.60}; "
            "expected two options or more, each a text"
        )
    return row[question], row[article], options


def _list_of(value):
    """Return the list of a list, of {"text": list}, or of a text in JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value.get("text") if isinstance(value, Mapping) else value


CHOICES = Form(pick_choice_columns, read_choice)
