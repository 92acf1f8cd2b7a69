"""Files of texts become files of vectors."""

import json

import numpy as np
import pyarrow.parquet
import pytest

from adapler_jax.heads import embedding
from adapler_jax.inference.embedder import Embedder
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.predictors import ModelSettings
from tests.export.onnx_models import save_tiny

pytestmark = pytest.mark.long

TEXTS = ["w1 w2 w3", "w4", "w5 w6 " * 20, "w7 w8"]


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory):
    """The directory of a pruned model of vectors."""
    return save_tiny(
        tmp_path_factory.mktemp("vectors") / "model", "adapler", head=embedding(), max_length=12
    )


@pytest.fixture(scope="module", name="expected")
def _expected(model):
    return Embedder.load(model).encode(TEXTS)


def write(path):
    """Write the texts as JSON lines, or as lines."""
    rows = TEXTS if path.suffix == ".txt" else [json.dumps({"text": text}) for text in TEXTS]
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "txt"])
def test_each_row_has_the_vector_of_its_text(model, tmp_path, expected, kind):
    source, output = write(tmp_path / f"texts.{kind}"), tmp_path / "vectors.jsonl"
    settings = ModelSettings(batch_size=3)
    request = PredictRequest(model, source=str(source), output=str(output), settings=settings)
    assert predict_file(request) == len(TEXTS)
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-6)
    assert [row["is_cut"] for row in rows] == [False, False, True, False]


def test_a_parquet_file_has_lists(model, tmp_path, expected):
    source, output = write(tmp_path / "texts.jsonl"), tmp_path / "vectors.parquet"
    predict_file(PredictRequest(model, source=str(source), output=str(output)))
    found = pyarrow.parquet.read_table(output).column("embedding").to_pylist()
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"columns": ["text", "other"]}, "names text, other; expected one column, since each text"),
        ({"with_kept": True}, "gives vectors without words; leave out --kept and --explain"),
        ({"settings": ModelSettings(speedup=2.0)}, "takes no budgets; leave out --budget"),
        ({"settings": ModelSettings(threshold=0.5)}, "no classes to decide between"),
    ],
)
def test_options_of_other_models_are_named(model, tmp_path, fields, message):
    source = write(tmp_path / "texts.jsonl")
    request = PredictRequest(model, source=str(source), output=str(tmp_path / "o.csv"), **fields)
    with pytest.raises(ValueError, match=message):
        predict_file(request)
