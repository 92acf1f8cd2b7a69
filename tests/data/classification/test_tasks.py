"""The task table, columns, labels and splits."""

import dataclasses
import json

import numpy as np
import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.labels import classes_seen, encode_labels
from adapler_jax.data.classification.splits import holdout_rows, stratified_holdout_rows, subset
from adapler_jax.data.classification.tasks import TASKS, get_task
from adapler_jax.data.sources.tables import Table


def _write(folder, **splits):
    """Write lists of rows as JSON lines; return the source."""
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return f"file:{folder}"


def _rows(count, text="sentence", **more):
    return [{text: f"text {row}", "label": row % 2, **more} for row in range(count)]


def test_the_table_holds_the_eight_tasks_of_the_paper_and_all_tasks_are_complete():
    assert {"sst2", "imdb", "hatexplain", "mrpc", "mnli", "qnli", "ag_news", "dbpedia"} <= set(
        TASKS
    )
    counts = {name: len(task.class_names) for name, task in TASKS.items() if name != "custom"}
    assert TASKS["stsb"].has_numbers and not counts["stsb"]
    assert (counts["hatexplain"], counts["mnli"], counts["ag_news"], counts["dbpedia"]) == (
        3,
        3,
        4,
        14,
    )
    for task in TASKS.values():
        assert len(set(task.class_names)) == len(task.class_names)
        assert (
            task.metric in ("accuracy", "f1", "spearman", "micro_f1", "entity_f1")
            and (task.metric == "entity_f1") == task.has_tags
            and (task.metric == "spearman") == task.has_numbers
            and (task.metric == "micro_f1") == task.has_label_sets
            and task.max_length >= 64
            and len(task.text_fields) in (1, 2)
        )
    assert TASKS["mrpc"].metric == "f1"
    with pytest.raises(dataclasses.FrozenInstanceError):
        TASKS["sst2"].name = "other"


def test_the_message_on_an_unknown_task_lists_the_nearest_names():
    with pytest.raises(
        ValueError,
        match=r"unknown task 'sst-2'; did you mean 'sst2'.*own data goes by the task 'custom'",
    ):
        get_task("sst-2")


def test_mnli_keeps_matched_and_mismatched_and_leaves_out_unlabelled_tests(tmp_path):
    rows = [{"premise": "p", "hypothesis": "h", "label": label} for label in (0, 1, 2)]
    hidden = [row | {"label": -1} for row in rows]
    source = _write(
        tmp_path / "mnli",
        train=rows,
        validation_matched=rows,
        validation_mismatched=rows[:2],
        test_matched=hidden,
        test_mismatched=hidden,
    )
    data = load_task("mnli", source=source)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 3,
        "validation": 3,
        "validation_mismatched": 2,
    }
    assert data.eval_splits == ("validation", "validation_mismatched")
    assert len(data.notes) == 2 and all(
        "has no labels and is left out" in note for note in data.notes
    )
    assert data.splits["train"].text_pairs == ["h"] * 3


def test_labelled_test_splits_are_reported(tmp_path):
    data = load_task(
        "sst2", source=_write(tmp_path / "d", train=_rows(4), validation=_rows(2), test=_rows(3))
    )
    assert list(data.splits) == ["train", "validation", "test"]
    assert data.eval_splits == ("test",) and data.num_classes == 2


def test_columns_are_mapped_by_role(tmp_path):
    rows = [
        {"body": "one", "reply": "two", "stars": "positive"},
        {"body": "x", "reply": "", "stars": "negative"},
    ]
    source = _write(tmp_path / "d", train=rows)
    single = load_task(
        "sst2",
        source=source,
        columns={"text": "body", "label": "stars", "text_pair": ""},
        split_fractions={},
    )
    assert (
        single.splits["train"].texts == ["one", "x"] and single.splits["train"].text_pairs is None
    )
    assert single.splits["train"].labels.tolist() == [1, 0]
    pairs = load_task(
        "mrpc",
        source=source,
        columns={"text": "body", "text_pair": "reply", "label": "stars"},
        class_names=("negative", "positive"),
        split_fractions={},
    )
    assert pairs.splits["train"].text_pairs == ["two", ""]


