"""An exported file is compared with its model, and the card says the result."""

import json

import numpy as np
import pytest

import adapler_jax
from adapler_jax import onnx
from adapler_jax.evaluation import exported_files
from adapler_jax.export.onnx.measurements import Measurement
from adapler_jax.heads import SPAN, regression
from adapler_jax.inference.classifier import Classifier
from tests.export.onnx_models import save_tiny

RNG = np.random.default_rng(0)
TEXTS = [" ".join(f"w{number}" for number in RNG.integers(45, size=size)) for size in range(1, 13)]
NAMES = ("no", "maybe", "yes")
MEASURED = Measurement(
    num_texts=2000,
    agreement=0.9935,
    accuracy=0.871,
    library_accuracy=0.8725,
    milliseconds=3.14,
    sentences_per_s=611.7,
    device="cpu: X, 2 cores",
    engine="onnxruntime 1.32.0",
    digests={},
)


@pytest.fixture(name="model_dir")
def _model_dir(tmp_path):
    return save_tiny(tmp_path / "model", "adapler", class_names=NAMES, max_length=14)


def card_of(directory):
    return (directory / "README.md").read_text()


def rows_of(directory):
    return json.loads((directory / "exports.json").read_text())


def test_a_file_in_float32_has_the_library_s_labels(model_dir):
    labels = [found.label for found in Classifier.load(model_dir, driver="masked").predict(TEXTS)]
    labels[:3] = [NAMES[NAMES.index(label) - 1] for label in labels[:3]]
    found = adapler_jax.measure_export(adapler_jax.export_onnx(model_dir), TEXTS, labels=labels)
    assert (found.num_texts, found.agreement) == (len(TEXTS), 1.0)
    assert found.accuracy == found.library_accuracy == 9 / 12
    assert found.milliseconds > 0.0 and found.sentences_per_s > 0.0
    assert "| onnx/model.onnx | 12 | 100.00% | 75.0% |" in card_of(model_dir)


def test_labels_are_counted_where_they_differ(model_dir, monkeypatch):
    path = adapler_jax.export_onnx(model_dir)

    def flip(self, texts, **options):
        """Return another class for the last text."""
        prob_MC = predict_probs(self, texts, **options)
        prob_MC[-1] = np.roll(prob_MC[-1], 1)
        return prob_MC

    predict_probs = onnx.Classifier.predict_probs
    monkeypatch.setattr(onnx.Classifier, "predict_probs", flip)
    found = adapler_jax.measure_export(path, TEXTS)
    assert found.agreement == 11 / 12 and found.accuracy is None
    assert "| onnx/model.onnx | 12 | 91.67% |  |" in card_of(model_dir)


def test_each_file_has_a_row_until_it_is_written_again(model_dir):
    before = card_of(model_dir)
    first, second = (
        adapler_jax.export_onnx(model_dir, **options)
        for options in ({}, {"quantize": "avx512_vnni"})
    )
    for path in (second, first):
        adapler_jax.measure_export(path, TEXTS)
    assert list(rows_of(model_dir)) == ["onnx/model.onnx", "onnx/model_qint8_avx512_vnni.onnx"]
    assert card_of(model_dir).count("| 12 |") == 2
    adapler_jax.export_onnx(model_dir)
    assert list(rows_of(model_dir)) == ["onnx/model_qint8_avx512_vnni.onnx"]
    assert "| onnx/model.onnx" not in card_of(model_dir)
    adapler_jax.export_onnx(model_dir, quantize="avx512_vnni")
    assert card_of(model_dir) == before and not (model_dir / "exports.json").exists()


def test_rows_go_when_their_file_is_out_of_date(model_dir):
    first, second = (
        adapler_jax.export_onnx(model_dir, **options) for options in ({}, {"operators": "standard"})
    )
    adapler_jax.measure_export(first, TEXTS)
    file = model_dir / "exports.json"
    rows = rows_of(model_dir)
    file.write_text(json.dumps(rows | {"of another release.onnx": {"num_texts": 3}}))
    config = model_dir / "config.json"
    config.write_text(config.read_text().replace('"maybe"', '"perhaps"'))
    second = adapler_jax.export_onnx(model_dir, operators="standard")
    assert adapler_jax.measure_export(second, TEXTS).agreement == 1.0
    assert list(rows_of(model_dir)) == [f"onnx/{second.name}"]


@pytest.mark.long
def test_equal_texts_may_have_different_labels(model_dir):
    path = adapler_jax.export_onnx(model_dir)
    found = adapler_jax.measure_export(path, ["w1 w2"] * 3, labels=["no", "maybe", "yes"])
    assert found.accuracy == 1 / 3


def test_integers_that_overflow_here_are_not_measured(model_dir, monkeypatch):
    path = adapler_jax.export_onnx(model_dir, quantize="avx512_vnni")
    monkeypatch.setattr(exported_files, "this_processor", lambda: "avx2")
    with pytest.raises(ValueError, match="for another processor than this one, which is avx2"):
        adapler_jax.measure_export(path, TEXTS)


