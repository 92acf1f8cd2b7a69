"""The dense model on shortened texts, as rows of an evaluation."""

import json

import numpy as np
import pytest

from adapler_jax.data.tokenization.stop_words import ENGLISH_STOP_WORDS
from adapler_jax.evaluation.score_tables import print_rows, score_rows, shows_macro_f1
from adapler_jax.evaluation.training_free import TRAINING_FREE
from adapler_jax.heads import CLASSIFICATION, SPAN, regression
from adapler_jax.inference.classifier import Classifier
from adapler_jax.training.baselines import BASELINES, CUT, RANDOM, check_baselines, shortened_row
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.task_record import TaskData
from tests.training.runs import silent


@pytest.fixture(name="finished", scope="module")
def _finished(copied_run):
    return copied_run("learned")


@pytest.fixture(name="notes", scope="module")
def _notes():
    return []


@pytest.fixture(name="rows", scope="module")
def _rows(finished, notes):
    return evaluate_workdir(
        finished,
        log=notes.append,
        with_times=False,
        baselines=BASELINES,
        speedups={"far": 1.5, "out of reach": 90.0},
    )


@pytest.mark.long
def test_pruned_models_have_a_difference_with_its_paired_error(rows):
    dense, *pruned = rows[:3]
    assert dense["method"] == "dense" and "difference" not in dense
    for row in pruned:
        assert row["difference"] == pytest.approx(row["test_score"] - dense["test_score"])
        assert 0 <= row["difference_se"] < 0.2


@pytest.mark.long
def test_the_error_is_the_one_of_the_two_classifiers_answers(rows, finished, tiny_files):
    lines = (tiny_files / "data" / "test.jsonl").read_text().splitlines()
    examples = [json.loads(line) for line in lines]
    texts, labels = zip(*((row["text"], ("bad", "good")[row["label"]]) for row in examples))
    right = {
        name: np.array(
            [
                found.label == label
                for found, label in zip(
                    Classifier.load(finished / name / "model").predict(texts), labels
                )
            ],
            float,
        )
        for name in ("finetune", "adapler")
    }
    difference_B = right["adapler"] - right["finetune"]
    row = next(row for row in rows if row["method"] == "adapler")
    assert row["difference"] == pytest.approx(difference_B.mean())
    expected = difference_B.std(ddof=1) / np.sqrt(len(difference_B))
    assert row["difference_se"] == pytest.approx(expected)


@pytest.mark.long
def test_speedups_of_single_texts_are_around_the_speedup_of_all(rows):
    dense, *others = rows
    assert dense["text_speedup_5"] == dense["text_speedup_95"] == 1.0
    for row in others:
        assert row["text_speedup_5"] <= row["flops_speedup"] <= row["text_speedup_95"]
    assert others[1]["text_speedup_5"] < others[1]["text_speedup_95"]


@pytest.mark.long
@pytest.mark.parametrize("method", [RANDOM, CUT])
def test_texts_are_shortened_to_the_speedup_of_each_model(rows, notes, method):
    pruned = {row["method"]: row["flops_speedup"] for row in rows[1:3]} | {"far": 1.5}
    # A model that is slower than the dense one has no share of tokens.
    pruned = {name: speedup for name, speedup in pruned.items() if speedup > 0.99}
    found = {row["matches"]: row for row in rows if row["method"] == method}
    assert found.keys() == pruned.keys()
    for name, speedup in pruned.items():
        assert found[name]["flops_speedup"] == pytest.approx(speedup, rel=0.01)
        assert found[name]["target_speedup"] == speedup and found[name]["is_baseline"]
        assert not any(key.startswith("wall_") for key in found[name])
    told = f"{method}: no share of tokens gives 90.00x of out of reach; left out"
    assert told in notes


@pytest.mark.long
@pytest.mark.parametrize("method", TRAINING_FREE)
def test_methods_without_training_have_the_speedup_of_each_model(rows, notes, method):
    found = {row["matches"]: row for row in rows if row["method"] == method}
    assert found.keys() == {row["method"] for row in rows[1:3]} | {"far"}
    assert found["far"]["flops_speedup"] == pytest.approx(1.5, rel=0.08)  # texts of 16 tokens
    assert found["far"]["is_baseline"] and found["far"]["difference_se"] >= 0.0
    assert any(note.startswith(f"{method}: 90x is out of reach") for note in notes)


