"""Windows and questions in folders, written as a stream and read as memory maps."""

import contextlib
import dataclasses
import hashlib
import json
import operator
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import Windows
from adapler_jax.io.atomic_files import digest_of, flush_file, flush_names

_FORMAT = 1  # raise it when the files, or the windows of a question, change
_MARKER = "complete.json"  # the last file of a folder, with the sizes and digests of the others
_WINDOW_FILES = {
    "tokens.bin": np.int32,
    "segments.bin": np.int8,
    "offsets.bin": np.int64,
    "context_first.bin": np.int32,
    "starts.bin": np.int32,
    "ends.bin": np.int32,
    "part_offsets.bin": np.int64,
    "question.bin": np.int32,
    "span_RA2.bin": np.int32,
}
_PARTIAL = ".partial"  # ends the name of a folder that is being written
_LINES, _PLACES = (
    "questions.jsonl",
    "places.bin",
)  # places: the byte where each line starts, and the end of the last


def windows_key(questions: Iterable[Question], core: Tokenizer, **settings: int) -> str:
    """Hash questions, tokenizer and the settings of `iter_windows`: 32 hexadecimal digits to name a cache by."""
    state = json.loads(core.to_str())
    for setting in (
        "truncation",
        "padding",
    ):  # left behind by the last call, no part of the content
        state.pop(setting, None)
    content = [
        _FORMAT,
        sorted(settings.items()),
        state,
        *["split_special_tokens"] * core.encode_special_tokens,
    ]
    digest = hashlib.sha256(json.dumps(content).encode())
    for question in questions:
        digest.update(_line(question))
    return digest.hexdigest()[:32]


def store_windows(chunks: Iterable[Windows], directory: str | os.PathLike) -> Windows:
    """Write the chunks of `iter_windows` one by one; the folder is there, or replaced, when all are written.

    Returns:
      The windows, as `open_windows` gives them.

    Raises:
      ValueError: there are none, or the folder holds files of others.
    """
    with (
        _new_folder(pathlib.Path(directory), {*_WINDOW_FILES}) as folder,
        contextlib.ExitStack() as stack,
    ):
        files = {name: stack.enter_context(open(folder / name, "wb")) for name in _WINDOW_FILES}
        ends = np.zeros(2, np.int64)  # of the rows so far, in tokens and in tokens of the texts
        for chunk in chunks:
            _append(files, chunk, ends)
        if not ends[0]:
            raise ValueError("there are no windows to store; give at least one question")
    return open_windows(directory)


def _append(files: dict[str, BinaryIO], windows: Windows, ends: np.ndarray) -> None:
    """Write a chunk behind the others and move the ends."""
    offsets, part_offsets = windows.tokens.offsets, windows.starts.offsets
    arrays = {
        "tokens.bin": windows.tokens.values,
        "segments.bin": windows.segments.values,
        "offsets.bin": offsets[1 if ends[0] else 0 :] + ends[0],
        "context_first.bin": windows.context_first,
        "starts.bin": windows.starts.values,
        "ends.bin": windows.ends.values,
        "part_offsets.bin": part_offsets[1 if ends[0] else 0 :] + ends[1],
        "question.bin": windows.question,
        "span_RA2.bin": windows.span_RA2,
    }
    for name, values in arrays.items():
        files[name].write(np.ascontiguousarray(values, _WINDOW_FILES[name]))
    ends += offsets[-1], part_offsets[-1]


def open_windows(directory: str | os.PathLike) -> Windows:
    """Open what `store_windows` wrote, as memory maps.

    Raises:
      ValueError: it is not there, or not whole; store it again.
    """
    directory = pathlib.Path(directory)
    _check_whole(directory, {*_WINDOW_FILES}, "windows")
    found = {
        name.removesuffix(".bin"): _map(directory / name, kind)
        for name, kind in _WINDOW_FILES.items()
    }
    rows, parts = found["offsets"], found["part_offsets"]
    return Windows(
        tokens=Ragged(found["tokens"], rows),
        segments=Ragged(found["segments"], rows),
        context_first=found["context_first"],
        starts=Ragged(found["starts"], parts),
        ends=Ragged(found["ends"], parts),
        question=found["question"],
        span_RA2=found["span_RA2"].reshape(len(rows) - 1, -1, 2),
    )


