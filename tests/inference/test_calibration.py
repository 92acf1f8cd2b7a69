"""A calibrated classifier takes any budget, and says which there are."""

import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest

from adapler_jax.evaluation import calibrate
from adapler_jax.evaluation.budget_latency import Latency, measure_latency
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.certificate import NONE, Promise
from adapler_jax.evaluation.task_texts import labels_by_text, split_texts
from adapler_jax.inference.calibration import (
    CALIBRATION_FILE,
    Calibration,
    read_calibration,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.serving.texts import read_texts
from benchmarks.compilations import compilations
from tests import tiny
from tests.inference.calibrated import BUDGETS, WORDS, make_texts
from tests.serving.requests import predict_file


@pytest.fixture(scope="module", name="classifier")
def _classifier(calibrated):
    return Classifier.load(calibrated[0], driver="masked")


def kept_share(predictions):
    return np.mean([np.mean(found.num_tokens) for found in predictions])


def test_the_calibration_is_measured_on_other_texts(calibrated):
    directory, notes = calibrated
    found = read_calibration(directory, tiny.CONFIG.num_layers)
    assert found.num_texts + found.num_held_out <= 400 and found.num_held_out > 150
    assert [row["budget"] for row in found.rows] == list(found.budgets)
    assert found.rows[-1]["agreement"] == found.rows[-1]["kept_share"] == 1.0
    assert notes[-1].endswith(CALIBRATION_FILE)


def test_less_budget_keeps_fewer_tokens_and_none_has_the_trained_thresholds(
    classifier, tiny_classifier
):
    texts = make_texts(40, seed=1)
    shares = [kept_share(classifier.predict(texts, budget=b)) for b in (0.45, 0.6, 0.9, 1.0)]
    assert shares == sorted(set(shares))
    found = classifier.predict(texts)
    plain = Classifier.load(tiny_classifier, driver="masked").predict(texts)
    assert [f.num_tokens for f in found] == [p.num_tokens for p in plain]
    np.testing.assert_allclose(
        [f.probability for f in found], [p.probability for p in plain], atol=1e-6
    )


def test_every_text_may_have_its_own_budget(classifier):
    texts = make_texts(12, seed=2)
    budgets = [0.4, 1.0] * 6
    mixed = classifier.predict(texts, budget=budgets)
    for budget in (0.4, 1.0):
        alone = classifier.predict(texts, budget=budget)
        for index in np.flatnonzero(np.array(budgets) == budget):
            assert mixed[index].num_tokens == alone[index].num_tokens
            assert mixed[index].probability == pytest.approx(alone[index].probability, abs=1e-5)


def test_a_speedup_is_a_budget(classifier):
    rows = classifier.calibration.rows
    asked = (rows[0]["flops_speedup"] + rows[1]["flops_speedup"]) / 2
    budget = classifier.calibration.budget_for(asked)
    assert rows[0]["budget"] < budget < rows[1]["budget"]
    texts = make_texts(5, seed=3)
    one, other = (classifier.predict(texts, **k) for k in ({"speedup": asked}, {"budget": budget}))
    assert [found.num_tokens for found in one] == [found.num_tokens for found in other]
    expected_MC = [list(found.probabilities.values()) for found in one]
    for options in ({"speedup": asked}, {"budget": budget}):
        np.testing.assert_allclose(
            classifier.predict_probs(texts, **options), expected_MC, atol=1e-6
        )
    assert classifier.calibration.budget_for(rows[-1]["flops_speedup"] / 2) == 1.0


@pytest.mark.long
def test_budgets_compile_nothing_after_a_warm_up(calibrated):
    classifier = Classifier.load(calibrated[0], driver="bucketed")
    classifier.warm_up(2)
    with compilations() as compiled:
        for budget in (None, 1.0, 0.7, 0.5):
            classifier.predict(make_texts(4, seed=4), batch_size=2, budget=budget)
    assert compiled == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 1.5}, "budget is 1.5; expected 0.4 to 1"),
        ({"budget": 0.1}, "budget is 0.1; expected 0.4 to 1"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"budget": [0.5]}, "1 budgets for 3 texts; give one for each"),
        ({"speedup": 99.0}, "speedup is 99; this model has speedups from 1 to"),
        ({"speedup": -1.0}, "speedup is -1"),
        ({"budget": 0.5, "speedup": 2.0}, "both given; give one"),
    ],
)
def test_a_budget_that_there_is_not_is_named(classifier, options, message):
    with pytest.raises(ValueError, match=message):
        classifier.predict(make_texts(3), **options)


