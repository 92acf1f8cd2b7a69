"""An exported file classifies texts as the library does, without JAX."""

import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.inference.calibration import FIXED
from adapler_jax.inference.classifier import Classifier
from adapler_jax.weights.save import load_model, save_model
from tests.data.conftest import build_tokenizer
from tests.export.onnx_models import WORDS, calibrate, save_tiny

TEXTS = ["w1 w2 w3", "", "w7 w8 w9 w3 w2 w1 w40 w41 w42 w5 w6 w11 w12 w13 w14 w15 w16", "zzz w4"]
PAIRS = [("w1 w2", "w3 w4 w5"), ("w6", ""), ("", "w9 w8 w7 w6 w5 w4 w3 w2 w1 w1 w1 w1 w1 w1")]
NAMES = ("no", "maybe", "yes")


@pytest.fixture(scope="module", name="exported_dir")
def _exported_dir(tmp_path_factory):
    """Return a directory with an exported model of three classes."""
    directory = tmp_path_factory.mktemp("onnx") / "model"
    save_tiny(directory, "adapler", class_names=NAMES, max_length=14)
    adapler_jax.export_onnx(directory)
    return directory


@pytest.fixture(scope="module", name="classifier")
def _classifier(exported_dir):
    return runtime.Classifier.load(exported_dir, num_threads=1)


def save_calibrated(directory):
    """Save and export a model that takes budgets, and return its directory."""
    save_tiny(directory, "adapler", class_names=NAMES, max_length=14)
    calibrate(directory, (1.2, 0.8, 0.0))
    adapler_jax.export_onnx(directory)
    return directory


@pytest.fixture(scope="module", name="calibrated")
def _calibrated(tmp_path_factory):
    """Return a model that takes budgets, and the library's classifier of it."""
    directory = save_calibrated(tmp_path_factory.mktemp("onnx") / "calibrated")
    return runtime.Classifier.load(directory), Classifier.load(directory, driver="masked")


def assert_same(found, expected):
    """Two predictions are equal."""
    assert found.label == expected.label and found.words == expected.words
    assert found.num_tokens == expected.num_tokens and found.is_cut == expected.is_cut
    np.testing.assert_array_equal(found.keep_NW, expected.keep_NW)
    np.testing.assert_allclose(
        list(found.probabilities.values()), list(expected.probabilities.values()), atol=1e-5
    )


@pytest.mark.parametrize("texts", [TEXTS, PAIRS])
def test_predictions_are_the_library_s(exported_dir, classifier, texts):
    expected = Classifier.load(exported_dir, driver="masked").predict(texts, batch_size=4)
    for batch_size in (1, 3, 32):
        for pair in zip(classifier.predict(texts, batch_size=batch_size), expected, strict=True):
            assert_same(*pair)


def test_probabilities_alone_equal_those_in_predictions(classifier):
    prob_MC = classifier.predict_probs(TEXTS, batch_size=3)
    assert prob_MC.dtype == np.float32
    for prob_C, found in zip(prob_MC, classifier.predict(TEXTS, batch_size=3)):
        assert dict(zip(NAMES, prob_C.tolist())) == found.probabilities


def test_no_texts_give_no_predictions(classifier):
    assert classifier.predict([]) == []
    assert classifier.predict_probs([]).shape == (0, 3)


@pytest.mark.parametrize("budget", [0.3, 0.5, 1.0, [0.3, 0.4, 0.7, 1.0]])
def test_predictions_at_a_budget_are_the_library_s(calibrated, budget):
    classifier, library = calibrated
    found = classifier.predict(TEXTS, budget=budget, batch_size=3)
    for pair in zip(found, library.predict(TEXTS, budget=budget), strict=True):
        assert_same(*pair)


@pytest.mark.parametrize("speedup", [0.5, 1.0, 1.3, 2.5, 3.33])
def test_a_speedup_has_the_library_s_budget(calibrated, speedup):
    classifier, library = calibrated
    expected_MC = library.predict_probs(TEXTS, speedup=speedup)
    prob_MC = classifier.predict_probs(TEXTS, speedup=speedup)
    np.testing.assert_allclose(prob_MC, expected_MC, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0.5, "speedup": 2.0}, "budget and speedup are both given"),
        ({"budget": 0.1}, r"budget is 0.1; expected 0.3 to 1"),
        ({"budget": [0.3, np.nan, 1.0, 1.0]}, r"budget is nan; expected 0.3 to 1"),
        ({"budget": [0.5, 0.5]}, "2 budgets for 4 texts; give one for each"),
        ({"speedup": 9.0}, r"speedup is 9; this model has speedups from 1 to 3.33"),
        ({"speedup": 0.0}, r"speedup is 0; this model has speedups from 1 to 3.33"),
        ({"batch_size": 0}, "batch_size is 0; expected at least 1"),
    ],
)
def test_a_wrong_argument_is_named(calibrated, arguments, message):
    classifier, _ = calibrated
    with pytest.raises(ValueError, match=message):
        classifier.predict(TEXTS, **arguments)


