"""Store windows and questions in folders, written as a stream and opened as memory maps."""

import contextlib
import dataclasses
import hashlib
import json
import operator
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.batching.ragged import Ragged
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import Windows
from adapler_jax.io.atomic_directories import atomic_directory
from adapler_jax.io.atomic_files import digest_of

_FORMAT = 1  # raise it when the files, or the windows of a question, change
_MARKER = "complete.json"  # written last, with the sizes and digests of all other files
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
_LINES = "questions.jsonl"
_OFFSETS = "places.bin"  # int64 [questions + 1], first byte of each line, and the end of the last


def windows_key(questions: Iterable[Question], core: Tokenizer, **settings: int) -> str:
    """Hash questions, tokenizer and the settings of `iter_windows`.

    Returns:
      32 hexadecimal digits, the key of a cache.
    """
    state = json.loads(core.to_str())
    # The last call of the tokenizer sets these two, so they are not part of its content.
    for setting in ("truncation", "padding"):
        state.pop(setting, None)
    content = [_FORMAT, sorted(settings.items()), state]
    if core.encode_special_tokens:
        content.append("split_special_tokens")
    digest = hashlib.sha256(json.dumps(content).encode())
    for question in questions:
        digest.update(_line(question))
    return digest.hexdigest()[:32]


def store_windows(chunks: Iterable[Windows], directory: str | os.PathLike) -> Windows:
    """Write the chunks of `iter_windows` one by one.

    The folder appears, or is replaced, after the last chunk.

    Returns:
      The windows, opened by `open_windows`.

    Raises:
      ValueError: there are no windows, or the folder holds other files.
    """
    with (
        _new_folder(pathlib.Path(directory), {*_WINDOW_FILES}) as folder,
        contextlib.ExitStack() as stack,
    ):
        files = {name: stack.enter_context(open(folder / name, "wb")) for name in _WINDOW_FILES}
        num_tokens = num_context_tokens = 0
        for chunk in chunks:
            arrays = _arrays_of(chunk, num_tokens, num_context_tokens)
            for name, values in arrays.items():
                files[name].write(np.ascontiguousarray(values, _WINDOW_FILES[name]).data)
            num_tokens += len(chunk.tokens.values)
            num_context_tokens += len(chunk.starts.values)
        if not num_tokens:
            raise ValueError("there are no windows to store; give at least one question")
    return open_windows(directory)


def _arrays_of(windows: Windows, num_tokens: int, num_context_tokens: int) -> dict[str, np.ndarray]:
    """Return the arrays to append to each file, after so many tokens of earlier chunks."""
    first = 1 if num_tokens else 0  # the first offset is the last one of the chunk before
    return {
        "tokens.bin": windows.tokens.values,
        "segments.bin": windows.segments.values,
        "offsets.bin": windows.tokens.offsets[first:] + num_tokens,
        "context_first.bin": windows.context_first,
        "starts.bin": windows.starts.values,
        "ends.bin": windows.ends.values,
        "part_offsets.bin": windows.starts.offsets[first:] + num_context_tokens,
        "question.bin": windows.question,
        "span_RA2.bin": windows.span_RA2,
    }


def open_windows(directory: str | os.PathLike) -> Windows:
    """Open the windows that `store_windows` wrote, as memory maps.

    Raises:
      ValueError: the folder is missing or incomplete; store it again.
    """
    directory = pathlib.Path(directory)
    _check_complete(directory, {*_WINDOW_FILES}, "windows")
    found = {
        name.removesuffix(".bin"): _map(directory / name, kind)
        for name, kind in _WINDOW_FILES.items()
    }
    offsets, part_offsets = found["offsets"], found["part_offsets"]
    return Windows(
        tokens=Ragged(found["tokens"], offsets),
        segments=Ragged(found["segments"], offsets),
        context_first=found["context_first"],
        starts=Ragged(found["starts"], part_offsets),
        ends=Ragged(found["ends"], part_offsets),
        question=found["question"],
        span_RA2=found["span_RA2"].reshape(len(offsets) - 1, -1, 2),
    )


