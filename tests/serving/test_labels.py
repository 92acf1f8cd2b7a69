"""Files of texts get several labels a row."""

import csv
import json

import pyarrow.parquet
import pytest

from adapler_jax.data.classification.label_sets import split_labels
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.highlight import highlight_predictions
from adapler_jax.serving.predictors import ModelSettings
from tests.inference.test_multi_label import NAMES, TEXTS, save_labels


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    return save_labels(tmp_path_factory.mktemp("labels") / "model")


@pytest.fixture(scope="module", name="source")
def _source(tmp_path_factory):
    """A file with the texts."""
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return path


def predict(model, source, output, **fields):
    """Predict a file, and return the rows of JSON lines."""
    settings = ModelSettings(batch_size=2, threshold=fields.pop("threshold", None))
    request = PredictRequest(model, source=str(source), output=str(output), settings=settings)
    request = type(request)(**(vars(request) | fields))
    assert predict_file(request) == len(TEXTS)
    return output


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("with_kept", [False, True])
def test_each_row_has_its_labels_and_probabilities(model, source, tmp_path, with_kept):
    output = predict(model, source, tmp_path / "out.jsonl", with_kept=with_kept)
    expected = MultiLabelClassifier.load(model).predict(TEXTS)
    for row, prediction in zip(rows_of(output), expected, strict=True):
        assert row["labels"] == list(prediction.labels)
        for name in NAMES:
            assert row[f"probability_{name}"] == pytest.approx(prediction.probabilities[name])
        assert row["is_cut"] == prediction.is_cut
        assert ("kept_words" in row) == with_kept


def test_labels_have_commas_in_tables_and_are_lists_in_parquet(model, source, tmp_path):
    output = predict(model, source, tmp_path / "out.csv", threshold=0.0)
    with output.open(newline="") as file:
        assert [row["labels"] for row in csv.DictReader(file)] == [",".join(NAMES)] * len(TEXTS)
    output = predict(model, source, tmp_path / "out.parquet", threshold=1.0)
    assert pyarrow.parquet.read_table(output)["labels"].to_pylist() == [[]] * len(TEXTS)


def test_a_highlighted_text_begins_with_its_labels(model):
    classifier = MultiLabelClassifier.load(model)
    text = highlight_predictions(classifier.predict(TEXTS[:1], threshold=0.0))
    assert all(name in text.splitlines()[0] for name in NAMES)
    none = highlight_predictions(classifier.predict(TEXTS[:1], threshold=1.0))
    assert none.startswith("no label, tokens per layer ")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ModelSettings(budget=0.5), "takes no budgets; leave out --budget"),
        (ModelSettings(long_texts="mean"), "reads no windows of texts; leave out --long_texts"),
    ],
)
def test_options_of_other_models_are_named(model, source, tmp_path, settings, message):
    request = PredictRequest(
        model, source=str(source), output=str(tmp_path / "out.csv"), settings=settings
    )
    with pytest.raises(ValueError, match=message):
        predict_file(request)


def test_a_label_with_a_comma_can_be_read_back(source, tmp_path):
    names = ("sport", "world, war", "food")
    model = save_labels(tmp_path / "commas", class_names=names)
    output = predict(model, source, tmp_path / "out.csv", threshold=0.0)
    with output.open(newline="") as file:
        cells = [row["labels"] for row in csv.DictReader(file)]
    assert split_labels(cells, ",", where="rows") == [names] * len(TEXTS)
