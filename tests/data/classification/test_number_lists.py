"""Texts with several numbers each."""

import csv
import json

import numpy as np
import pytest

from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.summary import majority_shares, summarize

LISTS = [[1, 2.5], [0.0, -1], [3, 0.5]]
NUMBERS = np.array(LISTS, np.float32)


def write(path, labels):
    """Write a file of texts with these labels, and return its source."""
    rows = [{"text": f"text {row}", "label": label} for row, label in enumerate(labels)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"file:{path}"


def write_table(path, **columns):
    """Write a CSV of texts with these columns, and return its source."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", *columns])
        table.writerows((f"text {row}", *cells) for row, cells in enumerate(zip(*columns.values())))
    return f"file:{path}"


def load(source, **options):
    return load_task("custom_scores", source=source, split_fractions={}, **options)


def test_a_list_in_one_column_gives_several_numbers(tmp_path):
    found = load(write(tmp_path / "train.jsonl", LISTS))
    labels = found.split("train").labels
    assert labels.dtype == np.float32 and found.task.class_names == ("0", "1")
    np.testing.assert_array_equal(labels, NUMBERS)
    named = load(write(tmp_path / "train.jsonl", LISTS), class_names=("joy", "fear"))
    assert named.task.class_names == ("joy", "fear")
    table = load(write_table(tmp_path / "train.csv", label=map(json.dumps, LISTS)))
    np.testing.assert_array_equal(table.split("train").labels, NUMBERS)


def test_a_column_for_each_number_gives_their_names(tmp_path):
    source = write_table(tmp_path / "train.csv", joy=[1, 0, 3], fear=["2.5", " -1", "5e-1"])
    for columns in (("joy", "fear"), ["joy", "fear"]):
        found = load(source, columns={"label": columns})
        assert found.task.class_names == ("joy", "fear")
        np.testing.assert_array_equal(found.split("train").labels, NUMBERS)
    one = load(source, columns={"label": ["fear"]})
    assert one.task.class_names == ()
    np.testing.assert_array_equal(one.split("train").labels, NUMBERS[:, 1])


def test_lists_of_one_number_are_numbers(tmp_path):
    found = load(write(tmp_path / "train.jsonl", [[1], "[2.5]", 3]))
    assert found.task.class_names == () and found.split("train").labels.tolist() == [1, 2.5, 3]


def test_each_number_is_summarized(tmp_path):
    found = load(write(tmp_path / "train.jsonl", LISTS), class_names=("joy", "fear"))
    assert summarize(found) == (
        "data: 2 numbers a text, in 3 train texts",
        "  joy: from 0 to 3, mean 1.33",
        "  fear: from -1 to 2.5, mean 0.667",
    )
    assert majority_shares(found) == {}


def test_batches_keep_several_numbers():
    batch = pad_batch([[1], [2]], length=2, batch_size=3, head_slots={"number_BC": NUMBERS[:2]})
    found = batch.head_slots["number_BC"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [*LISTS[:2], [-1, -1]])


def test_rows_without_one_of_the_numbers_are_left_out_on_request(tmp_path):
    source = write_table(tmp_path / "train.csv", joy=["1", "", "3"], fear=["2.5", "-1", "0.5"])
    columns = {"label": ("joy", "fear")}
    with pytest.raises(ValueError, match=r"row 2 .*config.data.skip_incomplete=True leaves such"):
        load(source, columns=columns)
    found = load(source, columns=columns, skip_incomplete=True)
    np.testing.assert_array_equal(found.split("train").labels, NUMBERS[[0, 2]])


@pytest.mark.parametrize(
    "label",
    [[1], [1, 2, 3], 0.5, "1, 2", [1, "good"], [1, float("nan")], [1, None], [[1, 2]], "[1, 2", {}],
)
def test_a_row_without_as_many_numbers_is_named(tmp_path, label):
    source = write(tmp_path / "train.jsonl", [*LISTS, label])
    with pytest.raises(ValueError, match=r"row 4 has the label .*; expected 2 numbers, for a, b; "):
        load(source, class_names=("a", "b"))


def test_another_split_has_as_many_numbers(tmp_path):
    write(tmp_path / "train.jsonl", LISTS)
    write(tmp_path / "test.jsonl", [[1, 2, 3]])
    with pytest.raises(ValueError, match=r"row 1 has the label \[1, 2, 3\]; expected 2 numbers"):
        load(f"file:{tmp_path}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"label": ("joy", "joy")}}, "columns.label names 'joy' twice"),
        ({"columns": {"label": ("joy", "feer")}}, "unknown column 'feer'.* a column for each"),
        ({"columns": {"text": ("joy", "fear")}}, "columns has .* as text; expected the name of a"),
        ({"columns": {"label": ("joy", "fear")}, "class_names": ("a",)}, "names a, .* has 2"),
        ({"columns": {"label": ("joy", "fear")}, "class_names": ("a", "a")}, "a different name"),
        ({"columns": {"label": "text"}}, "row 1 has the label 'text 0'; expected a number"),
    ],
)
def test_wrong_columns_are_named(tmp_path, options, message):
    source = write_table(tmp_path / "train.csv", joy=[1, 0], fear=[2, 1])
    with pytest.raises(ValueError, match=message):
        load(source, **options)


def test_similarities_are_single_numbers(tmp_path):
    rows = [{"text": "a", "text_pair": "b", "label": [0.5, 0.1]}]
    (tmp_path / "train.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ValueError, match=r"row 1 has the label \[0.5, 0.1\]; expected a number"):
        load_task(
            "custom_similarity",
            source=f"file:{tmp_path / 'train.jsonl'}",
            columns={"text_pair": "text_pair"},
            split_fractions={},
        )
