"""A budget compiles nothing, and a model without a calibration is the same model."""

import json
import types

import jax
import numpy as np
import pytest

from adapler_jax.inference.classifier import Classifier
from benchmarks.budget_calls import main, measure, without_calibration
from benchmarks.compilations import compilations
from tests.inference.calibrated import make_texts

pytestmark = pytest.mark.long


def test_the_record_has_a_row_of_each_batch_size(calibrated, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(make_texts(6)) + "\n")
    paths = {"data": str(tmp_path / "texts.txt"), "json": str(tmp_path / "record.json")}
    options = types.SimpleNamespace(
        model=str(calibrated[0]), column=[], num_texts=4, rounds=1, **paths
    )
    main(options)
    rows = json.loads((tmp_path / "record.json").read_text())["rows"]
    assert [(row["batch_size"], row["num_texts"]) for row in rows] == [(1, 4), (32, 4)]


def test_calls_with_budgets_compile_nothing(calibrated, tmp_path):
    (tmp_path / "plain").mkdir()
    plain = Classifier.load(without_calibration(calibrated[0], tmp_path / "plain"))
    classifier, texts = Classifier.load(calibrated[0]), make_texts(8)
    assert plain.calibration is None
    probs_NC, expected_NC = plain.predict_probs(texts), classifier.predict_probs(texts)
    np.testing.assert_allclose(probs_NC, expected_NC, atol=1e-6)
    row = measure(classifier, plain, texts, batch_size=4, rounds=3)
    assert row["compiled"] == 0 and 0.1 < row["calibrated_over_plain"] < 10.0
    with compilations() as compiled:
        jax.jit(lambda x: 3.25 * x)(1.0)
    assert len(compiled) >= 1
