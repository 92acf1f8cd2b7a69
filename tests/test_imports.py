"""Imports go one way, from `types` up to `train.py`.

The syntax trees are checked; nothing is imported.
"""

import ast
import graphlib
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Rooms from the lowest level up. A file imports from its own room and from rooms of a lower level;
# rooms of one level do not meet. A room may be a part of another, as inference/drivers of
# inference.
ORDER = [
    {"types", "presets"},
    {"io"},
    {"nn", "flops", "metrics"},
    {"encoders"},
    {"heads", "data"},
    {"pruning"},
    {"weights", "model_flops"},
    {"forward"},
    {"inference/drivers"},
    {
        "inference/autotune",
        "inference/engine",
        "inference/ids",
        "inference/model_kind",
        "inference/processes",
    },
    {"export"},
    {"inference"},
    {"export/onnx"},
    {"onnx"},
    {"evaluation"},
    {"training"},
    {"serving"},
    {"report"},
    {"cli"},
    {"train", "evaluate", "__main__"},
]
# Parts of one level that may meet.
ENGINE = next(rooms for rooms in ORDER if "inference/engine" in rooms)
LEVELS = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# Imported inside functions, since an installation or a call may do without them.
OPTIONAL = {
    "torch",
    "datasets",
    "tensorflow_datasets",
    "transformers",
    "pyarrow",
    "huggingface_hub",
    "openpyxl",
}

PUBLIC_API = "adapler_jax/__init__.py"

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
        if file == PUBLIC_API and isinstance(node, ast.If):
            return  # names for type checkers: it imports them on first use
        if isinstance(node, ast.Import):
            found.extend(Import(file, node.lineno, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            found.extend(
                Import(file, node.lineno, f"{prefix}.{alias.name}", inside) for alias in node.names
            )
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), False)
    return found


def room_of(file: str) -> str:
    """Return the room of a file: data of adapler_jax/data/qa/tasks.py, train of train.py."""
    parts = pathlib.PurePosixPath(file).with_suffix("").parts
    return room_of_parts(parts[1:]) if parts[0] == "adapler_jax" and len(parts) > 1 else parts[0]


def room_of_parts(parts: Sequence[str]) -> str:
    """The longest beginning of a dotted name that has a level of its own, or its first part."""
    return "/".join(parts[:2]) if "/".join(parts[:2]) in LEVELS else parts[0]


def target_room(imported: Import) -> str | None:
    """The room that is imported from; None where it is not ours."""
    first, *rest = imported.target.split(".")
    if first in ("train", "evaluate", "configs", "benchmarks", "tests"):
        return first
    return room_of_parts(rest) if first == "adapler_jax" and rest else None


def complaint(imported: Import) -> str | None:
    """Return the complaint about one import, or None."""
    room, target = room_of(imported.file), target_room(imported)
    found = package_complaint(imported, room)
    if found is None and target not in (None, room):
        found = room_complaint(imported, room, target)
    return found


def package_complaint(imported: Import, room: str) -> str | None:
    """Return the complaint about an imported package, or None."""
    package = imported.target.split(".")[0]
    if package in ("tensorflow", "keras"):
        return "tensorflow is not imported by anyone"
    if package == "":
        return "imports are written in full, not relative"
    if imported.inside and package not in OPTIONAL:
        return "an import inside a function is for optional packages only"
    if room in NUMPY_ONLY and package in ("jax", "flax", "optax", "orbax"):
        return f"{room} works on NumPy arrays"
    return None


def room_complaint(imported: Import, room: str, target: str) -> str | None:
    """Return the complaint about an import from another room, or None."""
    if room == "configs":
        is_section = imported.target.startswith("adapler_jax.training.methods.")
        allowed = target == "presets" or is_section
        return None if allowed else "configs import nothing of ours but presets and methods"
    if room not in LEVELS:
        return f"room {room} has no level" if imported.file.startswith("adapler_jax/") else None
    if target not in LEVELS or (LEVELS[target] >= LEVELS[room] and not {room, target} <= ENGINE):
        return f"{room} must not import {target}"
    if (room, target) == ("pruning", "encoders"):
        return "a pruner does not import the encoder"
    return None


def complaints(file: str, source: str) -> list[str]:
    """One line for every bad import of a file."""
    found = [(imported, complaint(imported)) for imported in imports_of(file, source)]
    return [
        f"{i.file}:{i.line} imports {i.target}: {text}" for i, text in found if text is not None
    ]


def modules_of(sources: dict[str, str]) -> dict[str, str]:
    """Files by the names under which they are imported."""
    return {
        file.removesuffix(".py").removesuffix("/__init__").replace("/", "."): file
        for file in sources
    }


