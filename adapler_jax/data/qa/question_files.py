"""Read rows of questions in the public forms of SQuAD, MRQA and TriviaQA, one row at a time."""

import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from adapler_jax.data.qa.json_questions import check_object
from adapler_jax.data.sources.compression import Source, inner_path, open_source
from adapler_jax.data.sources.encodings import TextReader
from adapler_jax.data.sources.files import files_by_split, resolve_path, split_name
from adapler_jax.data.sources.items import json_endings, line_items
from adapler_jax.data.sources.json_tables import expand_columns
from adapler_jax.data.sources.json_values import (
    LIST_START,
    LocatedItem,
    check_end,
    list_items,
    read_start,
)
from adapler_jax.data.sources.paths import check_inside
from adapler_jax.data.sources.tfds import tfds_splits, to_python
from adapler_jax.io.messages import explain_unknown, shown

ENDINGS = json_endings()
_FIRST_KEY = re.compile(r'"(data|paragraphs|qas|header|context|question)"\s*:', re.IGNORECASE)
_VERSION = re.compile(r"[_-]v[\d.]+$")  # `train-v1.1` is the split `train`

Row = Mapping
Rows = Iterable[tuple[str, Row]]  # with the location of each row, for messages


def open_rows(source: str) -> dict[str, Callable[[], Rows]]:
    """Return a reader of rows for every split of a source of `stream_questions`.

    Raises:
      ValueError: the source is unknown or missing.
    """
    kind, _, name = source.partition(":")
    if kind not in ("file", "tfds") or not name:
        raise ValueError(f"source of questions {source!r}; expected file:PATH or tfds:NAME")
    if kind == "tfds":
        splits = tfds_splits(name)
        return {
            split: functools.partial(tfds_rows, rows, f"{source} {split}")
            for split, rows in splits.items()
        }
    return {split: functools.partial(_file_rows, path) for split, path in _find_files(name).items()}


def _find_files(name: str) -> dict[str, pathlib.Path]:
    """Find the file, or the files of the folder, by split."""
    path = resolve_path(name)
    if path.is_file():
        return {_split_of(path) or "train": path}
    return files_by_split(
        path,
        lambda file: _split_of(file) if file.name.endswith(ENDINGS) else None,
        endings=ENDINGS,
    )


def _split_of(path: pathlib.Path) -> str | None:
    """Return the split in a file's name: train-v1.1.json is train, dev.jsonl.gz is validation."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), path.suffix)
    return split_name(_VERSION.sub("", path.name.removesuffix(ending)))


def _file_rows(path: pathlib.Path) -> Rows:
    """Yield the rows of a file in any of the forms."""
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', path.suffix, ENDINGS)}")
    with open_source(path) as source:
        for where, item in _items(source, is_lines=inner_path(path).suffix.lower() == ".jsonl"):
            yield from _flatten(item, where, path.parent.parent / "evidence")


def _items(source: Source, *, is_lines: bool) -> Iterator[LocatedItem]:
    """Yield the values of JSON lines, of one list, or of the list `data` of an object."""
    where = source.where
    if not is_lines:
        text = TextReader(source.open(), where)
        head = read_start(text)
        key = _FIRST_KEY.search(head)
        start = LIST_START.match(head, key.end() if key and key[1].lower() == "data" else 0)
        if start:
            rest, offset = yield from list_items(text, head, start.end(), where)
            check_end(rest[offset:] + text.read(), where, in_object=start.start() > 0)
            return
    yield from line_items(source.open(), where)


def _flatten(item, where: str, evidence: pathlib.Path, *, depth: int = 0) -> Rows:
    """Yield the questions of an article, a paragraph or a line, whose fields show its form."""
    check_object(item, where)
    if "paragraphs" in item:
        if depth:
            raise ValueError(
                f"{where} has paragraphs inside of a paragraph; expected 'qas', as SQuAD has it"
            )
        for location, paragraph in _numbered(item["paragraphs"], f"{where}, paragraph"):
            yield from _flatten(paragraph, location, evidence, depth=1)
    elif "qas" in item:
        for location, row in _numbered(item["qas"], f"{where}, question"):
            yield location, {"context": item.get("context"), **row}
    elif "QuestionId" in item:
        yield from _trivia_rows(item, where, evidence)
    elif "header" not in item:
        for location, value in expand_columns(item, where):
            yield location, check_object(value, location)


def _numbered(items, where: str) -> Iterator[tuple[str, Row]]:
    """Yield objects with their locations."""
    for number, item in enumerate(items if isinstance(items, list) else [items], start=1):
        location = f"{where} {number}"
        yield location, check_object(item, location)


def _trivia_rows(item: Row, where: str, evidence: pathlib.Path) -> Rows:
    """Yield a row for every document of a question in TriviaQA's published form."""
    answer = item.get("Answer") or {}
    aliases = answer.get("Aliases") or [] if isinstance(answer, Mapping) else None
    if not isinstance(aliases, list):
        raise ValueError(
            f"{where} has {shown(answer)} as 'Answer'; "
            "expected an object with 'Aliases' and 'Value'"
        )
    aliases = [*aliases, *filter(None, [answer.get("Value")])]
    for field, folder in (("EntityPages", "wikipedia"), ("SearchResults", "web")):
        for location, page in _numbered(item.get(field) or [], f"{where}, {field}"):
            if "Filename" in page:
                check_inside(evidence, folder, location)  # the folder itself may be a link
                path = check_inside(evidence / folder, page["Filename"], location)
                row = {
                    "id": f"{item['QuestionId']}--{page['Filename']}",
                    "question": item.get("Question"),
                }
                yield where, row | {"context": path, "aliases": aliases}


def tfds_rows(rows: Iterable[Mapping], where: str) -> Rows:
    """Yield the rows of tensorflow-datasets with the fields of the files."""
    for number, item in enumerate(rows, start=1):
        row, location = to_python(item), f"{where}: row {number}"
        if "question_id" not in row:
            yield location, row | _detected(row)
            continue
        aliases = [*row["answer"]["aliases"], *{row["answer"]["value"]} - {"", "<unk>"}]
        for pages, text in (("entity_pages", "wiki_context"), ("search_results", "search_context")):
            for name, context in zip(row[pages]["filename"], row[pages][text], strict=True):
                fields = {"question": row["question"], "context": context, "aliases": aliases}
                yield location, {"id": f"{row['question_id']}--{name}", **fields}


def _detected(row: Row) -> Row:
    """Convert MRQA's columns of starts and ends to a list of spans for each detected answer."""
    if "detected_answers" not in row:
        return {}
    texts, spans = row["detected_answers"]["text"], row["detected_answers"]["char_spans"]
    columns = zip(spans["start"], spans["end"], strict=True)
    spans = [list(zip(starts, ends, strict=True)) for starts, ends in columns]
    return {"detected_answers": {"text": texts, "char_spans": spans}}
