"""Requirements are bounded, and the lock holds a version with hashes of all that the tests need."""

import ast
import itertools
import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted(path.name for path in ROOT.glob("requirements*.txt"))


def requirements(name):
    """The requirements of a file, without those of the files that it includes."""
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
        if not any(bound.operator in ("<", "<=", "==", "~=") for bound in found.specifier)
    ]
    assert unbounded == []


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_named_once(name):
    names = [canonicalize_name(found.name) for found in requirements(name)]
    assert len(names) == len(set(names))


def test_what_builds_and_extends_the_package_has_an_upper_bound_too():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"].get("optional-dependencies", {}).values()
    for line in [*project["build-system"]["requires"], *itertools.chain(*extras)]:
        assert any(bound.operator in ("<", "<=", "==") for bound in Requirement(line).specifier), (
            line
        )


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
