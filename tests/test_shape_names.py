"""Every upper-case suffix of an array's name consists of letters of a key."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent / "adapler_jax"
ROOMS = (
    *("encoders", "heads", "pruning", "inference", "export", "training", "evaluation", "data"),
    "metrics",
)
FILES = [*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
NAME = re.compile(r"[a-z][a-z0-9_]*_([A-Z0-9]+)$")
# An entry of a key: two or more blanks, the letter, a blank, its meaning.
ENTRY = re.compile(r" {2,}([A-Z]) (?=[a-z])")


def key_of(source: str) -> set[str]:
    """Letters that a module's docstring explains."""
    return set(ENTRY.findall(ast.get_docstring(ast.parse(source), clean=False) or ""))


KEY = key_of((ROOT / "types.py").read_text()) | set("0123456789")


def names_of(tree: ast.AST) -> set[str]:
    """Names of variables, arguments, attributes and keywords."""
    names = set()
    for node in ast.walk(tree):
        for field in ("id", "arg", "attr"):
            if isinstance(name := getattr(node, field, None), str):
                names.add(name)
    return names


def unexplained(source: str) -> dict[str, set[str]]:
    """Letters without an entry, by name."""
    known = KEY | key_of(source)
    found = {}
    for name in names_of(ast.parse(source)):
        match = NAME.fullmatch(name)
        if match and (letters := set(match[1]) - known):
            found[name] = letters
    return found


def test_the_key_has_an_entry_for_each_common_axis():
    assert set("BLSRDFHKVCNPTGX") <= KEY


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_letters_of_shapes_are_explained(path):
    assert unexplained(path.read_text()) == {}


def test_a_letter_without_an_entry_is_found():
    source = '"""Text.\n\n    Z zebras of a herd\n"""\nherd_BZ = table_BY'
    assert unexplained(source) == {"table_BY": {"Y"}}
