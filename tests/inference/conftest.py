"""A saved model of four layers."""

import pytest

from adapler_jax.weights.save import save_model
from tests import tiny
from tests.data.conftest import build_tokenizer


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
