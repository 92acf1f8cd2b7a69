"""Read the files of MS MARCO's passage ranking: tab-separated lines, without header and quotes.

    DIR/collection.tsv      id, passage
    DIR/queries.SPLIT.tsv   id, query
    DIR/qrels.SPLIT.tsv     id of the query, 0, id of the passage, relevance
    triples.*.tsv           query, relevant passage, another passage

Files may be compressed, as collection.tsv.gz. Source: Nguyen et al., "MS MARCO", NIPS 2016.
"""

import pathlib
from collections.abc import Iterator

from adapler_jax.data.ranking.collections import (
    Collection,
    find_file,
    texts_by_id,
    to_relevance,
)
from adapler_jax.data.sources.compression import open_source
from adapler_jax.data.sources.encodings import decode_lines

NEEDED = "MS MARCO has collection.tsv, queries.SPLIT.tsv and qrels.SPLIT.tsv"


def read_msmarco(directory, *, split: str = "dev") -> Collection:
    """Read passages, queries and their judgements.

    All passages are kept in memory, about 4 GB of the full collection.

    Args:
      directory: of the files.
      split: of queries.SPLIT.tsv and qrels.SPLIT.tsv, as dev.small.

    Raises:
      ValueError: a file is missing or malformed, an id occurs twice, or a judgement is of an
        unknown id.
    """
    directory = pathlib.Path(directory).expanduser()
    passages, queries, qrels = (
        find_file(directory, f"{name}.tsv", advice=NEEDED)
        for name in ("collection", f"queries.{split}", f"qrels.{split}")
    )
    documents = texts_by_id(_pairs(passages), passages)
    texts = texts_by_id(_pairs(queries), queries)
    judgements = ((query, text, score) for query, _, text, score in _rows(qrels, 4))
    relevance = to_relevance(judgements, documents, texts, qrels)
    judged = {query: text for query, text in texts.items() if query in relevance}
    return Collection(documents, judged, relevance)


def read_triples(path) -> Iterator[tuple[str, str, str]]:
    """Return an iterator over (query, relevant passage, another passage), line by line.

    Args:
      path: of a file as triples.train.small.tsv, compressed or not.

    Raises:
      ValueError: there is no such file, or a line has other than three columns.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give a file of triples")
    return ((query, relevant, other) for query, relevant, other in _rows(path, 3))


def _pairs(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Return an iterator over the id and the text of each line."""
    return ((key, text) for key, text in _rows(path, 2))


def _rows(path: pathlib.Path, width: int) -> Iterator[list[str]]:
    """Yield the columns of each line.

    Raises:
      ValueError: a line has another number of columns.
    """
    with open_source(path) as source:
        for number, line in enumerate(decode_lines(source.open(), str(path)), start=1):
            if not line.strip():
                continue
            row = [cell.strip() for cell in line.rstrip("\r\n").split("\t")]
            if len(row) != width:
                raise ValueError(
                    f"{path}: line {number} has {len(row)} columns; expected {width} with tabs "
                    "between them"
                )
            yield row
