"""Files of pairs are scored by a reranker."""

import json

import numpy as np
import pytest

from adapler_jax.heads import regression
from adapler_jax.inference.reranker import Reranker
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
        ("pairs.jsonl", {"columns": ["query"]}, "names query; expected the two columns of a query"),
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
