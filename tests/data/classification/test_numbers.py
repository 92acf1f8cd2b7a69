"""Labels that are numbers."""

import json

import numpy as np
import pytest

from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.labels import encode_numbers
from adapler_jax.data.classification.splits import grouped_holdout_rows, holdout_rows
from adapler_jax.data.classification.summary import majority_shares, summarize


def write(path, labels):
    """Write a file of texts with these labels, and return its source."""
    rows = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"file:{path}"


def load(source, **options):
    return load_task("custom_scores", source=source, split_fractions={}, **options)


def test_numbers_are_read_in_every_form():
    found = encode_numbers([1, 2.5, "3.25", " -1e1 ", True, np.float32(0.5)], (), where="rows")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [1.0, 2.5, 3.25, -10.0, 1.0, 0.5])


@pytest.mark.parametrize(
    "label", ["good", float("nan"), float("inf"), "1e99", "1_0", [1], {}, "", None]
)
def test_a_label_that_is_no_number_is_named(label):
    with pytest.raises(ValueError, match=r"rows: row 2 has the label .*; expected a number; "):
        encode_numbers([0.5, label], (), where="rows")


def test_a_task_of_numbers_has_no_classes(tmp_path):
    dataset = load(write(tmp_path / "train.jsonl", [0, 2.5, "5", 1]))
    assert dataset.task.class_names == () and dataset.num_classes == 0
    labels = dataset.split("train").labels
    assert labels.dtype == np.float32 and labels.tolist() == [0.0, 2.5, 5.0, 1.0]
    assert summarize(dataset) == ("data: numbers from 0 to 5, mean 2.12, in 4 train texts",)
    assert majority_shares(dataset) == {}


def test_rows_without_a_number_are_left_out_on_request(tmp_path):
    source = write(tmp_path / "train.jsonl", [0.5, None, 1.5])
    with pytest.raises(ValueError, match="row 2 .* config.data.skip_incomplete=True leaves"):
        load(source)
    dataset = load(source, skip_incomplete=True)
    assert dataset.split("train").labels.tolist() == [0.5, 1.5]


def test_a_split_of_minus_one_alone_has_no_labels(tmp_path):
    for split, labels in (("train", [0.5, -1.0]), ("test", [-1.0, -1.0])):
        rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in labels]
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(text)
    dataset = load_task("stsb", source=f"file:{tmp_path}")
    assert list(dataset.splits) == ["train"] and any("no labels" in note for note in dataset.notes)


def test_minus_one_is_a_number_of_the_users_own(tmp_path):
    write(tmp_path / "train.jsonl", [0.5, 1.0])
    write(tmp_path / "test.jsonl", [-1.0, -1.0])
    assert load(f"file:{tmp_path}").split("test").labels.tolist() == [-1.0, -1.0]


def test_batches_keep_numbers_and_pad_them_by_zero():
    batch = pad_batch([[1], [2]], length=2, batch_size=3, labels=np.array([0.5, 2], np.float32))
    assert batch.label_B.dtype == np.float32 and batch.label_B.tolist() == [0.5, 2.0, 0.0]
    assert pad_batch([[1]], length=2).label_B.dtype == np.int32


def test_a_split_takes_whole_queries(tmp_path):
    rows = [
        {"text": f"q{row // 3}", "text_pair": f"document {row}", "label": row % 2}
        for row in range(60)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    columns = {"text_pair": "text_pair"}
    for size in (0.2, 12):
        found = load_task(
            "custom_scores",
            source=f"file:{path}",
            columns=columns,
            split_fractions={"validation": size, "test": 0.1},
        )
        sizes = {name: len(part) for name, part in found.splits.items()}
        assert sizes == {"train": 42, "validation": 12, "test": 6}
        queries = [set(part.texts) for part in found.splits.values()]
        assert len(set.union(*queries)) == sum(map(len, queries)) == 20
        assert "validation: 12 rows split from train by seed 0, by whole first texts" in found.notes


def test_pairs_without_queries_are_split_as_ever():
    texts = [f"text {row}" for row in range(50)]
    sizes = {"validation": 0.1, "test": 7}
    found, expected = (
        grouped_holdout_rows(texts, sizes, seed=3),
        holdout_rows(50, sizes, seed=3),
    )
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(found[name], expected[name])