def test_a_batch_size_that_is_no_number_is_named(calibrated):
    classifier, _ = calibrated
    for call in (classifier.predict, classifier.predict_probs):
        with pytest.raises(TypeError, match="batch_size is True; expected a whole number"):
            call(TEXTS, batch_size=True)


def test_a_model_of_one_speed_takes_no_budget(classifier):
    with pytest.raises(ValueError, match="the exported file has one speed"):
        classifier.predict(TEXTS, budget=0.5)


def test_a_threshold_decides_between_two_classes(tmp_path):
    names, extra = ("no", "yes"), {"decision_threshold": 0.9999}
    directory = tmp_path / "model"
    saved = save_two_classes(directory, class_names=names, max_length=14, extra=extra)
    adapler_jax.export_onnx(saved)
    found = runtime.Classifier.load(directory)
    assert {prediction.label for prediction in found.predict(TEXTS)} == {"no"}
    never = runtime.Classifier.load(directory, threshold=0.0001)
    assert {prediction.label for prediction in never.predict(TEXTS)} == {"yes"}
    with pytest.raises(ValueError, match="threshold"):
        runtime.Classifier.load(directory, threshold=2.0)


def save_two_classes(directory, **options):
    """Save a model whose third class is left out."""
    saved = load_model(save_tiny(directory.with_name("three"), "adapler"))
    classifier = {
        "kernel": saved.params["head"]["classifier"]["kernel"][:, :2],
        "bias": saved.params["head"]["classifier"]["bias"][:2],
    }
    params = saved.params | {"head": saved.params["head"] | {"classifier": classifier}}
    return save_model(
        directory,
        params,
        saved.config,
        pruner_name="adapler",
        tokenizer=saved.directory,
        **options,
    )


