"""Load splits of questions as rows of batches; each kind of task has one class."""

import contextlib
import dataclasses
import enum
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.hotpot import HotpotQuestion
from adapler_jax.data.qa.hotpot_rows import HotpotRows, stream_hotpot_rows
from adapler_jax.data.qa.multiple_choice import MultipleChoiceRows, build_multiple_choice_rows
from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.wikihop import WikihopRows, build_wikihop_rows
from adapler_jax.data.qa.window_files import (
    StoredQuestions,
    open_windows,
    remove_partial,
    store_windows,
    tee_questions,
    windows_key,
)
from adapler_jax.data.qa.windows import Windows, iter_windows, join_windows
from adapler_jax.data.tokenization.templates import join_chunks
from adapler_jax.data.tokenization.tokens import Tokenized
from adapler_jax.io.atomic_files import is_read_only
from adapler_jax.io.locks import locked


class QAKind(enum.StrEnum):
    """Kinds of question answering.

    SPAN: the answer is a part of a text. MULTIPLE_CHOICE: the answer is one of some options.
    HOTPOT: the answer is a part of several paragraphs, yes or no, and sentences support it.
    WIKIHOP: the answer is one of the candidates that come with several texts.
    """

    SPAN = enum.auto()
    MULTIPLE_CHOICE = enum.auto()
    HOTPOT = enum.auto()
    WIKIHOP = enum.auto()


@dataclasses.dataclass(frozen=True)
class SpanSplit:
    """Questions and their windows."""

    questions: Sequence[Question]
    windows: Windows

    @property
    def num_questions(self) -> int:
        """Count the questions."""
        return len(self.questions)

    def tokenized(self) -> Tokenized:
        """Return the windows as rows of batches; the example id is the number of the window."""
        windows, ids = self.windows, np.arange(len(self.windows), dtype=np.int32)
        head_slots = {"span_BA2": windows.span_RA2}
        return Tokenized(windows.tokens, windows.segments, np.zeros_like(ids), ids, head_slots)


@dataclasses.dataclass(frozen=True)
class _RowSplit:
    """A split that stores rows, but not its questions."""

    rows: MultipleChoiceRows | HotpotRows | WikihopRows

    @property
    def num_questions(self) -> int:
        """Count the questions."""
        return len(self.rows.ids)


@dataclasses.dataclass(frozen=True)
class MultipleChoiceSplit(_RowSplit):
    """The options of questions as rows."""

    rows: MultipleChoiceRows

    def tokenized(self) -> Tokenized:
        """Return the options as rows of batches; the options of a question are a group."""
        rows, ids = self.rows, np.arange(len(self.rows), dtype=np.int32)
        return Tokenized(rows.tokens, rows.segments, rows.labels, ids, group=rows.num_options)


@dataclasses.dataclass(frozen=True)
class HotpotSplit(_RowSplit):
    """Questions with their paragraphs as rows."""

    rows: HotpotRows

    def tokenized(self) -> Tokenized:
        """Return one row a question; the label is the type of the answer."""
        rows, ids = self.rows, np.arange(len(self.rows), dtype=np.int32)
        head_slots = {
            "span_BA2": rows.span_RA2,
            "sentence_BX2": rows.sentence_RS2,
            "support_BX": rows.supporting_RS,
        }
        return Tokenized(rows.tokens, rows.segments, rows.answer_type, ids, head_slots)


@dataclasses.dataclass(frozen=True)
class WikihopSplit(_RowSplit):
    """Questions with their candidates and texts as rows."""

    rows: WikihopRows

    def tokenized(self) -> Tokenized:
        """Return the rows; the label is the correct candidate. Rows of a question are no group."""
        rows, ids = self.rows, np.arange(len(self.rows), dtype=np.int32)
        head_slots = {"marker_BK": rows.marker_RC}
        return Tokenized(rows.tokens, rows.segments, rows.labels, ids, head_slots)


Split = SpanSplit | MultipleChoiceSplit | HotpotSplit | WikihopSplit


