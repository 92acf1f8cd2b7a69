"""A saved model that answers questions about texts, as its users see it."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import Windows, iter_windows
from adapler_jax.data.sources.chunks import in_chunks
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.loading import (
    check_request,
    exit_layer,
    open_model,
    padded_batch_size,
    prepare_model,
    qa_settings,
    sorted_batches,
    warm_up,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.processes import Portable, with_origin
from adapler_jax.inference.spans import Answer, Answers, answer_questions, best_spans, collect_spans
from adapler_jax.inference.words import Word, encode_whole, kept_words_of
from adapler_jax.io.plain import Comparable, plain
from adapler_jax.types import Params

INFERENCE_FIELDS = (
    "doc_stride",
    "max_question_tokens",
    "max_answer_tokens",
    "n_best_size",
)  # of `config.qa`, that it reads by


@dataclasses.dataclass(frozen=True, eq=False)
class QAPrediction(Comparable):
    """What a model answered to one question about one text."""

    question: str
    context: str
    text: str  # of the answer; empty: there is none in the text
    score: float  # sum of two logits
    probability: float  # among the best answers and none
    start: int  # characters [start, end) of the context; both 0 where there is none
    end: int
    answers: tuple[
        Answer, ...
    ]  # the best ones, the first as above but where no answer was preferred
    words: tuple[Word, ...]  # of the context
    keep_NW: np.ndarray  # bool, whether a layer ran on the word, in any window
    is_cut: bool  # whether the question goes on behind the tokens of it that are read

    @property
    def kept_words(self) -> tuple[tuple[str, ...], ...]:
        """The words of the context that each layer ran on."""
        return kept_words_of(self.words, self.keep_NW)

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": plain(self.kept_words)}


@dataclasses.dataclass(frozen=True, eq=False)
class QuestionAnswerer(Portable):
    """A model that finds answers in texts of any length. Make one with `QuestionAnswerer.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Any = dataclasses.field(repr=False)
    num_layers: int
    max_length: int
    lengths: tuple[int, ...]  # to which batches are padded
    limits: dict[str, int]  # of LIMITS, what the model was trained with
    threshold: (
        float | None
    )  # no answer where it scores so much more than the best span; None: always an answer
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls,
        directory,
        *,
        buckets: Sequence[int] | None = None,
        dtype=jnp.float32,
        driver: str = AUTO,
        autotune_table=None,
        expected_speedup: float | None = None,
        compilation_cache: str = "",
        always_answers: bool = False,
    ) -> "QuestionAnswerer":
        """Reads a saved model directory.

        Args: as of `Classifier.load`; always_answers: give the best span also where the model prefers no answer.

        Raises ValueError where it is damaged, or holds a model that does something else.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != "span":
            raise ValueError(
                f"{directory} holds a model of the task {saved.task!r} with the head {saved.head.name!r}, which finds "
                f"no answers in texts; {loader_hint(saved)}, or train one on a task as custom_span"
            )
        loaded = prepare_model(
            saved,
            buckets=buckets,
            dtype=dtype,
            driver=driver,
            autotune_table=autotune_table,
            expected_speedup=expected_speedup,
        )
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            dtype=loaded.dtype,
            limits=qa_settings(saved, *INFERENCE_FIELDS),
            threshold=None if always_answers else saved.extra.get("no_answer_threshold"),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compiles, or reads back, every program that batches up to this size can ask for; returns the seconds.

        Raises ValueError on a batch_size below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def answer(self, question: str, context: str, *, batch_size: int = 32) -> QAPrediction:
        """The answer to one question; a long text is read in windows, batch_size at a time."""
        return self.answer_all([(question, context)], batch_size=batch_size)[0]

    def answer_all(
        self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32
    ) -> list[QAPrediction]:
        """Answers to (question, text) pairs, or dicts of `question` and `context`, in their order; their windows share
        batches.

        Raises TypeError where pairs are none; ValueError on a batch_size below 1.
        """
        check_request(batch_size)
        return list(self._answer([as_question(*placed) for placed in enumerate(pairs)], batch_size))

    def stream(
        self, pairs: Iterable[tuple[str, str]], *, batch_size: int = 32
    ) -> Iterator[QAPrediction]:
        """`answer_all`, for more pairs than fit into memory, or that come in slowly: batch_size are taken at a time."""
        check_request(batch_size)
        for questions in in_chunks(
            (as_question(*placed) for placed in enumerate(pairs)), batch_size
        ):
            yield from self._answer(questions, batch_size)

    def _answer(self, questions: list[Question], batch_size: int) -> Iterator[QAPrediction]:
        """The answers, some hundreds of questions at a time."""
        first = 0
        names = ("doc_stride", "max_question_tokens")
        settings = {name: self.limits[name] for name in names} | {
            "max_answers": 1,
            "max_length": self.max_length,
        }
        for windows in iter_windows(questions, self.tokenizer, **settings):
            windows = dataclasses.replace(windows, question=windows.question - first)
            last = first + int(windows.question[-1]) + 1
            yield from self._read(questions[first:last], windows, batch_size)
            first = last

    def _read(
        self, questions: list[Question], windows: Windows, batch_size: int
    ) -> Iterator[QAPrediction]:
        """The answers to the questions of some windows."""
        parts, layers_R = [], [None] * len(windows)
        num_rows = padded_batch_size(len(windows), batch_size)
        for row_B, batch in sorted_batches(
            windows.tokens, windows.segments, lengths=self.lengths, num_rows=num_rows
        ):
            logits_BL2, trace = self.run(self.params, batch)
            layers_BL = exit_layer(trace, batch, self.num_layers)
            first_B, count_B = windows.context_first[row_B], windows.starts.lengths[row_B]
            limits = {name: self.limits[name] for name in ("n_best_size", "max_answer_tokens")}
            parts.append(
                (
                    row_B,
                    best_spans(np.asarray(logits_BL2)[: len(row_B)], first_B, count_B, **limits),
                )
            )
            for place, row in enumerate(row_B):
                layers_R[row] = layers_BL[place, first_B[place] : first_B[place] + count_B[place]]
        spans = collect_spans(parts, num_rows=len(windows))
        found = answer_questions(
            spans,
            windows,
            lambda number: questions[number].context,
            n_best_size=self.limits["n_best_size"],
            allow_null=self.threshold is not None,
        )
        edges = np.searchsorted(windows.question, np.arange(len(questions) + 1))
        for number, answers in found:
            rows = range(edges[number], edges[number + 1])
            starts, layers = [windows.starts[row] for row in rows], [layers_R[row] for row in rows]
            yield self._reading(questions[number], answers, starts, layers)

    def _reading(self, question: Question, answers: Answers, starts, layers) -> QAPrediction:
        """The answer, and of each word how many layers ran on it: the most of its tokens and windows."""
        chosen = answers.best_answer(self.threshold)
        words = encode_whole(self.tokenizer, question.context).words
        word_start_W = np.array([word.start for word in words], np.int64)
        layers_W = np.zeros(len(words), np.int32)
        for start_T, layers_T in zip(starts, layers):
            word_T = np.maximum(np.searchsorted(word_start_W, start_T, side="right") - 1, 0)
            if len(words):
                np.maximum.at(layers_W, word_T, layers_T)
        return QAPrediction(
            question=question.question,
            context=question.context,
            text=chosen.text,
            score=chosen.score,
            probability=chosen.probability,
            start=chosen.start,
            end=chosen.end,
            answers=answers.spans,
            words=words,
            keep_NW=np.arange(self.num_layers)[:, None] < layers_W,
            is_cut=len(encode_whole(self.tokenizer, question.question).word_L)
            > self.limits["max_question_tokens"],
        )


def as_question(place: int, pair) -> Question:
    """A (question, text) pair, or {"question": ..., "context": ...}, as the data room has it. Raises TypeError on
    anything else."""
    parts = [pair.get("question"), pair.get("context")] if isinstance(pair, Mapping) else pair
    is_row = isinstance(parts, tuple | list | np.ndarray) and getattr(parts, "ndim", 1) == 1
    if not is_row or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise TypeError(
            f"pair {place} is {pair!r:.60}; expected (question, context), two strings, or a dict of these"
        )
    question, context = (replace_lone_surrogates(str(part)) for part in parts)
    return Question(str(place), question, context, (), ())
