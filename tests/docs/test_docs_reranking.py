"""The programs of the page on reranking run."""

import json
import pathlib
import re

import numpy as np
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


def make_pairs():
    """Return the rows of 76 queries, of 12 documents each."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(45)]
    return [
        (f"w{query % 45} w{query // 45}", " ".join(rng.choice(words, rng.integers(4, 12))))
        for query in range(76)
        for _ in range(12)
    ]


@pytest.fixture(scope="module", name="workplace")
def _workplace(tmp_path_factory):
    """Return a folder with the reranker that the page names, which the page's program certifies."""
    folder = tmp_path_factory.mktemp("workplace")
    save_tiny(folder / FOLDER, "adapler", max_length=16, head=regression("sigmoid"))
    (folder / "pairs.json").write_text(json.dumps(make_pairs()))
    run_program(f"import json\npairs = json.load(open('pairs.json'))\n{PROGRAMS[1]}", folder)
    export_onnx(folder / FOLDER)
    return folder


def scores_of(text):
    return [float(line) for line in text.split()]


def test_the_page_has_five_programs_on_one_folder():
    assert len(PROGRAMS) == 5 and all(FOLDER in program for program in PROGRAMS)


@pytest.mark.long
def test_the_first_program_prints_the_best_documents(workplace):
    lines = run_program(PROGRAMS[0], workplace).splitlines()
    assert len(lines) == 2 and all(re.match(r"\d 0\.\d+ \w", line) for line in lines)


@pytest.mark.long
def test_the_program_without_jax_gives_equal_scores(workplace):
    ours, exported = (
        scores_of(run_program(f"{head}\nmodel = reranker\n{RANK}", workplace))
        for head in (PROGRAMS[0].partition("documents =")[0], PROGRAMS[4])
    )
    assert exported == pytest.approx(ours, abs=1e-5) and len(ours) == 2


@pytest.mark.long
def test_a_promise_is_certified_and_documents_are_ranked_with_it(workplace):
    found = json.loads((workplace / FOLDER / "calibration.json").read_text())
    assert found["certificate"]["num_texts"] == 61 and found["certificate"]["min_shared"] == 9
    scores = scores_of(run_program(PROGRAMS[2], workplace))
    assert len(scores) == 3 and all(0.0 < score < 1.0 for score in scores)


@pytest.mark.compare
def test_the_program_with_sentence_transformers_gives_equal_scores(workplace):
    pytest.importorskip("sentence_transformers")
    theirs = scores_of(run_program(PROGRAMS[3] + RANK, workplace))
    ours = PROGRAMS[0].partition("documents =")[0]
    expected = scores_of(run_program(f"{ours}\nmodel = reranker\n{RANK}", workplace))
    assert theirs == pytest.approx(expected, abs=1e-5)
