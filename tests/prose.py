"""Find marks of prose to rewrite in docstrings, comments, messages and pages.

Usage: python -m tests.prose [--long] PATH ...
"""

import argparse
import ast
import io
import json
import pathlib
import re
import tokenize
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
MAX_WORDS = 25  # of a sentence
MAX_COLUMNS = 100
SUFFIXES = (".py", ".md", ".ipynb")

# Pattern, and the words to use.
MARKS = {
    r"anew": "again",
    r"wish(es|ed|ing)?": "target, or name who needs it",
    r"lies?|lying|lain": "is",
    r"stands?|stood|standing": "is; represents",
    r"behind": "after",
    r"beside": "next to; compared with; except",
    r"in front of": "before",
    r"at the door": "on load",
    r"(go|goes|went|going|gone) on": "continue",
    r"(come|comes|came|coming) to": "reach",
    r"told|tells?|telling": "report, log, return",
    r"none where there is none": "None if there is no ...",
    r"refus(e|es|ed|ing|al)": "reject, raise",
    r"wants?|wanted": "need",
    r"knows?|knew": "have, store",
    r"asks|asked for": "request, call, set",
    r"(is|are|be|was|were) paid|pays?": "cost",
    r"(of|from) before": "older; previous",
    r"(that|those) of": "repeat the noun",
    r"the same of": "repeat the noun",
    r"in small": "at a small size",
    r"oracle": "reference",
    r"dials?": "trade-off parameter",
    r"peers?|rivals?": "baseline; alternative",
    r"faithful(ly)?": "paper",
    r"bears?": "tolerate",
    r"nought|thereof|whereof|therein|wherein|hitherto": "a plain word",
    r"by it(?=[.,;]|$)": "repeat the noun",
    r"makes? of": "compute from",
}
OPENINGS = {
    "What": "name the thing",
    "Whether": "Return True if ...",
    "The same": "name the thing",
    "As": "start with who does what",
}
PATTERNS = [
    (re.compile(rf"(?<![\w-])(?:{mark})(?![\w-])", re.IGNORECASE), advice)
    for mark, advice in MARKS.items()
]
OPENING = re.compile(rf"(?:^|(?<=[.!?] ))({'|'.join(OPENINGS)})\b[^.!?]*[.!?]?")

# (file, phrase, reason): phrases in which a mark has a technical or literal meaning.
ALLOWED = [
    (r"benchmarks/.*", r"benchmarks\.peers|--peers\b", "name of a module and of a flag"),
]

# Files that quote the marks.
QUOTING = {"tests/prose.py", "tests/test_prose.py"}


class Text(NamedTuple):
    """Store one text of a file."""

    path: str
    line: int
    kind: str  # docstring, comment, message or page
    text: str


class Finding(NamedTuple):
    """Store one mark, or one break of the docstring form."""

    path: str
    line: int
    kind: str
    mark: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.mark!r} -> {self.advice}"


DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstring_nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """Yield each documented node with the constant that holds its docstring."""
    for node in ast.walk(tree):
        if not isinstance(node, DOCUMENTED) or not node.body:
            continue
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            if isinstance(first.value.value, str):
                yield node, first.value


