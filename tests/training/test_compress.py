"""A fine-tuned model and text without labels give a faster model, its table and a certificate."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapler_jax.evaluation import calibrate
from adapler_jax.evaluation.budget_latency import Latency
from adapler_jax.evaluation.certificate import NONE, Promise
from adapler_jax.evaluation.task_texts import split_texts
from adapler_jax.inference.classifier import Classifier
from adapler_jax.metrics.classification import THRESHOLD
from adapler_jax.training import compress_steps
from adapler_jax.training.compress import compress, slower_promise
from adapler_jax.training.compress_steps import CompressOptions
from adapler_jax.training.workdir import only_process
from adapler_jax.weights.save import load_model, save_model
from adapler_jax.weights.students import full_config
from tests.training.runs import silent

pytestmark = pytest.mark.long
OPTIONS = CompressOptions(
    speedup=1.2,
    promise=Promise(0.3),
    max_length=16,
    changes={
        "adapler.num_epochs": 2,
        "adapler.batch_size": 16,
        "data.bucket_lengths": (16,),
        "data.cache_dir": "none",
    },
)


def make_texts(num_texts=400):
    rng = np.random.default_rng(3)
    words = ["a", "film", "films", ".", "good", "bad"]
    return list({" ".join(rng.choice(words, rng.integers(4, 12))): None for _ in range(num_texts)})


@pytest.fixture(scope="module", name="given")
def _given(copied_run):
    """The directory of a model that has learned its task."""
    return copied_run("learned") / "finetune" / "model"


@pytest.fixture(scope="module", name="compressed")
def _compressed(given, tmp_path_factory):
    """The directory of the work, its calibration and its notes."""
    out, notes = tmp_path_factory.mktemp("compressed") / "out", []
    found = compress(given, make_texts(), out, options=OPTIONS, log=notes.append)
    return out, found, notes


def test_the_result_has_the_classes_of_the_given_model_and_drops_tokens(compressed, given):
    out, found, _ = compressed
    result, full = Classifier.load(out / "model"), Classifier.load(given)
    assert result.class_names == full.class_names == ("bad", "good")
    texts = make_texts()[:50]
    expected = full.predict_probs(texts)
    np.testing.assert_allclose(
        Classifier.load(out / "full").predict_probs(texts), expected, atol=1e-5
    )
    predicted = result.predict(texts, budget=found.budgets[len(found.budgets) // 2])
    assert np.mean([p.num_tokens[-1] for p in predicted]) < np.mean(
        [p.num_tokens[0] for p in result.predict(texts, budget=1.0)]
    )


def test_labels_are_the_classes_that_the_given_model_predicts(compressed, given):
    rows = [
        json.loads(line)
        for split in ("train", "validation")
        for line in (compressed[0] / "texts" / f"{split}.jsonl").read_text().splitlines()
    ]
    predicted = Classifier.load(given).predict([row["text"] for row in rows])
    assert [row["label"] for row in rows] == [found.label for found in predicted]


def test_the_certificate_is_about_texts_that_nothing_was_trained_on(compressed):
    out, found, notes = compressed
    length = load_model(out / "full").max_length
    assert compress_steps.length_note(length, is_longest=False) in notes
    longest = compress_steps.length_note(length, is_longest=True)
    assert f"cut to {length} tokens, which the longest of these has; " in longest
    lines = (out / "texts" / "train.jsonl").read_text().splitlines()
    trained = {json.loads(line)["text"] for line in lines}
    _, held_back = split_texts(make_texts(), seed=0, fraction=0.7)
    assert not trained & set(held_back)
    assert found.num_texts + found.num_held_out <= len(held_back)
    assert found.certificate is None or found.certificate["num_texts"] == found.num_held_out
    assert any("differ from the" in note or "can be certified" in note for note in notes)


def test_the_device_decides_about_operands_unless_a_change_does(compressed, tmp_path):
    full = compressed[0] / "full"
    config = compress_steps.make_config(full, tmp_path, CompressOptions(), has_pairs=False)
    assert config.compute_dtype == "auto" and config.finetune.num_epochs == 0
    changed = CompressOptions(changes={"compute_dtype": "float32"})
    config = compress_steps.make_config(full, tmp_path, changed, has_pairs=True)
    assert config.compute_dtype == "float32" and config.data.columns.text_pair == "text_pair"


def test_the_threshold_of_a_model_of_ours_is_kept(given, tmp_path):
    saved = load_model(given)
    names = {"class_names": saved.class_names, "tokenizer": given, "max_length": 12}
    kept = {THRESHOLD: 0.7, "truncation_side": "middle", "base_model": "org/name"}
    extra = kept | {"other": 1}
    ours = save_model(tmp_path / "ours", saved.params, saved.config, extra=extra, **names)
    options = OPTIONS._replace(train=False, promise=None, max_length=0)
    compress(ours, make_texts(), tmp_path / "out", options=options, log=silent)
    for name in ("full", "model"):
        found = load_model(tmp_path / "out" / name)
        assert found.extra == kept
        assert found.max_length == 12
    with pytest.raises(ValueError, match="has work with max_length 0, not 8; give another --out"):
        changed = options._replace(max_length=8)
        compress(ours, make_texts(), tmp_path / "out", options=changed, log=silent)


def test_the_notes_say_what_the_model_is_and_what_one_answer_would_reach(compressed, given):
    notes = compressed[2]
    assert f"{given} is a classifier of bad, good" in notes
    assert any("will test the promise of 30%: at most" in note for note in notes)
    share = next(note for note in notes if note.startswith("one answer to all of them would agree"))
    assert 50.0 <= float(share.split()[-1].rstrip("%")) < 100.0


def test_a_model_that_agrees_no_more_than_one_answer_is_told(given, tmp_path):
    saved, notes = load_model(given), []
    bias = np.array([9.0, 0.0], np.float32)
    saved.params["head"]["classifier"] |= {"bias": bias}
    constant = save_model(
        tmp_path / "constant",
        saved.params,
        saved.config,
        class_names=saved.class_names,
        tokenizer=given,
    )
    options = OPTIONS._replace(train=False, promise=None)
    compress(constant, make_texts(), tmp_path / "out", options=options, log=notes.append)
    assert any(
        note.startswith("it agrees no more than one answer to all texts, which has 100.0% equal")
        for note in notes
    )


def test_a_folder_in_use_is_left_alone(given, tmp_path):
    with (
        only_process(tmp_path),
        pytest.raises(ValueError, match="another process compresses a model there; .* --out"),
    ):
        compress(given, make_texts(), tmp_path, options=OPTIONS, log=silent)


def test_a_second_call_trains_nothing(compressed, given):
    out, found, _ = compressed
    notes = []
    again = compress(given, make_texts(), out, options=OPTIONS, log=notes.append)
    assert again == found
    assert {"finetune: finished before", "adapler: finished before"} <= set(notes)


def test_a_student_is_trained_beside_the_whole_model(compressed, given, tmp_path):
    out = shutil.copytree(compressed[0], tmp_path / "out")
    given_file = out / compress_steps.GIVEN_FILE
    notes, options = [], OPTIONS._replace(speedup=2.5, num_layers=2, promise=None)
    found = compress(given, make_texts(), out, options=options, log=notes.append)
    assert any(note.startswith("AdapLeR on 2 layers, trained: ") for note in notes)
    student = load_model(out / "run-2-layers" / "adapler" / "model")
    assert student.config.num_layers == 2 and full_config(student).num_layers == 4
    assert json.loads(given_file.read_text())["model"] == str(given)
    assert found.rows[0]["flops_speedup"] > 2.5
    assert load_model(out / "run" / "adapler" / "model").config.num_layers == 4


@pytest.mark.parametrize("num_layers", [4, 9])
def test_a_student_of_no_fewer_layers_is_refused_before_the_texts(given, tmp_path, num_layers):
    options = OPTIONS._replace(num_layers=num_layers)
    with pytest.raises(ValueError, match="needs a model of more; this one has 4"):
        compress(given, make_texts(), tmp_path / "out", options=options, log=silent)
    assert not (tmp_path / "out" / "texts").exists()


def test_more_texts_are_trained_on_and_prove_nothing(compressed, given, tmp_path):
    more = ["good good film", make_texts()[0], make_texts()[-1]]
    options = OPTIONS._replace(train=False, more_texts=more)
    found = compress(given, make_texts(), tmp_path / "out", options=options, log=silent)
    rows = [
        [
            json.loads(line)["text"]
            for line in (out / "texts" / "train.jsonl").read_text().splitlines()
        ]
        for out in (tmp_path / "out", compressed[0])
    ]
    assert rows[0] == [*rows[1], "good good film"]
    assert found.num_held_out == compressed[1].num_held_out
    with pytest.raises(ValueError, match="single texts or pairs; give one kind"):
        options = options._replace(more_texts=[("a", "pair")])
        compress(given, make_texts(), tmp_path / "pairs", options=options, log=silent)


def test_a_latency_decides_the_speedup_once(given, tmp_path, monkeypatch):
    timed = []

    def measure(classifier, texts, budgets, *, batch_size):
        timed.append(batch_size)
        return {budget: 10.0 * budget for budget in budgets}

    monkeypatch.setattr(calibrate, "measure_latency", measure)
    options = OPTIONS._replace(train=False, promise=None, latency=Latency(7.0, batch_size=2))
    notes = []
    for _ in range(2):
        compress(given, make_texts(), tmp_path / "out", options=options, log=notes.append)
    asked = json.loads((tmp_path / "out" / "latency.json").read_text())["speedup"]
    assert timed == [2, 2, 2]  # the speedup once, and the result of each call
    assert notes.count(f"7 ms need a FLOPs speedup of {asked:g}x") == 2
    assert asked > 1.1 and (tmp_path / "out" / f"attention-{asked:g}x").is_dir()
    assert notes[-1] == "budget 0.66 is the largest within 7 ms"
    with pytest.raises(ValueError, match="no budget takes 0.1 ms or less with batch size 2"):
        slow = options._replace(latency=Latency(0.1, batch_size=2))
        compress(given, make_texts(), tmp_path / "out", options=slow, log=silent)


def test_labels_give_scores_and_a_bound_on_the_drop(given, tmp_path):
    texts = make_texts()
    labels = [found.label for found in Classifier.load(given).predict(texts)]
    promise = Promise(0.2, needs_labels=True, escalates_to=NONE)
    options = OPTIONS._replace(train=False, promise=promise, labels=labels)
    notes = []
    found = compress(given, texts, tmp_path / "out", options=options, log=notes.append)
    assert all(0.0 <= row["score"] <= 1.0 for row in found.rows)
    assert found.rows[-1]["score"] == 1.0
    assert any("are wrong where the full model is right" in note for note in notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["good"] * 2}, "2 labels for .* texts; give one for each"),
        ({"labels": ["great"] * len(make_texts())}, "label 'great' is no class of the model"),
        ({"promise": Promise(0.001)}, "cannot prove a rate of 0.001 .* give at least 2995"),
        (
            {"promise": Promise(0.3, needs_labels=True)},
            "needs labelled texts; name their column with --label",
        ),
        ({"promise": Promise(0.3, confidence=1.0)}, "confidence is 1.0; expected a number between"),
        ({"num_layers": 2, "train": False}, "a student needs training; leave out num_layers, or"),
        ({"latency": Latency(-1.0)}, "latency of -1 ms with batch size 1; expected numbers above"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_before_any_work(given, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        compress(given, make_texts(), tmp_path, options=OPTIONS._replace(**changes), log=silent)
    assert not (tmp_path / "texts").exists()


def test_a_checkpoint_without_a_trained_classifier_is_rejected(given, tmp_path):
    shutil.copytree(given, tmp_path / "plain")
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    encoder = {name: value for name, value in tensors.items() if "classifier" not in name}
    save_file(encoder, tmp_path / "plain" / "model.safetensors")
    with pytest.raises(ValueError, match="has no trained classifier .*; give a model"):
        compress(tmp_path / "plain", make_texts(), tmp_path / "out", options=OPTIONS, log=silent)


def test_too_few_texts_are_an_error_with_the_number_that_suffices(given, tmp_path):
    with pytest.raises(
        ValueError, match="there are 2 different texts; a compression needs at least 334"
    ):
        compress(given, ["a", "b"] * 500, tmp_path, options=OPTIONS, log=silent)


def test_a_promise_that_is_slower_than_the_speedup_is_told(compressed):
    def note(**certificate):
        found = dataclasses.replace(compressed[1], certificate=certificate or None)
        return slower_promise(found, 2.0)

    (line,) = note(flops_speedup=1.4)
    assert line.startswith("the promise holds at 1.40x, with --certified; ")
    assert not note() and not note(flops_speedup=1.95)