def load_split(
    kind: QAKind,
    stream: Callable[[], Iterable],
    core: Tokenizer,
    *,
    max_length: int,
    qa_config: Mapping,
    cache_dir: pathlib.Path | None,
    shuffle_seed: int | None = None,
) -> Split:
    """Load the rows of one split.

    Args:
      kind: the kind of task.
      stream: returns the questions from the start at every call.
      core: a tokenizer of `load_core`.
      max_length: token slots of a row.
      qa_config: the fields of `config.qa`.
      cache_dir: folder for the windows of SPAN; other kinds stay in memory.
      shuffle_seed: seed of training rows of HOTPOT (`stream_hotpot_rows`). These rows lack the
        texts that only scores need.
    """

    def limits(*names: str) -> dict[str, int]:
        """Return max_length and fields of qa_config."""
        return {"max_length": max_length} | {name: qa_config[name] for name in names}

    if kind == QAKind.MULTIPLE_CHOICE:
        rows = build_multiple_choice_rows(stream(), core, **limits("max_option_tokens"))
        return MultipleChoiceSplit(rows)
    if kind == QAKind.HOTPOT:
        sizes = limits("max_question_tokens", "max_sentences", "max_answers")
        return HotpotSplit(_load_hotpot_rows(stream(), core, sizes, shuffle_seed=shuffle_seed))
    if kind == QAKind.WIKIHOP:
        sizes = limits("max_packed_questions", "max_candidates")
        return WikihopSplit(build_wikihop_rows(stream(), core, **sizes))
    sizes = limits("doc_stride", "max_question_tokens", "max_answers")
    return load_span_split(stream, core, cache_dir=cache_dir, **sizes)


def load_span_split(
    stream: Callable[[], Iterable[Question]],
    core: Tokenizer,
    *,
    cache_dir: pathlib.Path | None,
    **limits: int,
) -> SpanSplit:
    """Load the questions and windows of one split, in memory or memory-mapped from files.

    Args:
      stream: returns the questions from the start at every call.
      core: a tokenizer of `load_core`.
      cache_dir: folder that stores the files; None keeps everything in memory.
      **limits: sizes for `iter_windows`.
    """
    if cache_dir is not None:
        try:
            return _cached_span_split(stream, core, cache_dir, **limits)
        except OSError as error:
            if not is_read_only(error):
                raise
            warnings.warn(
                f"windows are not kept ({error}); they are made in memory; name another folder, or "
                "none, in config.data.cache_dir",
                stacklevel=2,
            )
    questions = list(stream())
    return SpanSplit(questions, join_windows(iter_windows(questions, core, **limits)))


def _cached_span_split(
    stream: Callable[[], Iterable[Question]],
    core: Tokenizer,
    cache_dir: pathlib.Path,
    **limits: int,
) -> SpanSplit:
    """Open the files of a split; write them first if they are missing."""
    folder = cache_dir / f"windows-{windows_key(stream(), core, **limits)}"
    with contextlib.suppress(ValueError):  # missing or incomplete
        return open_span_split(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        with contextlib.suppress(ValueError):
            return open_span_split(folder)  # another process wrote it meanwhile
        remove_partial(folder)
        questions = tee_questions(stream(), folder / "questions")
        store_windows(iter_windows(questions, core, **limits), folder / "windows")
    return open_span_split(folder)


def open_span_split(folder: pathlib.Path) -> SpanSplit:
    """Open questions and windows that `load_span_split` wrote.

    Raises:
      ValueError: files are missing or incomplete.
    """
    return SpanSplit(StoredQuestions(folder / "questions"), open_windows(folder / "windows"))


def _load_hotpot_rows(
    questions: Iterable[HotpotQuestion],
    core: Tokenizer,
    limits: dict[str, int],
    *,
    shuffle_seed: int | None,
) -> HotpotRows:
    """Load all rows of a split; training rows, which have a seed, lack texts.

    Texts take three times the memory of the tokens.
    """
    sizes: dict[str, Any] = limits
    chunks = stream_hotpot_rows(questions, core, shuffle_seed=shuffle_seed, **sizes)
    return join_chunks(
        [chunk if shuffle_seed is None else chunk.without_texts() for chunk in chunks]
    )
