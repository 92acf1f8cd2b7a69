"""The record of promises: speeds of unseen texts, and how often a certificate is exceeded."""

import types

import numpy as np
import pytest

from adapler_jax.data.classification.examples import Examples
from adapler_jax.evaluation.certificate import NONE
from adapler_jax.inference.calibration import ESCALATIONS, Calibration
from benchmarks import promise
from benchmarks.promise import budgets_of_speedups, certificate_row, part_of, speed_row
from tests.evaluation.measured import make_texts
from tests.training.runs import silent


def test_a_row_has_the_speed_and_both_scores():
    texts = make_texts(400, 0)._replace(label_E=np.arange(400) % 2)
    row = speed_row(texts, 0.5)
    assert row["flops_speedup"] == 2.0 and row["dense_score"] == 0.5
    assert row["agreement"] == pytest.approx(
        0.9, abs=0.05
    )  # wrong: 0.2 of the texts, half the time


def test_a_part_has_its_own_texts_at_the_chosen_budgets():
    texts, chosen = make_texts(40, 1), np.array([3, 5, 8])
    found = part_of(texts, chosen, (0.2, 1.0))
    assert list(found.measured) == [0.2, 1.0] and len(found.full_E) == 3
    np.testing.assert_array_equal(
        found.measured[0.2].margin_E, texts.measured[0.2].margin_E[chosen]
    )


def test_certified_rates_are_seldom_exceeded_and_running_texts_again_is_faster(monkeypatch):
    monkeypatch.setattr("benchmarks.promise.NUM_SPLITS", 40)
    texts = make_texts(3000, 2)
    plain, full, own = (
        certificate_row(texts, (0.2, 0.5, 1.0), 0.05, escalates_to=escalates_to)
        for escalates_to in (NONE, *ESCALATIONS)
    )
    for again in (full, own):
        assert plain["exceeded_share"] <= 0.1 and again["exceeded_share"] <= 0.1
        assert again["certified_share"] == 1.0 and again["flops_speedup"] > plain["flops_speedup"]
        assert again["n"] == 1500


def test_speedups_beyond_the_calibration_are_left_out():
    rows = tuple({"budget": budget, "flops_speedup": 1.0 / budget} for budget in (0.4, 0.5, 1.0))
    given = Calibration(
        budgets=(0.4, 0.5, 1.0), values=((2.0, 1.0, 0.0),), rows=rows, num_texts=1, num_held_out=1
    )
    found = budgets_of_speedups(given, 2.0)
    assert found[2.0] == pytest.approx(0.5) and found[1.0] == 1.0 and max(found) <= 2.5


def make_examples(num_texts, pairs=None):
    texts, numbers = [f"text {place}" for place in range(num_texts)], np.arange(num_texts)
    return Examples(texts, pairs, labels=numbers % 2, example_ids=numbers)


def test_pairs_stay_together():
    assert make_examples(2).inputs == ["text 0", "text 1"]
    assert make_examples(2, ["a", "b"]).inputs == [("text 0", "a"), ("text 1", "b")]


def test_a_seed_is_compressed_without_labels_and_measured_on_test_texts(monkeypatch, tmp_path):
    splits, asked = {"train": make_examples(9), "test": make_examples(6)}, {}
    config = types.SimpleNamespace(compute_dtype="float32")
    rows = tuple({"budget": b, "flops_speedup": 1.0 / b} for b in (0.2, 0.5, 1.0))
    calibration = Calibration((0.2, 0.5, 1.0), ((2.0, 1.0, 0.0),), rows, 1, 1)

    def compress(model, texts, out, *, options, log):
        asked.update(model=model, texts=texts, out=out, options=options)
        return calibration

    def measure(full, model, dataset, *, calibration, budgets, dtype):
        texts = make_texts(1200, 3)._replace(label_E=np.arange(1200) % 2)
        budgets = {*budgets, *calibration.budgets}
        nearest = {b: min(texts.measured, key=lambda there, b=b: abs(there - b)) for b in budgets}
        return texts._replace(measured={b: texts.measured[nearest[b]] for b in sorted(budgets)})

    stand_ins = {
        "NUM_SPLITS": 5,
        "config_of": lambda *arguments: config,
        "run_all": lambda config, workdir, log: None,
        "load_data": lambda config: types.SimpleNamespace(split=splits.get, eval_splits=("test",)),
        "load_model": lambda directory: types.SimpleNamespace(pruner_name="adapler"),
        "compress": compress,
        "measure_test": measure,
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(promise, name, value)
    options = types.SimpleNamespace(task="r8", runs=str(tmp_path), speedup=2.0)
    found = promise.run_seed(options, {}, 7, log=silent)
    assert asked["texts"] == splits["train"].texts and asked["options"].labels is None
    assert asked["options"].changes == {"compute_dtype": "float32", "seed": 7}
    assert asked["out"].name == "seed7-compress"
    assert {(row["task"], row["seed"]) for row in found} == {("r8", 7)}
    (compressed,) = (row for row in found if row["what"] == "compress")
    assert compressed["asked_speedup"] == compressed["flops_speedup"] == 2.0
    assert compressed["method"] == "adapler" and compressed["dense_score"] == 0.5
    budgets = [row["asked_speedup"] for row in found if row["what"] == "budget"]
    assert budgets == [speedup for speedup in promise.SPEEDUPS if speedup <= 5.0]
    certified = [
        (row["max_disagreement"], row["escalates_to"])
        for row in found
        if row["what"] == "certificate"
    ]
    ways = (NONE, *ESCALATIONS)
    assert certified == [(rate, way) for rate in promise.RATES for way in ways]
