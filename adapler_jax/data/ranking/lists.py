"""Lists of documents of one query, of one size: what a listwise loss is trained on."""

import dataclasses

import numpy as np

from adapler_jax.data.classification.examples import Dataset, Examples


def train_in_lists(dataset: Dataset, size: int, *, seed: int) -> Dataset:
    """Return the task with its training pairs in lists of documents of one query.

    Args:
      dataset: of pairs of a query and a document, with one number each.
      size: documents of a list.
      seed: decides which documents are together.

    Raises:
      ValueError: no query has so many documents, or a number is below 0.
    """
    train = dataset.split("train")
    if np.min(train.labels, initial=0) < 0:
        raise ValueError(
            f"config.data.list_size={size} reads the numbers as relevance, but the split train has "
            f"the number {np.min(train.labels):g}; expected numbers from 0"
        )
    rows = rows_in_lists(train.texts, train.labels, size, seed=seed)
    note = (
        f"train: {len(rows):,} of {len(train):,} pairs are in lists of {size} documents of a "
        "query; the others fill no list"
    )
    return dataclasses.replace(
        dataset,
        splits=dataset.splits | {"train": _take(train, rows)},
        notes=(*dataset.notes, note),
    )


def rows_in_lists(queries: list[str], gain_E: np.ndarray, size: int, *, seed: int) -> np.ndarray:
    """Return the rows of full lists, one list after the other, int64 [lists x size].

    The documents of a query are dealt to its lists in the order of their numbers, so that each list
    has its part of the relevant ones. The lowest that fill no list are left out.

    Args:
      queries: of each pair.
      gain_E: relevance of each document.
      size: documents of a list.
      seed: decides the order of equal numbers, and of the lists.

    Raises:
      ValueError: no query has so many documents.
    """
    rng = np.random.default_rng(seed)
    _, query_E = np.unique(np.asarray(queries, object), return_inverse=True)
    drawn_E = rng.permutation(len(queries))
    order_E = drawn_E[np.lexsort((-gain_E[drawn_E], query_E[drawn_E]))]
    ends = np.flatnonzero(np.diff(query_E[order_E])) + 1
    lists: list[np.ndarray] = []
    for rows in np.split(order_E, ends):
        num_lists = len(rows) // size
        lists.extend(rows[: num_lists * size].reshape(size, num_lists).T)
    if not lists:
        longest = int(np.bincount(query_E).max(initial=0))
        raise ValueError(
            f"config.data.list_size is {size}, but no query of the split train has more than "
            f"{longest} documents; set it to {longest} or less"
        )
    return np.stack(lists)[rng.permutation(len(lists))].ravel()


def _take(examples: Examples, rows: np.ndarray) -> Examples:
    """Return these rows, numbered from 0."""
    pairs = examples.text_pairs
    return Examples(
        texts=[examples.texts[row] for row in rows],
        text_pairs=None if pairs is None else [pairs[row] for row in rows],
        labels=examples.labels[rows],
        example_ids=np.arange(len(rows), dtype=np.int32),
    )
