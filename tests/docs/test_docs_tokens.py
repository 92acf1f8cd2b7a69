"""The programs of the page on token classification run."""

import pathlib
import re

import pytest

from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.inference.token_classifier import TokenClassifier
from tests.docs.test_docs_onnx import run_program
from tests.export.onnx_models import save_tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "token-classification.md").read_text()
FOLDER = "path/or/hub-name"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TAGS = ("O", "B-PER", "I-PER", "LOC")


@pytest.fixture(scope="module", name="workplace")
def _workplace(tmp_path_factory):
    """Return a folder with the model that the page names."""
    folder = tmp_path_factory.mktemp("workplace")
    options = {"class_names": TAGS, "max_length": 16}
    export_onnx(save_tiny(folder / FOLDER, "keep_all", head=TOKEN_CLASSIFICATION, **options))
    return folder


def test_the_page_has_three_programs():
    assert len(PROGRAMS) == 3 and all("model.predict(" in program for program in PROGRAMS)


@pytest.mark.long
def test_the_first_programs_print_entities_and_tags(workplace):
    printed = run_program(PROGRAMS[0] + PROGRAMS[1], workplace).splitlines()
    model = TokenClassifier.load(workplace / FOLDER)
    expected = model.predict(["Ann Lee lives in New York.", "It rained."])
    assert len(printed) == sum(map(len, expected)) + 1
    words = ["Ann", "Lee", "lives", "in", "New", "York", "."]
    assert printed[-1] == str([tag["entity"] for tag in model.predict([words])[0]])


@pytest.mark.long
def test_the_program_without_jax_prints_the_same_entities(workplace):
    printed = run_program(PROGRAMS[2] + "print(sorted(__import__('sys').modules))", workplace)
    first, modules = printed.splitlines()
    expected = TokenClassifier.load(workplace / FOLDER).predict(
        "Ann Lee lives in New York.", aggregation="average"
    )
    assert first.count("entity_group") == len(expected) and "'jax'" not in modules
