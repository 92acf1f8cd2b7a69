"""The summary before training: classes by split, the majority, suspicious texts and classes."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.labels import classes_seen, encode_labels, has_labels
from adapler_jax.data.classification.summary import majority_note, majority_shares, summarize


def load(folder, task="custom", options=None, **splits):
    folder.mkdir(exist_ok=True)
    for name, rows in splits.items():
        lines = (json.dumps({"text": text, "label": label}) for text, label in rows)
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return load_task(task, source=f"file:{folder}", **(options or {"split_fractions": {}}))


def rows(**counts):
    return [
        (f"{label} {number}", label) for label, count in counts.items() for number in range(count)
    ]


def test_the_summary_has_classes_by_split_and_the_majority_class(tmp_path):
    data = load(tmp_path / "d", train=rows(neg=6, pos=4), validation=rows(neg=1, pos=3))
    lines = summarize(data)
    assert lines[0] == "data: 2 classes in 10 train, 4 validation texts"
    assert [line.split() for line in lines[1:4]] == [
        ["class", "train", "validation"],
        ["neg", "6", "1"],
        ["pos", "4", "3"],
    ]
    assert "majority class: 75.0% of validation (pos)" in lines  # the majority of train is neg
    assert majority_shares(data) == {"train": 0.6, "validation": 0.75}
    assert majority_note(0.6131) == "majority class: 61.3%"


def test_many_classes_are_cut_to_the_largest(tmp_path):
    counts = {f"class {number}": 2 + number for number in range(30)}
    lines = summarize(load(tmp_path / "d", train=rows(**counts)))
    assert (
        lines[2].split()[:2] == ["class", "29"]
        and "  and 18 more, all with fewer rows or as many" in lines
    )
    assert len(lines) < 20


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (
            {"train": rows(HAPPY=3, happy=3, sad=3)},
            "classes 'HAPPY', 'happy' differ by case or blanks only",
        ),
        ({"train": rows(a=3, b=3, c=1)}, "train: 1 class with one row only: 'c'"),
        (
            {"train": rows(a=3, b=3), "validation": rows(a=2)},
            "validation: 1 class of train without a row: 'b'",
        ),
        (
            {"train": rows(**{f"c{n}": 2 for n in range(9)})},
            "9 classes in 18 rows; is 'label' a column of classes",
        ),
        (
            {"train": [*rows(a=3, b=3), ("", "a"), ("  ", "b")]},
            "train: 2 texts are empty; .*skip_incomplete",
        ),
        ({"train": [*rows(a=3, b=3), ("a 0", "a")]}, "train: 1 of 7 texts is repeated$"),
        (
            {"train": [*rows(a=3, b=3), ("a 0", "b")]},
            "train: 1 of 7 texts is repeated, 1 .*different labels",
        ),
        (
            {"train": rows(a=3, b=3), "test": rows(a=2)},
            "test: 2 of 2 texts are in train too, .*too good",
        ),
    ],
)
def test_suspicious_data_gets_a_note(tmp_path, splits, message):
    lines = summarize(load(tmp_path / "d", **splits))
    assert [line for line in lines if __import__("re").search(message, line)]


def test_the_note_on_an_absent_class_names_the_random_subset(tmp_path):
    splits = {"train": rows(a=30, b=30, c=1), "validation": rows(a=2)}
    options = {"num_train_examples": 4, "split_fractions": {}}
    lines = summarize(load(tmp_path / "d", options=options, **splits))
    assert any(
        line.startswith("train: of the 4 rows drawn, 1 class without a row: 'c'") for line in lines
    )
    lines = summarize(load(tmp_path / "d", **splits))
    assert any(line.startswith("train: 1 class with one row only: 'c'") for line in lines)


def test_all_missing_columns_are_named_at_once(tmp_path):
    (tmp_path / "a.csv").write_text("review,stars\na,1\nb,0\n")
    with pytest.raises(
        ValueError, match=r"no columns 'text' and 'label'; there are .*review"
    ) as caught:
        load_task("custom", source=f"file:{tmp_path}/a.csv")
    assert "columns=\"{'text': NAME, 'label': NAME}\"" in str(caught.value)


def test_data_without_faults_gets_no_note(tmp_path):
    assert len(summarize(load(tmp_path / "d", train=rows(a=30, b=30)))) == 5


def test_empty_texts_of_csv_and_json_get_equal_notes(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n,1\na,0\nb,1\nc,0\n")
    (tmp_path / "a.jsonl").write_text(
        "\n".join(
            json.dumps({"text": text, "label": n % 2}) for n, text in enumerate(["", "a", "b", "c"])
        )
    )
    for kind in ("csv", "jsonl"):
        data = load_task("custom", source=f"file:{tmp_path}/a.{kind}", split_fractions={})
        told = "train: 1 text is empty; config.data.skip_incomplete=True leaves it out"
        assert told in summarize(data)


def test_rows_that_a_field_leaves_out_are_counted(tmp_path):
    train = [*rows(a=3, b=3), ("", "a"), (None, "b"), ("no label", None)]
    with pytest.raises(
        ValueError,
        match=r"row 8 has None in column 'text'; expected text; config.data.skip_incomplete",
    ):
        load(tmp_path / "d", train=[*rows(a=3, b=3), ("x", "a"), (None, "b")])
    data = load(
        tmp_path / "d", options={"skip_incomplete": True, "split_fractions": {}}, train=train
    )
    assert len(data.splits["train"]) == 6
    assert any("3 of 9 rows are left out, without text or label" in note for note in data.notes)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0.5, 1.0, 3.7, 0.5],
            "row 1 has the label 0.5, a number with decimals, .*custom_scores takes .*class_names",
        ),
        (["4.5", "1", "4.5", "1"], "row 1 has the label '4.5', a number with decimals"),
        (
            [[0, 1], [1, 0], [0, 1]],
            "label .*which is a list; expected one class a row: of a one-hot list",
        ),
        ([{"a": 1}, "b"], "which is a dict"),
        (list("abcdef"), "each of the 6 rows has a label of its own .*a column of texts or ids"),
    ],
)
def test_labels_that_are_no_classes_are_rejected_with_advice(tmp_path, labels, message):
    train = [(f"text {number}", label) for number, label in enumerate(labels)]
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "d", train=train)


def test_one_hot_columns_are_rejected_with_advice(tmp_path):
    (tmp_path / "a.csv").write_text("text,neg,pos\na,1,0\nb,0,1\n")
    with pytest.raises(
        ValueError, match=r"unknown column 'label'; .*one column with the class of each row"
    ):
        load_task("custom", source=f"file:{tmp_path}/a.csv")
    with pytest.raises(
        ValueError, match=r"columns has .* as label; expected the name of one column: of one-hot"
    ):
        load_task("custom", source=f"file:{tmp_path}/a.csv", columns={"label": ("neg", "pos")})


def test_decimals_that_the_user_names_are_classes(tmp_path):
    options = {"class_names": ("1.5", "2.5"), "split_fractions": {}}
    data = load(tmp_path / "d", options=options, train=[("a", 1.5), ("b", "2.5")])
    assert data.splits["train"].labels.tolist() == [0, 1]


def test_minus_one_is_a_class_of_a_users_own_file(tmp_path):
    data = load(
        tmp_path / "d",
        train=[(f"text {n}", (-1, 1)[n % 2]) for n in range(8)],
        test=[("a", -1), ("b", -1)],
    )
    assert data.task.class_names == ("-1", "1") and data.splits["test"].labels.tolist() == [0, 0]


def test_minus_one_in_every_row_of_a_benchmarks_test_split_is_no_label(tmp_path):
    data = load(
        tmp_path / "d", train=[(f"t {n}", n % 2) for n in range(8)], test=[("a", -1), ("b", -1)]
    )
    assert set(data.splits) == {"train"} and "has no labels and is left out" in data.notes[0]
    assert has_labels([-1], ("-1", "1")) and not has_labels(
        [-1, "-1", None, float("nan")], ("a", "b")
    )
    with pytest.raises(
        ValueError, match="row 1 has the label -1, which is none of the 2 classes a, b"
    ):
        encode_labels([-1], ("a", "b"), where="in")


def test_truth_values_in_words_equal_json_truth_values():
    assert encode_labels(
        [True, "True", "false", "TRUE", 0], ("neg", "pos"), where="in"
    ).tolist() == [1, 1, 0, 1, 0]
    assert encode_labels(
        [True, False], classes_seen(["True", "False", "True"]), where="in"
    ).tolist() == [1, 0]


@pytest.mark.parametrize("names", [("False", "True"), ("True", "False"), ("no", "YES"), ("1", "0")])
def test_truth_values_are_the_classes_with_their_names(names):
    truths = {"False": 0, "no": 0, "0": 0, "True": 1, "YES": 1, "1": 1}
    labels = encode_labels([True, False], names, where="in").tolist()
    assert [truths[names[number]] for number in labels] == [1, 0]


def test_a_column_of_truth_values_has_the_classes_false_and_true():
    assert classes_seen([True, None, False]) == ("False", "True")
    assert classes_seen([1, True, 0]) == ("0", "1")


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("[0, 1]", "list"),
        ("[1]", "list"),
        ("['pos', 'neg']", "list"),
        ('{"a": 1}', "list"),
        ("[0. 1.]", "list"),
        ("[]", "list"),
        ("[True, False]", "list"),
        ("[null]", "list"),
        ("0,5", "decimals"),
        ("-1,5", "decimals"),
        ("1e-1", "decimals"),
        ("2.5E+3", "decimals"),
    ],
)
def test_texts_of_lists_and_of_numbers_with_decimals_are_no_classes(label, kind):
    advice = "take the index of its 1" if kind == "list" else "config.data.class_names"
    with pytest.raises(ValueError, match=f"row 2 has the label .*{kind}.*{advice}"):
        classes_seen(["a", label])
    assert encode_labels([label], ("a", label), where="in").tolist() == [
        1
    ]  # if the user gives them


def test_names_that_resemble_lists_or_numbers_are_classes():
    names = ("1e5", "[NEG]", "[unused", "a,b", "e-1", "{")
    assert sorted(classes_seen([*names, *names])) == sorted(names)


def test_labels_match_in_all_unicode_forms():
    one, other = "caf\u00e9", "cafe\u0301"
    assert classes_seen([one, other, "bar"]) == ("bar", one)
    assert classes_seen([other, "bar"]) == ("bar", other)
    for name in (one, other):
        encoded = encode_labels([one, other, "bar"], ("bar", name), where="in")
        assert encoded.tolist() == [1, 1, 0]


def parquet(path, labels, names):
    info = {
        "info": {
            "features": {
                "label": {"names": names, "_type": "ClassLabel"},
                "text": {"_type": "Value"},
            }
        }
    }
    table = pyarrow.table(
        {"text": [f"text {number}" for number in range(len(labels))], "label": labels}
    )
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pyarrow.parquet.write_table(table, path)


def test_class_names_of_a_data_set_are_the_classes(tmp_path):
    parquet(tmp_path / "train.parquet", [0, 1, 0, 1], ["negative", "positive"])
    parquet(tmp_path / "test.parquet", [0, 1, -1], ["positive", "negative"])
    with pytest.raises(ValueError, match="row 3 has the label -1"):
        load_task("custom", source=f"file:{tmp_path}", split_fractions={})
    parquet(tmp_path / "test.parquet", [0, 1], ["positive", "negative"])
    data = load_task("custom", source=f"file:{tmp_path}", split_fractions={})
    assert data.task.class_names == ("negative", "positive")
    assert data.splits["test"].labels.tolist() == [1, 0]  # matched by name
    other = load_task(
        "custom", source=f"file:{tmp_path}", split_fractions={}, class_names=("bad", "good")
    )
    assert other.splits["test"].labels.tolist() == [0, 1]
    assert any(
        "its classes are called positive, negative; they are read by number" in note
        for note in other.notes
    )


def test_numbers_of_any_size_are_labels_or_rejected():
    assert classes_seen([10**400, 1, 1]) == ("1", str(10**400))
    with pytest.raises(ValueError, match=r"row 1 has the label .*none of the 2 classes"):
        encode_labels([10**5000], ("a", "b"), where="in")


def test_a_header_of_one_column_names_the_field_for_the_delimiter(tmp_path):
    (tmp_path / "train.csv").write_text("review^stars\ngood^1\nbad^0\n")
    with pytest.raises(
        ValueError,
        match=r"there are review.stars; where that is several, .*data.delimiter; map them",
    ):
        load_task("custom", source=f"file:{tmp_path / 'train.csv'}")


def test_a_number_in_place_of_a_text_names_the_advice(tmp_path):
    (tmp_path / "train.jsonl").write_text(
        '{"text": 5, "label": "a"}\n{"text": "b", "label": "c"}\n'
    )
    with pytest.raises(
        ValueError, match="row 1 has 5 in column 'text'; expected text; store the column as text"
    ):
        load_task("custom", source=f"file:{tmp_path / 'train.jsonl'}", split_fractions={})
