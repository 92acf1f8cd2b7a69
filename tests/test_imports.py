"""Imports go one way (from `types` up to `train.py`), checked on the syntax trees, without importing anything."""

import ast
import graphlib
import pathlib
import sys
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# A file imports from its own room and from rooms of a lower level.
LEVELS = {
    "types": 0,
    "locks": 0,
    "messages": 0,
    "whole_files": 0,
    "process": 1,
    "caches": 1,
    "encoder": 1,
    "heads": 1,
    "flops": 1,
    "data": 1,
    "metrics": 1,
    "provenance": 1,
    "pruning": 2,
    "weights": 2,
    "full_width": 3,  # where encoder and pruner meet
    "inference": 4,
    "training": 5,  # validates with the drivers of inference
    "report": 6,
    "train": 7,
    "evaluate": 7,
    "predict": 7,
}

# (from, to): rooms of one level that may meet.
# A head is made of the encoder's building blocks, and counts; data has the score of one answer to all its rows.
SAME_LEVEL = {("heads", "encoder"), ("heads", "flops"), ("data", "metrics")}

# Names of the encoder that a pruner may use: building blocks, never the model.
PRUNER_MAY_USE = {"ACTIVATIONS", "exact_linear", "init_linear", "linear"}

# Imported inside functions, since an installation or a call may do without them.
OPTIONAL = {"torch", "datasets", "tensorflow_datasets", "transformers", "pyarrow", "huggingface_hub", "openpyxl"}

# Rooms of plain arithmetic.
NUMPY_ONLY = {"data", "metrics", "flops"}


class Import(NamedTuple):
    """One imported module or name."""

    file: str
    line: int
    target: str  # dotted, with the name that a `from` takes
    inside: bool  # of a function


def imports_of(file: str, source: str) -> list[Import]:
    """All imports of a file, `from a import b` as a.b."""
    found = []

    def visit(node, inside):
        if isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found.extend(Import(file, node.lineno, f"{prefix}.{alias.name}", inside) for alias in node.names)
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def room_of(file: str) -> str:
    """The room of a file: types of adapler_jax/types.py, data of adapler_jax/data/tokens.py, train of train.py."""
    parts = pathlib.PurePosixPath(file).with_suffix("").parts
    return parts[1] if parts[0] == "adapler_jax" and len(parts) > 1 else parts[0]


def target_room(imported: Import) -> str | None:
    """The room that is imported from; None where it is not ours."""
    first, *rest = imported.target.split(".")
    if first in ("train", "evaluate", "configs", "benchmarks", "tests"):
        return first
    return rest[0] if first == "adapler_jax" and rest else None


def complaint(imported: Import) -> str | None:
    """What is wrong with one import; None where nothing is."""
    room, target = room_of(imported.file), target_room(imported)
    package = imported.target.split(".")[0]
    if package in ("tensorflow", "keras"):
        return "tensorflow is not imported by anyone"
    if package == "":
        return "imports are written in full, not relative"
    if imported.inside and package not in OPTIONAL:
        return "an import inside a function is for optional packages only"
    if room in NUMPY_ONLY and package in ("jax", "flax", "optax", "orbax"):
        return f"{room} works on NumPy arrays"
    if target is None or target == room:
        return None
    if room == "configs":
        return "configs import nothing of ours"
    if room not in LEVELS:
        return f"room {room} has no level" if imported.file.startswith("adapler_jax/") else None
    if target not in LEVELS or (LEVELS[target] >= LEVELS[room] and (room, target) not in SAME_LEVEL):
        return f"{room} must not import {target}"
    if (room, target) == ("pruning", "encoder") and imported.target.split(".")[-1] not in PRUNER_MAY_USE:
        return f"a pruner uses no more of the encoder than {', '.join(sorted(PRUNER_MAY_USE))}"
    return None


def complaints(file: str, source: str) -> list[str]:
    """One line for every bad import of a file."""
    found = [(imported, complaint(imported)) for imported in imports_of(file, source)]
    return [f"{i.file}:{i.line} imports {i.target}: {text}" for i, text in found if text is not None]


def modules_of(sources: dict[str, str]) -> dict[str, str]:
    """Files by the names under which they are imported."""
    return {file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file for file in sources}


