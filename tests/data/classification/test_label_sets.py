"""Several labels a text, in every form in which files have them."""

import json
import math

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.batching.padding import pad_batch
from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.label_sets import split_labels
from adapler_jax.data.classification.summary import majority_shares, summarize

SETS = [["sport"], [], ["war", "sport"], ["food"]]
EXPECTED = [[0, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]]
NAMES = ("food", "sport", "war")


def load(source, **options):
    return load_task("custom_multi_label", source=source, split_fractions={}, **options)


def write(path, labels, **columns):
    """Write a file of texts with these labels, and return its source."""
    rows = [
        {"text": f"text {row}", "label": label}
        | {name: column[row] for name, column in columns.items()}
        for row, label in enumerate(labels)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"file:{path}"


def check(dataset):
    """The data has the labels of EXPECTED."""
    labels = dataset.split("train").labels
    assert dataset.task.class_names == NAMES and labels.dtype == np.int32
    assert labels.tolist() == EXPECTED


def test_lists_are_labels(tmp_path):
    check(load(write(tmp_path / "train.jsonl", SETS)))


def test_lists_of_a_parquet_file_are_labels(tmp_path):
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": list("abcd"), "label": SETS}), path)
    check(load(f"file:{path}"))


@pytest.mark.parametrize("separator", [",", "|", ";"])
def test_names_have_a_separator_between_them(tmp_path, separator):
    labels = [f" {separator} ".join(names) for names in SETS]
    check(load(write(tmp_path / "train.jsonl", labels), label_separator=separator))


@pytest.mark.parametrize("spelled", ["{'sport', 'war'}", "('war', 'sport')", '["sport","war"]'])
def test_python_s_forms_of_a_list_are_lists(spelled):
    (found,) = split_labels([spelled], ",", where="rows")
    assert set(found) == {"sport", "war"}
    assert split_labels(["(old) news,war"], ",", where="rows") == [("(old) news", "war")]


def test_a_number_is_no_class_where_classes_have_names_or_numbers(tmp_path):
    for names, label in ((("a", "b"), "0"), (("1", "2"), "0")):
        train = write(tmp_path / "train.jsonl", [[names[0]], [names[1]], [label]])
        with pytest.raises(ValueError, match="row 3 has the label '0', which is none of the 2"):
            load(train, class_names=names)


def test_a_separator_is_a_text(tmp_path):
    with pytest.raises(ValueError, match="config.data.label_separator is ''; expected a text"):
        load(write(tmp_path / "train.jsonl", ["a", "b"]), label_separator="")


def test_a_text_that_spells_a_list_is_a_list(tmp_path):
    check(load(write(tmp_path / "train.jsonl", [json.dumps(names) for names in SETS])))
    check(load(write(tmp_path / "train.jsonl", [str(names) for names in SETS])))


def test_each_label_may_have_a_column(tmp_path):
    source = write(
        tmp_path / "train.jsonl",
        [""] * 4,
        food=[0, 0, 0, 1],
        sport=["1", "0", "1", "0"],
        war=[False, False, True, False],
    )
    check(load(source, columns={"label": NAMES}))


def test_csv_files_have_columns_and_separated_names(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text('text,label,a,b\nx,"p,q",1,0\ny,,0,0\nz,q,0,1\n')
    assert load(f"file:{path}").split("train").labels.tolist() == [[1, 1], [0, 0], [0, 1]]
    found = load(f"file:{path}", columns={"label": ["a", "b"]})
    assert found.task.class_names == ("a", "b")
    assert found.split("train").labels.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_numbers_count_the_named_classes(tmp_path):
    source = write(tmp_path / "train.jsonl", [[1], [], "2,1", 0])
    found = load(source, class_names=NAMES)
    assert found.split("train").labels.tolist() == EXPECTED


def test_numbered_labels_are_sorted_by_size(tmp_path):
    assert load(write(tmp_path / "train.jsonl", ["10,9", "2"])).task.class_names == ("2", "9", "10")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([None], "row 2 has None among its labels; expected names"),
        ([["a"]], "row 2 has .* among its labels"),
        ([0.5], "row 2 has 0.5 among its labels"),
        ("[a", "row 2 has the labels .*; expected a list in JSON"),
        ({}, "row 2 has {} among its labels"),
        ([1, 0, 1], "row 2 has the labels .*, a truth value for each label; give the names"),
        ("0,0,1", "row 2 has the labels .*, a truth value for each label"),
        ([True, False], "row 2 has the labels .*, a truth value for each label"),
        ("['sport' 'health']", "row 2 has the labels .*; expected a list in JSON"),
        (float("nan"), None),
        (None, None),
    ],
)
def test_something_else_than_labels_is_named(label, message):
    if message is None:
        assert split_labels(["a", label], ",", where="rows") == [("a",), None]
        return
    with pytest.raises(ValueError, match=f"rows: {message}"):
        split_labels(["a", label], ",", where="rows")