def store_questions(
    questions: Iterable[Question], directory: str | os.PathLike
) -> "StoredQuestions":
    """Write questions to a folder and return them.

    The folder appears, or is replaced, after the last question.

    Raises:
      ValueError: the folder holds other files.
    """
    for _ in tee_questions(questions, directory):
        pass
    return StoredQuestions(directory)


def tee_questions(
    questions: Iterable[Question], directory: str | os.PathLike
) -> Iterator[Question]:
    """Yield questions and write them to a folder, which appears after the last question.

    Raises:
      ValueError: the folder holds other files.
    """
    with _new_folder(pathlib.Path(directory), {_LINES, _OFFSETS}) as folder:
        with open(folder / _LINES, "wb") as lines, open(folder / _OFFSETS, "wb") as offsets:
            offsets.write(np.int64(0).tobytes())
            for question in questions:
                lines.write(_line(question))
                offsets.write(np.int64(lines.tell()).tobytes())
                yield question


class StoredQuestions(Sequence[Question]):
    """Questions in a folder that `store_questions` wrote; each is read on access."""

    def __init__(self, directory: str | os.PathLike):
        """Open the folder; raise ValueError if it is missing or incomplete."""
        directory = pathlib.Path(directory)
        _check_complete(directory, {_LINES, _OFFSETS}, "questions")
        self._offsets = _map(directory / _OFFSETS, np.int64)
        self._lines = _map(directory / _LINES, np.uint8)

    def __len__(self) -> int:
        """Count the questions."""
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> Question: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Question]: ...

    def __getitem__(self, index):
        """Read one question, or the questions of a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[operator.index(index)]
        start, end = self._offsets[number : number + 2]
        row = json.loads(self._lines[start:end].tobytes().decode("utf-8", "surrogatepass"))
        spans = tuple((first, last) for first, last in row["spans"])
        return Question(**row | {"answers": tuple(row["answers"]), "spans": spans})


def _line(question: Question) -> bytes:
    """Return a question as a line of JSON."""
    row = {field.name: getattr(question, field.name) for field in dataclasses.fields(Question)}
    return (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


@contextlib.contextmanager
def _new_folder(directory: pathlib.Path, names: set[str]) -> Iterator[pathlib.Path]:
    """Yield a folder for files of these names; it replaces the directory if no error occurs."""
    present = {file.name for file in directory.iterdir()} if directory.is_dir() else set()
    others = present - names - {_MARKER}
    if others:
        raise ValueError(
            f"{str(directory)!r} holds {sorted(others)[0]!r}, which would be lost; "
            "give an own folder"
        )
    with atomic_directory(directory) as folder:
        yield folder
        (folder / _MARKER).write_text(json.dumps(_contents(folder, names)))


def remove_partial(folder: pathlib.Path) -> None:
    """Remove unfinished folders of killed writers; no other process may write there meanwhile."""
    for partial in folder.glob("*.partial"):
        shutil.rmtree(partial)


def _contents(folder: pathlib.Path, names: set[str]) -> Mapping:
    """Return the content of a folder's marker: format, and bytes and digest of each file."""
    sizes = {name: (folder / name).stat().st_size for name in names}
    digests = {name: digest_of(folder / name) for name in names}
    return {"format": _FORMAT, "bytes": sizes, "sha256": digests}


def _check_complete(directory: pathlib.Path, names: set[str], what: str) -> None:
    """Raise ValueError if a file of a folder is missing or differs from the written one."""
    try:
        is_complete = json.loads((directory / _MARKER).read_text()) == _contents(directory, names)
    except (OSError, ValueError):
        is_complete = False
    if not is_complete:
        raise ValueError(f"{str(directory)!r} holds no complete {what}; store them again")


def _map(path: pathlib.Path, dtype) -> np.ndarray:
    """Map a file of numbers into memory; return an empty array for an empty file."""
    return np.asarray(np.memmap(path, dtype, "r")) if path.stat().st_size else np.zeros(0, dtype)