def test_a_missing_file_names_the_command(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler")
    with pytest.raises(ValueError, match=r"model.onnx is missing; write it with `adapler export"):
        runtime.Classifier.load(directory)
    with pytest.raises(ValueError, match=r"model.xml is missing.*--format=openvino"):
        runtime.Classifier.load(directory, engine="openvino")
    with pytest.raises(ValueError, match="engine is 'tensorrt'; expected onnxruntime or openvino"):
        runtime.Classifier.load(directory, engine="tensorrt")


def test_a_damaged_file_is_named(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler")
    adapler_jax.export_onnx(directory).write_bytes(b"no model")
    with pytest.raises(ValueError, match="model.onnx is damaged; export it again"):
        runtime.Classifier.load(directory)


def test_a_dtype_is_openvino_s(exported_dir):
    with pytest.raises(ValueError, match="dtype is 'bfloat16'; expected float32 with onnxruntime"):
        runtime.Classifier.load(exported_dir, dtype="bfloat16")


def test_a_calibration_after_the_export_is_noticed(tmp_path):
    directory = save_calibrated(tmp_path / "model")
    calibrate(directory, (0.4, 0.7, 1.0), mode=FIXED)
    with pytest.raises(ValueError, match=r"calibration.json is not of .*; export the model again"):
        runtime.Classifier.load(directory)
    adapler_jax.export_onnx(directory)
    assert runtime.Classifier.load(directory).budgets == (0.3, 0.6, 1.0)


def test_other_labels_after_the_export_are_noticed(exported_dir, tmp_path):
    directory = shutil.copytree(exported_dir, tmp_path / "model")
    saved = load_model(directory)
    save_model(directory, saved.params, saved.config, pruner_name="adapler", max_length=14)
    assert (directory / "onnx/model.onnx").exists()
    with pytest.raises(ValueError, match=r"config.json is not of .*; export the model again"):
        runtime.Classifier.load(directory)


def test_the_folder_works_without_the_files_of_the_library(calibrated, tmp_path):
    classifier, _ = calibrated
    directory = save_calibrated(tmp_path / "model")
    for name in ("config.json", "calibration.json", "model.safetensors"):
        (directory / name).unlink()
    alone = runtime.Classifier.load(directory)
    for texts in (TEXTS, PAIRS):
        prob_MC, expected_MC = (
            found.predict_probs(texts, budget=0.5) for found in (alone, classifier)
        )
        np.testing.assert_array_equal(prob_MC, expected_MC)


def test_the_tokenizer_of_another_model_is_noticed(exported_dir, tmp_path):
    directory = shutil.copytree(exported_dir, tmp_path / "model")
    build_tokenizer([*WORDS, "more", "words"]).save_pretrained(directory)
    with pytest.raises(ValueError, match="its embedding table has 50 rows"):
        runtime.Classifier.load(directory)


def test_the_file_of_another_program_is_named(exported_dir, tmp_path):
    import onnx

    directory = shutil.copytree(exported_dir, tmp_path / "model")
    model = onnx.load(directory / "onnx/model.onnx")
    del model.metadata_props[:]
    onnx.save(model, directory / "onnx/model.onnx")
    with pytest.raises(ValueError, match="was not written by `adapler export"):
        runtime.Classifier.load(directory)


def test_a_file_that_answers_questions_is_named(tmp_path):
    from adapler_jax.heads import SPAN

    directory = save_tiny(tmp_path / "model", "adapler", head=SPAN)
    adapler_jax.export_onnx(directory)
    with pytest.raises(ValueError, match="does not classify texts; if it finds answers"):
        runtime.Classifier.load(directory)


def test_a_missing_engine_names_its_extra(exported_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[onnx\]"` in the clone'):
        runtime.Classifier.load(exported_dir)


def run_python(program, *arguments):
    """Return the JSON that a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_process_classifies_without_jax(exported_dir, classifier):
    found = run_python(
        """
        import json, sys
        from adapler_jax.onnx import Classifier
        predictions = Classifier.load(sys.argv[1]).predict(json.loads(sys.argv[2]))
        loaded = [name for name in ("jax", "flax", "torch", "transformers", "onnx")
                  if name in sys.modules]
        print(json.dumps([loaded, [found.label for found in predictions]]))
        """,
        exported_dir,
        json.dumps(TEXTS),
    )
    assert found == [[], [prediction.label for prediction in classifier.predict(TEXTS)]]


def test_a_process_classifies_without_this_library(exported_dir, classifier):
    found = run_python(
        """
        import json, sys
        import numpy as np
        import onnxruntime
        from tokenizers import Tokenizer

        folder, texts = sys.argv[1], json.loads(sys.argv[2])
        tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        tokenizer.enable_truncation(14)
        tokenizer.enable_padding()
        session = onnxruntime.InferenceSession(f"{folder}/onnx/model.onnx")
        names = json.load(open(f"{folder}/config.json"))["id2label"]
        rows = tokenizer.encode_batch(texts)
        logits, kept = session.run(["logits", "kept"], {
            "input_ids": np.array([row.ids for row in rows]),
            "attention_mask": np.array([row.attention_mask for row in rows]),
            "token_type_ids": np.array([row.type_ids for row in rows]),
        })
        ours = [name for name in sys.modules if name.startswith(("adapler", "jax"))]
        print(json.dumps([ours, [names[str(best)] for best in logits.argmax(axis=1)]]))
        """,
        exported_dir,
        json.dumps(TEXTS),
    )
    assert found == [[], [prediction.label for prediction in classifier.predict(TEXTS)]]


@pytest.mark.compare
def test_openvino_predicts_the_same(exported_dir, classifier):
    adapler_jax.export_openvino(exported_dir)
    found = run_python(
        """
        import json, sys
        from adapler_jax.onnx import Classifier
        classifier = Classifier.load(sys.argv[1], engine="openvino", num_threads=1)
        predictions = classifier.predict(json.loads(sys.argv[2]))
        try:
            message = classifier.predict(["w1"], budget=0.5)
        except ValueError as error:
            message = str(error)
        numbers = [[found.num_tokens, found.probability] for found in predictions]
        print(json.dumps([numbers, message]))
        """,
        exported_dir,
        json.dumps(TEXTS),
    )
    predictions, message = found
    assert message.startswith("the exported file has one speed")
    for (num_tokens, probability), expected in zip(predictions, classifier.predict(TEXTS)):
        assert tuple(num_tokens) == expected.num_tokens
        assert probability == pytest.approx(expected.probability, abs=1e-5)