def test_a_row_without_labels_is_not_a_row_with_none(tmp_path):
    source = write(tmp_path / "train.jsonl", [["a"], None, [], ["b"]])
    with pytest.raises(ValueError, match="row 2 has no labels; write \\[\\] for a text without"):
        load(source)
    found = load(source, skip_incomplete=True)
    assert found.split("train").labels.tolist() == [[1, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([["a"], ["c"]], {"class_names": ("a", "b")}, "row 2 has the label 'c', which is none of"),
        (["a|b", "a|b", "a|b"], {}, "set config.data.label_separator"),
        ([["a"], ["a"]], {}, "has the labels a; expected two or more"),
        ([["a"], ["b"]], {"columns": {"label": ["a", "b"]}}, "column 'a'; .* a column for each"),
        ([["a"], ["b"]], {"columns": {"label": 3}}, "config.data.columns has 3 as label"),
    ],
)
def test_labels_that_do_not_fit_are_named(tmp_path, labels, options, message):
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path / "train.jsonl", labels), **options)


def test_a_column_of_a_label_has_truth_values(tmp_path):
    source = write(tmp_path / "train.jsonl", ["", ""], a=[1, 2], b=[0, 1])
    with pytest.raises(ValueError, match="row 2 has 2 in the label's column 'a'; expected 0 or 1"):
        load(source, columns={"label": ("a", "b")})


def test_other_tasks_name_the_task_of_several_labels(tmp_path):
    source = write(tmp_path / "train.jsonl", SETS)
    with pytest.raises(ValueError, match="the task custom_multi_label takes several labels"):
        load_task("custom", source=source, split_fractions={})
    with pytest.raises(ValueError, match="custom_multi_label where a text has several labels"):
        load_task("custom", source=source, columns={"label": NAMES})


def test_a_split_without_any_label_is_left_out(tmp_path):
    train = write(tmp_path / "train.jsonl", SETS)
    test = write(tmp_path / "test.jsonl", [None, None, ""])
    found = load_task("custom_multi_label", sources={"train": train, "test": test})
    assert "test" not in found.splits and any("has no labels" in note for note in found.notes)
    empty = write(tmp_path / "test.jsonl", [[], []])
    found = load_task("custom_multi_label", sources={"train": train, "test": empty})
    assert found.split("test").labels.tolist() == [[0, 0, 0]] * 2


def test_the_summary_counts_labels(tmp_path):
    dataset = load(write(tmp_path / "train.jsonl", SETS))
    assert majority_shares(dataset) == {}
    assert summarize(dataset) == (
        "data: 3 labels in 4 train texts",
        "  class    train",
        "  food         1",
        "  sport        2",
        "  war          1",
        "1.00 labels a text on the mean",
    )
    train = write(tmp_path / "train.jsonl", [["a"], ["b"]])
    few = load(train, class_names=("a", "b", "c"))
    assert "train: no text has 'c'" in summarize(few)


def test_a_batch_has_the_labels_of_its_rows():
    batch = pad_batch(
        [[1, 2], [3]], length=2, batch_size=3, head_slots={"label_BC": np.array([[0, 1], [1, 0]])}
    )
    assert batch.head_slots["label_BC"].tolist() == [[0, 1], [1, 0], [-1, -1]]
    assert math.isclose(float(batch.label_B.sum()), 0.0)
