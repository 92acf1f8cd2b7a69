"""Docstrings, comments, messages and pages hold no mark of prose to rewrite."""

import ast

import pytest

from tests import prose
from tests.prose import ROOT, Text, check_file, files_of, find_form_breaks, find_marks

ROOMS = [
    *(f"adapler_jax/{path.name}" for path in sorted((ROOT / "adapler_jax").iterdir())),
    *("train.py", "evaluate.py", "configs", "benchmarks", "scripts"),
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").iterdir())),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests"),
]
ROOMS = [room for room in ROOMS if (ROOT / room).exists() and "/_" not in room]

# Rooms whose public functions, classes and modules all have a docstring.
DOCUMENTED = [room for room in ROOMS if room.startswith("adapler_jax/") or room == "benchmarks"]


@pytest.mark.parametrize("room", ROOMS)
def test_texts_hold_no_mark_and_docstrings_have_one_form(room):
    found = [finding for path in files_of([ROOT / room]) for finding in check_file(path)]
    assert not found, "\n".join(map(str, found))


def undocumented(tree: ast.AST, prefix: str = "") -> list[str]:
    """Return the names of public functions and classes without a docstring."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            found.append(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            found += undocumented(node, f"{node.name}.")
    return found


@pytest.mark.parametrize("room", DOCUMENTED)
def test_public_functions_and_classes_have_docstrings(room):
    missing = []
    for path in files_of([ROOT / room]):
        missing += [f"{path.name}: {name}" for name in undocumented(ast.parse(path.read_text()))]
    assert not missing


@pytest.mark.parametrize("mark", ["lies", "behind the layer", "those of", "in front of", "anew"])
def test_a_mark_is_found(mark):
    assert list(find_marks(Text("a.py", 1, "comment", f"The token {mark}.")))


@pytest.mark.parametrize("opening", ["What a layer reads.", "Return it. Whether it is one."])
def test_an_opening_is_found(opening):
    assert list(find_marks(Text("a.py", 1, "docstring", opening)))


def test_questions_and_code_may_use_the_words():
    for text in ("What does it cost?", "Set `behind` to 1.", "Use a stand-in."):
        assert not list(find_marks(Text("a.md", 1, "page", text)))


@pytest.mark.parametrize(
    "docstring", ["Return it", "Return it.\n    More.", "Return " + 100 * "x" + "."]
)
def test_a_docstring_of_another_form_is_found(docstring):
    assert list(find_form_breaks("a.py", f'"""{docstring}"""\n'))


def test_docstrings_comments_and_messages_are_all_read():
    source = '"""Do it."""\n# One reason.\nx = 1  # another\nraise ValueError(f"a b {x} c d")\n'
    found = [(text.kind, text.text) for text in prose.python_texts("a.py", source)]
    assert found == [
        ("docstring", "Do it."),
        ("comment", "another"),
        ("comment", "One reason."),
        ("message", "a b {} c d"),
    ]


def test_every_allowed_phrase_has_a_reason_and_is_used():
    for file, phrase, reason in prose.ALLOWED:
        assert reason
        texts = [
            text
            for path in files_of(ROOT / room for room in ROOMS)
            for text in prose.read_texts(path)[2]
        ]
        assert any(
            prose.re.fullmatch(file, text.path) and prose.re.search(phrase, prose.plain(text.text))
            for text in texts
        ), phrase
