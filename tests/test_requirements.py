"""Requirements are bounded, and the lock holds a version with hashes of all that the tests need."""

import ast
import itertools
import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from adapler_jax.io.extras import EXTRAS
from tests.test_imports import packages_behind, source_files

SOURCES = source_files()
UPPER = ("<", "<=", "==", "~=")
ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def requirements(name):
    """Return the requirements of a file, without files that it includes."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


def locked():
    """{name: (version, number of hashes)} of the lock."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        pin, *hashes = line.split()
        name, version = pin.split("==")
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", entry) for entry in hashes), line
        found[canonicalize_name(name)] = (version, len(hashes))
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_has_an_upper_bound(name):
    unbounded = [
        str(found)
        for found in requirements(name)
        if not any(bound.operator in UPPER for bound in found.specifier)
    ]
    assert unbounded == []


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_named_once(name):
    names = [canonicalize_name(found.name) for found in requirements(name)]
    assert len(names) == len(set(names))


def test_what_builds_and_extends_the_package_has_an_upper_bound_too():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"].get("optional-dependencies", {}).values()
    lines = [*project["build-system"]["requires"], *itertools.chain(*extras)]
    for found in map(Requirement, lines):
        is_own = found.name == "adapler_jax"  # an extra that includes another one
        assert is_own or any(bound.operator in UPPER for bound in found.specifier), found


def declared(*extras):
    """The requirements of pyproject.toml: of these extras, of no extra the dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not extras:
        return set(project["dependencies"])
    lines = itertools.chain(*(project["optional-dependencies"][extra] for extra in extras))
    return {line for line in lines if not line.startswith("adapler_jax[")}


def test_the_extras_divide_the_requirements():
    lines = {str(found) for found in requirements("requirements.txt")}
    parts = [declared(), declared("train"), declared("report"), declared("tfds")]
    found = [str(Requirement(line)) for part in parts for line in part]
    assert len(found) == len(set(found)) and set(found) == lines
    tests = {str(found) for found in requirements("requirements-test.txt")}
    assert {str(Requirement(line)) for line in declared("dev")} == tests
    docs = {str(found) for found in requirements("requirements-docs.txt")}
    assert {str(Requirement(line)) for line in declared("docs")} == docs


def test_the_dependencies_are_what_inference_imports():
    names = {canonicalize_name(Requirement(line).name) for line in declared()}
    needed = set()
    for name in ("cli/predict", "cli/latency", "cli/export", "inference/classifier"):
        needed |= packages_behind(f"adapler_jax/{name}.py", SOURCES)
    packages = {"absl": "absl-py"}
    # tokenizers brings huggingface_hub, for names of the hub; jax.export imports flatbuffers.
    brought = {"huggingface-hub", "flatbuffers"}
    needed -= {"transformers"}  # for type checkers alone
    assert {packages.get(package, package) for package in needed} | brought == names


def test_every_package_of_an_extra_that_is_imported_has_its_name_in_the_message():
    packages = {"orbax-checkpoint": "orbax", "ml-collections": "ml_collections"}
    for extra in ("train", "report", "hf", "excel", "onnx"):
        for line in declared(extra):
            name = Requirement(line).name.lower()
            package = packages.get(canonicalize_name(name), name)
            found = {key.lower(): value for key, value in EXTRAS.items()}
            assert found[package] == extra, package


def test_the_lock_has_hashes_of_every_version():
    versions = locked()
    assert len(versions) > 90 and all(num_hashes for _, num_hashes in versions.values())
    assert "torch" not in versions  # its builds differ by place


def test_the_lock_fits_what_users_and_tests_ask_for():
    versions = locked()
    for found in requirements("requirements.txt") + requirements("requirements-test.txt"):
        version, _ = versions[canonicalize_name(found.name)]
        assert found.specifier.contains(version), f"{found}: {version}"


def imported(path):
    """Top packages that a file imports anywhere."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in names}


def test_what_only_the_tests_import_is_their_requirement():
    packages = {
        "chex": "chex",
        "sklearn": "scikit-learn",
        "scipy": "scipy",
        "hypothesis": "hypothesis",
    }
    used = set().union(*(imported(path) for path in ROOT.glob("adapler_jax/**/*.py")))
    tested = set().union(*(imported(path) for path in ROOT.glob("tests/**/*.py")))
    ours, theirs = (
        {found.name for found in requirements(f"requirements{end}.txt")} for end in ("", "-test")
    )
    for package, name in packages.items():
        assert (package in used) == (name in ours), name
        assert (package in tested) == (name in theirs), name
