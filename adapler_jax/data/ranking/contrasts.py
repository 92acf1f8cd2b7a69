"""Make pairs with numbers of rows that have a query, relevant documents, and others."""

import json
from collections.abc import Iterator, Sequence

import numpy as np

from adapler_jax.data.classification.labels import is_missing
from adapler_jax.data.sources.tables import Table
from adapler_jax.io.messages import shown

RELEVANT, OTHER = 1.0, 0.0  # numbers of the pairs


def expand_contrasts(
    table: Table, query: str, positive: str, negative: str, *, names: Sequence[str]
) -> Table:
    """Return a table with a row for each query and document: their texts and their number.

    A document that is relevant in one row and not in another is relevant.

    Args:
      table: with the columns.
      query: column of the queries.
      positive: column of relevant documents, a text or a list of texts; in CSV a list in JSON.
      negative: column of others, as `positive`; missing for none.
      names: of the new columns of queries, documents and numbers.

    Raises:
      ValueError: a column is missing, or a query or a document is no text.
    """
    number_of: dict[str, dict[str, float]] = {}  # by query and document
    for column, role, number in ((negative, "negative", OTHER), (positive, "positive", RELEVANT)):
        queries, documents = table.column(query, role="text"), table.column(column, role=role)
        for text, found in _documents(queries, documents, (query, column), table.where):
            number_of.setdefault(text, {}).update(dict.fromkeys(found, number))
    pairs = [
        (text, document, number)
        for text, numbers in number_of.items()
        for document, number in numbers.items()
    ]
    columns = zip(*pairs) if pairs else ((), (), ())
    all_names = (*table.found, *(name for name in names if name not in table.found))
    return table.replace(columns=dict(zip(names, map(list, columns))), found=all_names)


def _documents(
    queries: Sequence, column: Sequence, names: tuple[str, str], where: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield each query with the list of its documents.

    Args:
      queries: a text a row.
      column: a text a row, a list of texts, or a text that spells one in JSON.
      names: of both columns.
      where: of the table.

    Raises:
      ValueError: a query is no text, or an entry is neither a text nor a list of texts.
    """
    for row, (query, found) in enumerate(zip(queries, column, strict=True), start=1):
        documents = _as_list(found)
        for name, texts in zip(names, ([query], documents)):
            wrong = [text for text in texts if not isinstance(text, str)]
            if wrong:
                raise ValueError(
                    f"{where}: row {row} has {shown(wrong[0])} in column {name!r}; expected a text"
                    + (", or a list of texts" if name == names[1] else "")
                )
        yield query, documents


def _as_list(found) -> list:
    """Return the documents of an entry."""
    if isinstance(found, list | tuple | np.ndarray):
        return list(found)
    if is_missing(found):
        return []
    if isinstance(found, str) and found.lstrip().startswith("["):  # of a CSV file
        try:
            listed = json.loads(found)
        except ValueError:
            listed = None
        if isinstance(listed, list):
            return listed
    return [found]
