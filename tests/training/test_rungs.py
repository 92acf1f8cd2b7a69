"""Ways to a speedup are compared by their agreement with the full model, training last."""

import pathlib
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapler_jax.evaluation.models import evaluate_model
from adapler_jax.evaluation.task_texts import make_batches
from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io import heartbeat
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.training.compress import compress
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.training.rungs import (
    Judge,
    Rung,
    best_rung,
    rungs_without_training,
    save_without_training,
)
from adapler_jax.weights.save import load_model
from tests.training.runs import silent
from tests.training.test_compress import make_texts

TEXTS = make_texts()
METHODS = ("attention", "vocabulary")


@pytest.fixture(scope="module", name="given")
def _given(copied_run):
    """The directory of a model that has learned its task."""
    return copied_run("learned") / "finetune" / "model"


@pytest.fixture(scope="module", name="judge")
def _judge(given):
    return Judge(given, TEXTS[300:])


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS)
def test_a_model_is_saved_with_classes_and_tokenizer_of_the_given_one(given, tmp_path, method):
    made = save_without_training(given, TEXTS[:100], tmp_path / "m", method=method, speedup=1.4)
    saved, full = load_model(made), load_model(given)
    assert saved.class_names == full.class_names and saved.max_length == full.max_length
    assert saved.pruner_name == method
    batches = make_batches(Classifier.load(made), TEXTS[:100])
    found = evaluate_model(saved.params, saved.config, pruner_of_saved(saved), batches)
    assert found.flops_speedup == pytest.approx(1.4, rel=0.06)  # texts of at most 16 tokens


def test_the_full_model_agrees_with_itself(judge, given):
    rung = judge.measure("full", given)
    assert rung.agreement == rung.flops_speedup == 1.0
    assert rung.sentence() == "full: 1.00x, 100.0% equal answers"


@pytest.mark.long
def test_the_agreement_is_the_share_of_equal_labels(judge, given, tmp_path):
    made = save_without_training(
        given, TEXTS[:100], tmp_path / "m", method="vocabulary", speedup=2.0
    )
    labels = [
        [found.label for found in Classifier.load(model).predict(TEXTS[300:])]
        for model in (made, given)
    ]
    expected = np.mean([one == other for one, other in zip(*labels)])
    assert judge.measure("m", made).agreement == pytest.approx(expected)


def test_a_speedup_out_of_reach_leaves_no_rung(judge, given, tmp_path):
    notes = []
    options = {"speedup": 90.0, "log": notes.append}
    assert rungs_without_training(given, TEXTS[:50], judge, tmp_path, **options) == []
    assert [note.partition(":")[0] for note in notes] == ["attention", "vocabulary"]
    assert all("out of reach" in note for note in notes)


def test_without_text_there_is_no_model(given, tmp_path):
    with pytest.raises(ValueError, match="there is no text; method attention needs unlabelled"):
        save_without_training(given, [], tmp_path / "m", method="attention", speedup=2.0)


@pytest.fixture(scope="module", name="compressed")
def _compressed(given, tmp_path_factory):
    """The directory, the calibration and the notes of a compression without training."""
    out, notes = tmp_path_factory.mktemp("compressed") / "out", []
    options = CompressOptions(speedup=1.5, train=False, max_length=16)
    return out, compress(given, TEXTS, out, options=options, log=notes.append), notes


def test_compress_without_training_keeps_the_method_that_agrees_more(compressed):
    out, found, notes = compressed
    assert not (out / "run").exists()
    said = [note for note in notes if "equal answers" in note]
    shares = [float(note.partition("x, ")[2].partition("%")[0]) for note in said]
    kept = next(note for note in notes if note.startswith("kept: "))
    assert said[int(np.argmax(shares))].startswith(kept.removeprefix("kept: "))
    assert load_model(out / "model").pruner_name in kept
    assert [row["budget"] for row in found.rows] == list(found.budgets)


@pytest.mark.long
def test_a_second_call_makes_no_model_again_and_a_lower_speedup_replaces_the_result(
    compressed, given
):
    out, found, _ = compressed
    written = [(out / f"{name}-1.5x" / "config.json").stat().st_mtime_ns for name in METHODS]
    options = CompressOptions(speedup=1.5, train=False, max_length=16)
    assert compress(given, TEXTS, out, options=options, log=silent) == found
    assert written == [
        (out / f"{name}-1.5x" / "config.json").stat().st_mtime_ns for name in METHODS
    ]
    copy = shutil.copytree(out, out.with_name("copy"))
    compress(given, TEXTS, copy, options=options._replace(speedup=1.2), log=silent)
    own, other = (load_model(root / "model").params["pruner"]["share_J"] for root in (out, copy))
    assert own.sum() < other.sum()


def test_its_model_takes_budgets(compressed):
    classifier = Classifier.load(compressed[0] / "model")
    texts = TEXTS[:20]
    whole = classifier.predict(texts, budget=1.0)
    half = classifier.predict(texts, budget=0.5)
    assert all(len(set(found.num_tokens)) == 1 for found in whole)
    assert sum(sum(found.num_tokens) for found in half) < 0.65 * sum(
        sum(found.num_tokens) for found in whole
    )