def test_custom_takes_single_texts_and_pairs_and_the_classes_seen_in_train(tmp_path):
    rows = [
        {"q": f"q{row}", "a": "a", "label": ("yes", "no", "maybe")[row % 3]} for row in range(20)
    ]
    source = _write(tmp_path / "d", train=rows)
    data = load_task("custom", source=source, columns={"text": "q", "text_pair": "a"})
    assert data.task.class_names == ("maybe", "no", "yes")
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 18,
        "validation": 2,
    }
    assert data.splits["train"].text_pairs == ["a"] * 18
    assert (
        load_task("custom", source=source, columns={"text": "q"}).splits["train"].text_pairs is None
    )
    ordered = load_task(
        "custom",
        source=source,
        columns={"text": "q"},
        class_names=("yes", "no", "maybe"),
        split_fractions={},
    )
    assert ordered.splits["train"].labels[:3].tolist() == [0, 1, 2]


def test_stratified_splits_take_a_fraction_of_every_class():
    """407 and 238 articles: the released program would take 41 of both."""
    labels = np.array([0] * 407 + [1] * 238)
    parts = stratified_holdout_rows(labels, {"validation": 0.1, "test": 0.1}, seed=0)
    counts = {name: np.bincount(labels[rows]).tolist() for name, rows in parts.items()}
    assert counts == {"validation": [41, 24], "test": [41, 24], "train": [325, 190]}
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(645))
    half = stratified_holdout_rows(labels, {"validation": 65}, seed=0)
    assert np.bincount(labels[half["validation"]]).tolist() == [41, 24]
    with pytest.raises(ValueError, match="leave rows to train on"):
        stratified_holdout_rows(np.array([0, 0, 0, 1]), {"test": 0.25}, seed=0)
    with pytest.raises(ValueError, match="20"):
        stratified_holdout_rows(np.array([0, 1] * 10), {"test": 20}, seed=0)


def test_small_sets_are_split_by_class(tmp_path):
    rows = [{"text": f"t{row}", "label": "no" if row < 8 else "yes"} for row in range(40)]
    data = load_task("hyperpartisan", source=_write(tmp_path / "d", train=rows))
    assert {name: np.bincount(split.labels).tolist() for name, split in data.splits.items()} == {
        "train": [6, 26],
        "validation": [1, 3],
        "test": [1, 3],
    }


def test_class_names_may_be_given_as_numbers(tmp_path):
    source = _write(tmp_path / "d", train=_rows(4, text="text"))
    assert load_task(
        "custom", source=source, class_names=(0, 1), split_fractions={}
    ).task.class_names == (
        "0",
        "1",
    )


def test_classes_cannot_be_read_without_a_train_split(tmp_path):
    source = _write(tmp_path / "d", test=_rows(3, text="text"))
    with pytest.raises(
        ValueError,
        match=r"no train split to read the classes from; there are test: set .*class_names",
    ):
        load_task("custom", source=source)


def test_lone_surrogates_in_a_file_do_not_stop_a_run(tmp_path):
    rows = [{"text": "good \ud83d", "label": 0}, {"text": "bad \U0001f600", "label": 1}]
    data = load_task("custom", source=_write(tmp_path / "d", train=rows), split_fractions={})
    assert data.split("train").texts == ["good \ufffd", "bad \U0001f600"]


def test_single_splits_can_come_from_their_own_files(tmp_path):
    source = _write(tmp_path / "d", train=_rows(10))
    _write(tmp_path / "e", held_out=_rows(3))
    data = load_task(
        "sst2",
        source=source,
        sources={"test": f"file:{tmp_path}/e/held_out.jsonl", "validation": ""},
    )
    assert len(data.splits["test"]) == 3 and len(data.splits["train"]) == 10
    only = load_task("custom", sources={"train": source}, columns={"text": "sentence"})
    assert len(only.splits["train"]) == 9


