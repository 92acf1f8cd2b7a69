"""Rows of questions in the public forms of SQuAD, MRQA and TriviaQA, a row at a time, from files and data sets."""

import codecs
import contextlib
import functools
import gzip
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

from adapler_jax.data.files import files_by_split, find_place, split_name
from adapler_jax.data.items import CHARACTERS, LIST_START, Placed, check_end, line_items, list_items
from adapler_jax.data.prepared import plain, tfds_splits
from adapler_jax.data.tables import explain_unknown

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_FIRST_KEY = re.compile(r'"(data|paragraphs|qas|header|context|question)"\s*:', re.IGNORECASE)
_VERSION = re.compile(r"[_-]v[\d.]+$")  # of train-v1.1, no part of the split's name

Row = Mapping
Rows = Iterable[tuple[str, Row]]  # with the place of each, for messages


def open_rows(source: str) -> dict[str, Callable[[], Rows]]:
    """Return a reader of rows for every split of a source, as `stream_questions` describes it.

    Raises:
      ValueError: the source is unknown or missing.
    """
    kind, _, name = source.partition(":")
    if kind not in ("file", "tfds") or not name:
        raise ValueError(f"source of questions {source!r}; expected file:PATH or tfds:NAME")
    if kind == "tfds":
        splits = tfds_splits(name)
        return {split: functools.partial(tfds_rows, rows, f"{source} {split}") for split, rows in splits.items()}
    return {split: functools.partial(_file_rows, path) for split, path in _find_files(name).items()}


def _find_files(name: str) -> dict[str, pathlib.Path]:
    """Find the file, or the files of the folder, by split."""
    place = find_place(name)
    if place.is_file():
        return {_split_of(place) or "train": place}
    return files_by_split(place, lambda file: _split_of(file) if file.name.endswith(ENDINGS) else None, endings=ENDINGS)


def _split_of(path: pathlib.Path) -> str | None:
    """Read the split off a file's name: train of train-v1.1.json, validation of dev.jsonl.gz."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), path.suffix)
    return split_name(_VERSION.sub("", path.name.removesuffix(ending)))


def _file_rows(path: pathlib.Path) -> Rows:
    """Yield the rows of a file in any of the forms."""
    if not path.name.endswith(ENDINGS):
        raise ValueError(f"{str(path)!r}: {explain_unknown('file kind', path.suffix, ENDINGS)}")
    with _open_bytes(path) as file:
        for where, item in _items(file, str(path), is_lines=".jsonl" in path.name[-9:]):
            yield from _flatten(item, where, path.parent.parent / "evidence")


@contextlib.contextmanager
def _open_bytes(path: pathlib.Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked; what gzip says of a damaged one becomes a ValueError."""
    with open(path, "rb") as file, gzip.open(file) if path.suffix == ".gz" else file as unpacked:
        try:
            yield unpacked
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a whole gzip file: {error}; fetch it again") from error


def _items(file: BinaryIO, where: str, *, is_lines: bool) -> Iterator[Placed]:
    """Yield the values of JSON lines, of one list, or of the list that an object has as its `data`."""
    if not is_lines:
        text = codecs.getreader("utf-8-sig")(file)
        try:
            head = text.read(CHARACTERS)
            key = _FIRST_KEY.search(head)
            start = LIST_START.match(head, key.end() if key and key[1].lower() == "data" else 0)
            if start:
                rest, place = yield from list_items(text, head, start.end(), where)
                check_end(rest[place:] + text.read(), where, in_object=start.start() > 0)
                return
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8 ({error.reason}); convert it") from error
        file.seek(0)
    yield from line_items(file, where)


def _flatten(item, where: str, evidence: pathlib.Path) -> Rows:
    """Yield the questions inside of an article, a paragraph or a line; the form is told by the fields."""
    if not isinstance(item, Mapping):
        raise ValueError(f"{where} is {type(item).__name__}; expected an object with named fields")
    if "paragraphs" in item:
        for place, paragraph in _numbered(item["paragraphs"], f"{where}, paragraph"):
            yield from _flatten(paragraph, place, evidence)
    elif "qas" in item:
        for place, row in _numbered(item["qas"], f"{where}, question"):
            yield place, {"context": item.get("context"), **row}
    elif "QuestionId" in item:
        yield from _trivia_rows(item, where, evidence)
    elif "header" not in item:
        yield where, item


def _numbered(items, where: str) -> Iterator[tuple[str, Row]]:
    """Yield objects with their places."""
    for number, item in enumerate(items if isinstance(items, list) else [items], start=1):
        if not isinstance(item, Mapping):
            raise ValueError(f"{where} {number} is {type(item).__name__}; expected an object with named fields")
        yield f"{where} {number}", item


def _trivia_rows(item: Row, where: str, evidence: pathlib.Path) -> Rows:
    """Yield a row for every document of a question as TriviaQA publishes it."""
    answer = item.get("Answer") or {}
    for field, folder in (("EntityPages", "wikipedia"), ("SearchResults", "web")):
        for name in (page["Filename"] for page in item.get(field) or () if "Filename" in page):
            yield (
                where,
                {
                    "id": f"{item['QuestionId']}--{name}",
                    "question": item.get("Question"),
                    "context": evidence / folder / name,
                    "aliases": [*answer.get("Aliases", ()), *filter(None, [answer.get("Value")])],
                },
            )


def tfds_rows(rows: Iterable[Mapping], where: str) -> Rows:
    """Yield the rows of tensorflow-datasets in the fields of the files."""
    for number, row in enumerate(rows, start=1):
        row, place = plain(row), f"{where}: row {number}"
        if "question_id" not in row:
            yield place, row | _detected(row)
            continue
        aliases = [*row["answer"]["aliases"], *{row["answer"]["value"]} - {"", "<unk>"}]
        for pages, text in (("entity_pages", "wiki_context"), ("search_results", "search_context")):
            for name, context in zip(row[pages]["filename"], row[pages][text], strict=True):
                fields = {"question": row["question"], "context": context, "aliases": aliases}
                yield place, {"id": f"{row['question_id']}--{name}", **fields}


def _detected(row: Row) -> Row:
    """Turn MRQA's columns of starts and ends, a list for each detected answer, into the spans of each."""
    if "detected_answers" not in row:
        return {}
    texts, spans = row["detected_answers"]["text"], row["detected_answers"]["char_spans"]
    spans = [list(zip(*places, strict=True)) for places in zip(spans["start"], spans["end"], strict=True)]
    return {"detected_answers": {"text": texts, "char_spans": spans}}
