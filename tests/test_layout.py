"""The sizes that keep the code readable: functions, files, density and documentation."""

import ast
import pathlib
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ("adapler_jax", "benchmarks", "configs", "docs", "scripts", "tests")
PATHS = sorted(
    [*ROOT.glob("*.py"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]
)
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
PACKAGE = {file: source for file, source in SOURCES.items() if file.startswith("adapler_jax/")}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Nodes that say nothing of their own: contexts, and the operators of an operation.
UNCOUNTED = (ast.expr_context, ast.operator, ast.boolop, ast.unaryop, ast.cmpop)

MAX_FILE = 400  # lines
MAX_FUNCTION = 60
MAX_MEDIAN_FUNCTION = 12
MAX_NODES_PER_LINE = 5.0
MIN_TESTS_PER_SOURCE = 0.85  # lines


def functions_of(source: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return the functions of a file, nested ones and methods included."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTIONS)]


def length_of(function) -> int:
    return function.end_lineno - function.lineno + 1


def code_lines(source: str) -> int:
    """Return the number of lines that are neither blank nor comments."""
    lines = [line.strip() for line in source.splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def undocumented(source: str) -> list[str]:
    """Return what of a file has no docstring; nested functions may lack one."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) or not tree.body else ["module"]
    parents = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for parent in parents:
        if isinstance(parent, ast.ClassDef) and not ast.get_docstring(parent):
            found.append(parent.name)
        for node in parent.body:
            special = isinstance(node, FUNCTIONS) and node.name.startswith("__")
            if isinstance(node, FUNCTIONS) and not special and not ast.get_docstring(node):
                found.append(node.name)
    return found


@pytest.mark.parametrize("file", SOURCES)
def test_files_are_short(file):
    assert len(SOURCES[file].splitlines()) <= MAX_FILE


@pytest.mark.parametrize("file", [file for file in SOURCES if not file.startswith("tests/")])
def test_functions_are_short(file):
    assert [f.name for f in functions_of(SOURCES[file]) if length_of(f) > MAX_FUNCTION] == []


def test_the_median_function_of_the_package_is_short():
    lengths = [length_of(f) for source in PACKAGE.values() for f in functions_of(source)]
    assert statistics.median(lengths) <= MAX_MEDIAN_FUNCTION


def test_lines_of_the_package_are_not_dense():
    trees = [ast.parse(source) for source in PACKAGE.values()]
    nodes = sum(not isinstance(node, UNCOUNTED) for tree in trees for node in ast.walk(tree))
    assert nodes / sum(map(code_lines, PACKAGE.values())) <= MAX_NODES_PER_LINE


@pytest.mark.parametrize("file", PACKAGE)
def test_everything_of_the_package_is_documented(file):
    assert undocumented(PACKAGE[file]) == []


def test_no_line_is_kept_from_the_formatter():
    marks = ("fmt: " + "skip", "fmt: " + "off")
    assert [file for file, source in SOURCES.items() if any(mark in source for mark in marks)] == []


def test_there_are_as_many_tests_as_code():
    tests = sum(code_lines(SOURCES[file]) for file in SOURCES if file.startswith("tests/"))
    assert tests / sum(map(code_lines, PACKAGE.values())) >= MIN_TESTS_PER_SOURCE


BAD = {
    "module": "x = 1\n",
    "f": '"""M."""\ndef f():\n    pass\n',
    "A": '"""M."""\nclass A:\n    x = 1\n',
    "m": '"""M."""\nclass A:\n    """A."""\n    def m(self):\n        pass\n',
}


@pytest.mark.parametrize("name", BAD)
def test_a_missing_docstring_is_found(name):
    assert undocumented(BAD[name]) == [name]
