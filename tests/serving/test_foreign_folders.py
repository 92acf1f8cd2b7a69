"""The commands take folders that other programs wrote, and change nothing in them."""

import json

import numpy as np
import pytest

from adapler_jax import Classifier, Embedder, Regressor, Reranker
from adapler_jax import onnx as exported
from adapler_jax.cli import latency
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.exported_files import measure_export
from adapler_jax.heads import MULTI_LABEL, embedding, regression
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.predictors import ModelSettings
from adapler_jax.serving.texts import read_texts
from adapler_jax.training.finished import read_run
from tests.export.test_onnx_export import run_command
from tests.foreign import NAMES, PAIRS, TEXTS, save_foreign

CARD = "# My model\n"


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """The folder of a classifier of three classes, with a card of its own."""
    folder = save_foreign(tmp_path / "folder")
    (folder / "README.md").write_text(CARD)
    return folder


def predict(folder, source, **settings):
    """Predict a file, and return its rows."""
    settings = ModelSettings(batch_size=4, **settings)
    output = source.with_name("out.jsonl")
    request = PredictRequest(
        folder, source=str(source), output=str(output), overwrite=True, settings=settings
    )
    predict_file(request)
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_a_classifier_predicts_a_file(folder, tmp_path):
    source = tmp_path / "texts.txt"
    source.write_text("\n".join(TEXTS) + "\n")
    expected = Classifier.load(folder).predict_probs(TEXTS)
    found = [[row[f"probability_{name}"] for name in NAMES] for row in predict(folder, source)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="keeps all tokens, so it has one speed; `adapler compre"):
        predict(folder, source, budget=0.5)


def test_labels_and_scores_of_a_file(tmp_path):
    labels = save_foreign(tmp_path / "labels", head=MULTI_LABEL)
    texts, pairs = tmp_path / "texts.txt", tmp_path / "pairs.jsonl"
    texts.write_text("w1 w2\n")
    assert {"labels", "probability_good"} <= predict(labels, texts)[0].keys()
    scores = save_foreign(tmp_path / "scores", head=regression("sigmoid"), class_names=())
    with pytest.raises(ValueError, match="scores pairs, which text lines do not have"):
        predict(scores, texts)
    pairs.write_text("".join(f"{json.dumps({'query': a, 'document': b})}\n" for a, b in PAIRS))
    found = [row["score"] for row in predict(scores, pairs)]
    np.testing.assert_allclose(found, Reranker.load(scores).predict(PAIRS), atol=1e-6)


def test_a_number_of_transformers_may_be_of_single_texts_or_pairs(tmp_path):
    changes = {"problem_type": "regression", "sentence_transformers": None}
    folder = save_foreign(tmp_path / "n", head=regression(), class_names=(), **changes)
    texts, pairs = tmp_path / "texts.txt", tmp_path / "pairs.csv"
    texts.write_text("w1 w2\n")
    pairs.write_text("sentence1,sentence2\nw1,w2\n")
    model = Regressor.load(folder)
    for source, given in ((texts, ["w1 w2"]), (pairs, [("w1", "w2")])):
        (row,) = predict(folder, source)
        np.testing.assert_allclose(row["score"], model.predict(given)[0], atol=1e-6)


def test_an_exported_file_gives_the_folders_answers(folder, tmp_path, capsys):
    before, data = (folder / "config.json").read_bytes(), tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS) + "\n")
    model = f"--model={folder}"
    expected = Classifier.load(folder).predict_probs(TEXTS)
    assert run_command(model, "--format=onnx", f"--data={data}") in (0, None)
    shown = capsys.readouterr()
    assert "100.00% of 4 texts" in shown.out and "README.md has changes of yours" in shown.err
    found = exported.Classifier.load(folder)
    np.testing.assert_allclose(found.predict_probs(TEXTS), expected, atol=1e-5)
    assert found.class_names == NAMES
    assert run_command(model, "--format=onnx", "--quantize=avx2") in (0, None)
    assert (folder / "config.json").read_bytes() == before
    assert (folder / "README.md").read_text() == CARD
    assert "no tokenizer" not in capsys.readouterr().err


@pytest.mark.long
def test_exported_programs_give_the_folders_answers(folder):
    assert run_command(f"--model={folder}", "--driver=packed") in (0, None)
    found = Classifier.load(folder, programs=True, driver="packed").predict_probs(TEXTS)
    np.testing.assert_allclose(found, Classifier.load(folder).predict_probs(TEXTS), atol=1e-5)


def test_an_export_without_a_tokenizer_is_noted(folder, capsys):
    for path in folder.glob("*token*"):
        path.unlink()
    assert run_command(f"--model={folder}", "--format=onnx") in (0, None)
    assert "has no tokenizer (tokenizer.json or vocab.txt)" in capsys.readouterr().err


def test_exported_scores_are_compared_by_order_or_by_number(tmp_path):
    changes = {"problem_type": "regression", "sentence_transformers": None}
    for name, given, texts in (("pairs", {}, PAIRS), ("any", changes, TEXTS)):
        head = regression("sigmoid")
        folder = save_foreign(tmp_path / name, head=head, class_names=(), **given)
        assert run_command(f"--model={folder}", "--format=onnx") in (0, None)
        assert measure_export(folder / "onnx/model.onnx", texts).agreement == 1.0
    assert exported.Reranker.load(tmp_path / "pairs").predict(PAIRS).shape == (3,)


def test_a_folder_of_sentence_transformers_is_predicted_and_exported(tmp_path):
    folder = save_foreign(tmp_path / "vectors", head=embedding("mean"), class_names=())
    source = tmp_path / "texts.txt"
    source.write_text("\n".join(TEXTS) + "\n")
    expected = Embedder.load(folder).encode(TEXTS)
    found = [row["embedding"] for row in predict(folder, source)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert run_command(f"--model={folder}", "--format=onnx") in (0, None)
    np.testing.assert_allclose(exported.Embedder.load(folder).encode(TEXTS), expected, atol=1e-5)


def test_calibrations_and_runs_name_the_way(folder):
    with pytest.raises(ValueError, match="keeps all tokens, so it has one speed; `adapler compre"):
        calibrate_model(folder, TEXTS)
    with pytest.raises(ValueError, match=r"holds a model, and no run .*`adapler compress --model="):
        read_run(folder)


def test_an_encoder_is_named_before_any_work(folder, tmp_path, capsys):
    path, data = folder / "config.json", tmp_path / "texts.txt"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["BertModel"]}))
    (folder / "model.safetensors").unlink()
    data.write_text("w1\n")
    for call in (
        lambda: predict(folder, data),
        lambda: read_texts(folder, str(data), log=print),
    ):
        with pytest.raises(ValueError, match="names .'BertModel'.* `adapler compress"):
            call()
    assert run_command(f"--model={folder}", "--format=onnx") == 2
    error = capsys.readouterr().err
    assert "`adapler train" in error and error.strip().count("\n") == 0


def test_its_sizes_are_measured(folder):
    latency.FLAGS(["latency", f"--model={folder}"])
    (config,) = latency.parse_workload().configs
    latency.FLAGS["model"].unparse()
    assert (config.num_layers, config.hidden_dim) == (4, 16)
