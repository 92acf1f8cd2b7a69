"""The built sdist and wheel, installed into bare environments outside of the checkout, and used."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

import adapler_jax
from tests.docs.test_docs_onnx import FOLDER, PROGRAMS
from tests.export.onnx_models import save_tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]
RELEASE = ROOT / "tests" / "fixtures" / "release_0_1"
MODEL = RELEASE / "finished" / "adapler" / "adapler" / "model"
# Packages of extras and of tests, which the dependencies do not bring.
ABSENT = (
    "pytest",
    "hypothesis",
    "ml_collections",
    "transformers",
    "pyarrow",
    "matplotlib",
    "grain",
)
WITHOUT_JAX = ("adapler_jax", "jax", "torch", "transformers", "onnx")
pytestmark = pytest.mark.package


def run(*words, cwd, fails=False, text=""):
    """Run a command outside of the checkout and return what it prints, on either output."""
    hidden = ("PYTHONPATH", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    done = subprocess.run(
        list(map(str, words)),
        cwd=cwd,
        env=environment,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert (done.returncode != 0) == fails, f"{words}: {printed}"
    return printed


@pytest.fixture(scope="module", name="built")
def _built(tmp_path_factory):
    """(sdist, wheel), the wheel built from the sdist."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.fixture(scope="module", name="bare")
def _bare(built, tmp_path_factory):
    """The folder of commands of an environment that holds the sdist and its dependencies alone."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    commands = folder / "venv" / "bin"
    run(commands / "python", "-m", "pip", "install", "--quiet", built[0], cwd=folder)
    return commands


def test_the_wheel_holds_types_tables_templates_and_presets(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    for path in (
        "py.typed",
        "inference/autotune/default_latency.json",
        "report/templates/report.html.j2",
        "configs/adapler.py",
        "configs/quickstart.py",
    ):
        assert f"adapler_jax/{path}" in names
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"adapler_jax", f"adapler_jax-{adapler_jax.__version__}.dist-info"}


def test_the_dependencies_are_enough_to_predict(bare, tmp_path):
    version = run(bare / "adapler", "--version", cwd=tmp_path)
    assert version == f"adapler {adapler_jax.__version__}\n"
    program = (
        "import importlib.util\n"
        f"assert not [name for name in {ABSENT} if importlib.util.find_spec(name)]\n"
        "import adapler_jax\n"
        f"classifier = adapler_jax.Classifier.load({str(MODEL)!r})\n"
        "print(classifier.predict(['bread'])[0].label)"
    )
    assert run(bare / "python", "-c", program, cwd=tmp_path).strip() in ("stale", "fresh")
    rows = run(bare / "adapler", "predict", f"--model={MODEL}", cwd=tmp_path, text="a\nb\n")
    assert rows.count("\n") >= 3 and "Traceback" not in rows


def test_training_without_its_extra_names_the_extra(bare, tmp_path):
    printed = run(bare / "adapler", "train", "--help", cwd=tmp_path, fails=True)
    assert printed.startswith("error: ") and 'pip install ".[train]"' in printed


def test_a_preset_of_the_wheel_trains(bare, built, tmp_path):
    pip = (bare / "python", "-m", "pip")
    run(*pip, "uninstall", "--quiet", "--yes", "adapler_jax", cwd=tmp_path)
    run(*pip, "install", "--quiet", f"{built[1]}[train]", cwd=tmp_path)
    run(
        *(bare / "adapler", "train", "--config=finetune:custom,debug"),
        f"--config.model={RELEASE / 'model'}",
        f"--config.data.source=file:{RELEASE / 'texts'}",
        "--config.data.class_names=('stale', 'fresh')",
        "--workdir=run",
        cwd=tmp_path,
    )
    scores = run(bare / "adapler", "evaluate", "--workdir=run", "--notimes", cwd=tmp_path)
    assert "dense" in scores and (tmp_path / "run" / "evaluation.json").exists()


def test_an_exported_file_needs_tokenizers_and_onnxruntime_alone(tmp_path):
    adapler_jax.export_onnx(save_tiny(tmp_path / FOLDER, "adapler", max_length=16))
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "tokenizers", "onnxruntime", cwd=tmp_path)
    absent = (
        "import importlib.util\n"
        f"assert not [name for name in {WITHOUT_JAX} if importlib.util.find_spec(name)]\n"
    )
    printed = run(python, "-c", absent + PROGRAMS[0], cwd=tmp_path)
    assert printed.count("LABEL_") == 2
    # Of this library the folder of its source is enough.
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from adapler_jax.onnx import Classifier\n"
        f"print(Classifier.load({FOLDER!r}).predict(['a moving film'])[0].label)"
    )
    assert run(python, "-c", program, cwd=tmp_path).strip() in printed
