"""A saved model gives one or several numbers to texts or pairs, with JAX and without."""

import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx as runtime
from adapler_jax.heads import CLASSIFICATION, regression
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.reranker import Regressor, Reranker
from adapler_jax.weights.save import load_model
from benchmarks.compilations import compilations
from tests.inference.test_reranker import save
from tests.marks import mostly_long

NAMES = ("quality", "toxicity", "length")
TEXTS = ["a good film", "bad", "", "good good film " * 20, "a film ."]
PAIRS = [("a good", "film"), ("bad", "")]


@pytest.fixture(scope="module", name="several")
def _several(tmp_path_factory):
    """The directory of a model of three numbers."""
    directory = tmp_path_factory.mktemp("several") / "model"
    return save(directory, regression(num_outputs=3), 3, class_names=NAMES)


@pytest.fixture(scope="module", name="single")
def _single(tmp_path_factory):
    """The directory of a model of the first of these numbers, as a share."""
    directory = tmp_path_factory.mktemp("single") / "model"
    return save(directory, regression("sigmoid"), extra={"single_texts": True})


@pytest.fixture(scope="module", name="regressor")
def _regressor(several):
    return Regressor.load(several, driver="masked")


@pytest.mark.long
def test_each_text_has_a_row_of_numbers_of_its_own(regressor):
    assert regressor.output_names == NAMES
    found = regressor.predict(TEXTS)
    assert found.shape == (5, 3) and found.dtype == np.float32 and np.ptp(found, axis=0).min() > 0
    np.testing.assert_allclose(found[::-1], regressor.predict(TEXTS[::-1], batch_size=2), atol=1e-6)
    for text, row in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(regressor.predict(text), row, atol=1e-6)
    assert regressor.predict([]).shape == (0, 3)


def test_one_number_has_no_second_axis(single, regressor):
    model = Regressor.load(single, driver="masked")
    assert model.output_names == ("score",)
    found = model.predict(TEXTS)
    assert found.shape == (5,) and found.dtype == np.float32
    first = regressor.predict(TEXTS)[:, 0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-first)), atol=1e-6)
    np.testing.assert_allclose(model.predict(TEXTS, activation="identity"), first, atol=1e-6)
    assert model.predict(TEXTS[1]).shape == () and model.predict([]).shape == (0,)
    assert model.predict(TEXTS[1]) == pytest.approx(found[1], abs=1e-6)


def test_pairs_have_the_numbers_of_a_reranker(single):
    expected = Reranker.load(single, driver="masked").predict(PAIRS)
    regressor = Regressor.load(single, driver="masked")
    np.testing.assert_array_equal(regressor.predict(PAIRS), expected)
    dicts = [dict(zip(("text", "text_pair"), pair)) for pair in PAIRS]
    np.testing.assert_array_equal(regressor.predict(dicts), expected)


def test_a_fast_driver_gives_the_same_numbers(several, regressor):
    found = Regressor.load(several, driver="packed").predict(TEXTS)
    np.testing.assert_allclose(found, regressor.predict(TEXTS), atol=1e-5)


def test_a_model_warms_up_and_travels(regressor):
    regressor.warm_up(4)
    with compilations() as found:
        expected = regressor.predict(TEXTS, batch_size=4)
    assert found == []
    copy = pickle.loads(pickle.dumps(regressor))
    np.testing.assert_array_equal(copy.predict(TEXTS, batch_size=4), expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: model.predict(["a", ("a", "b")]), TypeError, "text 1 is"),
        (lambda model: model.predict({"a"}), TypeError, "expected a list of texts"),
        (lambda model: model.predict(TEXTS, activation="tanh"), ValueError, "activation is 'tanh'"),
        (lambda model: model.predict(TEXTS, batch_size=0), ValueError, "batch_size is 0"),
        (lambda model: model.predict(TEXTS, budget=0.5), ValueError, "no calibration"),
    ],
)
def test_wrong_input_is_named(regressor, call, error, message):
    with pytest.raises(error, match=message):
        call(regressor)


def test_models_of_other_kinds_name_their_class(several, single, tmp_path):
    message = "gives 3 numbers to a text, and a reranker has one score; load it with Regressor"
    with pytest.raises(ValueError, match=message):
        Reranker.load(several)
    for directory in (several, single):
        with pytest.raises(ValueError, match="head 'regression'.* load it with Regressor"):
            Classifier.load(directory)
    pairs = save(tmp_path / "pairs", regression())
    assert "Reranker" in loader_hint(load_model(pairs))
    classes = save(tmp_path / "classes", CLASSIFICATION, 3, class_names=NAMES)
    with pytest.raises(ValueError, match="gives no score to a text or pair; load it with Classif"):
        Regressor.load(classes)


def test_several_numbers_have_no_budgets(several):
    with pytest.raises(ValueError, match="gives several numbers to a text, and budgets are for"):
        adapler_jax.calibrate_model(several, TEXTS * 50)


@pytest.fixture(scope="module", name="exported")
def _exported(several, single, tmp_path_factory):
    """A folder with copies of both models and their ONNX files."""
    root = tmp_path_factory.mktemp("exported")
    for name, directory in (("several", several), ("single", single)):
        shutil.copytree(directory, root / name)
        adapler_jax.export_onnx(root / name)
    return root


@pytest.mark.parametrize("name", mostly_long(["several", "single"], quick=["several"]))
def test_an_exported_file_gives_the_same_numbers(exported, name):
    model, found = Regressor.load(exported / name), runtime.Regressor.load(exported / name)
    assert found.output_names == model.output_names and found.activation == model.activation
    for texts in (TEXTS, PAIRS, TEXTS[0]):
        np.testing.assert_allclose(found.predict(texts), model.predict(texts), atol=1e-5)
    assert found.predict([]).shape == model.predict([]).shape
    measured = adapler_jax.measure_export(exported / name / "onnx" / "model.onnx", TEXTS)
    assert measured.agreement == pytest.approx(1.0) and measured.measure == "Kendall's tau"
    with pytest.raises(ValueError, match="exported file has one speed"):
        found.predict(TEXTS, budget=0.5)


def test_exported_files_of_other_kinds_name_their_class(exported):
    with pytest.raises(ValueError, match="gives 3 numbers to a text.*load it with Regressor"):
        runtime.Reranker.load(exported / "several")
    with pytest.raises(ValueError, match="does not classify texts; load it with Regressor"):
        runtime.Classifier.load(exported / "several")


def test_exported_numbers_need_no_jax(exported):
    code = (
        "import sys; from adapler_jax.onnx import Regressor as R; "
        f"print(R.load({str(exported / 'several')!r}).predict(['a good film']).shape); "
        "assert not {'jax', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == "(1, 3)\n", done.stderr
