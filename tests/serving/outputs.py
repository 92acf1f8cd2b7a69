"""Read the outputs of bulk prediction, and compare them with predictions."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet

PROBABILITIES = ("probability_a", "probability_b", "probability_c")
NAMES = ("label", *PROBABILITIES, "is_cut")


def read_rows(path):
    """Rows of an output as dicts; lists and numbers of CSV and TSV stay strings."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n")[:-1]]
    return read_table(text, "," if path.suffix == ".csv" else "\t")


def read_table(text, delimiter="\t"):
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


def assert_answers(rows, predictions):
    """Labels, probabilities and truncated texts equal the predictions."""
    assert [row["label"] for row in rows] == [prediction.label for prediction in predictions]
    assert [row["is_cut"] in (True, "true") for row in rows] == [
        prediction.is_cut for prediction in predictions
    ]
    found = [[float(row[name]) for name in PROBABILITIES] for row in rows]
    expected = [list(prediction.probabilities.values()) for prediction in predictions]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