def test_training_is_compared_on_the_same_texts():
    right = [True, True, True, False]
    one = Rung("a", pathlib.Path("a"), 2.0, np.array(right, float))
    other = Rung("b", pathlib.Path("b"), 2.0, np.array([0.0, 1.0, 1.0, 0.0]))
    assert one.compared_with(other) == "a has +25.0 ± 25.0 points of equal answers over b"


def test_where_nothing_reaches_the_speedup_the_fastest_is_kept():
    slow, fast = (
        Rung(name, pathlib.Path(name), speedup, np.array([right], float))
        for name, speedup, right in (("slow", 1.1, True), ("fast", 1.9, False))
    )
    assert best_rung([slow, fast], 3.0) is fast
    assert best_rung([slow, fast], 1.0) is slow


def test_a_speedup_of_a_call_is_the_one_that_was_measured(compressed):
    classifier = Classifier.load(compressed[0] / "model")
    rows = classifier.calibration.rows
    row = rows[len(rows) // 2]
    found = classifier.predict(TEXTS[:60], speedup=row["flops_speedup"])
    wanted = classifier.predict(TEXTS[:60], budget=row["budget"])
    assert [one.num_tokens for one in found] == [one.num_tokens for one in wanted]
    with pytest.raises(ValueError, match="speedup is 1000; this model has speedups from 1 to"):
        classifier.predict(TEXTS[:2], speedup=1000.0)


@pytest.mark.long
@pytest.mark.parametrize("budgets", [(1.0, 0.6), (0.6, 1.0)])
def test_texts_of_one_call_may_have_different_budgets(compressed, budgets):
    classifier = Classifier.load(compressed[0] / "model")
    together = classifier.predict(TEXTS[:2], budget=budgets)
    for text, budget, found in zip(TEXTS[:2], budgets, together, strict=True):
        (alone,) = classifier.predict([text], budget=budget)
        assert found.num_tokens == alone.num_tokens
        assert found.probability == pytest.approx(alone.probability, abs=1e-5)


def test_another_model_in_the_same_place_is_refused(compressed, copied_run):
    other = copied_run("learned") / "adapler" / "model"
    with pytest.raises(ValueError, match="has work with model .*; give another --out"):
        compress(other, TEXTS, compressed[0], log=silent)


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_share_outside_of_its_range_is_refused(compressed, tmp_path, share):
    model = shutil.copytree(compressed[0] / "vocabulary-1.5x", tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    save_file(tensors | {"vocabulary.share": np.float32([share])}, model / "model.safetensors")
    with pytest.raises(ValueError, match="shares are .*; expected 0 to 1"):
        Classifier.load(model)


def test_a_calibrated_share_above_one_is_refused():
    calibration = Calibration((0.5, 1.0), ((0.5, 1.5),), (), 9, 9)
    with pytest.raises(ValueError, match="has a share of 1.5; calibrate the model again"):
        calibration.apply({"pruner": {"share_J": np.ones(1)}})


def test_nothing_in_reach_is_said_before_anything_is_saved(given, tmp_path):
    options = CompressOptions(speedup=90.0, train=False, max_length=16)
    with pytest.raises(ValueError, match="no method reaches 90x without training"):
        compress(given, TEXTS, tmp_path / "out", options=options, log=silent)
    assert not (tmp_path / "out" / "model").exists()


def make_rung(name, speedup, agreement):
    return Rung(name, pathlib.Path(name), speedup, (np.arange(20) < 20 * agreement).astype(float))


def test_a_model_that_misses_the_speedup_is_not_kept_for_its_agreement():
    rungs = [make_rung("attention", 2.98, 0.9), make_rung("AdapLeR", 1.1, 1.0)]
    assert best_rung(rungs, 3.0).name == "attention"
    assert best_rung([*rungs, make_rung("vocabulary", 3.01, 0.95)], 3.0).name == "vocabulary"
    assert best_rung(rungs, 9.0).name == "attention"  # none reaches it; the fastest


def test_an_equal_model_stays_and_work_on_other_texts_is_not_continued(compressed, given):
    out, _, _ = compressed
    (out / "model" / "own.txt").touch()
    options = CompressOptions(speedup=1.5, train=False, max_length=16)
    compress(given, TEXTS, out, options=options, log=silent)
    assert (out / "model" / "own.txt").exists()
    with pytest.raises(ValueError, match="has work on other texts; give the same texts, or"):
        compress(given, TEXTS[:-1], out, options=options, log=silent)


@pytest.mark.long
def test_off_a_terminal_a_long_comparison_is_not_silent(given, tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.0)
    monkeypatch.setattr(heartbeat, "CHECK_S", 1e-3)
    notes = []
    options = CompressOptions(speedup=1.5, train=False)
    compress(given, TEXTS, tmp_path / "out", options=options, log=notes.append)
    for line in (
        r"predicted by the given model: \d+ of \d+ texts",
        r"given model: batches compared: \d+ of \d+",
        r"attention, without training: batches compared: \d+ of \d+",
        "attention, without training: making the model",
        "vocabulary, without training: making the model",
        r"budgets measured: \d+ of \d+",
    ):
        assert any(re.match(f"{line}, after ", note) for note in notes), line