def test_the_numbers_in_words():
    assert MEASURED.sentence() == (
        "99.35% of 2,000 texts have the library's label, accuracy 87.1% (library 87.2%); 3.1 ms a "
        "text, 612 texts a second in batches of 32"
    )
    assert MEASURED.line("onnx/model.onnx") == (
        "| onnx/model.onnx | 2,000 | 99.35% | 87.1% | 3.1 ms | 612 texts/s | cpu: X, 2 cores, "
        "onnxruntime 1.32.0 |"
    )


def test_wrong_texts_and_labels_are_named(model_dir):
    path = adapler_jax.export_onnx(model_dir)
    for texts, labels, message in (
        ([], None, "there are no texts"),
        (TEXTS, ["no"], "1 labels for 12 texts"),
        (TEXTS, ["never"] * 12, "label 'never' is no class of the model: no, maybe, yes"),
    ):
        with pytest.raises(ValueError, match=message):
            adapler_jax.measure_export(path, texts, labels=labels)
    assert "Exported files" not in card_of(model_dir)


def test_answers_are_not_measured(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler", head=SPAN)
    with pytest.raises(ValueError, match="does not classify texts, so"):
        adapler_jax.measure_export(adapler_jax.export_onnx(directory), TEXTS)


@pytest.mark.parametrize("name", ["config.json", "onnx/model.xml", "openvino/openvino_model.bin"])
def test_another_file_is_named(model_dir, name):
    with pytest.raises(ValueError, match="is no exported file; expected a path as onnx/model.onnx"):
        adapler_jax.measure_export(model_dir / name, TEXTS)


def test_a_path_may_be_relative_to_its_folder(model_dir, monkeypatch):
    path = adapler_jax.export_onnx(model_dir)
    monkeypatch.chdir(path.parent)
    assert adapler_jax.measure_export("model.onnx", TEXTS).agreement == 1.0


def test_damaged_numbers_are_written_anew(model_dir):
    path = adapler_jax.export_onnx(model_dir)
    for text in ('{"a": 1}', "{"):
        (model_dir / "exports.json").write_text(text)
        adapler_jax.export_onnx(model_dir)
        adapler_jax.measure_export(path, TEXTS)
        assert list(rows_of(model_dir)) == ["onnx/model.onnx"]


PAIRS = [(query, text) for query in ("w1 w2", "w3") for text in TEXTS[:6]]


@pytest.fixture(name="reranker_dir")
def _reranker_dir(tmp_path):
    return save_tiny(tmp_path / "reranker", "adapler", head=regression(), max_length=14)


@pytest.mark.long
def test_the_order_of_a_reranker_is_compared(reranker_dir, monkeypatch):
    path = adapler_jax.export_onnx(reranker_dir)
    found = adapler_jax.measure_export(path, PAIRS)
    assert found.agreement == pytest.approx(1.0) and found.measure == "Kendall's tau"
    assert found.accuracy is None
    assert found.sentence().startswith("Kendall's tau with the library's order of 12 texts is 1.0")
    card = card_of(reranker_dir)
    assert (
        "| file | texts | Kendall's tau |" in card and "| onnx/model.onnx | 12 | 100.00% |" in card
    )

    def turn(self, pairs, **options):
        """Return the opposite order of the second query's documents."""
        score_M = predict(self, pairs, **options)
        score_M[6:] *= -1.0
        return score_M

    predict = onnx.Regressor.predict
    monkeypatch.setattr(onnx.Regressor, "predict", turn)
    assert adapler_jax.measure_export(path, PAIRS).agreement == pytest.approx(0.0, abs=1e-9)


def test_a_reranker_is_compared_on_pairs(reranker_dir):
    path = adapler_jax.export_onnx(reranker_dir)
    for texts in (TEXTS, PAIRS[:1], []):
        with pytest.raises(ValueError, match="orders are compared on two pairs of a query"):
            adapler_jax.measure_export(path, texts)


@pytest.mark.long
def test_the_numbers_of_single_texts_are_compared_by_the_order_of_all(tmp_path):
    head = regression(num_outputs=2)
    directory = save_tiny(tmp_path / "several", "adapler", head=head, max_length=14)
    found = adapler_jax.measure_export(adapler_jax.export_onnx(directory), TEXTS)
    assert found.agreement == pytest.approx(1.0) and found.measure == "Kendall's tau"
    with pytest.raises(ValueError, match="numbers are compared on two texts or more"):
        adapler_jax.measure_export(directory / "onnx" / "model.onnx", TEXTS[:1])


def test_numbers_of_an_earlier_release_are_kept(model_dir):
    path = adapler_jax.export_onnx(model_dir)
    adapler_jax.measure_export(path, TEXTS)
    rows = rows_of(model_dir)
    (row,) = rows.values()
    del row["measure"]
    (model_dir / "exports.json").write_text(json.dumps({"onnx/other.onnx": row}))
    adapler_jax.measure_export(path, TEXTS)
    assert rows_of(model_dir).keys() == {"onnx/model.onnx", "onnx/other.onnx"}
