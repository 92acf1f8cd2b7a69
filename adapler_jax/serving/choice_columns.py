"""Questions with options in the columns of a table, for `streams.read_windows`."""

import json
import re
from collections.abc import Mapping, Sequence

from adapler_jax.data.sources.tables import check_once
from adapler_jax.io.messages import explain_unknown
from adapler_jax.serving.streams import Form

QUESTION, ARTICLES, LISTS = "question", ("article", "context"), ("options", "choices")
OPTION = re.compile(
    r"(option|choice|ending|answer)[ _-]?([a-z]|\d{1,2})", re.IGNORECASE
)  # option_a, ending0
ADVICE = (
    "name them with --column=QUESTION,ARTICLE,OPTIONS or --column=QUESTION,ARTICLE,FIRST,SECOND,..."
)


def pick_choice_columns(
    found: Sequence[str], columns: Sequence[str], usual: Sequence[Sequence[str]], where: str
) -> tuple[str, ...]:
    """Return the columns of question, article and options: one of lists, or one an option.

    Args:
      found: of the table.
      columns: those that the user names; none for `question`, `article` or `context`, and
        `options` or `option_a`,
        `option_b` ...
      usual: not read.
      where: names the table in messages.

    Raises:
      ValueError: a column is missing or there twice.
    """
    if columns:
        for name in columns:
            if name not in found:
                raise ValueError(f"{where}: {explain_unknown('column', name, found)}")
        names = tuple(columns)
    else:
        article = next((name for name in ARTICLES if name in found), None)
        lists = [name for name in LISTS if name in found][:1]
        options = lists or [
            name for name in found if isinstance(name, str) and OPTION.fullmatch(name)
        ]
        if QUESTION not in found or article is None or not (lists or len(options) > 1):
            known = ", ".join(map(str, found)) or "none"
            raise ValueError(
                f"{where}: expected the columns question, article or context, and options or option_a, option_b ...; "
                f"found {known}; {ADVICE}"
            )
        names = (QUESTION, article, *options)
    check_once(names, found, where)
    return names


def read_choice(row: dict, names: Sequence[str], place: str) -> tuple[str, str, list[str]]:
    """Return question, article and options of a row; option columns that are empty at the end are
    left out.

    Raises:
      ValueError: one is not a text, or there are fewer than two options.
    """
    question, article, *rest = names
    for name in (question, article):
        if not isinstance(row.get(name), str):
            raise ValueError(f"{place} has {row.get(name)!r:.60} as {name!r}; expected a text")
    if len(rest) == 1:
        options = _list_of(row.get(rest[0]))
    else:
        options = [row.get(name) for name in rest]
        while options and options[-1] in (None, ""):
            options.pop()
    if (
        not isinstance(options, list)
        or not all(isinstance(option, str) for option in options)
        or len(options) < 2
    ):
        raise ValueError(
            f"{place} has {options!r:.60} as {', '.join(rest):.60}; expected two options or more, each a text"
        )
    return row[question], row[article], options


def _list_of(value):
    """Return a list as such, {"text": list} as its list, and a text that is a list in JSON as
    that."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value.get("text") if isinstance(value, Mapping) else value


CHOICES = Form(pick_choice_columns, read_choice)