def test_a_model_without_a_calibration_has_one_speed(tiny_classifier):
    with pytest.raises(ValueError, match="no calibration.*adapler calibrate"):
        Classifier.load(tiny_classifier).predict(["a"], budget=0.5)


def test_a_budget_that_is_no_faster_than_a_larger_one_is_left_out():
    calibration = Calibration((0.2, 0.4, 0.6, 0.8, 1.0), ((5.0, 4.0, 3.0, 2.0, 1.0),), (), 9, 9)
    rows = [{"flops_speedup": value} for value in (3.0, 3.0, 2.0, 2.5, 1.0)]
    found = calibration.with_rows(rows)
    assert found.budgets == (0.4, 0.8, 1.0)
    assert found.values == ((4.0, 2.0, 1.0),)
    assert [row["flops_speedup"] for row in found.rows] == [3.0, 2.5, 1.0]


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"budgets": [0.8, 0.6, 0.4, 1.0]},
        {"values": [[1.0] * 4]},
        {"values": [[-1.0] * 4] * 4},
        {"rows": []},
    ],
)
def test_a_damaged_calibration_is_named(calibrated, tmp_path, change):
    found = json.loads((calibrated[0] / CALIBRATION_FILE).read_text())
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(found | change))
    with pytest.raises(ValueError, match=r"calibration.json is damaged .*calibrate the model"):
        read_calibration(tmp_path, tiny.CONFIG.num_layers)
    (tmp_path / CALIBRATION_FILE).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        read_calibration(tmp_path, tiny.CONFIG.num_layers)


def test_equal_texts_count_once_and_the_halves_share_none():
    texts = make_texts(150) * 2
    first, second = split_texts(texts, seed=0)
    assert not set(first) & set(second) and set(first) | set(second) == set(texts)
    with pytest.raises(ValueError, match="there are 2 different texts; a calibration needs"):
        split_texts(["a", "b"] * 100, seed=0)


@pytest.mark.long
def test_a_file_is_predicted_at_a_budget(calibrated, tmp_path):
    source, outputs = tmp_path / "texts.txt", []
    texts = make_texts(9, seed=5)
    source.write_text("\n".join(texts) + "\n")
    assert read_texts(calibrated[0], str(source), log=print) == (texts, None)
    for options in ({}, {"budget": 1.0}, {"budget": 0.4}):
        path = tmp_path / f"{len(outputs)}.jsonl"
        predict_file(calibrated[0], source=str(source), output=str(path), with_kept=True, **options)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        outputs.append(sum(map(sum, (row["tokens_per_layer"] for row in rows))))
    assert outputs[2] < outputs[0] < outputs[1]


def test_a_certificate_names_the_fastest_budget_that_disagrees_rarely_enough(calibrated, tmp_path):
    shutil.copytree(calibrated[0], tmp_path / "model")
    notes = []
    options = {"budgets": BUDGETS, "log": notes.append}
    texts = make_texts(400)
    plain = Promise(0.3, escalates_to=NONE)
    found = calibrate_model(tmp_path / "model", texts, promise=plain, **options)
    assert found.certificate["num_texts"] == found.num_held_out
    slower = [row for row in found.rows if row["budget"] >= found.certificate["budget"]]
    assert all(row["agreement"] > 0.7 for row in slower)
    assert notes[-2].startswith("on texts like these, at most 30.0% of answers differ")
    assert read_calibration(tmp_path / "model", tiny.CONFIG.num_layers) == found
    with pytest.raises(ValueError, match="texts cannot prove a rate of 0.001 .* at least 2995"):
        calibrate_model(tmp_path / "model", texts, promise=Promise(0.001), **options)
    with pytest.raises(ValueError, match="confidence is 1.0; expected a number between 0 and 1"):
        calibrate_model(tmp_path / "model", texts, promise=Promise(0.3, confidence=1.0), **options)
    with pytest.raises(ValueError, match="a bound on the drop of accuracy needs labelled texts"):
        labelled = Promise(0.3, needs_labels=True)
        calibrate_model(tmp_path / "model", texts, promise=labelled, **options)


