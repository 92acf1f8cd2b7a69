"""Make pairs with numbers of rows that have a query, relevant documents, and others."""

from collections.abc import Sequence

import numpy as np

from adapler_jax.data.classification.labels import is_missing
from adapler_jax.data.sources.tables import Table
from adapler_jax.io.messages import shown

RELEVANT, OTHER = 1.0, 0.0  # numbers of the pairs


def expand_contrasts(
    table: Table, query: str, positive: str, negative: str, *, names: Sequence[str]
) -> Table:
    """Return a table with a row for each document of each row: its query, its text, its number.

    Args:
      table: with the columns.
      query: column of the queries.
      positive: column of relevant documents, a text or a list of texts.
      negative: column of others, a text or a list of texts; missing for none.
      names: of the new columns of queries, documents and numbers.

    Raises:
      ValueError: a column is missing, or a document is no text.
    """
    queries = table.column(query, role="text")
    pairs = [
        (text, document, number)
        for column, role, number in (
            (positive, "positive", RELEVANT),
            (negative, "negative", OTHER),
        )
        for text, documents in _documents(queries, table.column(column, role=role), column, table)
        for document in documents
    ]
    order = {text: row for row, text in reversed(list(enumerate(queries)))}
    pairs.sort(key=lambda pair: order[pair[0]])  # the documents of a query follow one another
    columns = zip(*pairs) if pairs else ((), (), ())
    found = (*table.found, *(name for name in names if name not in table.found))
    return table.replace(columns=dict(zip(names, map(list, columns))), found=found)


def _documents(queries: Sequence, column: Sequence, name: str, table: Table):
    """Yield each query with the list of its documents.

    Raises:
      ValueError: an entry is neither a text nor a list of texts.
    """
    for row, (query, found) in enumerate(zip(queries, column, strict=True), start=1):
        is_list = isinstance(found, list | tuple | np.ndarray)
        documents = list(found) if is_list else [] if is_missing(found) else [found]
        for document in documents:
            if not isinstance(document, str):
                raise ValueError(
                    f"{table.where}: row {row} has {shown(document)} in column {name!r}; expected "
                    "a document, or a list of documents"
                )
        yield query, documents
