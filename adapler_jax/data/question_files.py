"""Rows of questions in the public forms of SQuAD, MRQA and TriviaQA, a row at a time, from files and data sets."""

import codecs
import contextlib
import functools
import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

import numpy as np

from adapler_jax.data.files import json_lines, split_name
from adapler_jax.data.sources import first_line
from adapler_jax.data.streams import decode_lines
from adapler_jax.data.tables import explain_unknown

ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_CHUNK = 1 << 20  # bytes read at once of a file that is one JSON value
_LIST_START = re.compile(r"\s*\[")
_FIRST_KEY = re.compile(r'"(data|paragraphs|qas|header|context|question|id|qid)"\s*:', re.IGNORECASE)
_BETWEEN = re.compile(r"\s*,?\s*")
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
        splits = _open_tfds(name)
        return {split: functools.partial(tfds_rows, rows, f"{source} {split}") for split, rows in splits.items()}
    return {split: functools.partial(_file_rows, path) for split, path in _find_files(name).items()}


def _find_files(name: str) -> dict[str, pathlib.Path]:
    """Find the file, or the files of the folder, by split."""
    place = pathlib.Path(name).expanduser()
    if place.is_file():
        return {_split_of(place) or "train": place}
    if not place.is_dir():
        raise ValueError(f"no file or folder {str(place)!r}; give file:PATH with an existing path")
    files: dict[str, pathlib.Path] = {}
    for file in sorted(place.iterdir()):
        split = _split_of(file) if file.name.endswith(ENDINGS) else None
        if split in files:
            raise ValueError(f"{str(files[split])!r} and {file.name!r} are both the split {split!r}; keep one")
        if split:
            files[split] = file
    if not files:
        raise ValueError(f"folder {str(place)!r} has no train, validation or test file ending in {', '.join(ENDINGS)}")
    return files


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


def _items(file: BinaryIO, where: str, *, is_lines: bool) -> Iterator[tuple[str, object]]:
    """Yield the values of JSON lines, of one list, or of the list that an object has as its `data`."""
    if not is_lines:
        text = codecs.getreader("utf-8-sig")(file)
        try:
            head = text.read(_CHUNK)
            key = _FIRST_KEY.search(head)
            start = _LIST_START.match(head, key.end() if key and key[1].lower() == "data" else 0)
            if start:
                yield from _list_items(text, head, start.end(), where)
                return
        except UnicodeDecodeError as error:
            raise ValueError(f"{where} is not UTF-8 ({error.reason}); convert it") from error
        file.seek(0)
    for number, value in json_lines(decode_lines(file, where), where):
        yield f"{where}: line {number}", value


def _list_items(file: codecs.StreamReader, text: str, place: int, where: str) -> Iterator[tuple[str, object]]:
    """Yield the values of a JSON list, of which `text` is the part read and `place` the first character inside."""
    decoder, number = json.JSONDecoder(), 1
    while True:
        place = _BETWEEN.match(text, place).end()
        if text[place : place + 1] == "]":
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            more = file.read(max(_CHUNK, len(text) - place))  # as much again: a long value is parsed few times
            if not more:
                raise ValueError(f"{where}: item {number} is not JSON, or the file is cut: {error.msg}") from error
            text, place = text[place:] + more, 0
        else:
            yield f"{where}: item {number}", value
            number += 1


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


def _open_tfds(name: str) -> Mapping:
    """Open a tensorflow-datasets builder without TensorFlow; it is downloaded and prepared the first time."""
    try:
        import tensorflow_datasets as tfds  # heavy, and needed for these sources only
        import tensorflow_datasets.text  # registers mrqa
    except ImportError as error:
        raise ValueError(f"tfds:{name} needs `pip install tensorflow-datasets array_record`: {error}") from error
    try:
        builder = tfds.builder(name, file_format="array_record")
        builder.download_and_prepare(file_format="array_record")
        return builder.as_data_source()
    except Exception as error:  # not found, no network, changed checksum, a missing module: no common base
        raise ValueError(f"tensorflow-datasets cannot give {name!r}: {first_line(error)}") from error


def tfds_rows(rows: Iterable[Mapping], where: str) -> Rows:
    """Yield the rows of tensorflow-datasets in the fields of the files."""
    for number, row in enumerate(rows, start=1):
        row, place = _plain(row), f"{where}: row {number}"
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


def _plain(value):
    """Turn bytes into strings, NumPy's numbers into plain ones, arrays into lists, also inside of each other."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
