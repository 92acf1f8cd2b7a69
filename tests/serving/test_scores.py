"""Files of texts or pairs are scored by a model of numbers."""

import csv
import json

import numpy as np
import pyarrow.parquet
import pytest

from adapler_jax.heads import regression
from adapler_jax.inference.reranker import Regressor, Reranker
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.predictors import ModelSettings
from tests.inference.test_reranker import PAIRS, save


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    """The directory of a reranker."""
    return save(tmp_path_factory.mktemp("reranker") / "model", regression("sigmoid"))


def write(path, names=("query", "document")):
    """Write the pairs as JSON lines."""
    rows = [dict(zip(names, pair)) for pair in PAIRS]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.long
@pytest.mark.parametrize("names", [("query", "document"), ("text", "text_pair")])
def test_each_row_has_the_score_of_its_pair(model, tmp_path, names):
    source = write(tmp_path / "pairs.jsonl", names)
    output = tmp_path / "scores.jsonl"
    settings = ModelSettings(batch_size=4)
    request = PredictRequest(
        model, source=str(source), output=str(output), copy="all", settings=settings
    )
    assert predict_file(request) == len(PAIRS)
    rows = read(output)
    expected = Reranker.load(model).predict(PAIRS)
    np.testing.assert_allclose([row["score"] for row in rows], expected, atol=1e-6)
    assert [row["is_cut"] for row in rows] == [False, False, False, True, False, False]
    assert [tuple(row[name] for name in names) for row in rows] == PAIRS


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("pairs.jsonl", {"columns": ["a", "b", "c"]}, "names a, b, c; expected one column of te"),
        ("pairs.jsonl", {"with_kept": True}, "gives scores without words; leave out --kept"),
        ("pairs.txt", {}, "scores pairs, which text lines do not have; .* query and document"),
        (
            "pairs.jsonl",
            {"settings": ModelSettings(speedup=2.0)},
            "the model has no calibration, so it has one speed",
        ),
        (
            "pairs.jsonl",
            {"names": ("q", "d")},
            "which columns hold the query and the document.* --column=FIRST,SECOND; found: q, d",
        ),
        ("pairs.jsonl", {"settings": ModelSettings(threshold=0.5)}, "no classes to decide between"),
    ],
)
def test_options_of_other_models_are_named(model, tmp_path, name, fields, message):
    fields = dict(fields)
    names = fields.pop("names", ("query", "document"))
    source = write(tmp_path / name, names)
    request = PredictRequest(model, source=str(source), output=str(tmp_path / "out.csv"), **fields)
    with pytest.raises(ValueError, match=message):
        predict_file(request)


TEXTS = ["a good film", "bad", "", "good film " * 20]
NAMES = ("quality", "toxicity")


@pytest.fixture(scope="module", name="single")
def _single(tmp_path_factory):
    """The directory of a model of one number of single texts."""
    directory = tmp_path_factory.mktemp("single") / "model"
    return save(directory, regression(), extra={"single_texts": True})


@pytest.fixture(scope="module", name="several")
def _several(tmp_path_factory):
    """The directory of a model of two numbers."""
    directory = tmp_path_factory.mktemp("several") / "model"
    return save(directory, regression(num_outputs=2), 2, class_names=NAMES)


def predict(model, source, output, **fields):
    """Return the rows of a prediction."""
    request = PredictRequest(model, source=str(source), output=str(output), **fields)
    assert predict_file(request) == len(TEXTS)
    return read(output)


@pytest.mark.long
def test_single_texts_have_a_score(single, tmp_path):
    expected = Regressor.load(single).predict(TEXTS)
    lines = tmp_path / "texts.txt"
    lines.write_text("".join(f"{text}\n" for text in TEXTS))
    table = tmp_path / "texts.jsonl"
    rows = [{"query": "no", "document": "no", "text": text} for text in TEXTS]
    table.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for number, source in enumerate((lines, table)):
        found = predict(single, source, tmp_path / f"{number}.jsonl")
        np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)
        assert [row["is_cut"] for row in found] == [False, False, False, True]


def test_a_column_of_single_texts_is_taken_by_name(model, tmp_path):
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(f"{json.dumps({'review': text})}\n" for text in TEXTS))
    found = predict(model, source, tmp_path / "out.jsonl", columns=["review"])
    expected = Regressor.load(model).predict(TEXTS)
    np.testing.assert_allclose([row["score"] for row in found], expected, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_several_numbers_have_a_column_each(several, tmp_path, kind):
    source = tmp_path / "texts.jsonl"
    source.write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS))
    output = tmp_path / f"out.{kind}"
    request = PredictRequest(several, source=str(source), output=str(output))
    assert predict_file(request) == len(TEXTS)
    if kind == "jsonl":
        table = {name: [row[name] for row in read(output)] for name in NAMES}
    elif kind == "csv":
        with output.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == (*NAMES, "is_cut")
        table = {name: [float(row[name]) for row in rows] for name in NAMES}
    else:
        table = pyarrow.parquet.read_table(output).to_pydict()
    expected = Regressor.load(several).predict(TEXTS)
    found = np.stack([table[name] for name in NAMES], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_numbers_of_pairs_are_found_by_their_columns(several, tmp_path):
    output = tmp_path / "out.jsonl"
    source = write(tmp_path / "pairs.jsonl")
    assert predict_file(PredictRequest(several, source=str(source), output=str(output))) == 6
    found = [[row[name] for name in NAMES] for row in read(output)]
    np.testing.assert_allclose(found, Regressor.load(several).predict(PAIRS), atol=1e-6)
