"""The page on serving without JAX shows programs that run, and quotes its records."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from adapler_jax.cli import main
from adapler_jax.export.onnx.export import export_onnx
from adapler_jax.onnx import Classifier
from tests.export.onnx_models import save_tiny

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "onnx.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
FOLDER = "runs/mine/adapt-2x/model"
QUANTIZED = "model_qint8_avx512_vnni.onnx"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module", name="workplace")
def _workplace(tmp_path_factory):
    """Return a folder with the exported model that the page names, and a file of texts."""
    folder = tmp_path_factory.mktemp("workplace")
    directory = save_tiny(folder / FOLDER, "adapler", max_length=16)
    export_onnx(directory)
    quantized = export_onnx(directory, quantize="avx512_vnni")
    assert quantized.name == QUANTIZED
    (folder / "reviews.csv").write_text("review,stars\nw1 w2 w3,1\nw4 w9 w8 w7,0\n")
    return folder


def run_program(text, folder):
    """Return what a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_three_programs():
    assert len(PROGRAMS) == 3 and all(FOLDER in program for program in PROGRAMS)


def test_the_program_without_this_library_prints_labels(workplace):
    assert "adapler_jax" not in PROGRAMS[0]
    code = [line for line in PROGRAMS[0].splitlines() if line.strip()]
    assert len(code) < 25
    expected = Classifier.load(workplace / FOLDER).predict(["a moving film", "two hours too long"])
    labels = ast.literal_eval(run_program(PROGRAMS[0], workplace))
    assert labels == [prediction.label for prediction in expected]


def test_the_program_with_our_tokenization_prints_kept_words(workplace):
    lines = run_program(PROGRAMS[1], workplace).splitlines()
    assert len(lines) == 2 and all(re.match(r"LABEL_\d \[", line) for line in lines)


@pytest.mark.compare
def test_the_program_with_torch_prints_the_same_labels(workplace):
    pytest.importorskip("torch", reason="torch is not installed")
    expected = Classifier.load(workplace / FOLDER).predict(["a moving film", "two hours too long"])
    labels = ast.literal_eval(run_program(PROGRAMS[2], workplace))
    assert labels == [prediction.label for prediction in expected]
    number = re.search(r"that file: (\d+) lines", PAGE)[1]
    lines = (workplace / FOLDER / "modeling_adapler.py").read_text().splitlines()
    assert int(number) == len(lines)


def test_the_comparison_fills_the_card(workplace, monkeypatch):
    (line,) = [line for line in PAGE.splitlines() if "--data=" in line]
    command, *words = line.split()
    assert command == "adapler"
    monkeypatch.chdir(workplace)
    with pytest.raises(SystemExit) as end:
        main.main(words)
    assert end.value.code is None
    assert "| onnx/model_qint8_" in (workplace / FOLDER / "README.md").read_text()


