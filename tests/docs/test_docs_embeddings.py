"""The programs of the page on embeddings run."""

import pathlib
import re

import numpy as np
import pytest

from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import embedding
from adapler_jax.inference.embedder import Embedder
from tests.docs.test_docs_onnx import run_program
from tests.export.onnx_models import save_tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "embeddings.md").read_text()
FOLDER = "runs/fast-embedder/model"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PRINT = "print(*embedder.encode(['w1 w2', 'w3'], normalize_embeddings=True).ravel())\n"


@pytest.fixture(scope="module", name="workplace")
def _workplace(tmp_path_factory):
    """Return a folder with the model that the page names."""
    folder = tmp_path_factory.mktemp("workplace")
    export_onnx(save_tiny(folder / FOLDER, "attention", max_length=16, head=embedding()))
    return folder


def numbers_of(text):
    return np.array([float(word) for word in text.replace("[", " ").replace("]", " ").split()])


def test_the_page_has_three_programs_on_one_folder():
    assert len(PROGRAMS) == 3 and all(FOLDER in program for program in PROGRAMS)


@pytest.mark.long
def test_the_first_program_prints_similarities(workplace):
    found = numbers_of(run_program(PROGRAMS[0], workplace))
    model = Embedder.load(workplace / FOLDER)
    texts = ["lift of a wing", "Lift of thin wings.", "A cat sat on a mat."]
    vectors = model.encode(texts)
    np.testing.assert_allclose(found, vectors[0] @ vectors[1:].T, atol=1e-4)


@pytest.mark.long
def test_the_program_without_jax_gives_equal_vectors(workplace):
    assert "(1, 16)" in run_program(PROGRAMS[1], workplace)
    found = numbers_of(run_program(PROGRAMS[1].partition("print")[0] + PRINT, workplace))
    expected = Embedder.load(workplace / FOLDER).encode(["w1 w2", "w3"])
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-5)


@pytest.mark.compare
def test_the_program_with_sentence_transformers_runs_all_tokens(workplace, tmp_path):
    pytest.importorskip("sentence_transformers")
    found = numbers_of(run_program(PROGRAMS[2] + PRINT, workplace))
    head = embedding()
    full = save_tiny(tmp_path / "full", "keep_all", max_length=16, head=head)
    expected = Embedder.load(full).encode(["w1 w2", "w3"])
    np.testing.assert_allclose(found, expected.ravel(), atol=1e-5)
