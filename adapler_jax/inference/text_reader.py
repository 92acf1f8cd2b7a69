"""Turn questions and texts into answers, for the readers with JAX and without. NumPy only.

Shape letters:

    W words of a text       T tokens of a part of a text
"""

import abc
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.questions import Question
from adapler_jax.data.qa.windows import Windows, iter_windows
from adapler_jax.data.sources.chunks import in_chunks
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.inference.spans import Answer, Answers, answer_questions, best_spans, collect_spans
from adapler_jax.inference.texts import check_batch_size
from adapler_jax.inference.words import Word, encode_whole, kept_words_of, max_by_word
from adapler_jax.io.plain import Comparable, plain

# Fields of `config.qa` that inference needs.
INFERENCE_FIELDS = ("doc_stride", "max_question_tokens", "max_answer_tokens", "n_best_size")


@dataclasses.dataclass(frozen=True, eq=False)
class QAPrediction(Comparable):
    """The answer of a model to one question about one text."""

    question: str
    context: str
    text: str  # of the answer; empty for no answer
    score: float  # sum of two logits
    probability: float  # among the best answers and no answer
    start: int  # characters [start, end) of the context; both 0 for no answer
    end: int
    answers: tuple[Answer, ...]  # the best spans, best first; no answer is not among them
    words: tuple[Word, ...] = dataclasses.field(repr=False)  # of the context
    # bool [layers, words]: the layer ran on the word, in any window
    keep_NW: np.ndarray = dataclasses.field(repr=False)
    is_cut: bool  # the question has more tokens than the model takes

    @property
    def kept_words(self) -> tuple[tuple[str, ...], ...]:
        """Return the words of the context that each layer ran on."""
        return kept_words_of(self.words, self.keep_NW)

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": plain(self.kept_words)}