@pytest.mark.long
def test_fixed_counts_depend_on_the_length_alone(tiny_classifier, tmp_path):
    shutil.copytree(tiny_classifier, tmp_path / "model")
    found = calibrate_model(tmp_path / "model", make_texts(400), budgets=BUDGETS, mode="fixed")
    asked, kept = zip(*[(row["budget"], row["kept_share"]) for row in found.rows])
    assert kept == pytest.approx(asked, abs=0.02)
    classifier = Classifier.load(tmp_path / "model")
    counts = {}
    texts = make_texts(150, seed=9)
    for row, result in zip(classifier.encode_tokens(texts), classifier.predict(texts, budget=0.55)):
        counts.setdefault(len(row.token_L), set()).add(result.num_tokens)
    assert len(counts) > 5 and all(len(of_length) == 1 for of_length in counts.values())
    trained = classifier.predict(make_texts(50, seed=9))
    plain = Classifier.load(tiny_classifier).predict(make_texts(50, seed=9))
    assert [p.num_tokens for p in trained] == [p.num_tokens for p in plain]
    with pytest.raises(ValueError, match="mode is 'quick'; expected thresholds or fixed"):
        calibrate_model(tmp_path / "model", make_texts(400), mode="quick")


def test_a_latency_has_the_largest_budget_within_it(tiny_classifier, tmp_path, monkeypatch):
    shutil.copytree(tiny_classifier, tmp_path / "model")
    milliseconds = dict(zip(BUDGETS, (2.0, 3.0, 5.0, 4.9)))
    asked = []

    def measure(classifier, texts, budgets, *, batch_size):
        asked.append((classifier.calibration.budgets, len(texts) > 150, batch_size))
        return {budget: milliseconds[budget] for budget in budgets}

    monkeypatch.setattr(calibrate, "measure_latency", measure)
    notes, options = [], {"budgets": BUDGETS}
    latency = Latency(3.5, batch_size=4)
    found = calibrate_model(
        tmp_path / "model", make_texts(400), latency=latency, log=notes.append, **options
    )
    assert asked == [(BUDGETS, True, 4)]
    assert notes[-1] == "budget 0.6 is the largest within 3.5 ms"
    assert [row["milliseconds"] for row in found.rows] == list(milliseconds.values())
    assert read_calibration(tmp_path / "model", tiny.CONFIG.num_layers) == found
    with pytest.raises(ValueError, match="no budget takes 1 ms .* is budget 0.4 with 2.0 ms"):
        Latency(1.0).budget_of(found)
    with pytest.raises(ValueError, match="latency of -1 ms with batch size 1; expected numbers"):
        calibrate_model(tmp_path / "model", make_texts(400), latency=Latency(-1.0), **options)


@pytest.mark.long
def test_budgets_are_timed_after_they_are_compiled(classifier):
    found = measure_latency(classifier, make_texts(30), BUDGETS, batch_size=2)
    assert list(found) == list(BUDGETS) and all(0.0 < value < 1000.0 for value in found.values())


def test_lengths_that_vary_much_are_no_drift(tiny_classifier, tmp_path):
    """Batches are sorted by length, so the first ones are unlike the mean of a call."""
    shutil.copytree(tiny_classifier, tmp_path / "model")
    rng = np.random.default_rng(0)

    def varied(num_texts):
        return [" ".join(rng.choice(WORDS, rng.integers(6, 14))) for _ in range(num_texts)]

    calibrate_model(tmp_path / "model", varied(1200), budgets=BUDGETS, mode="fixed")
    classifier = Classifier.load(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(varied(600), budget=0.6)
        rows = classifier.encode_tokens(varied(600))
        classifier.predict_probs_encoded(rows, num_rows=32, request=classifier.resolve(0.6))


def test_budgets_that_short_texts_cannot_tell_apart_are_no_candidates(tiny_classifier, tmp_path):
    shutil.copytree(tiny_classifier, tmp_path / "model")
    texts = list(dict.fromkeys(" ".join(text.split()[:3]) for text in make_texts(2000)))
    budgets = (0.05, 0.1, 0.6, 1.0)  # of five tokens both first ones keep [CLS]
    found = calibrate_model(
        tmp_path / "model", texts, budgets=budgets, mode="fixed", promise=Promise(0.5)
    )
    assert len(found.budgets) < 4 and found.certificate["budget"] in found.budgets


@pytest.mark.parametrize("mode", ["thresholds", "fixed"])
def test_budgets_that_do_not_end_with_1_are_rejected(calibrated, mode):
    with pytest.raises(ValueError, match="expected rising numbers above 0, the last 1"):
        calibrate_model(calibrated[0], make_texts(400), budgets=(0.3, 0.5), mode=mode)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(["2", "1"], {"a": 1, "b": 0}), ([1, 0], {"a": 0, "b": None}), (["1", "5"], None)],
)
def test_labels_are_names_if_one_of_them_is_a_name(labels, expected):
    """The names of the classes are numbers from 1."""
    if expected is None or None in expected.values():
        with pytest.raises(ValueError, match="is no class of the model: 1, 2"):
            labels_by_text(["a", "b"], labels, ("1", "2"))
    else:
        assert labels_by_text(["a", "b"], labels, ("1", "2")) == expected
    assert labels_by_text(["a", "b"], [1, 0], ("bad", "good")) == {"a": 1, "b": 0}


