"""A saved model of multiple choice, as its users see it.

Shape letters:

    W words of a text       T tokens of a part of a text    O options of a question
    Q questions             M rows, an option each
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.multiple_choice import MultipleChoiceQuestion, build_multiple_choice_rows
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.templates import read_template
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    check_request,
    exit_layer,
    open_model,
    padded_batch_size,
    prepare_model,
    qa_settings,
    sorted_batches,
    warm_up,
    with_origin,
)
from adapler_jax.inference.model_kind import is_per_option, loader_hint
from adapler_jax.inference.processes import Portable
from adapler_jax.inference.words import Word, encode_whole, kept_words_of, max_by_word
from adapler_jax.io.plain import Comparable, plain
from adapler_jax.metrics.classification import softmax
from adapler_jax.metrics.multiple_choice import option_scores
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class ChoicePrediction(Comparable):
    """The option that a model chooses for one question about one text."""

    article: str
    question: str
    options: tuple[str, ...]
    label: int  # index of the chosen option
    text: str  # of the chosen option
    probabilities: tuple[float, ...]  # softmax of the scores of the options
    words: tuple[Word, ...] = dataclasses.field(repr=False)  # of the article
    # bool [layers, words]: the layer ran on the word, with any option
    keep_NW: np.ndarray = dataclasses.field(repr=False)
    is_cut: bool  # the article has more tokens than the model takes

    @property
    def kept_words(self) -> tuple[tuple[str, ...], ...]:
        """Return the words of the article that each layer ran on."""
        return kept_words_of(self.words, self.keep_NW)

    def to_dict(self) -> dict:
        """Return all fields and `kept_words` in types that `json.dumps` takes."""
        return plain(self) | {"kept_words": plain(self.kept_words)}


@dataclasses.dataclass(frozen=True, eq=False)
class MultipleChoice(Portable):
    """A model that chooses among options. Make one with `MultipleChoice.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    num_layers: int
    max_length: int  # token slots
    lengths: tuple[int, ...]  # padded lengths of batches
    max_option_tokens: int  # of question and option together
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls, directory, *, compilation_cache: str = "", **options: Unpack[EngineOptions]
    ) -> "MultipleChoice":
        """Load a saved model directory.

        Args:
          directory: of the model.
          compilation_cache: as in `Classifier.load`.
          **options: as in `Classifier.load`.

        Returns:
          The model.

        Raises:
          ValueError: the model is damaged, or was not trained to choose among options.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != "choice" and not is_per_option(saved):
            raise ValueError(
                f"{directory} holds a model of the task {saved.task!r} with the head "
                f"{saved.head.name!r}, which does not choose among options; {loader_hint(saved)}, "
                "or train one on a task as custom_choice"
            )
        loaded = prepare_model(saved, **options)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            dtype=loaded.dtype,
            **qa_settings(saved, "max_option_tokens"),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `choose_all`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def choose(self, question: str, article: str, options: Sequence[str]) -> ChoicePrediction:
        """Choose the best of two or more options for one question about one text."""
        return self.choose_all([(question, article, options)])[0]

    def choose_all(
        self, questions: Sequence[tuple[str, str, Sequence[str]]], *, batch_size: int = 32
    ) -> list[ChoicePrediction]:
        """Choose the best option for each question.

        Articles are cut as in training, so that the longest option of each question fits.

        Args:
          questions: (question, article, options) triples, or dicts with these fields.
          batch_size: options in a batch.

        Returns:
          The chosen options, in the order of the questions.

        Raises:
          TypeError: an entry is no question.
          ValueError: a question has fewer than two options, or batch_size is below 1.
        """
        check_request(batch_size)
        given = [as_choice(index, question) for index, question in enumerate(questions)]
        by_num_options: dict[int, list[int]] = {}
        for index, question in enumerate(given):
            by_num_options.setdefault(len(question.options), []).append(index)
        found: dict[int, ChoicePrediction] = {}
        for indices in by_num_options.values():
            predictions = self._choose([given[index] for index in indices], batch_size)
            found.update(zip(indices, predictions))
        return [found[index] for index in range(len(given))]

    def _choose(
        self, questions: list[MultipleChoiceQuestion], batch_size: int
    ) -> list[ChoicePrediction]:
        """Choose the best options for questions that have equally many."""
        rows = build_multiple_choice_rows(
            questions,
            self.tokenizer,
            max_length=self.max_length,
            max_option_tokens=self.max_option_tokens,
        )
        first_slot = len(read_template(self.tokenizer, pair=True).first)
        score_M = np.zeros(len(rows))
        exit_layers: list[np.ndarray] = [np.zeros(0, np.int32)] * len(rows)  # [T] of each
        batches = sorted_batches(
            rows.tokens,
            rows.segments,
            lengths=self.lengths,
            num_rows=padded_batch_size(len(rows), batch_size),
        )
        for row_B, batch in batches:
            logits_BC, trace = self.run(self.params, batch)
            score_M[row_B] = option_scores(logits_BC)[: len(row_B)]
            exit_layer_BL = exit_layer(trace, batch, self.num_layers)
            for index, row in enumerate(row_B.tolist()):
                last_slot = first_slot + rows.article_tokens[row]
                exit_layers[row] = exit_layer_BL[index, first_slot:last_slot]
        prob_QO = softmax(score_M.reshape(len(questions), -1))
        predictions = []
        for index, question in enumerate(questions):
            first = index * rows.num_options
            exit_layer_T = np.max(exit_layers[first : first + rows.num_options], axis=0)
            is_cut = bool(rows.is_cut[first])
            predictions.append(
                self._prediction(question, prob_QO[index], exit_layer_T, is_cut=is_cut)
            )
        return predictions

    def _prediction(
        self,
        question: MultipleChoiceQuestion,
        prob_O: np.ndarray,
        exit_layer_T: np.ndarray,
        *,
        is_cut: bool,
    ) -> ChoicePrediction:
        """Return the prediction for one question, from the exit layers of the article's tokens."""
        encoded = encode_whole(self.tokenizer, question.article)
        word_T = encoded.word_L[: len(exit_layer_T)]
        exit_layer_W = max_by_word(word_T, exit_layer_T, len(encoded.words))
        best = int(np.argmax(prob_O))
        return ChoicePrediction(
            article=question.article,
            question=question.question,
            options=question.options,
            label=best,
            text=question.options[best],
            probabilities=tuple(prob_O.tolist()),
            words=encoded.words,
            keep_NW=np.arange(self.num_layers)[:, None] < exit_layer_W,
            is_cut=is_cut,
        )


def as_choice(index: int, question) -> MultipleChoiceQuestion:
    """Convert a (question, article, options) triple, or a dict of these.

    Raises:
      TypeError: the entry is neither; the message names its index.
      ValueError: it has fewer than two options.
    """
    if isinstance(question, Mapping):
        question = tuple(question.get(name) for name in ("question", "article", "options"))
    if not _is_triple(question):
        raise TypeError(
            f"question {index} is {question!r:.60}; expected (question, article, options): two "
            "strings and a list of strings, or a dict of these"
        )
    text, article, options = question
    if len(options) < 2:
        raise ValueError(
            f"question {index} has the options {list(options)!r:.60}; expected at least 2"
        )
    return MultipleChoiceQuestion(
        str(index),
        replace_lone_surrogates(article),
        replace_lone_surrogates(text),
        tuple(replace_lone_surrogates(str(option)) for option in options),
        0,
    )


def _is_triple(question) -> bool:
    """Return True for two strings and a list of strings."""
    if not isinstance(question, tuple | list) or len(question) != 3:
        return False
    *texts, options = question
    if not isinstance(options, tuple | list | np.ndarray):
        return False
    return all(isinstance(part, str) for part in (*texts, *options))
