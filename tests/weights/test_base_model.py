"""A saved model names the model on the hub that it was made from."""

import pytest

from adapler_jax.weights.base_model import base_model_entry
from tests.export.onnx_models import save_tiny


@pytest.mark.parametrize("name", ["bert-base-uncased", "sentence-transformers/all-MiniLM-L6-v2"])
def test_a_name_on_the_hub_is_the_base_model(name):
    assert base_model_entry(name) == {"base_model": name}


def test_a_folder_of_ours_passes_its_base_model_on(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler", extra={"base_model": "org/name"})
    assert base_model_entry(directory) == {"base_model": "org/name"}


@pytest.mark.parametrize("value", ["no name: at all", 3, None])
def test_another_value_is_left_out(tmp_path, value):
    directory = save_tiny(tmp_path / "model", "adapler", extra={"base_model": value})
    assert base_model_entry(directory) == {}
    assert "base_model" not in (directory / "README.md").read_text()


def test_a_folder_of_another_program_has_none(tmp_path):
    assert base_model_entry(tmp_path) == {}
