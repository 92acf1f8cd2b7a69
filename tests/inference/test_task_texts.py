"""Texts of a task in batches, with their labels, for the driver that runs them faster."""

import shutil

import numpy as np
import pytest

from adapler_jax.evaluation import calibrate, task_texts
from adapler_jax.evaluation.models import lengths_of
from adapler_jax.evaluation.task_texts import make_task_texts
from adapler_jax.inference.calibration import read_calibration
from adapler_jax.inference.classifier import Classifier
from adapler_jax.types import PADDING_EXAMPLE_ID
from tests import tiny
from tests.inference.calibrated import BUDGETS, make_texts


@pytest.mark.parametrize(("least", "driver"), [(41, "masked"), (40, "packed")])
def test_many_texts_have_one_length_and_the_packed_driver(calibrated, monkeypatch, least, driver):
    monkeypatch.setattr(task_texts, "MIN_PACKED", least)
    classifier, texts = Classifier.load(calibrated[0]), make_texts(40)
    labels = {text: number % 3 for number, text in enumerate(texts)}
    found = make_task_texts(classifier, texts, labels)
    assert found.driver == driver and len(lengths_of(found.batches)) == 40
    assert driver == "masked" or {batch.token_BL.shape[1] for batch in found.batches} == {16}
    tokens = {tuple(row.token_L): text for row, text in zip(classifier.encode_tokens(texts), texts)}
    real = [
        tokens[tuple(token_L[valid_L].tolist())]
        for batch in found.batches
        for token_L, valid_L, number in zip(batch.token_BL, batch.valid_BL, batch.example_id_B)
        if number != PADDING_EXAMPLE_ID
    ]
    assert [labels[text] for text in real] == found.label_E.tolist()


@pytest.mark.long
def test_many_texts_are_measured_as_few_are(calibrated, monkeypatch, tmp_path):
    """The rows of a calibration do not depend on the driver that measured them."""
    found = []
    for least in (1, 10_000):
        monkeypatch.setattr(task_texts, "MIN_PACKED", least)
        directory = shutil.copytree(calibrated[0], tmp_path / str(least))
        calibrate.calibrate_model(directory, make_texts(120), budgets=BUDGETS)
        found.append(read_calibration(directory, tiny.CONFIG.num_layers))
    assert found[0].values == found[1].values
    for packed, masked in zip(found[0].rows, found[1].rows, strict=True):
        assert packed == pytest.approx(masked, abs=1e-5)


def test_no_more_texts_make_thresholds_than_fit_into_memory():
    assert calibrate._sample_size(16) == calibrate.MAX_SAMPLE
    assert calibrate._sample_size(4096) == task_texts.MIN_TEXTS
    assert np.all(np.diff([calibrate._sample_size(length) for length in (64, 1024, 2048)]) <= 0)