@pytest.mark.long
def test_stop_words_leave_the_words_that_decide(rows, finished, tiny_files):
    (row,) = (row for row in rows if row["method"] == "stop words")
    texts = [
        json.loads(line)["text"]
        for line in (tiny_files / "data" / "test.jsonl").read_text().splitlines()
    ]
    lengths = [
        2 + sum(2 if word == "films" else 1 for word in text.split() if word not in ("a", "."))
        for text in texts
    ]
    assert "a" in ENGLISH_STOP_WORDS
    assert row["kept_tokens"] == 4 * [round(float(np.mean(lengths)), 2)]
    assert row["flops_speedup"] > 1.0 and row["test_score"] > 0.9
    assert row["difference_se"] is not None and row["dense_score"] == rows[0]["test_score"]


@pytest.mark.long
def test_draws_have_the_seed_of_the_run(finished, rows):
    again = evaluate_workdir(
        finished, log=silent, with_times=False, baselines=BASELINES, speedups={"far": 1.5}
    )
    assert again == rows


@pytest.mark.long
def test_tables_show_the_difference_and_baselines_without_seconds(rows, capsys):
    print_rows(rows, details=True)
    text = capsys.readouterr().out
    assert "vs dense" in text and " ± " in text and "stop words" in text
    assert "speedup of a text" in text and "x to " in text
    cells = score_rows(rows)
    assert cells[0]["vs dense"] == "" and "majority" not in cells[0]
    assert "macro F1" not in cells[0]  # two classes, accuracy


def test_the_macro_f1_is_shown_where_an_accuracy_hides_classes():
    shown = {
        (metric, num_classes): shows_macro_f1(
            {"metric": metric, "num_classes": num_classes, "macro_f1": 0.5}
        )
        for metric in ("accuracy", "f1", "macro_f1")
        for num_classes in (2, 3)
    }
    assert [pair for pair, is_shown in shown.items() if is_shown] == [
        ("accuracy", 3),
        ("f1", 2),
        ("f1", 3),
    ]


@pytest.mark.long
def test_each_function_of_the_list_gives_rows(finished):
    def all_tokens(request):
        return [shortened_row("whole", request.texts, request)]

    rows = evaluate_workdir(finished, log=silent, with_times=False, baselines=(all_tokens,))
    assert rows[-1]["method"] == "whole" and rows[-1]["flops_speedup"] == 1.0
    assert rows[-1]["difference"] == rows[-1]["difference_se"] == 0.0


@pytest.mark.parametrize(
    ("head", "names", "group", "others"),
    [
        (SPAN, (), 1, "questions"),
        (CLASSIFICATION, ("wrong", "right"), 4, "questions"),
        (regression(), (), 1, "numbers"),
    ],
)
def test_questions_and_numbers_have_no_baselines(head, names, group, others):
    task = TaskData("own", "f1", head, names, {}, (), None, group=group)
    with pytest.raises(ValueError, match=f"the task own has {others}: leave baselines out"):
        check_baselines(task)


def wide_row(method, **columns):
    """A row with every column that a table can have."""
    row = {
        "method": method,
        "split": "test",
        "num_texts": 1000,
        "unit": "texts",
        "metric": "accuracy",
        "test_score": 0.87654,
        "flops_speedup": 10.5,
        "kept_tokens": [1.0],
    }
    return row | columns


@pytest.mark.parametrize(
    "columns",
    [
        {"macro_f1": 0.5, "num_classes": 2, "majority_share": 0.5},
        {"macro_f1": 0.5, "num_classes": 5, "majority_share": 0.5},
        {"metric": "f1", "exact": 0.5, "best_span_f1": 0.5, "unit": "windows"},
        {"metric": "joint_f1", "joint_em": 0.5, "sp_f1": 0.5, "unit": "questions"},
        {"metric": "spearman", "macro_f1": 0.5, "num_classes": 5},
    ],
)
def test_the_first_table_has_at_most_a_hundred_columns(columns, capsys):
    times = {
        f"{name}_{size}": 123.456
        for name in ("wall_ms", "dense_wall_ms", "wall_speedup")
        for size in (1, 32)
    }
    rows = [
        wide_row("dense", **columns),
        wide_row("adapt-1.2x", difference=-0.1234, difference_se=0.0123, **times, **columns),
    ]
    print_rows(
        [row | {"split": name} for name in ("test", "test_b") for row in rows], details=False
    )
    table = [line for line in capsys.readouterr().out.splitlines() if line[:1] in "┃│┏┡└"]
    assert table and max(map(len, table)) <= 100
    assert any("@32" in line for line in table) and any("vs dense" in line for line in table)
