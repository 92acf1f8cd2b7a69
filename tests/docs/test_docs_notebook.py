"""The committed notebook shows a full-size run and no traces of a machine."""

import ast
import json

import pytest

from tests.docs.commands import ROOT, blocks

CELLS = json.loads((ROOT / "docs" / "notebooks" / "quickstart.ipynb").read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
OUTPUTS = [output for cell in CODE for output in cell["outputs"]]
TEXT = "".join("".join(output.get("text", ())) for output in OUTPUTS)


def test_cells_were_run_from_top_to_bottom():
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))


def test_no_cell_failed_or_warned():
    assert not any(output["output_type"] == "error" for output in OUTPUTS)
    assert "Warning" not in json.dumps(OUTPUTS)


def test_outputs_are_of_the_full_size():
    assert "train: 2560 sentences" in TEXT and "adapt-2x" in TEXT


def test_outputs_show_shaded_text_and_a_picture():
    kinds = [kind for output in OUTPUTS for kind in output.get("data", {})]
    assert kinds.count("text/html") == 2 and kinds.count("image/png") == 1


def test_outputs_name_no_folder_of_a_machine():
    for path in ("/home/", "/root/", "/work/", "/tmp/", "site-packages"):
        assert path not in json.dumps(CELLS)


@pytest.mark.parametrize("cell", CODE, ids=lambda cell: cell["id"])
def test_cells_are_plain_python(cell):
    ast.parse("".join(cell["source"]))


def test_make_docs_runs_it_at_a_small_size():
    command = "ADAPLER_DEBUG=1 $(VENV)/bin/jupyter-execute docs/notebooks/quickstart.ipynb"
    assert command in (ROOT / "Makefile").read_text()
    assert "make docs" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_output_of_the_readme_is_of_the_notebooks_run():
    page = (ROOT / "README.md").read_text()
    _, output = [content for _, language, content in blocks(page) if language == "text"]
    assert "the film serves as a valuable time capsule" in page and output in TEXT