class TextReader(abc.ABC):
    """Methods of a question answerer. A subclass has these fields, and computes logits."""

    tokenizer: Tokenizer
    num_layers: int
    max_length: int  # token slots
    limits: dict[str, int]  # INFERENCE_FIELDS of the model's training
    # No answer where it scores so much more than the best span; None: always a span.
    threshold: float | None

    @abc.abstractmethod
    def window_logits(
        self, windows: Windows, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield numbers of windows [B], logits [B, L, 2], and layers that ran on tokens [B, L]."""

    def answer(self, question: str, context: str, *, batch_size: int = 32) -> QAPrediction:
        """Answer one question; a long text is split into windows, batch_size of them in a batch."""
        return self.answer_all([(question, context)], batch_size=batch_size)[0]

    def answer_all(
        self, pairs: Sequence[tuple[str, str]], *, batch_size: int = 32
    ) -> list[QAPrediction]:
        """Answer questions; their windows share batches.

        Args:
          pairs: (question, text) pairs, or dicts of `question` and `context`.
          batch_size: windows in a batch.

        Returns:
          The answers, in the order of the pairs.

        Raises:
          TypeError: an entry is no pair.
          ValueError: batch_size is below 1.
        """
        check_batch_size(batch_size)
        questions = [as_question(index, pair) for index, pair in enumerate(pairs)]
        return list(self._answer(questions, batch_size))

    def stream(
        self, pairs: Iterable[tuple[str, str]], *, batch_size: int = 32
    ) -> Iterator[QAPrediction]:
        """Answer more pairs than fit into memory, or pairs that arrive slowly.

        Args:
          pairs: as in `answer_all`; batch_size of them are taken at a time.
          batch_size: windows in a batch.

        Yields:
          The answers, in the order of the pairs.

        Raises:
          TypeError, ValueError: as in `answer_all`.
        """
        check_batch_size(batch_size)
        questions = (as_question(index, pair) for index, pair in enumerate(pairs))
        for chunk in in_chunks(questions, batch_size):
            yield from self._answer(chunk, batch_size)

    def _answer(self, questions: list[Question], batch_size: int) -> Iterator[QAPrediction]:
        """Yield the answers, some hundreds of questions at a time."""
        chunks = iter_windows(
            questions,
            self.tokenizer,
            max_length=self.max_length,
            doc_stride=self.limits["doc_stride"],
            max_question_tokens=self.limits["max_question_tokens"],
            max_answers=1,
        )
        first = 0
        for chunk in chunks:
            windows = dataclasses.replace(chunk, question=chunk.question - first)
            last = first + int(windows.question[-1]) + 1
            yield from self._answer_windows(questions[first:last], windows, batch_size)
            first = last

    def _answer_windows(
        self, questions: list[Question], windows: Windows, batch_size: int
    ) -> Iterator[QAPrediction]:
        """Yield the answers to the questions of some windows."""
        found = []
        exit_layers: list[np.ndarray] = [np.zeros(0, np.int32)] * len(windows)  # [T] of each
        for row_B, logits_BL2, exit_layer_BL in self.window_logits(windows, batch_size):
            first_B, count_B = windows.context_first[row_B], windows.starts.lengths[row_B]
            spans = best_spans(
                logits_BL2,
                first_B,
                count_B,
                n_best_size=self.limits["n_best_size"],
                max_answer_tokens=self.limits["max_answer_tokens"],
            )
            found.append((row_B, spans))
            for index, row in enumerate(row_B.tolist()):
                first = first_B[index]
                exit_layers[row] = exit_layer_BL[index, first : first + count_B[index]]
        answers = answer_questions(
            collect_spans(found, num_rows=len(windows)),
            windows,
            lambda number: questions[number].context,
            n_best_size=self.limits["n_best_size"],
            allow_null=self.threshold is not None,
        )
        edges = np.searchsorted(windows.question, np.arange(len(questions) + 1))
        for number, of_question in answers:
            rows = range(edges[number], edges[number + 1])
            starts = [windows.starts[row] for row in rows]
            layers = [exit_layers[row] for row in rows]
            yield self._prediction(questions[number], of_question, starts=starts, layers=layers)

    def _prediction(
        self,
        question: Question,
        answers: Answers,
        *,
        starts: Sequence[np.ndarray],
        layers: Sequence[np.ndarray],
    ) -> QAPrediction:
        """Return the answer to one question.

        Args:
          question: the question.
          answers: its best answers.
          starts: first character of each token [T] of each window.
          layers: number of layers that ran on each token [T] of each window.
        """
        best = answers.best_answer(self.threshold)
        words = encode_whole(self.tokenizer, question.context).words
        exit_layer_W = np.zeros(len(words), np.int32)
        if words:
            start_W = np.array([word.start for word in words], np.int64)
            start_T = np.concatenate(starts)
            word_T = np.maximum(np.searchsorted(start_W, start_T, side="right") - 1, 0)
            exit_layer_W = max_by_word(word_T, np.concatenate(layers), len(words))
        num_tokens = len(encode_whole(self.tokenizer, question.question).token_L)
        return QAPrediction(
            question=question.question,
            context=question.context,
            text=best.text,
            score=best.score,
            probability=best.probability,
            start=best.start,
            end=best.end,
            answers=answers.spans,
            words=words,
            keep_NW=np.arange(self.num_layers)[:, None] < exit_layer_W,
            is_cut=num_tokens > self.limits["max_question_tokens"],
        )


def as_question(index: int, pair) -> Question:
    """Convert a (question, text) pair, or a dict of question and context.

    Raises:
      TypeError: the entry is neither; the message names its index.
    """
    parts = [pair.get("question"), pair.get("context")] if isinstance(pair, Mapping) else pair
    is_list = isinstance(parts, tuple | list | np.ndarray) and np.ndim(parts) == 1
    if not is_list or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise TypeError(
            f"pair {index} is {pair!r:.60}; expected (question, context), two strings, or a dict "
            "of these"
        )
    question, context = (replace_lone_surrogates(str(part)) for part in parts)
    return Question(str(index), question, context, (), ())