def test_ag_news_joins_title_and_description_and_hatexplain_takes_the_majority(tmp_path):
    news = load_task(
        "ag_news",
        source=_write(
            tmp_path / "n",
            train=[
                {"title": "T", "description": "body", "label": 2},
                {"title": "U", "description": "", "label": 0},
            ],
        ),
        split_fractions={},
    )
    assert news.splits["train"].texts == ["T body", "U "]
    ready = load_task(
        "ag_news", source=_write(tmp_path / "m", train=_rows(2, text="text")), split_fractions={}
    )
    assert ready.splits["train"].texts == ["text 0", "text 1"]
    posts = [
        {"post_tokens": ["a", "b"], "annotators": {"label": [2, 1, 2]}},
        {
            "post_tokens": ["c"],
            "annotators": [{"label": 2}, {"label": 1}, {"label": 0}],
        },  # a tie: the smallest
    ]
    hate = load_task("hatexplain", source=_write(tmp_path / "h", train=posts), split_fractions={})
    assert hate.splits["train"].texts == ["a b", "c"]
    assert hate.splits["train"].labels.tolist() == [2, 0]


def test_splits_from_train_are_disjoint_complete_and_depend_on_the_seed_only():
    parts = holdout_rows(50, {"validation": 0.1, "test": 7}, seed=3)
    assert {name: len(rows) for name, rows in parts.items()} == {
        "validation": 5,
        "test": 7,
        "train": 38,
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(50))
    again, other = (holdout_rows(50, {"validation": 0.1, "test": 7}, seed=seed) for seed in (3, 4))
    assert all(np.array_equal(parts[name], again[name]) for name in parts)
    assert not np.array_equal(parts["test"], other["test"])


def test_larger_training_subsets_contain_smaller_ones():
    small, large = subset(100, 10, seed=1), subset(100, 40, seed=1)
    assert set(small) < set(large) and len(small) == 10


def test_validation_does_not_move_with_the_training_subset_and_ids_count_from_zero(tmp_path):
    source = _write(tmp_path / "d", train=_rows(60, text="text"))
    whole = load_task("custom", source=source)
    part = load_task("custom", source=source, num_train_examples=20)
    assert part.splits["validation"].texts == whole.splits["validation"].texts
    assert set(part.splits["train"].texts) < set(whole.splits["train"].texts)
    assert part.splits["train"].example_ids.tolist() == list(range(20))
    assert not set(whole.splits["train"].texts) & set(whole.splits["validation"].texts)
    assert any("20 of 54 examples drawn" in note for note in part.notes)


def test_duplicates_are_removed_before_train_is_split(tmp_path):
    rows = _rows(30, text="text") + _rows(10, text="text")
    data = load_task("imdb_package", source=_write(tmp_path / "d", train=rows))
    texts = [text for split in data.splits.values() for text in split.texts]
    assert len(texts) == len(set(texts)) == 30
    assert data.notes[0] == "removed 10 duplicates of 40 rows"


def test_a_source_without_train_is_enough_for_evaluation(tmp_path):
    data = load_task("sst2", source=_write(tmp_path / "d", test=_rows(3)))
    assert list(data.splits) == ["test"]
    with pytest.raises(ValueError, match=r"task 'sst2': unknown split 'train'; .*known: test"):
        data.split("train")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([0, 1, "1", 1.0, True, "1.0", " 0 "], ("neg", "pos"), [0, 1, 1, 1, 1, 1, 0]),
        (["pos", "neg", "1"], ("neg", "pos"), [1, 0, 1]),
        ([1, 5, "3"], ("1", "2", "3", "4", "5"), [0, 4, 2]),
        ([np.int64(1), np.float32(0)], ("a", "b"), [1, 0]),
    ],
)
def test_labels_are_names_or_numbers(labels, names, expected):
    encoded = encode_labels(labels, names, where="here")
    assert encoded.dtype == np.int32 and encoded.tolist() == expected