def test_names_of_the_page_are_names_of_the_file(workplace):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(workplace / FOLDER / "onnx/model.onnx"))
    found = {entry.name for entry in (*session.get_inputs(), *session.get_outputs())}
    named = re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| `.*", PAGE, re.MULTILINE)))
    assert found <= set(named)


def rows_of(cells):
    """Return the rows of the record of a line of the table."""
    name = re.search(r"results/(.*)\.json", cells[0])[1]
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def table_rows():
    """Return the cells of the table of measurements."""
    lines = re.findall(r"^\| \[.*", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]


def test_the_table_has_three_measurements():
    assert len(table_rows()) == 3


@pytest.mark.parametrize("cells", table_rows(), ids=lambda cells: cells[0][:20])
def test_a_measurement_quotes_its_record(cells):
    rows = rows_of(cells)
    exported = [row for row in rows if row["engine"] in ("onnxruntime", "openvino")]
    dense = [row for row in rows if row["method"] == "dense"]
    best_dense = min(dense, key=lambda row: row["p50_ms"])
    assert float(cells[2]) == pytest.approx(best_dense["p50_ms"], rel=0.01)
    columns = [("onnxruntime", "float32"), ("onnxruntime", "int8"), ("openvino", "float32")]
    for (engine, dtype), cell in zip(columns, cells[3:], strict=False):
        (row,) = [
            row
            for row in exported
            if (row["engine"], row["dtype"]) == (engine, dtype) and row["method"] != "dense"
        ]
        assert float(cell) == pytest.approx(row["p50_ms"], rel=0.01)
        assert float(cells[1].rstrip("x")) == round(row["flops_speedup"], 1)
    int8 = float(cells[4])
    assert float(cells[6].rstrip("x")) == pytest.approx(float(cells[2]) / int8, abs=0.06)


def test_the_table_of_precisions_quotes_its_record():
    rows = json.loads((RESULTS / "peers-exported-base-random-bf16.json").read_text())["rows"]

    def fastest(dtype, **fields):
        """Milliseconds of the fastest system."""
        return min(
            row["p50_ms"]
            for row in rows
            if row["dtype"] == dtype and all(row[name] == value for name, value in fields.items())
        )

    systems = {"ONNX Runtime": "onnxruntime", "OpenVINO": "openvino", "PyTorch": "torch"}
    found = {"best dense": {"method": "dense"}} | {
        f"pruned, {name}": {"method": "adapler-3.3x", "engine": engine}
        for name, engine in systems.items()
    }
    for name, fields in found.items():
        (line,) = re.findall(rf"^\| {name} \|(.*)\|$", PAGE, re.MULTILINE)
        for dtype, cell in zip(("float32", "bfloat16", "int8"), line.split("|"), strict=True):
            if cell.strip():
                assert float(cell) == pytest.approx(fastest(dtype, **fields), abs=0.06)
    pruned, dense = fastest("int8", method="adapler-3.3x"), fastest("int8", method="dense")
    assert dense == min(row["p50_ms"] for row in rows if row["method"] == "dense")
    text = " ".join(PAGE.split())
    assert f"Pruned int8 takes {pruned:.1f} ms, {dense / pruned:.1f}x less than the best" in text
    ratio = fastest("bfloat16", method="dense") / fastest(
        "bfloat16", method="adapler-3.3x", engine="openvino"
    )
    assert f"In bfloat16 OpenVINO is {ratio:.1f}x as fast as the best dense one" in text


@pytest.mark.parametrize(
    ("task", "num_rows", "unit", "methods"),
    [("mrpc", 5, "pair", ("adapt-2x", "adapt-3x")), ("imdb", 4, "review", ("dense", "adapt-4x"))],
)
def test_the_table_of_a_trained_model_quotes_its_record(task, num_rows, unit, methods):
    record = f"peers-exported-{task}.json"
    rows = json.loads((RESULTS / record).read_text())["rows"]
    table = PAGE.partition(record)[2].partition("|---")[2].partition("\n\n")[0]
    lines = re.findall(
        r"^\| (OpenVINO|ONNX Runtime|exported), (\S+) \|(.*)\|$", table, re.MULTILINE
    )
    assert len(lines) == num_rows
    engines = {
        "OpenVINO": ("openvino", ""),
        "ONNX Runtime": ("onnxruntime", "fused"),
        "exported": ("adapler_jax", "onnxruntime"),
    }
    for system, method, rest in lines:
        single, batched = (
            row
            for row in rows
            if (row["package"], row["engine"]) == engines[system]
            and (row["method"], row["dtype"]) == (method, "int8")
        )
        speedup, score, kept, single_ms, batched_ms = (
            cell.strip(" x%") for cell in rest.split("|")
        )
        assert float(speedup) == round(single["flops_speedup"], 1)
        assert score == f"{100 * single['test_score']:.1f}"
        assert float(kept) == pytest.approx(100 * single["float32_agreement"], abs=0.051)
        assert float(single_ms) == pytest.approx(single["p50_ms"], rel=0.02)
        assert float(batched_ms) == pytest.approx(batched["p50_ms"], rel=0.01)
    torch_1, torch_32 = (row["p50_ms"] for row in rows if row["package"] == "torch")
    scores = {
        row["method"]: f"{100 * row['test_score']:.1f}" for row in rows if row["dtype"] == "float32"
    }
    text = " ".join(PAGE.split())
    assert f"In float32, torch takes {torch_1:.1f} ms for a {unit} and {torch_32:.0f} ms" in text
    first, last = methods
    assert f"{first} has {scores[first]} and {last} {scores[last]}" in text
