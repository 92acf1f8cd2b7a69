"""Training pairs in lists of documents of one query."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from adapler_jax.data.classification.examples import Dataset, Examples
from adapler_jax.data.classification.tasks import get_task
from adapler_jax.data.ranking.lists import rows_in_lists, train_in_lists


def dataset_of(queries, labels):
    pairs = [f"document {number}" for number in range(len(queries))]
    ids = np.arange(len(queries), dtype=np.int32)
    train = Examples(queries, pairs, np.float32(labels), ids)
    return Dataset(get_task("custom_scores"), {"train": train, "test": train})


def test_relevant_documents_are_dealt_to_the_lists_of_their_query():
    queries = ["a"] * 7 + ["b"] * 2 + ["c"] * 3
    gains = np.float32([0, 1, 0, 2, 0, 0, 0, 5, 5, 0, 0, 0])
    lists = rows_in_lists(queries, gains, 3, seed=4).reshape(-1, 3)
    assert sorted(gains[lists].max(axis=1)) == [1, 2]  # "b" is too short, "c" has none
    assert len(np.unique(lists)) == 6


def test_a_relevant_document_is_in_every_list():
    """One of 7 documents is relevant; it takes the place of one in two of the three lists."""
    gains = np.float32([0, 0, 3, 0, 0, 0, 0])
    lists = rows_in_lists(["a"] * 7, gains, 2, seed=0).reshape(-1, 2)
    assert gains[lists].max(axis=1).tolist() == [3, 3, 3]
    assert len(np.unique(lists)) == 4 and all(len(set(found)) == 2 for found in lists.tolist())


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.sampled_from("abc"), strategies.integers(0, 3)),
        min_size=1,
        max_size=30,
    ),
    strategies.integers(2, 4),
    strategies.integers(0, 5),
)
def test_lists_are_full_of_one_query_and_each_has_a_relevant_document(pairs, size, seed):
    queries, gains = [query for query, _ in pairs], np.float32([gain for _, gain in pairs])
    relevant = {query for query, gain in pairs if gain}
    counts = [queries.count(query) for query in relevant]
    if max(counts, default=0) < size:
        with pytest.raises(ValueError, match=f"more than {max(counts, default=0)} documents"):
            rows_in_lists(queries, gains, size, seed=seed)
        return
    rows = rows_in_lists(queries, gains, size, seed=seed)
    assert len(rows) == sum(count // size * size for count in counts)
    for found in rows.reshape(-1, size):
        assert len({queries[row] for row in found}) == 1 and len(set(found.tolist())) == size
        assert gains[found].max() > 0
    np.testing.assert_array_equal(rows, rows_in_lists(queries, gains, size, seed=seed))


def test_training_pairs_are_numbered_from_0_and_others_stay():
    dataset = dataset_of(["a", "b", "a", "c", "a"], [0, 1, 1, 0, 0])
    found = train_in_lists(dataset, 2, seed=0)
    train = found.splits["train"]
    assert train.texts == ["a", "a"] and train.example_ids.tolist() == [0, 1]
    assert sorted(train.labels) == [0, 1]
    assert train.text_pairs[int(np.argmax(train.labels))] == "document 2"
    assert found.splits["test"] is dataset.splits["test"]
    assert found.notes[-1] == (
        "train: 1 lists of 2 documents of a query, each with a relevant one, hold 2 of 5 pairs"
    )


def test_a_limit_keeps_whole_lists():
    dataset = dataset_of(["a"] * 9, [1] * 9)
    assert len(train_in_lists(dataset, 3, seed=0, limit=7).splits["train"]) == 6
    assert len(train_in_lists(dataset, 3, seed=0, limit=1).splits["train"]) == 3


def test_numbers_below_0_are_no_relevance():
    with pytest.raises(ValueError, match="the split train has the number -1; expected numbers"):
        train_in_lists(dataset_of(["a", "a"], [-1, 1]), 2, seed=0)
