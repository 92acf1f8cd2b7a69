"""The programs of the page on reranking run."""

import pathlib
import re

import pytest

from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.heads import regression
from tests.docs.test_docs_onnx import run_program
from tests.export.onnx_models import save_tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reranking.md").read_text()
FOLDER = "runs/fast-reranker/model"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
DOCUMENTS = 'documents = ["w1 w2", "w3"]\n'
RANK = f'{DOCUMENTS}for found in model.rank("w4", documents): print(found["score"])\n'


@pytest.fixture(scope="module", name="workplace")
def _workplace(tmp_path_factory):
    """Return a folder with the reranker that the page names."""
    folder = tmp_path_factory.mktemp("workplace")
    export_onnx(save_tiny(folder / FOLDER, "adapler", max_length=16, head=regression("sigmoid")))
    return folder


def scores_of(text):
    return [float(line) for line in text.split()]


def test_the_page_has_three_programs_on_one_folder():
    assert len(PROGRAMS) == 3 and all(FOLDER in program for program in PROGRAMS)


def test_the_first_program_prints_the_best_documents(workplace):
    lines = run_program(PROGRAMS[0], workplace).splitlines()
    assert len(lines) == 2 and all(re.match(r"\d 0\.\d+ \w", line) for line in lines)


def test_the_program_without_jax_gives_equal_scores(workplace):
    ours, exported = (
        scores_of(run_program(f"{head}\nmodel = reranker\n{RANK}", workplace))
        for head in (PROGRAMS[0].partition("documents =")[0], PROGRAMS[2])
    )
    assert exported == pytest.approx(ours, abs=1e-5) and len(ours) == 2


@pytest.mark.compare
def test_the_program_with_sentence_transformers_gives_equal_scores(workplace):
    pytest.importorskip("sentence_transformers")
    theirs = scores_of(run_program(PROGRAMS[1] + RANK, workplace))
    ours = PROGRAMS[0].partition("documents =")[0]
    expected = scores_of(run_program(f"{ours}\nmodel = reranker\n{RANK}", workplace))
    assert theirs == pytest.approx(expected, abs=1e-5)
