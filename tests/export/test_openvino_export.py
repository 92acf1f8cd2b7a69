"""A model in OpenVINO's format has the names that others load, and the library's predictions."""

import json
import os

import numpy as np
import pytest

import adapler_jax
from adapler_jax.heads import SPAN, hotpot
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.extras import import_engine
from adapler_jax.onnx import Classifier as Exported
from adapler_jax.weights.save import load_model
from tests.export.onnx_models import save_tiny
from tests.export.test_onnx_export import run_command

pytestmark = pytest.mark.compare
RNG = np.random.default_rng(0)
TEXTS = [" ".join(f"w{number}" for number in RNG.integers(45, size=size)) for size in range(1, 13)]


@pytest.fixture(name="model_dir")
def _model_dir(tmp_path):
    return save_tiny(tmp_path / "model", "adapler", max_length=14)


def open_model(path):
    """The uncompiled model of a file."""
    return import_engine("openvino").Core().read_model(path)


@pytest.mark.parametrize(
    ("head", "outputs"), [(None, ["logits"]), (SPAN, ["start_logits", "end_logits"])]
)
def test_names_and_types_are_those_of_the_onnx_file(tmp_path, head, outputs):
    options = {} if head is None else {"head": head}
    directory = save_tiny(tmp_path / "model", "adapler", **options)
    path = adapler_jax.export_openvino(directory)
    assert path == directory / "openvino/openvino_model.xml"
    assert sorted(os.listdir(path.parent)) == ["openvino_model.bin", "openvino_model.xml"]
    model = open_model(path)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    assert [found.any_name for found in model.inputs] == names
    assert {found.element_type.to_dtype() for found in model.inputs} == {np.dtype("int64")}
    assert [found.any_name for found in model.outputs] == [*outputs, "kept"]
    assert model.output(outputs[0]).element_type.to_dtype() == np.dtype("float32")


def test_a_second_export_replaces_the_first(model_dir):
    path = adapler_jax.export_openvino(model_dir)
    weights = path.with_suffix(".bin")
    before, texts = weights.read_bytes(), ["w1 w2 w3"]
    saved = load_model(model_dir)
    saved.params["head"]["classifier"]["bias"] = saved.params["head"]["classifier"]["bias"] + 1.0
    kept = {"pruner_name": "adapler", "max_length": 14}
    adapler_jax.save_model(model_dir, saved.params, saved.config, **kept)
    assert not path.parent.exists()
    adapler_jax.export_openvino(model_dir)
    assert weights.read_bytes() != before
    found = Exported.load(model_dir, engine="openvino").predict_probs(texts)
    expected = Classifier.load(model_dir, driver="masked").predict_probs(texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["keep_all", "attention", "powerbert", "trbert", "vocabulary"])
def test_every_method_predicts_what_the_library_does(tmp_path, method):
    directory = save_tiny(tmp_path / "model", method, max_length=14)
    adapler_jax.export_openvino(directory)
    found = Exported.load(directory, engine="openvino", num_threads=1).predict(TEXTS)
    expected = Classifier.load(directory, driver="masked").predict(TEXTS)
    for one, other in zip(found, expected):
        assert (one.label, one.num_tokens) == (other.label, other.num_tokens)
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_bfloat16_is_a_hint(model_dir):
    adapler_jax.export_openvino(model_dir)
    classifier = Exported.load(model_dir, engine="openvino", dtype="bfloat16")
    hint = classifier.engine._model.get_property("INFERENCE_PRECISION_HINT")
    assert str(hint) == "<Type: 'bfloat16'>"
    expected = Exported.load(model_dir, engine="openvino").predict_probs(TEXTS)
    np.testing.assert_allclose(classifier.predict_probs(TEXTS), expected, rtol=0, atol=0.05)
    with pytest.raises(ValueError, match="dtype is 'int8'; expected float32 or bfloat16"):
        Exported.load(model_dir, engine="openvino", dtype="int8")


def test_each_dtype_has_a_row_in_the_card_until_the_file_is_written_again(model_dir):
    path = adapler_jax.export_openvino(model_dir)
    for dtype in ("float32", "bfloat16"):
        adapler_jax.measure_export(path, TEXTS, dtype=dtype)
    rows = json.loads((model_dir / "exports.json").read_text())
    assert list(rows) == [f"openvino/{path.name}, {dtype}" for dtype in ("bfloat16", "float32")]
    assert all(row["engine"].startswith("openvino 20") for row in rows.values())
    card = (model_dir / "README.md").read_text()
    assert f"| openvino/{path.name}, float32 | 12 | 100.00% |" in card
    adapler_jax.export_openvino(model_dir)
    assert not (model_dir / "exports.json").exists()


def test_the_command_writes_and_compares(model_dir, tmp_path, capsys):
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(TEXTS))
    arguments = f"--model={model_dir}", "--format=openvino", f"--data={data}"
    assert run_command(*arguments, "--dtype=float32,bfloat16") in (0, None)
    printed = capsys.readouterr().out
    files = (model_dir / "openvino").iterdir()
    size = f"{sum(path.stat().st_size for path in files) / 1e6:.1f}"
    assert f"openvino/openvino_model.xml: {size} MB" in printed
    assert "\nfloat32: 100.00% of 12 texts have the library's label" in printed
    assert "\nbfloat16: " in printed
    assert len(json.loads((model_dir / "exports.json").read_text())) == 2


def test_a_head_that_cannot_be_exported_leaves_nothing(tmp_path):
    directory = save_tiny(tmp_path / "model", "keep_all", head=hotpot(3))
    with pytest.raises(ValueError, match="has the head 'hotpot'"):
        adapler_jax.export_openvino(directory)
    assert not (directory / "openvino").exists()


def test_an_error_of_openvino_keeps_the_earlier_files(model_dir, monkeypatch):
    path = adapler_jax.export_openvino(model_dir)
    before = path.read_bytes()

    def fail(*arguments, **options):
        raise RuntimeError("no space\nmore")

    monkeypatch.setattr(import_engine("openvino"), "save_model", fail)
    with pytest.raises(OSError, match=r"openvino_model.xml was not written: no space$"):
        adapler_jax.export_openvino(model_dir)
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["openvino_model.bin", "openvino_model.xml"]


@pytest.mark.parametrize("suffix", [".bin", ".xml"])
def test_a_damaged_file_is_named(model_dir, suffix):
    path = adapler_jax.export_openvino(model_dir)
    path.with_suffix(suffix).write_bytes(b"")
    with pytest.raises(ValueError, match="openvino_model.xml is damaged; export it again"):
        Exported.load(model_dir, engine="openvino")
