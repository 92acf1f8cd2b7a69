"""Read documents, queries and their relevance in BEIR's form.

    DIR/corpus.jsonl    _id, text, and title where documents have one
    DIR/queries.jsonl   _id, text
    DIR/qrels.tsv, or DIR/qrels/SPLIT.tsv   query-id, corpus-id, score

Files may be compressed, as corpus.jsonl.gz. Source: Thakur et al., "BEIR", NeurIPS 2021.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from adapler_jax.data.sources.load import load_source
from adapler_jax.io.messages import listed, shown

RELEVANCE_COLUMNS = ("query-id", "corpus-id", "score")
NEEDED = "a collection has corpus.jsonl, queries.jsonl and qrels.tsv or qrels/SPLIT.tsv"
ENDINGS = ("", ".gz", ".bz2", ".xz", ".zst")


class Collection(NamedTuple):
    """Documents, queries, and judgements of documents for queries."""

    documents: dict[str, str]  # by id, title first
    queries: dict[str, str]  # by id, those with a judgement
    relevance: dict[str, dict[str, float]]  # by query and document; 0 is not relevant

    def relevant(self, query: str) -> list[str]:
        """Return the ids of the documents that are relevant for a query's id."""
        return [document for document, gain in self.relevance[query].items() if gain > 0]


def read_collection(directory, *, split: str = "test") -> Collection:
    """Read a collection.

    Args:
      directory: of the files.
      split: of qrels/SPLIT.tsv; a collection with one qrels.tsv has no splits.

    Raises:
      ValueError: a file is missing or malformed, or a judgement is of an unknown id.
    """
    directory = pathlib.Path(directory).expanduser()
    corpus = find_file(directory, "corpus.jsonl", advice=NEEDED)
    documents = texts_by_id(_rows(corpus, ("_id", "title", "text"), optional=("title",)), corpus)
    path = find_file(directory, "queries.jsonl", advice=NEEDED)
    queries = texts_by_id(_rows(path, ("_id", "text")), path)
    path = find_file(directory, "qrels.tsv", f"qrels/{split}.tsv", advice=NEEDED)
    judgements = ((query, *values) for query, values in _values(path, RELEVANCE_COLUMNS))
    relevance = to_relevance(judgements, documents, queries, path)
    judged = {query: text for query, text in queries.items() if query in relevance}
    return Collection(documents, judged, relevance)


def to_relevance(
    judgements: Iterable[tuple[str, str, str]],
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    path: pathlib.Path,
) -> dict[str, dict[str, float]]:
    """Return judgements by query and document.

    Args:
      judgements: ids of query and document, and the score.
      documents: texts by id.
      queries: texts by id.
      path: of the judgements.

    Raises:
      ValueError: there is no judgement, or one is of an unknown id or no number.
    """
    relevance: dict[str, dict[str, float]] = {}
    for query, document, score in judgements:
        if query not in queries or document not in documents:
            raise ValueError(
                f"{path} judges document {shown(document)} for query {shown(query)}; expected ids "
                "of the collection's documents and queries"
            )
        relevance.setdefault(query, {})[document] = _number(score, path)
    if not relevance:
        raise ValueError(f"{path} judges no document; expected one judgement a line")
    return relevance


def find_file(directory: pathlib.Path, *names: str, advice: str) -> pathlib.Path:
    """Return the first of these files that is there, plain or compressed.

    Raises:
      ValueError: none is; the message ends with the advice.
    """
    for name in names:
        for ending in ENDINGS:
            if (path := directory / f"{name}{ending}").is_file():
                return path
    raise ValueError(f"{directory} has no {' or '.join(names)}; {advice}")


def texts_by_id(rows: Iterable[tuple[str, str]], path: pathlib.Path) -> dict[str, str]:
    """Return texts by their ids.

    Raises:
      ValueError: an id occurs twice.
    """
    found: dict[str, str] = {}
    for key, text in rows:
        if key in found:
            raise ValueError(f"{path} has the id {shown(key)} twice; expected different ids")
        found[key] = text
    return found


def _values(path: pathlib.Path, columns: Sequence[str], optional: Sequence[str] = ()):
    """Yield the first of some columns as a text, and the others as a list, row by row.

    Raises:
      ValueError: a column is missing.
    """
    tables = load_source(f"file:{path}", columns=columns)
    (table,) = tables.values()
    missing = [name for name in columns if name not in (*table.columns, *optional)]
    if missing:
        raise ValueError(
            f"{table.where} has no columns {listed(missing)}; there are {listed(table.found)}"
        )
    empty = [None] * len(table)
    first, *others = (table.columns.get(name, empty) for name in columns)
    for key, *values in zip(first, *others):
        yield str(key), [None if value is None else str(value) for value in values]


def _rows(path: pathlib.Path, columns: Sequence[str], optional: Sequence[str] = ()):
    """Yield the id and the text of each row; a title is put before a text that lacks it."""
    for key, values in _values(path, columns, optional):
        *titles, text = (value or "" for value in values)
        title = "".join(titles).strip()
        rest = text.removeprefix(title)
        has_title = not title or (len(rest) < len(text) and not rest[:1].isalnum())
        yield key, text if has_title else f"{title} {text}".strip()


def _number(score, path: pathlib.Path) -> float:
    """Return a judgement.

    Raises:
      ValueError: it is no finite number.
    """
    try:
        number = float(score)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{path} has the score {shown(score)}; expected a number")
    return number


def labelled_pairs(
    collection: Collection, candidates: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, float]]:
    """Return a query, a document and its gain for each candidate; documents without a judgement 0.

    Args:
      collection: of the ids.
      candidates: ids of documents by the query's id.
    """
    return [
        (
            collection.queries[query],
            collection.documents[document],
            max(0.0, collection.relevance[query].get(document, 0.0)),
        )
        for query, documents in candidates.items()
        for document in documents
    ]
