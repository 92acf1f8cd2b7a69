"""Lists of documents of one query, of one size: what a listwise loss is trained on."""

import dataclasses

import numpy as np

from adapler_jax.data.classification.examples import Dataset, take_examples


def train_in_lists(dataset: Dataset, size: int, *, seed: int, limit: int = 0) -> Dataset:
    """Return the task with its training pairs in lists of documents of one query.

    Args:
      dataset: of pairs of a query and a document, with one number each.
      size: documents of a list, at least 2.
      seed: decides which documents are together.
      limit: train on at most so many pairs, in whole lists; 0 for all.

    Raises:
      ValueError: no query has so many documents with a relevant one, or a number is below 0.
    """
    train = dataset.split("train")
    if np.min(train.labels, initial=0) < 0:
        raise ValueError(
            f"config.data.list_size={size} reads the numbers as relevance, but the split train has "
            f"the number {np.min(train.labels):g}; expected numbers from 0"
        )
    rows = rows_in_lists(train.texts, train.labels, size, seed=seed)
    if limit:
        rows = rows[: max(size, limit // size * size)]
    note = (
        f"train: {len(rows) // size:,} lists of {size} documents of a query, each with a relevant "
        f"one, hold {len(np.unique(rows)):,} of {len(train):,} pairs"
    )
    return dataclasses.replace(
        dataset,
        splits=dataset.splits | {"train": take_examples(train, rows)},
        notes=(*dataset.notes, note),
    )


def rows_in_lists(queries: list[str], gain_E: np.ndarray, size: int, *, seed: int) -> np.ndarray:
    """Return the rows of full lists, one list after the other, int64 [lists x size].

    The documents of a query are dealt to its lists in the order of their numbers, so that each list
    has its part of the relevant ones. Where they are fewer than the lists, some are in several
    lists, in place of the documents that were dealt last. Documents that fill no list are left out,
    and so are queries without a relevant document: their lists would teach nothing.

    Args:
      queries: of each pair.
      gain_E: relevance of each document, from 0.
      size: documents of a list.
      seed: decides the order of equal numbers, and of the lists.

    Raises:
      ValueError: no query has so many documents, one of them relevant.
    """
    rng = np.random.default_rng(seed)
    _, query_E = np.unique(np.asarray(queries, object), return_inverse=True)
    drawn_E = rng.permutation(len(queries))
    order_E = drawn_E[np.lexsort((-gain_E[drawn_E], query_E[drawn_E]))]
    ends = np.flatnonzero(np.diff(query_E[order_E])) + 1
    relevant = [rows for rows in np.split(order_E, ends) if len(rows) and gain_E[rows[0]] > 0]
    lists = [found for rows in relevant for found in _deal(rows, gain_E, size)]
    if not lists:
        longest = max(map(len, relevant), default=0)
        raise ValueError(
            f"config.data.list_size is {size}, but no query of the split train with a relevant "
            f"document has more than {longest} documents; set it to fewer, or to 0"
        )
    return np.stack(lists)[rng.permutation(len(lists))].ravel()


def _deal(rows: np.ndarray, gain_E: np.ndarray, size: int) -> np.ndarray:
    """Return the lists of a query, int64 [lists, size], each with a relevant document.

    `rows` begin with the highest numbers, the first of which is above 0.
    """
    num_lists = len(rows) // size
    dealt = rows[: num_lists * size].reshape(size, num_lists).T.copy()
    num_relevant = int(np.count_nonzero(gain_E[rows] > 0))
    lacking = np.arange(min(num_relevant, num_lists), num_lists)
    dealt[lacking, -1] = rows[lacking % num_relevant]
    return dealt