def comments_of(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each comment; adjacent lines of nothing else are one text."""
    start, last, parts = 0, -1, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, text = token.start[0], token.string.lstrip("#: ")
        if token.line[: token.start[1]].strip():
            yield line, text
            continue
        if line != last + 1 and parts:
            yield start, " ".join(parts)
            parts = []
        start, last = (start if parts else line), line
        parts.append(text)
    if parts:
        yield start, " ".join(parts)


def messages_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each string of at least three words that is no docstring."""
    skipped = {id(constant) for _, constant in docstring_nodes(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part for part in node.values if isinstance(part, ast.Constant)]
            skipped |= {id(part) for part in parts}
            text = "{}".join(str(part.value) for part in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = "" if id(node) in skipped else node.value
        else:
            continue
        if len(text.split()) >= 3:
            yield node.lineno, text


def python_texts(path: str, source: str) -> Iterator[Text]:
    """Yield docstrings, comments and, outside tests, messages of a Python file."""
    tree = ast.parse(source)
    for _, constant in docstring_nodes(tree):
        yield Text(path, constant.lineno, "docstring", constant.value)
    for line, text in comments_of(source):
        yield Text(path, line, "comment", text)
    if not path.startswith("tests/"):
        for line, text in messages_of(tree):
            yield Text(path, line, "message", text)


FENCE = re.compile(r"^( *)```[^\n]*\n.*?^\1```", re.MULTILINE | re.DOTALL)


def page_texts(path: str, source: str) -> Iterator[Text]:
    """Yield paragraphs, headings, list items and table cells of a Markdown page."""
    source = FENCE.sub(lambda found: "\n" * found[0].count("\n"), source)
    line, parts = 1, []
    for number, text in enumerate([*source.splitlines(), ""], 1):
        starts_text = not text.strip() or re.match(r"\s*([-*#|>]|\d+\.)", text)
        if starts_text and parts:
            yield Text(path, line, "page", " ".join(parts))
            parts = []
        if not text.strip():
            continue
        if text.lstrip().startswith("|"):
            yield from (Text(path, number, "page", cell) for cell in text.strip("| ").split("|"))
            continue
        line = line if parts else number
        parts.append(re.sub(r"^\s*([-*>#]+|\d+\.)\s+", "", text).strip())


def notebook_page(source: str) -> str:
    """Return the Markdown cells of a notebook as one page."""
    cells = json.loads(source)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def plain(text: str) -> str:
    """Return the text without code, link targets and doubled blanks."""
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"``[^`]+``|`[^`\n]+`", "`x`", text)
    return " ".join(text.split())


def sentences_of(text: str) -> list[str]:
    """Split a text into sentences."""
    return [part for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`\[*])", plain(text)) if part]


def is_allowed(path: str, text: str, start: int, end: int) -> bool:
    """Return True if a phrase of the allow-list covers the mark."""
    return any(
        found.start() <= start and end <= found.end()
        for file, phrase, _ in ALLOWED
        if re.fullmatch(file, path)
        for found in re.finditer(phrase, text)
    )


def find_marks(item: Text) -> Iterator[Finding]:
    """Yield the marks of one text."""
    text = plain(item.text)
    for pattern, advice in PATTERNS:
        for found in pattern.finditer(text):
            if not is_allowed(item.path, text, found.start(), found.end()):
                near = text[max(0, found.start() - 25) : found.end() + 25]
                yield Finding(item.path, item.line, item.kind, f"{found[0]}: ...{near}", advice)
    if item.kind == "comment":
        text = text[:1].upper() + text[1:]
    for found in OPENING.finditer(text):
        if not found[0].endswith("?") and not is_allowed(item.path, text, *found.span(1)):
            yield Finding(item.path, item.line, item.kind, found[0][:60], OPENINGS[found[1]])


def find_form_breaks(path: str, source: str) -> Iterator[Finding]:
    """Yield docstrings whose summary is no single line with a period."""
    lines = source.splitlines()
    for node, constant in docstring_nodes(ast.parse(source)):
        summary, *rest = constant.value.split("\n")
        if path.startswith("tests/") and getattr(node, "name", "").startswith("test_"):
            continue
        broken = None
        if not summary.endswith("."):
            broken = "end the first line with a period"
        elif rest and rest[0].strip():
            broken = "put an empty line after the first line"
        elif len(lines[constant.lineno - 1]) > MAX_COLUMNS:
            broken = f"fit the first line into {MAX_COLUMNS} columns"
        if broken:
            yield Finding(path, constant.lineno, "form", summary[:60], broken)


def read_texts(path: pathlib.Path) -> tuple[str, str, list[Text]]:
    """Return the name below the root, the source and the texts of a file."""
    path = path.resolve()
    source = path.read_text(encoding="utf-8")
    root = next((parent for parent in path.parents if (parent / "adapler_jax").is_dir()), ROOT)
    name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name
    if path.suffix == ".ipynb":
        source = notebook_page(source)
    read = python_texts if path.suffix == ".py" else page_texts
    return name, source, list(read(name, source))


def check_file(path: pathlib.Path) -> list[Finding]:
    """Return all findings of a file."""
    name, source, texts = read_texts(path)
    if name in QUOTING:
        return []
    found = [finding for text in texts for finding in find_marks(text)]
    if path.suffix == ".py":
        found += find_form_breaks(name, source)
    return sorted(found, key=lambda finding: finding.line)


def long_sentences(path: pathlib.Path) -> list[Finding]:
    """Return the sentences with more than MAX_WORDS words; blocks of a docstring are left out."""
    found = []
    for item in read_texts(path)[2]:
        if item.kind == "message":
            continue
        for part in re.split(r"\n\s*\n|\n\s*(?=[-*|] )", item.text):
            for sentence in sentences_of(part):
                words = len([word for word in sentence.split() if re.search(r"\w", word)])
                if words > MAX_WORDS:
                    advice = f"{words} words; split it"
                    found.append(Finding(item.path, item.line, "long", sentence[:60], advice))
    return found


def count_semicolons(path: pathlib.Path) -> int:
    """Return the number of semicolons in the texts of a file."""
    return sum(plain(text.text).count(";") for text in read_texts(path)[2])


def files_of(paths: Iterable[str | pathlib.Path]) -> list[pathlib.Path]:
    """Return the Python files, Markdown pages and notebooks below the paths."""
    found: list[pathlib.Path] = []
    for path in map(pathlib.Path, paths):
        names = [path] if path.is_file() else sorted(path.rglob("*"))
        found += [name for name in names if name.suffix in SUFFIXES and name.is_file()]
    return found


def main() -> int:
    """Print findings and counts; return 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--long", action="store_true", help="print long sentences too")
    options = parser.parse_args()
    files = files_of(options.paths)
    found = [finding for path in files for finding in check_file(path)]
    long = [finding for path in files for finding in long_sentences(path)]
    for finding in [*found, *(long if options.long else [])]:
        print(finding)
    semicolons = sum(count_semicolons(path) for path in files)
    print(
        f"{len(files)} files: {len(found)} marks and form breaks, "
        f"{len(long)} sentences over {MAX_WORDS} words (--long prints them), "
        f"{semicolons} semicolons"
    )
    return bool(found)


if __name__ == "__main__":
    raise SystemExit(main())
