"""An embedder's vectors depend on their text alone, whatever drops the tokens."""

import functools
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from adapler_jax import calibrate_model, export_model
from adapler_jax import onnx as runtime
from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import CLASSIFICATION, embedding
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.embedder import Embedder
from adapler_jax.weights.save import load_model
from benchmarks.compilations import compilations
from tests.export.onnx_models import save_tiny
from tests.marks import mostly_long

TEXTS = ["w1 w2 w3", "w4", "", "w5 w6 " * 20, "w7 w8 w9 w10 w11", "w4"]
EXTRA = {"prompts": {"query": "w9 w9 ", "passage": ""}, "default_prompt_name": "query"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of two pruned models, and one with prompts that does not normalise."""
    root = tmp_path_factory.mktemp("embedders")
    for method in ("adapler", "attention"):
        save_tiny(root / method, method, head=embedding(), max_length=12)
    head = embedding("cls", normalizes=False, dense_dim=6)
    save_tiny(root / "prompts", "adapler", head=head, max_length=12, extra=EXTRA)
    return root


@pytest.fixture(scope="module")
def load(models):
    """Load a model once for each driver."""

    @functools.cache
    def load(name="adapler", driver="masked", dtype="float32"):
        return Embedder.load(models / name, driver=driver, dtype=dtype)

    return load


def test_a_vector_depends_on_its_text_alone(load):
    found = load().encode(TEXTS)
    assert found.shape == (6, 16) and found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(found[1], found[5])
    np.testing.assert_allclose([load().encode(text) for text in TEXTS], found, atol=1e-6)
    np.testing.assert_allclose(load().encode(iter(TEXTS), batch_size=2), found, atol=1e-6)
    assert load().encode([]).shape == (0, 16) and load().encode("w4").shape == (16,)


@pytest.mark.parametrize(
    ("name", "driver"),
    mostly_long([("adapler", "bucketed"), ("prompts", "packed")], quick=[("adapler", "bucketed")]),
)
def test_every_driver_gives_the_same_vectors(load, name, driver):
    np.testing.assert_allclose(
        load(name, driver).encode(TEXTS), load(name).encode(TEXTS), atol=1e-5
    )


def test_half_precision_is_close(load):
    exact, rounded = load("prompts").encode(TEXTS), load("prompts", dtype="bfloat16").encode(TEXTS)
    cosines = np.diag(load().similarity(exact, rounded))
    assert rounded.dtype == np.float32 and 0.99 < cosines.min() and not (exact == rounded).all()


def test_vectors_are_cut_and_normalised_on_request(load):
    model = load("prompts")
    plain = model.encode(TEXTS)
    assert np.ptp(np.linalg.norm(plain, axis=1)) > 1e-3
    cut = model.encode(TEXTS, truncate_dim=4)
    np.testing.assert_array_equal(cut, plain[:, :4])
    unit = model.encode(TEXTS, truncate_dim=4, normalize_embeddings=True)
    np.testing.assert_allclose(unit, cut / np.linalg.norm(cut, axis=1, keepdims=True), rtol=1e-5)


def test_a_prompt_is_put_before_each_text(load):
    model = load("prompts")
    by_hand = model.encode([f"w9 w9 {text}" for text in TEXTS], prompt="")
    np.testing.assert_array_equal(model.encode(TEXTS), by_hand)
    np.testing.assert_array_equal(model.encode(TEXTS, "query"), by_hand)
    np.testing.assert_array_equal(model.encode(TEXTS, prompt="w9 w9 "), by_hand)
    assert np.abs(model.encode(TEXTS, prompt_name="passage") - by_hand).max() > 1e-3


def test_similarities_are_cosines(load):
    found = load("prompts").similarity(np.array([[3.0, 4.0], [0.0, 0.0]]), [[0.0, 2.0], [-3, -4]])
    np.testing.assert_allclose(found, [[0.8, -1.0], [0.0, 0.0]], atol=1e-6)
    assert load().similarity(load().encode("w1"), load().encode(TEXTS)).shape == (1, 6)


@pytest.mark.long
def test_tokens_are_dropped_and_a_pickled_model_is_the_same(load):
    model = load("adapler", "bucketed")
    assert load_model(model.origin.directory).pruner_name == "adapler"
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.encode(TEXTS), model.encode(TEXTS))
    assert model.warm_up(2) > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda model: model.encode([3]), TypeError, "text 0 is 3, of type int; expected"),
        (lambda model: model.encode(None), TypeError, "a list of texts, not None"),
        (lambda model: model.encode([("a", "b")]), TypeError, "text 0 is a pair; expected single"),
        (lambda model: model.encode(["a"], batch_size=0), ValueError, "batch_size is 0"),
        (lambda model: model.encode(["a"], truncate_dim=17), ValueError, "truncate_dim is 17; "),
        (lambda model: model.encode(["a"], truncate_dim=True), ValueError, "truncate_dim is True"),
        (lambda model: model.encode(["a"], "query"), ValueError, "'query'; the model has none"),
        (lambda model: model.encode(["a"], "a", "b"), ValueError, "prompt and prompt_name are bo"),
        (lambda model: model.similarity([1.0], [[1.0, 2.0]]), ValueError, "as many entries in bo"),
    ],
)
def test_wrong_input_is_named(load, call, error, message):
    with pytest.raises(error, match=message):
        call(load())


def test_other_classes_name_the_embedder(models):
    with pytest.raises(ValueError, match="'embedding'.* load it with Embedder"):
        Classifier.load(models / "adapler")


@pytest.mark.parametrize("name", ["adapler", "attention", "prompts"])
def test_an_exported_file_gives_equal_vectors(load, models, tmp_path, name):
    directory = shutil.copytree(models / name, tmp_path / "model")
    export_onnx(directory)
    exported, model = runtime.Embedder.load(directory, num_threads=1), load(name)
    found, expected = exported.encode(TEXTS, batch_size=4), model.encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(
        exported.encode("w3", prompt="w1 ", truncate_dim=3),
        model.encode("w3", prompt="w1 ", truncate_dim=3),
        atol=1e-5,
    )
    assert exported.encode([]).shape == (0, model.dim)
    with pytest.raises(ValueError, match="does not classify texts; load it with Embedder"):
        runtime.Classifier.load(directory)


def test_an_exported_file_runs_without_jax(models, tmp_path):
    directory = shutil.copytree(models / "adapler", tmp_path / "model")
    export_onnx(directory)
    program = (
        "import sys; from adapler_jax.onnx import Embedder\n"
        f"print(Embedder.load({str(directory)!r}).encode(['w1', 'w2 w3']).shape)\n"
        "assert not {'jax', 'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert done.stdout == "(2, 16)\n", done.stderr


def test_an_exported_classifier_gives_no_vectors(tmp_path):
    directory = save_tiny(tmp_path / "m", "adapler", head=CLASSIFICATION, max_length=12)
    export_onnx(directory)
    with pytest.raises(ValueError, match="gives no vectors; load it with Classifier"):
        runtime.Embedder.load(directory)


def test_the_card_shows_the_embedder(models):
    card = (models / "adapler" / "README.md").read_text()
    assert "pipeline_tag: sentence-similarity" in card
    assert 'model.encode(["a text", "another"])' in card and "Embedder.load(" in card
    assert "With `trust_remote_code=True`" not in card  # in PyTorch it runs all tokens
    assert not (models / "adapler" / "modeling_adapler.py").exists()


def test_compiled_programs_and_budgets_are_not_for_vectors(models):
    with pytest.raises(ValueError, match="exported programs need a classifier; load it with Embe"):
        export_model(models / "adapler")
    many = [f"w{number} w{number % 7}" for number in range(120)]
    with pytest.raises(ValueError, match="needs? a classifier; load it with Embedder"):
        calibrate_model(models / "adapler", many)


@pytest.mark.long
def test_no_program_is_compiled_after_the_warm_up(load):
    model = load("prompts", "packed")
    model.warm_up(2)
    with compilations() as found:
        model.encode(TEXTS, batch_size=2)
    assert found == []
