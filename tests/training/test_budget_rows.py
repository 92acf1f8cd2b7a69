"""A calibrated model of a run is scored at other budgets."""

import json

import pytest

from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.evaluation_rows import TEXT_PERCENTILES

pytestmark = pytest.mark.long

BUDGETS = (0.5, 0.75, 1.0)


@pytest.fixture(name="finished", scope="module")
def _finished(copied_run, tiny_files):
    """The directory of a run whose AdapLeR model is calibrated."""
    workdir = copied_run("learned")
    lines = (tiny_files / "data" / "train.jsonl").read_text().splitlines()
    texts = [f"{json.loads(line)['text']} {n * 'film '}" for line in lines for n in range(4)]
    calibrate_model(workdir / "adapler" / "model", texts, budgets=BUDGETS)
    return workdir


@pytest.fixture(name="notes", scope="module")
def _notes():
    return []


@pytest.fixture(name="rows", scope="module")
def _rows(finished, notes):
    return evaluate_workdir(finished, log=notes.append, with_times=False, budgets=(0.75, 1.0))


def test_each_budget_has_a_row_after_the_models(rows):
    assert [row["method"] for row in rows][-2:] == ["adapler at 0.75", "adapler at 1"]
    assert [row.get("budget") for row in rows][-3:] == [None, 0.75, 1.0]


def test_a_smaller_budget_is_faster_and_budget_1_drops_nothing(rows):
    *_, less, full = rows
    assert less["flops_speedup"] > full["flops_speedup"]
    assert len(set(full["kept_tokens"])) == 1 and less["kept_tokens"][-1] < full["kept_tokens"][-1]
    for row in (less, full):
        assert {f"text_speedup_{rank}" for rank in TEXT_PERCENTILES} <= row.keys()
        assert row["difference"] == pytest.approx(row["test_score"] - row["dense_score"])


def test_models_without_a_calibration_say_how_to_get_one(notes, finished):
    advice = f"takes budgets after `adapler calibrate --model={finished}"
    assert any(note.startswith("adapt-1.2x: ") and advice in note for note in notes)
    assert not any(note.startswith("dense: takes budgets") for note in notes)


def test_a_budget_below_the_smallest_is_rejected_before_anything_is_scored(finished):
    lines = []
    with pytest.raises(ValueError, match="budget is 0.1; expected 0.5 to 1"):
        evaluate_workdir(finished, log=lines.append, with_times=False, budgets=(0.1,))
    assert not any("compiling" in line for line in lines)