def test_classes_seen_are_ordered_by_number_then_name():
    assert classes_seen([10, 2, 1.0, "2", None]) == ("1", "2", "10")
    assert classes_seen(["b", "a", "b"]) == ("a", "b")


@pytest.mark.parametrize("label", [2, -1, None, "postive", 0.5, float("nan"), "", [1]])
def test_a_label_outside_the_classes_names_row_value_and_classes(label):
    with pytest.raises(
        ValueError,
        match=r"train.csv: row 2 has the label .*none of the 2 classes neg, pos .*class_names",
    ):
        encode_labels([0, label], ("neg", "pos"), where="train.csv")


def test_a_missing_column_names_what_was_found():
    table = Table({}, "train.csv", ("sentense", "label"))
    message = "train.csv: unknown column 'sentence'; did you mean 'sentense'.*columns=.*text"
    with pytest.raises(ValueError, match=message):
        table.column("sentence", role="text")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "train.jsonl is empty"),
        (
            _rows(3) + [{"sentence": None, "label": 0}],
            {},
            "row 4 has None in column 'sentence'; expected text",
        ),
        (
            _rows(3),
            {"columns": {"txt": "sentence"}},
            "unknown column role 'txt'; did you mean 'text'",
        ),
        (_rows(3), {"columns": {"text_pair": "label"}}, "has single texts"),
        (_rows(3), {"columns": {"label": "lable"}}, "unknown column 'lable'; did you mean 'label'"),
        (
            _rows(3),
            {"split_fractions": {"validation": 3}},
            "3 training rows cannot give validation 3",
        ),
        (
            _rows(3),
            {"split_fractions": {"validation": -0.5}},
            "config.data.split_fractions.validation is -0.5",
        ),
        (
            _rows(3),
            {"split_fractions": {"validation": 1.5}},
            "config.data.split_fractions.validation is 1.5",
        ),
        (
            _rows(3),
            {"split_fractions": {"validation": "3"}},
            "config.data.split_fractions.validation is '3'; expected a count",
        ),
        (
            _rows(3),
            {"split_fractions": {"validation": float("nan")}},
            "config.data.split_fractions.validation is nan",
        ),
        (
            _rows(3),
            {"split_fractions": {"validation": True}},
            "config.data.split_fractions.validation is True",
        ),
        (
            _rows(3),
            {"split_fractions": {"valid": 1}},
            "config.data.split_fractions: unknown split 'valid'; did you mean 'validation'",
        ),
        (
            _rows(3),
            {"split_fractions": {"train": 1}},
            "config.data.split_fractions: unknown split 'train'",
        ),
        (_rows(3), {"num_train_examples": -1}, "cannot draw -1 of 3 training examples"),
        (_rows(3), {"class_names": ("a", "a")}, "expected two or more different ones"),
        (
            _rows(3),
            {"sources": {"tset": "file:x"}},
            "unknown split 'tset'; did you mean 'test'",
        ),
    ],
)
def test_bad_input_is_explained(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message):
        load_task("sst2", source=_write(tmp_path / "d", train=rows), **options)


def test_a_subset_larger_than_train_is_all_of_train(tmp_path):
    found = load_task("sst2", source=_write(tmp_path / "d", train=_rows(3)), num_train_examples=9)
    assert (
        len(found.split("train")) == 3 and "train: 3 of 3 examples drawn by seed 0" in found.notes
    )


def test_custom_needs_a_source_and_two_classes(tmp_path):
    with pytest.raises(ValueError, match=r"has no source of its own; set config.data.source"):
        load_task("custom")
    with pytest.raises(ValueError, match=r"has the classes \['0'\]; expected two or more"):
        load_task("custom", source=_write(tmp_path / "d", train=_rows(1, text="text")))
