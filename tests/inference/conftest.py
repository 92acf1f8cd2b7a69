"""A saved model of four layers, and its calibration."""

import shutil

import pytest

from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer
from tests.inference.calibrated import BUDGETS, make_texts


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory):
    """The directory of a saved model that drops tokens."""
    directory = tmp_path_factory.mktemp("classifier") / "model"
    save_model(
        directory,
        tiny.make_params(),
        tiny.CONFIG,
        pruner_name="adapler",
        class_names=("a", "b", "c"),
        max_length=16,
        tokenizer=build_tokenizer(),
    )
    return directory


@pytest.fixture(scope="session", name="calibrated")
def _calibrated(tiny_classifier, tmp_path_factory):
    """The directory of a calibrated model, and the notes of its calibration."""
    directory = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(tiny_classifier, directory)
    notes = []
    calibrate_model(directory, make_texts(400), budgets=BUDGETS, log=notes.append)
    return directory, notes