@pytest.mark.long
def test_texts_unlike_the_calibrations_are_noticed_once(calibrated):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier.load(calibrated[0]).predict(make_texts(200, seed=8), budget=0.6)
    classifier, others = Classifier.load(calibrated[0]), ["good good good good"] * 150
    classifier.predict(others)  # without a budget there is nothing to compare
    with pytest.warns(UserWarning, match="the 150 texts so far are unlike the calibration"):
        classifier.predict(others, budget=0.6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(others * 3, budget=0.6)


GIVEN = Calibration(
    budgets=(0.5, 1.0),
    values=((0.6, 1.0),),
    rows=(
        {"budget": 0.5, "flops_speedup": 2.0, "milliseconds": 3.0},
        {"budget": 1.0, "flops_speedup": 1.0, "milliseconds": 5.0},
    ),
    num_texts=20,
    num_held_out=30,
    certificate={"budget": 0.5, "margin": 0.1, "threshold": 0.4},
    mode="fixed",
    timing={"batch_size": 2, "device": "cpu"},
)


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    path = GIVEN.write(tmp_path)
    assert path == tmp_path / CALIBRATION_FILE
    assert read_calibration(tmp_path, 1) == GIVEN


def test_a_file_of_the_release_before_has_thresholds_and_no_timing(tmp_path):
    content = json.loads(GIVEN.write(tmp_path).read_text())
    for name in ("mode", "timing", "certificate"):
        del content[name]
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(content))
    found = read_calibration(tmp_path, 1)
    assert (found.mode, found.timing, found.certificate) == ("thresholds", None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "quick"}, "its mode is 'quick'"),
        ({"mode": 3}, "its mode is 3"),
        ({"values": [[-0.5, 1.0]]}, "a value is negative or not finite"),
        ({"budgets": [0.5, 0.9]}, "expected rising numbers above 0, the last 1"),
        ({"values": [[0.5, 1.0], [0.5, 1.0]]}, r"its values have shape \(2, 2\)"),
        ({"format": 9}, "it has format 9, this release reads 1"),
    ],
)
def test_a_changed_file_is_called_damaged_with_the_reason(tmp_path, changes, message):
    content = json.loads(GIVEN.write(tmp_path).read_text())
    (tmp_path / CALIBRATION_FILE).write_text(json.dumps(content | changes))
    with pytest.raises(ValueError, match=f"is damaged \\(.*{message}.*calibrate the model again"):
        read_calibration(tmp_path, 1)


def test_fixed_shares_above_1_are_refused():
    wrong = dataclasses.replace(GIVEN, values=((0.6, 1.5),))
    with pytest.raises(ValueError, match="has a share of 1.5; calibrate the model again"):
        wrong.apply({"pruner": {}})
    assert set(GIVEN.apply({"pruner": {}})["pruner"]) == {"budget_JK", "budget_share_JK"}


def test_budgets_that_are_no_faster_than_a_larger_one_are_left_out():
    speedups = [4.0, 4.0, 2.5, 2.6, 2.0, 2.0, 1.0]
    given = Calibration(
        budgets=tuple(np.linspace(0.1, 1.0, len(speedups)).tolist()),
        values=(tuple(speedups),),
        rows=(),
        num_texts=1,
        num_held_out=1,
    )
    found = given.with_rows([{"flops_speedup": value} for value in speedups])
    assert [row["flops_speedup"] for row in found.rows] == [4.0, 2.6, 2.0, 1.0]
    assert found.values == ((4.0, 2.6, 2.0, 1.0),)
    assert found.budgets == tuple(given.budgets[index] for index in (1, 3, 5, 6))


@pytest.mark.parametrize("damage", ["{}", '{"format": 1, "budgets": [1.0]}', "no JSON"])
def test_a_damaged_calibration_is_replaced(calibrated, tmp_path, damage):
    shutil.copytree(calibrated[0], tmp_path / "model")
    (tmp_path / "model" / CALIBRATION_FILE).write_text(damage)
    with pytest.raises(ValueError, match="is damaged .*; calibrate the model again"):
        Classifier.load(tmp_path / "model")
    notes = []
    calibrate_model(tmp_path / "model", make_texts(400), budgets=BUDGETS, log=notes.append)
    assert any("is damaged" in note for note in notes)
    assert Classifier.load(tmp_path / "model").calibration.budgets == BUDGETS