def store_questions(
    questions: Iterable[Question], directory: str | os.PathLike
) -> "StoredQuestions":
    """Write questions to a folder, which is there, or replaced, when all are written; return them.

    Raises:
      ValueError: the folder holds files of others.
    """
    for _ in tee_questions(questions, directory):
        pass
    return StoredQuestions(directory)


def tee_questions(
    questions: Iterable[Question], directory: str | os.PathLike
) -> Iterator[Question]:
    """Pass questions on and write them as `store_questions` does, once the last was taken.

    Raises:
      ValueError: the folder holds files of others.
    """
    with _new_folder(pathlib.Path(directory), {_LINES, _PLACES}) as folder:
        with open(folder / _LINES, "wb") as lines, open(folder / _PLACES, "wb") as places:
            places.write(np.int64(0).tobytes())
            for question in questions:
                lines.write(_line(question))
                places.write(np.int64(lines.tell()).tobytes())
                yield question


class StoredQuestions(Sequence[Question]):
    """Questions in a folder that `store_questions` wrote; each is read when it is asked for."""

    def __init__(self, directory: str | os.PathLike):
        """Raises ValueError where they are not there, or not whole: store them again."""
        directory = pathlib.Path(directory)
        _check_whole(directory, {_LINES, _PLACES}, "questions")
        self._places = _map(directory / _PLACES, np.int64)
        self._lines = _map(directory / _LINES, np.uint8)

    def __len__(self) -> int:
        """Count the questions."""
        return len(self._places) - 1

    def __getitem__(self, number: int) -> Question:
        """Read one question."""
        start, end = self._places[range(len(self))[operator.index(number)] :][:2]
        row = json.loads(self._lines[start:end].tobytes().decode("utf-8", "surrogatepass"))
        spans = tuple((first, last) for first, last in row["spans"])
        return Question(**row | {"answers": tuple(row["answers"]), "spans": spans})


def _line(question: Question) -> bytes:
    """A question as a line of JSON."""
    row = {field.name: getattr(question, field.name) for field in dataclasses.fields(Question)}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def _new_folder(directory: pathlib.Path, names: set[str]) -> Iterator[pathlib.Path]:
    """Give a folder to write files of these names into; it takes the directory's place if all goes well."""
    others = (
        {file.name for file in directory.iterdir()} - names - {_MARKER}
        if directory.is_dir()
        else set()
    )
    if others:
        raise ValueError(
            f"{str(directory)!r} holds {sorted(others)[0]!r}, which would be lost; give an own folder"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(
        tempfile.mkdtemp(dir=directory.parent, prefix=directory.name, suffix=_PARTIAL)
    )
    try:
        yield partial
        (partial / _MARKER).write_text(json.dumps(_contents(partial, names)))
        for name in (*names, _MARKER):
            flush_file(partial / name)
        if directory.is_dir():
            shutil.rmtree(directory)
        partial.rename(directory)
        flush_names(directory.parent)
    except BaseException:
        shutil.rmtree(partial)
        raise


def remove_partial(folder: pathlib.Path) -> None:
    """Remove what killed writers left in a folder of folders; nobody else may write there meanwhile."""
    for left in folder.glob(f"*{_PARTIAL}"):
        shutil.rmtree(left)


def _contents(folder: pathlib.Path, names: set[str]) -> dict:
    """What the marker of a folder says: its form, bytes and digest of each file."""
    sizes = {name: (folder / name).stat().st_size for name in names}
    return {
        "format": _FORMAT,
        "bytes": sizes,
        "sha256": {name: digest_of(folder / name) for name in names},
    }


def _check_whole(directory: pathlib.Path, names: set[str], what: str) -> None:
    """Refuse a folder whose files are not all there as they were written."""
    try:
        is_whole = json.loads((directory / _MARKER).read_text()) == _contents(directory, names)
    except (OSError, ValueError):
        is_whole = False
    if not is_whole:
        raise ValueError(f"{str(directory)!r} holds no complete {what}; store them again")


def _map(path: pathlib.Path, kind) -> np.ndarray:
    """Map a file of numbers into memory; an empty one cannot be."""
    return np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.zeros(0, kind)
