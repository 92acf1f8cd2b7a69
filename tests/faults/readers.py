"""Provide readers with small whole files of every form, for `tests.faults.fuzz`."""

import bz2
import collections
import gzip
import io
import json
import lzma
import pathlib
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import pyarrow
import pyarrow.parquet

from adapler_jax.data.classification.examples import load_task
from adapler_jax.data.classification.summary import summarize
from adapler_jax.data.qa.hotpot import stream_hotpot
from adapler_jax.data.qa.multiple_choice_files import stream_multiple_choice
from adapler_jax.data.qa.questions import stream_questions
from adapler_jax.data.qa.wikihop import stream_wikihop
from adapler_jax.data.tagging.sentences import describe, load_sentences
from adapler_jax.serving.streams import kind_of, read_windows

ROWS = [
    {"text": f'film {number}, "é" 日', "label": ("neg", "pos")[number % 2], "n": number}
    for number in range(8)
]
SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "Ada is in London.",
                    "qas": [
                        {
                            "id": "1",
                            "question": "Where?",
                            "answers": [{"text": "London", "answer_start": 10}],
                            "is_impossible": False,
                        },
                        {"id": "2", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ],
}
FLAT = {
    "id": "1",
    "question": "?",
    "context": "a b",
    "answers": {"text": ["b"], "answer_start": [2]},
}
MRQA = {
    "context": "In London.",
    "qas": [
        {
            "qid": "a",
            "question": "Where?",
            "answers": ["London"],
            "detected_answers": [{"text": "London", "char_spans": [[3, 8]]}],
        }
    ],
}
TRIVIA = {
    "Data": [
        {
            "QuestionId": "q",
            "Question": "?",
            "Answer": {"Value": "a", "Aliases": ["b"]},
            "EntityPages": [{"Filename": "a.txt"}],
        }
    ]
}
TAGGED = [{"words": ["Ann", "é"], "tags": ["B-PER", "O"]}, {"words": ["a"], "tags": ["O"]}]
CONLL = "-DOCSTART- O\n\nAnn NNP B-PER\né X O\n\na\tX\tO\n"
CHOICE = {"id": "1", "article": "a", "question": "?", "options": ["b", "c"], "label": 1}
RACE = {"id": "1", "article": "a", "questions": ["?"], "options": [["b", "c"]], "answers": ["B"]}
DREAM = [["a"], [{"question": "?", "choice": ["b", "c"], "answer": "c"}], "5-1"]
HOTPOT = {
    "_id": "1",
    "question": "?",
    "answer": "b",
    "context": [["t", ["a b", "c"]]],
    "supporting_facts": [["t", 0]],
    "type": "bridge",
}
WIKIHOP = {"id": "1", "query": "q", "answer": "b", "candidates": ["a", "b"], "supports": ["a b"]}


class Reader(NamedTuple):
    """A seed file: its name, its bytes, and the function that reads it."""

    name: str
    content: bytes
    read: Callable[[pathlib.Path], None]


def exhaust(items) -> None:
    """Consume all items."""
    collections.deque(items, maxlen=0)


def read_task(path: pathlib.Path) -> None:
    """Read a table for training, and summarize it."""
    summarize(load_task("custom", source=f"file:{path}", split_fractions={"validation": 0.2}))


def read_tags(path: pathlib.Path) -> None:
    """Read sentences with tags for training, and describe them."""
    fractions = {"validation": 0.5}
    describe(load_sentences("custom_tokens", source=f"file:{path}", split_fractions=fractions))


def read_stream(path: pathlib.Path) -> None:
    """Read a table for predictions."""
    kind = kind_of(str(path), ("txt", "csv", "tsv", "jsonl", "json", "parquet", "xlsx"), advice="")
    with open(path, "rb") as file:
        exhaust(read_windows(file, kind, str(path), columns=() if kind == "txt" else ("text",)))


def read_with(stream: Callable) -> Callable[[pathlib.Path], None]:
    """Return a reader of a split of questions."""
    return lambda path: exhaust(stream(f"file:{path}", split="train"))


def seed_readers() -> list[Reader]:
    """Return a whole file for every reader and form."""
    csv = "text,label,n\n" + "".join(
        f'"film {n}, ""é"" 日",{row["label"]},{n}\n' for n, row in enumerate(ROWS)
    )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    columns = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ROWS[0]}
    tables = {
        "a.csv": csv.encode(),
        "b.csv": csv.replace(",", ";").encode("utf-16"),
        "a.tsv": csv.replace(",", "\t").encode(),
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(ROWS).encode(),
        "b.json": json.dumps(columns).encode(),
        "c.json": json.dumps({"columns": ["text", "label"], "data": [["a", 1], ["b", 0]]}).encode(),
        "d.json": json.dumps({"data": ROWS}, indent=1).encode(),
        "a.parquet": parquet_bytes(),
        "a.xlsx": sheet_bytes(),
        "a.csv.gz": gzip.compress(csv.encode()),
        "a.csv.xz": lzma.compress(csv.encode()),
        "a.csv.bz2": bz2.compress(csv.encode()),
        "a.csv.zst": zstandard_bytes(csv.encode()),
        "a.csv.zip": zip_bytes(csv.encode()),
    }
    found = [
        Reader(name, content, read)
        for name, content in tables.items()
        for read in (read_task, read_stream)
    ]
    found.append(Reader("a.txt", "film é\nother\n".encode(), read_stream))
    questions = (SQUAD, TRIVIA, [FLAT], {"data": [FLAT]})
    found += [
        Reader("q.json", json.dumps(item).encode(), read_with(stream_questions))
        for item in questions
    ]
    found += [
        Reader("q.jsonl", json.dumps(item).encode(), read_with(stream_questions))
        for item in (FLAT, MRQA)
    ]
    found.append(
        Reader("q.json.gz", gzip.compress(json.dumps(SQUAD).encode()), read_with(stream_questions))
    )
    found += [
        Reader("c.jsonl", json.dumps(item).encode(), read_with(stream_multiple_choice))
        for item in (CHOICE, RACE, DREAM)
    ]
    tagged_lines = "".join(f"{json.dumps(row)}\n" for row in TAGGED)
    found += [
        Reader(name, content.encode(), read_tags)
        for name, content in {"t.conll": CONLL, "t.txt": CONLL, "t.jsonl": tagged_lines}.items()
    ]
    for item, stream in ((HOTPOT, stream_hotpot), (WIKIHOP, stream_wikihop)):
        found.append(Reader("h.json", json.dumps([item]).encode(), read_with(stream)))
    return found


def parquet_bytes() -> bytes:
    """Return a Parquet file with the names of its classes."""
    info = json.dumps(
        {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    )
    table = pyarrow.table(
        {"text": [row["text"] for row in ROWS], "label": [row["n"] % 2 for row in ROWS]}
    )
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata({"huggingface": info}), sink)
    return sink.getvalue()


def sheet_bytes() -> bytes:
    """Return an Excel file; empty without openpyxl, which the readers report."""
    try:
        import openpyxl
    except ImportError:
        return b""
    book = openpyxl.Workbook()
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        book.active.append(row)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


def zstandard_bytes(content: bytes) -> bytes:
    """Return a Zstandard frame."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def zip_bytes(content: bytes) -> bytes:
    """Return a zip archive of one file."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    return sink.getvalue()
