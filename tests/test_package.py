"""The package as users import it: public names, imported on first use."""

import pathlib
import statistics
import subprocess
import sys

import pytest

import adapler_jax
from adapler_jax.presets import old_names

ROOT = pathlib.Path(__file__).resolve().parents[1]
PUBLIC = {
    "Classifier",
    "CompressOptions",
    "Embedder",
    "MultiLabelClassifier",
    "MultipleChoice",
    "Promise",
    "QuestionAnswerer",
    "Regressor",
    "Reranker",
    "TokenClassifier",
    "__version__",
    "calibrate_model",
    "compress",
    "export_model",
    "export_onnx",
    "export_openvino",
    "load_model",
    "make_engine",
    "make_pruner",
    "measure_export",
    "save_model",
}


def run_python(program):
    """Return what a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_public_names_are_listed():
    assert set(adapler_jax.__all__) == PUBLIC and set(dir(adapler_jax)) >= PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_found(name):
    value = getattr(adapler_jax, name)
    assert value if name == "__version__" else value.__name__ == name
    assert getattr(adapler_jax, name) is value


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'adapler_jax' has no attribute 'Classifer'"):
        _ = adapler_jax.Classifer


def test_the_import_is_fast_and_without_jax():
    program = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import adapler_jax\n"
        "seconds = time.perf_counter() - start\n"
        "heavy = {'jax', 'flax', 'numpy', 'transformers', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(seconds)"
    )
    seconds = [float(run_python(program)) for _ in range(5)]
    assert statistics.median(seconds) < 0.1


def test_the_changelog_has_every_old_name():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## {adapler_jax.__version__}\n" in changelog
    for old, new in (old_names.FIELDS | old_names.PRUNER_OPTIONS).items():
        row = f"| `{old.rstrip('.')}`"
        lines = [line for line in changelog.splitlines() if line.startswith(row)]
        assert any(f"| `{new.rstrip('.')}` |" in line for line in lines), old


def test_the_citation_has_the_version():
    assert f"version: {adapler_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
