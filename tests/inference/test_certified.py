"""Certified answers: uncertain texts run again, with all tokens or on the full model."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.evaluation import full_model
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.certificate import Promise
from adapler_jax.inference.calibration import (
    FULL,
    certified_request,
    full_loader,
    read_calibration,
)
from adapler_jax.inference.classifier import Classifier
from adapler_jax.training.methods.distill import cut_layers
from adapler_jax.training.rungs import save_without_training
from adapler_jax.weights.save import load_model, save_model
from benchmarks.compilations import compilations
from tests import tiny
from tests.inference.calibrated import BUDGETS, make_texts
from tests.serving.outputs import read_rows
from tests.serving.requests import predict_file


@pytest.fixture(scope="module", name="certified")
def _certified(calibrated, tmp_path_factory):
    """The directory of a certified model whose uncertain texts run again, and its notes."""
    directory, notes = tmp_path_factory.mktemp("certified") / "model", []
    shutil.copytree(calibrated[0], directory)
    texts = make_texts(400)
    classifier = Classifier.load(directory, driver="masked")
    labels = [found.label for found in classifier.predict(texts, budget=1.0)]
    calibrate_model(
        directory,
        texts,
        labels=labels,
        budgets=BUDGETS,
        promise=Promise(0.25, confidence=0.9),
        log=notes.append,
    )
    return directory, notes


def test_uncertain_texts_run_again_with_all_tokens(certified):
    directory, notes = certified
    classifier = Classifier.load(directory, driver="masked")
    found = classifier.calibration.certificate
    assert found["margin"] > 0.0 and 0.0 < found["escalated_share"] < 1.0
    assert "% of the texts run again with all tokens" in notes[-3]
    assert notes[-2].startswith("without running texts again: ")
    texts = make_texts(60, seed=7)
    predictions = classifier.predict(texts, certified=True)
    at_budget = classifier.predict(texts, budget=found["budget"])
    full = classifier.predict(texts, budget=1.0)
    assert 0 < sum(p.is_escalated for p in predictions) < len(texts)
    for result, first, dense in zip(predictions, at_budget, full):
        *_, low, high = sorted(first.probabilities.values())
        assert result.is_escalated == (high - low < found["margin"])
        expected = dense if result.is_escalated else first
        assert result.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        tokens = np.array(first.num_tokens)
        tokens = tokens + dense.num_tokens if result.is_escalated else tokens
        assert result.num_tokens == tuple(tokens.tolist())
    prob_MC = classifier.predict_probs(texts, certified=True)
    expected_MC = [list(result.probabilities.values()) for result in predictions]
    np.testing.assert_allclose(prob_MC, expected_MC, atol=1e-6)


@pytest.fixture(scope="module", name="full")
def _full(calibrated, tmp_path_factory):
    """A full model of more layers, which often answers otherwise."""
    directory = tmp_path_factory.mktemp("full") / "model"
    saved = load_model(calibrated[0])
    config = dataclasses.replace(saved.config, num_layers=saved.config.num_layers + 1)
    params = saved.params | {"pruner": {}, "encoder": init_encoder(jax.random.key(3), config)}
    options = {"class_names": saved.class_names, "max_length": saved.max_length}
    return save_model(directory, params, config, tokenizer=saved.directory, **options)


@pytest.fixture(scope="module", name="promised")
def _promised(calibrated, full, tmp_path_factory):
    """The directory of a model whose uncertain texts run again on another one."""
    directory = tmp_path_factory.mktemp("promised") / "model"
    shutil.copytree(calibrated[0], directory)
    options = {"budgets": BUDGETS, "reference": full}
    calibrate_model(directory, make_texts(400), promise=Promise(0.45, confidence=0.9), **options)
    return directory


def test_uncertain_texts_run_again_on_the_full_model(promised, full):
    classifier, texts = Classifier.load(promised, driver="masked"), make_texts(60, seed=7)
    found = classifier.calibration.certificate
    assert found["escalates_to"] == FULL and found["margin"] > 0.0
    predictions = classifier.predict(texts, certified=True)
    at_budget = classifier.predict(texts, budget=found["budget"])
    assert 0 < sum(p.is_escalated for p in predictions) < len(texts)
    by_full = Classifier.load(full, driver="masked").predict(texts)
    for result, first, again in zip(predictions, at_budget, by_full):
        expected = again if result.is_escalated else first
        assert result.label == expected.label
        assert result.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
        earlier = np.array((*first.num_tokens, 0)) if result.is_escalated else 0
        tokens = np.array(expected.num_tokens) + earlier
        assert result.num_tokens == tuple(tokens.tolist())
    prob_MC = classifier.predict_probs(texts, certified=True)
    expected_MC = [list(result.probabilities.values()) for result in predictions]
    np.testing.assert_allclose(prob_MC, expected_MC, atol=1e-6)
    assert classifier.load_full() is classifier.load_full()


@pytest.mark.long
def test_the_full_model_runs_with_the_options_of_the_load(promised):
    options = {"driver": "packed", "buckets": (8, 16), "expected_speedup": 2.0}
    classifier, calls = Classifier.load(promised, **options), []
    calibration = classifier.calibration

    def load(directory, **options):
        calls.append((directory, options))

    full_loader(load, promised, calibration, "bfloat16", options)()
    expected = {"driver": "packed", "buckets": (8, 16), "dtype": "bfloat16"}
    assert calls == [(promised / "full", expected)]
    found = classifier.predict(make_texts(9, seed=7), certified=True)
    assert len(found) == 9


def test_a_full_model_that_was_replaced_is_refused(promised, full, tmp_path):
    copy = shutil.copytree(promised, tmp_path / "model")
    late, early = (Classifier.load(copy, driver="masked") for _ in range(2))
    texts = make_texts(60, seed=7)
    expected = [found.label for found in early.predict(texts, certified=True)]
    saved = load_model(full)
    params = jax.tree.map(lambda leaf: 1.1 * leaf, saved.params)
    names = {"class_names": saved.class_names, "max_length": 16, "tokenizer": full}
    save_model(copy / "full", params, saved.config, **names)
    with pytest.raises(ValueError, match="another model is in .*full since this one was loaded"):
        late.predict(texts, certified=True)
    assert [found.label for found in early.predict(texts, certified=True)] == expected


@pytest.mark.long
def test_a_warm_up_compiles_the_full_model_too(promised):
    classifier = Classifier.load(promised)
    classifier.warm_up(batch_size=2)
    with compilations() as compiled:
        classifier.predict(make_texts(11, seed=5), batch_size=2, certified=True)
    assert not compiled


def test_a_later_calibration_compares_with_the_full_model_that_is_kept(promised, tmp_path):
    copy = shutil.copytree(promised, tmp_path / "model")
    again = calibrate_model(copy, make_texts(400), budgets=BUDGETS)
    there = read_calibration(promised, tiny.CONFIG.num_layers)
    assert [row["agreement"] for row in again.rows] == [row["agreement"] for row in there.rows]
    assert again.rows[-1]["agreement"] < 1.0 and again.certificate is None


def test_without_the_full_model_only_certified_answers_are_missing(promised, tmp_path):
    copy = shutil.copytree(promised, tmp_path / "model")
    shutil.rmtree(copy / "full")
    classifier = Classifier.load(copy, driver="masked")
    classifier.predict(["a film"], budget=0.6)
    message = "on the full model, which is missing: copy the folder full next to .* --reference=DIR"
    with pytest.raises(ValueError, match=message):
        classifier.predict(["a film"], certified=True)
    with pytest.raises(ValueError, match=message):  # the promise would be about another full model
        calibrate_model(copy, make_texts(400), budgets=BUDGETS, promise=Promise(0.45))


def test_other_weights_in_the_same_folder_have_no_full_model(promised, tmp_path):
    copy = shutil.copytree(promised, tmp_path / "model")
    saved = load_model(copy)
    params = jax.tree.map(lambda leaf: 1.1 * leaf, saved.params)
    options = {"pruner_name": saved.pruner_name, "class_names": saved.class_names}
    save_model(copy, params, saved.config, max_length=saved.max_length, tokenizer=copy, **options)
    assert not (copy / "full").exists() and not (copy / "calibration.json").exists()


def test_a_kill_while_the_full_model_is_copied_leaves_no_certificate_of_another(
    promised, full, tmp_path, monkeypatch
):
    copy = shutil.copytree(promised, tmp_path / "model")
    saved = load_model(full)
    names = {"class_names": saved.class_names, "max_length": 16, "tokenizer": full}
    params = jax.tree.map(lambda leaf: 1.1 * leaf, saved.params)
    other = save_model(tmp_path / "other", params, saved.config, **names)

    def kill(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(full_model, "copy_entries", kill)
    options = {"budgets": BUDGETS, "reference": other, "promise": Promise(0.45, confidence=0.9)}
    with pytest.raises(KeyboardInterrupt):
        calibrate_model(copy, make_texts(400), **options)
    assert read_calibration(copy, tiny.CONFIG.num_layers) is None


def test_a_larger_full_model_costs_its_own_operations(calibrated, full, tmp_path):
    """Speedups are over the full model."""
    found = []
    for reference in (None, full):
        copy = shutil.copytree(calibrated[0], tmp_path / str(reference is None))
        options = {"budgets": BUDGETS, "reference": reference}
        found.append(calibrate_model(copy, make_texts(400), **options).rows[-1]["flops_speedup"])
    # Five layers over four, of which the last computes one token.
    assert 1.1 < found[1] / found[0] < 1.5


@pytest.mark.parametrize("escalates_to", ["own", "none"])
def test_a_promise_may_do_without_the_full_model(calibrated, full, tmp_path, escalates_to):
    copy = shutil.copytree(calibrated[0], tmp_path / "model")
    promise = Promise(0.6, confidence=0.9, escalates_to=escalates_to)
    found = calibrate_model(
        copy, make_texts(400), budgets=BUDGETS, promise=promise, reference=full
    ).certificate
    assert found["escalates_to"] == "own" and not (copy / "full").exists()
    assert escalates_to == "own" or found["margin"] == 0.0


@pytest.mark.parametrize(
    ("changes", "num_layers", "message"),
    [
        (
            {"class_names": ("x", "y", "z")},
            5,
            r"classes of the full model .*: \('x', 'y', 'z'\); of ",
        ),
        ({"max_length": 8}, 5, "max_length of the full model .*: 8; of this model: 16"),
        ({}, 3, "the full model .* has fewer layers than this model"),
    ],
)
def test_a_full_model_that_does_not_fit_is_rejected(
    calibrated, full, tmp_path, changes, num_layers, message
):
    saved = load_model(full)
    params, config = cut_layers(saved.params, saved.config, tuple(range(num_layers)))
    names = {"class_names": saved.class_names, "max_length": 16, "tokenizer": full} | changes
    other = save_model(tmp_path / "other", params, config, **names)
    with pytest.raises(ValueError, match=message):
        calibrate_model(calibrated[0], make_texts(400), budgets=BUDGETS, reference=other)


def test_a_full_model_of_another_tokenizer_is_rejected(calibrated, full, tmp_path):
    saved, other = load_model(full), shutil.copytree(full, tmp_path / "other")
    path = other / "tokenizer.json"
    fields = json.loads(path.read_text())
    vocabulary = fields["model"]["vocab"]
    vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    path.write_text(json.dumps(fields))
    assert load_model(other).config.vocab_size == saved.config.vocab_size
    with pytest.raises(ValueError, match="the tokenizer of the full model .* has other tokens for"):
        calibrate_model(calibrated[0], make_texts(400), budgets=BUDGETS, reference=other)


def test_a_model_of_equal_weights_needs_no_copy_of_the_full_model(full, tmp_path):
    options = {"method": "attention", "speedup": 1.5}
    model = save_without_training(full, make_texts(100), tmp_path / "model", **options)
    promise = Promise(0.6, confidence=0.9)
    found = calibrate_model(
        model, make_texts(400), budgets=BUDGETS, promise=promise, reference=full
    ).certificate
    assert found["escalates_to"] == "own" and not (model / "full").exists()
    classifier = Classifier.load(model, driver="masked")
    predictions = classifier.predict(make_texts(40, seed=7), certified=True)
    assert any(found.is_escalated for found in predictions) == (found["margin"] > 0.0)


def test_an_unknown_way_to_run_again_is_rejected(calibrated):
    with pytest.raises(ValueError, match="escalates_to is 'both'; expected full, own or none"):
        promise = Promise(0.3, escalates_to="both")
        calibrate_model(calibrated[0], make_texts(400), budgets=BUDGETS, promise=promise)


@pytest.mark.parametrize("with_kept", [False, True])
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "tsv"])
def test_a_file_names_the_texts_that_ran_again(certified, tmp_path, kind, with_kept):
    texts, path = make_texts(60, seed=7), tmp_path / f"out.{kind}"
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    source = str(tmp_path / "texts.txt")
    predict_file(certified[0], source=source, output=str(path), certified=True, with_kept=with_kept)
    rows = read_rows(path)
    expected = Classifier.load(certified[0]).predict(texts, certified=True)
    assert [str(row["is_escalated"]).lower() for row in rows] == [
        str(found.is_escalated).lower() for found in expected
    ]
    assert [row["label"] for row in rows] == [found.label for found in expected]


def test_a_file_without_a_certificate_has_no_such_column(certified, tmp_path):
    (tmp_path / "texts.txt").write_text("a film\n")
    path = tmp_path / "out.jsonl"
    predict_file(certified[0], source=str(tmp_path / "texts.txt"), output=str(path), budget=0.6)
    assert "is_escalated" not in read_rows(path)[0]
    with pytest.raises(ValueError, match="certified answers are for texts that are cut"):
        predict_file(
            certified[0],
            source=str(tmp_path / "texts.txt"),
            output=str(tmp_path / "other.jsonl"),
            certified=True,
            long_texts="mean",
        )


def test_the_card_has_the_budgets_and_the_certificate_of_the_last_calibration(certified):
    card = (certified[0] / "README.md").read_text()
    found = read_calibration(certified[0], tiny.CONFIG.num_layers)
    assert card.count("## Budgets") == 1 and "at most 25.0% of answers differ from the" in card
    last = found.rows[-1]
    assert last["score"] == 1.0  # the labels are the answers of the full model
    assert f"| 1 | 100.0% | {last['flops_speedup']:.2f}x | 100.0% | 100.0% |" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0.5}, "certified is given with a budget or a speedup; give one"),
        ({"long_texts": "mean"}, "long_texts is mean; certified answers are for texts that are"),
    ],
)
def test_other_requests_have_no_certificate(certified, options, message):
    with pytest.raises(ValueError, match=message):
        Classifier.load(certified[0]).predict(["a film"], certified=True, **options)


def test_no_text_and_one_text_are_answered_too(certified):
    classifier, texts = Classifier.load(certified[0], driver="masked"), make_texts(20, seed=11)
    assert classifier.predict([], certified=True) == []
    together = classifier.predict(texts, certified=True)
    alone = [classifier.predict([text], certified=True)[0] for text in texts]
    assert [found.is_escalated for found in alone] == [found.is_escalated for found in together]
    assert [found.label for found in alone] == [found.label for found in together]


def test_a_certificate_is_for_one_decision_threshold(certified):
    found = read_calibration(certified[0], tiny.CONFIG.num_layers)
    assert certified_request(found, None, "float32").budget == found.certificate["budget"]
    with pytest.raises(ValueError, match="is for the decision threshold None, not 0.4; give no"):
        certified_request(found, 0.4, "float32")
    with pytest.raises(ValueError, match="is for operands of float32, not bfloat16; give --dtype"):
        Classifier.load(certified[0], dtype="bfloat16").predict(["a film"], certified=True)


def test_a_model_without_a_certificate_says_how_to_get_one(calibrated):
    with pytest.raises(ValueError, match="nothing is certified for this model; certify with"):
        Classifier.load(calibrated[0]).predict(["a film"], certified=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["good"] * 3, "3 labels for 400 texts"), (["great"] * 400, "label 'great' is no class of")],
)
def test_labels_that_are_not_the_models_are_rejected(calibrated, labels, message):
    with pytest.raises(ValueError, match=message):
        calibrate_model(calibrated[0], make_texts(400), labels=labels, budgets=BUDGETS)
