"""Splits of questions about texts as rows of batches, one class a kind of task."""

import contextlib
import dataclasses
import enum
import pathlib
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

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

    SPAN: the answer is a part of a text. MULTIPLE_CHOICE: it is one of some options. HOTPOT: it is a part of several
    paragraphs, yes or no, and sentences support it. WIKIHOP: it is one of the candidates that come with several texts.
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
        """The windows as rows of batches; the example id is the number of the window."""
        ids = np.arange(len(self.windows), dtype=np.int32)
        head_slots = {"span_BA2": self.windows.span_RA2}
        return Tokenized(
            self.windows.tokens, self.windows.segments, np.zeros_like(ids), ids, head_slots
        )


@dataclasses.dataclass(frozen=True)
class _RowSplit:
    """Questions of which nothing but rows is kept."""

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
        """The options as rows of batches, those of a question as one group."""
        ids = np.arange(len(self.rows), dtype=np.int32)
        return Tokenized(
            self.rows.tokens, self.rows.segments, self.rows.labels, ids, group=self.rows.num_options
        )


@dataclasses.dataclass(frozen=True)
class HotpotSplit(_RowSplit):
    """Questions with their paragraphs as rows."""

    rows: HotpotRows

    def tokenized(self) -> Tokenized:
        """One row a question; the label is the type of the answer."""
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
        """The label is the right candidate; a question's rows stand alone."""
        rows, ids = self.rows, np.arange(len(self.rows), dtype=np.int32)
        return Tokenized(
            rows.tokens, rows.segments, rows.labels, ids, {"marker_BK": rows.marker_RC}
        )


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
    """The rows of one split.

    Args:
      kind: SPAN, CHOICE, HOTPOT or WIKIHOP.
      stream: gives the questions anew at every call.
      max_length: token slots of a row.
      qa_config: the settings of `config.qa`.
      cache_dir: of `load_span_split`; the other kinds are kept in memory.
      shuffle_seed: of training rows of HOTPOT (`stream_hotpot_rows`), which then lack what only scores need.
    """

    def settings(*names: str) -> dict[str, int]:
        return {"max_length": max_length} | {name: qa_config[name] for name in names}

    if kind == QAKind.MULTIPLE_CHOICE:
        return MultipleChoiceSplit(
            build_multiple_choice_rows(stream(), core, **settings("max_option_tokens"))
        )
    if kind == QAKind.HOTPOT:
        limits = settings("max_question_tokens", "max_sentences", "max_answers")
        return HotpotSplit(load_hotpot_rows(stream(), core, shuffle_seed=shuffle_seed, **limits))
    if kind == QAKind.WIKIHOP:
        return WikihopSplit(
            build_wikihop_rows(stream(), core, **settings("max_packed_questions", "max_candidates"))
        )
    limits = settings("doc_stride", "max_question_tokens", "max_answers")
    return load_span_split(stream, core, cache_dir=cache_dir, **limits)


def load_span_split(
    stream: Callable[[], Iterable[Question]],
    core: Tokenizer,
    *,
    cache_dir: pathlib.Path | None,
    **settings: int,
) -> SpanSplit:
    """Questions and windows of one split: in memory, or under cache_dir as files that are read as they are needed.

    Args: stream: gives the questions anew at every call. settings: of `iter_windows`.
    """
    if cache_dir is not None:
        try:
            return _cached_span_split(stream, core, cache_dir, **settings)
        except OSError as error:
            if not is_read_only(error):
                raise
            warnings.warn(
                f"windows are not kept ({error}); they are made in memory; name another folder, or none, "
                "in config.data.cache_dir",
                stacklevel=2,
            )
    questions = list(stream())
    return SpanSplit(questions, join_windows(iter_windows(questions, core, **settings)))


def _cached_span_split(
    stream, core: Tokenizer, cache_dir: pathlib.Path, **settings: int
) -> SpanSplit:
    """Read the files of a split, or write them first; arguments as of `load_span_split`."""
    folder = cache_dir / f"windows-{windows_key(stream(), core, **settings)}"
    with contextlib.suppress(ValueError):  # not there, or not whole
        return open_span_split(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        with contextlib.suppress(ValueError):
            return open_span_split(folder)  # another process wrote it meanwhile
        remove_partial(folder)
        questions = tee_questions(stream(), folder / "questions")
        store_windows(iter_windows(questions, core, **settings), folder / "windows")
    return open_span_split(folder)


def open_span_split(folder: pathlib.Path) -> SpanSplit:
    """Questions and windows that `load_span_split` wrote. Raises ValueError where they are not there, or not whole."""
    return SpanSplit(StoredQuestions(folder / "questions"), open_windows(folder / "windows"))


def load_hotpot_rows(
    questions: Iterable[HotpotQuestion], core: Tokenizer, *, shuffle_seed: int | None, **limits: int
) -> HotpotRows:
    """All rows of a split; of a training split, which has a seed, without texts: they take three times the tokens."""
    chunks = stream_hotpot_rows(questions, core, shuffle_seed=shuffle_seed, **limits)
    return join_chunks(
        [chunk if shuffle_seed is None else chunk.without_texts() for chunk in chunks]
    )