def packages_behind(file: str, sources: dict[str, str]) -> set[str]:
    """Return the packages that one of our files needs, directly or through our files."""
    modules = modules_of(sources)
    reached, waiting, packages = set(), [file], set()
    while waiting:
        current = waiting.pop()
        reached.add(current)
        for imported in imports_of(current, sources[current]):
            target = imported.target
            ours = {
                modules[name] for name in (target, target.rpartition(".")[0]) if name in modules
            }
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
    defining = {file for file, source in FILES.items() if flags_defined(source)}
    assert all(file.startswith("adapler_jax/cli/") for file in defining)
    assert "adapler_jax/cli/train.py" in defining


def test_every_room_of_the_package_has_a_level():
    rooms = {room_of(file) for file in FILES if file.startswith("adapler_jax/")}
    assert rooms - {"__init__"} <= set(LEVELS)
    assert {
        "types",
        "encoders",
        "pruning",
        "forward",
        "inference",
        "inference/drivers",
        "training",
        "data",
        "weights",
    } <= rooms


def test_no_file_imports_itself_in_a_circle():
    modules = modules_of(FILES)
    graph = {}
    for module, file in modules.items():
        targets = {imported.target for imported in imports_of(file, FILES[file])}
        targets |= {target.rpartition(".")[0] for target in targets if target not in modules}
        graph[module] = (targets & set(modules)) - {module}
    assert len(tuple(graphlib.TopologicalSorter(graph).static_order())) == len(modules)


@pytest.mark.long
def test_the_benchmark_for_accelerators_needs_few_packages():
    benchmarks = {
        path.relative_to(ROOT).as_posix(): path.read_text() for path in ROOT.glob("benchmarks/*.py")
    }
    # rich comes with flax
    assert packages_behind("benchmarks/gpu.py", FILES | benchmarks) == {
        "jax",
        "flax",
        "optax",
        "numpy",
        "rich",
    }
    assert "ml_collections" in packages_behind("adapler_jax/cli/train.py", FILES)


BAD = {
    "encoder imports a pruner": ("encoders/bert.py", "from adapler_jax.pruning import keep_all"),
    "encoder imports a pruner as a module": ("encoders/bert.py", "import adapler_jax.pruning.base"),
    "types imports something": ("types.py", "from adapler_jax.encoders import bert"),
    "encoder imports a head": ("encoders/bert.py", "from adapler_jax import heads"),
    "a driver imports the engine": (
        "inference/drivers/packed.py",
        "from adapler_jax.inference.engine import make_engine",
    ),
    "the engine imports a class of users": (
        "inference/engine.py",
        "from adapler_jax.inference.classifier import Classifier",
    ),
    "inference imports training": (
        "inference/engine.py",
        "from adapler_jax.training.setup import Setup",
    ),
    "inference imports evaluation": (
        "inference/classifier.py",
        "from adapler_jax.evaluation import scoring",
    ),
    "pruning imports weights": (
        "pruning/base.py",
        "from adapler_jax.weights.pretrained import load_pretrained",
    ),
    "pruning imports the model": (
        "pruning/adapler.py",
        "from adapler_jax.encoders.bert import attend",
    ),
    "pruning imports all of the encoder": (
        "pruning/adapler.py",
        "from adapler_jax.encoders import bert",
    ),
    "training imports a report": ("training/run.py", "from adapler_jax.report import page"),
    "library imports a config": ("training/run.py", "from configs import adapler"),
    "presets import something": ("presets/common.py", "from adapler_jax import types"),
    "library imports an entry point": ("report/tables.py", "import train"),
    "import to dodge a cycle": ("report/tables.py", "def f():\n    from adapler_jax import flops"),
    "import inside a method": (
        "report/tables.py",
        "class A:\n    def f(self):\n        import json",
    ),
    "relative import": ("weights/save.py", "from .rules import Rule"),
    "tensorflow": ("data/sources/load.py", "def f():\n    import tensorflow as tf"),
    "jax in the data room": ("data/batching/batches.py", "import jax.numpy as jnp"),
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
        ("adapler_jax/heads/span.py", "from adapler_jax.nn import linear"),
        ("adapler_jax/pruning/adapler.py", "from adapler_jax.nn import linear"),
        ("adapler_jax/forward.py", "from adapler_jax import encoders, heads"),
        (
            "adapler_jax/inference/autotune/run.py",
            "from adapler_jax.inference.engine import make_engine",
        ),
        ("adapler_jax/weights/files.py", "def f():\n    import torch"),
        ("adapler_jax/training/validation.py", "from adapler_jax.inference.drivers import masked"),
        ("configs/adapler.py", "from adapler_jax.presets import common"),
        ("train.py", "from adapler_jax.cli.main import run_subcommand"),
    ],
)
def test_good_import_is_let_through(file, source):
    assert complaints(file, source) == []
