"""The model that `compress` keeps, and the work that a second call continues."""

import pathlib

import pytest

from adapler_jax.io import heartbeat
from adapler_jax.training.compress import CompressOptions, compress
from adapler_jax.training.rungs import Rung, best_rung
from adapler_jax.weights.save import load_model
from tests.training.runs import silent

WORDS = ("a", "film", "films", ".", "good", "bad")
OPTIONS = CompressOptions(speedup=1.5, train=False, max_length=16)


def make_rung(name, speedup, agreement):
    return Rung(name, pathlib.Path(name), speedup, agreement)


def test_a_model_that_misses_the_speedup_is_not_kept_for_its_agreement():
    rungs = [make_rung("attention", 2.98, 0.9), make_rung("AdapLeR", 1.1, 1.0)]
    assert best_rung(rungs, 3.0).name == "attention"
    assert best_rung([*rungs, make_rung("vocabulary", 3.01, 0.95)], 3.0).name == "vocabulary"
    assert best_rung(rungs, 9.0).name == "AdapLeR"  # none reaches it


def make_texts(words):
    return [f"{a} {b} {c} {d}" for a in words for b in words for c in words for d in words[:3]]


@pytest.fixture(scope="module", name="work")
def _work(tiny_files, tmp_path_factory):
    """The given model and the directory of the work, without training."""
    given, out = tiny_files / "model", tmp_path_factory.mktemp("work") / "out"
    compress(given, make_texts(WORDS), out, options=OPTIONS, log=silent)
    return given, out


def test_a_second_call_replaces_the_model_where_another_one_is_better(work):
    given, out = work
    before = load_model(out / "model")
    (out / "model" / "own.txt").touch()
    compress(given, make_texts(WORDS), out, options=OPTIONS, log=silent)
    assert (out / "model" / "own.txt").exists()  # an equal model stays
    compress(given, make_texts(WORDS), out, options=OPTIONS._replace(speedup=2.5), log=silent)
    after = load_model(out / "model")
    shares = [model.params["pruner"]["share_J"][0] for model in (before, after)]
    assert before.pruner_name != after.pruner_name or shares[1] < shares[0]
    assert not (out / "model" / "own.txt").exists()


def test_work_on_other_texts_is_not_continued(work):
    given, out = work
    with pytest.raises(ValueError, match="has work on other texts; give the same texts, or"):
        compress(given, make_texts(WORDS[::-1]), out, options=OPTIONS, log=silent)


def test_off_a_terminal_a_long_comparison_is_not_silent(tiny_files, tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENCE_S", 0.0)
    monkeypatch.setattr(heartbeat, "CHECK_S", 1e-3)
    notes = []
    compress(
        tiny_files / "model", make_texts(WORDS), tmp_path / "out", options=OPTIONS, log=notes.append
    )
    for line in (
        "predicting classes",
        "predicting the texts that compare models",
        "attention, without training: making the model",
        "vocabulary, without training: making the model",
    ):
        assert any(note.startswith(f"{line}, after ") for note in notes), line
    assert any(": batches compared: " in note for note in notes)