def packages_behind(file: str, sources: dict[str, str]) -> set[str]:
    """Packages that importing one of our files needs, those of what it imports of ours included."""
    modules = modules_of(sources)
    reached, waiting, packages = set(), [file], set()
    while waiting:
        current = waiting.pop()
        reached.add(current)
        for imported in imports_of(current, sources[current]):
            target = imported.target
            ours = {modules[name] for name in (target, target.rpartition(".")[0]) if name in modules}
            if not ours and not imported.inside:
                packages.add(target.split(".")[0])
            waiting += ours - reached
    return packages - set(sys.stdlib_module_names)


def source_files() -> dict[str, str]:
    """Our files outside tests, by path from the root."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("adapler_jax/**/*.py"), *ROOT.glob("configs/*.py")]
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(paths)}


FILES = source_files()


@pytest.mark.parametrize("file", FILES)
def test_imports_of(file):
    assert complaints(file, FILES[file]) == []


def flags_defined(source: str) -> list[str]:
    """Functions of absl that a file defines flags with."""
    names = [node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [name for name in names if name.startswith("DEFINE_")]


def test_only_commands_define_flags():
    commands = {"train.py", "evaluate.py", "adapler_jax/predict.py", "adapler_jax/report/__main__.py"}
    assert {file for file, source in FILES.items() if flags_defined(source)} <= commands
    assert flags_defined(FILES["train.py"]) != []


def test_every_room_of_the_package_has_a_level():
    rooms = {room_of(file) for file in FILES if file.startswith("adapler_jax/")}
    assert rooms - {"__init__"} <= set(LEVELS)
    assert {"types", "encoder", "pruning", "full_width", "inference", "training", "data", "weights"} <= rooms


def test_no_file_imports_itself_in_a_circle():
    modules = modules_of(FILES)
    graph = {}
    for module, file in modules.items():
        targets = {imported.target for imported in imports_of(file, FILES[file])}
        targets |= {target.rpartition(".")[0] for target in targets if target not in modules}
        graph[module] = (targets & set(modules)) - {module}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


def test_the_benchmark_for_accelerators_needs_few_packages():
    benchmarks = {path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("benchmarks/*.py")}
    # rich comes with flax
    assert packages_behind("benchmarks/gpu.py", FILES | benchmarks) == {"jax", "flax", "optax", "numpy", "rich"}
    assert "ml_collections" in packages_behind("train.py", FILES)


BAD = {
    "encoder imports a pruner": ("encoder.py", "from adapler_jax.pruning import keep_all"),
    "encoder imports a pruner as a module": ("encoder.py", "import adapler_jax.pruning.base"),
    "types imports something": ("types.py", "from adapler_jax import encoder"),
    "encoder imports a head": ("encoder.py", "from adapler_jax import heads"),
    "inference imports training": ("inference/engine.py", "from adapler_jax.training.setup import Setup"),
    "pruning imports weights": ("pruning/base.py", "from adapler_jax.weights.read import load_pretrained"),
    "pruning imports the model": ("pruning/adapler.py", "from adapler_jax.encoder import attend"),
    "pruning imports all of the encoder": ("pruning/adapler.py", "from adapler_jax import encoder"),
    "training imports a report": ("training/run.py", "from adapler_jax.report import console"),
    "library imports a config": ("training/run.py", "from configs import common"),
    "library imports an entry point": ("report/tables.py", "import train"),
    "import to dodge a cycle": ("report/tables.py", "def f():\n    from adapler_jax import flops"),
    "import inside a method": ("report/tables.py", "class A:\n    def f(self):\n        import json"),
    "relative import": ("weights/save.py", "from .names import Rule"),
    "tensorflow": ("data/sources.py", "def f():\n    import tensorflow as tf"),
    "jax in the data room": ("data/batches.py", "import jax.numpy as jnp"),
    "a room without a level": ("utils.py", "from adapler_jax import types"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_import_is_found(name):
    file, source = BAD[name]
    assert len(complaints(f"adapler_jax/{file}", source)) == 1


def test_bad_import_of_a_config_is_found():
    assert len(complaints("configs/adapler.py", "from adapler_jax import types")) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("adapler_jax/heads.py", "from adapler_jax.encoder import linear"),
        ("adapler_jax/pruning/adapler.py", "from adapler_jax.encoder import linear"),
        ("adapler_jax/full_width.py", "from adapler_jax import encoder, heads"),
        ("adapler_jax/weights/files.py", "def f():\n    import torch"),
        ("adapler_jax/training/validation.py", "from adapler_jax.inference import masked"),
        ("configs/adapler.py", "from configs import common"),
        ("train.py", "from absl import flags\nfrom adapler_jax.report import console"),
    ],
)
def test_good_import_is_let_through(file, source):
    assert complaints(file, source) == []
