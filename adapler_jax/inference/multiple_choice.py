"""A saved model of multiple choice, as its users see it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.qa.multiple_choice import MultipleChoiceQuestion, build_multiple_choice_rows
from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.templates import read_template
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
from adapler_jax.inference.model_kind import is_per_option, loader_hint
from adapler_jax.inference.processes import Portable, with_origin
from adapler_jax.inference.words import Word, encode_whole, kept_words_of
from adapler_jax.io.plain import Comparable, plain
from adapler_jax.metrics.classification import softmax
from adapler_jax.metrics.multiple_choice import option_scores
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class ChoicePrediction(Comparable):
    """Which option a model chose for one question about one text."""

    article: str
    question: str
    options: tuple[str, ...]
    label: int  # number of the chosen option, from 0
    text: str  # of it
    probabilities: tuple[float, ...]  # softmax of the scores of the options
    words: tuple[Word, ...]  # of the article
    keep_NW: np.ndarray  # bool [layers, words], whether a layer ran on the word, beside any option
    is_cut: bool  # whether the article goes on behind what the model's length let it read

    @property
    def kept_words(self) -> tuple[tuple[str, ...], ...]:
        """The words of the article that each layer ran on."""
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
    max_length: int
    lengths: tuple[int, ...]  # to which batches are padded
    max_option_tokens: int  # of question and option together
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
    ) -> "MultipleChoice":
        """Reads a saved model directory; arguments as of `Classifier.load`.

        Raises ValueError where it is damaged, or holds a model that does something else.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != "choice" and not is_per_option(saved):
            raise ValueError(
                f"{directory} holds a model of the task {saved.task!r} with the head {saved.head.name!r}, which does "
                f"not choose among options; {loader_hint(saved)}, or train one on a task as custom_choice"
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
            **qa_settings(saved, "max_option_tokens"),
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compiles, or reads back, every program that batches up to this size can ask for; returns the seconds.

        Raises ValueError on a batch_size below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def choose(self, question: str, article: str, options: Sequence[str]) -> ChoicePrediction:
        """The best option for one question about one text; there may be any number of options from two."""
        return self.choose_all([(question, article, options)])[0]

    def choose_all(
        self, questions: Sequence[tuple[str, str, Sequence[str]]], *, batch_size: int = 32
    ) -> list[ChoicePrediction]:
        """The best options for (question, article, options) triples, or dicts with these fields, in their order;
        batch_size: options in a batch.

        The articles of all are cut as in training, so that the longest option of each question fits.
        Raises TypeError where questions are none; ValueError on fewer than two options or a batch_size below 1.
        """
        check_request(batch_size)
        asked = [as_choice(place, question) for place, question in enumerate(questions)]
        groups, found = {}, {}
        for place, question in enumerate(asked):
            groups.setdefault(len(question.options), []).append(place)
        for places in groups.values():
            found |= zip(places, self._choose([asked[place] for place in places], batch_size))
        return [found[place] for place in range(len(asked))]

    def _choose(
        self, questions: list[MultipleChoiceQuestion], batch_size: int
    ) -> list[ChoicePrediction]:
        """The best options for questions of one number of options."""
        limits = {"max_length": self.max_length, "max_option_tokens": self.max_option_tokens}
        rows = build_multiple_choice_rows(questions, self.tokenizer, **limits)
        start = len(read_template(self.tokenizer, pair=True).first)
        score_R, layers_R = np.zeros(len(rows)), [None] * len(rows)
        num_rows = padded_batch_size(len(rows), batch_size)
        for row_B, batch in sorted_batches(
            rows.tokens, rows.segments, lengths=self.lengths, num_rows=num_rows
        ):
            logits_BC, trace = self.run(self.params, batch)
            score_R[row_B] = option_scores(logits_BC)[: len(row_B)]
            layers_BL = exit_layer(trace, batch, self.num_layers)
            for place, row in enumerate(row_B):
                layers_R[row] = layers_BL[place, start : start + rows.article_tokens[row]]
        prob_QO = softmax(score_R.reshape(len(questions), -1))
        layers_QT = [
            np.max(layers_R[row : row + rows.num_options], axis=0)
            for row in range(0, len(rows), rows.num_options)
        ]
        is_cut_Q = rows.is_cut[:: rows.num_options].tolist()
        return [self._chosen(*found) for found in zip(questions, prob_QO, layers_QT, is_cut_Q)]

    def _chosen(
        self,
        question: MultipleChoiceQuestion,
        prob_O: np.ndarray,
        layers_T: np.ndarray,
        is_cut: bool,
    ) -> ChoicePrediction:
        """The answer, and of each word how many layers ran on it: the most of its tokens."""
        encoded = encode_whole(self.tokenizer, question.article)
        layers_W = np.zeros(len(encoded.words), np.int32)
        np.maximum.at(layers_W, encoded.word_L[: len(layers_T)], layers_T)
        best = int(np.argmax(prob_O))
        return ChoicePrediction(
            article=question.article,
            question=question.question,
            options=question.options,
            label=best,
            text=question.options[best],
            probabilities=tuple(prob_O.tolist()),
            words=encoded.words,
            keep_NW=np.arange(self.num_layers)[:, None] < layers_W,
            is_cut=is_cut,
        )


def as_choice(place: int, question) -> MultipleChoiceQuestion:
    """A (question, article, options) triple, or a dict of these, as the data room has it. Raises TypeError on anything
    else, ValueError on fewer than two options."""
    if isinstance(question, Mapping):
        question = tuple(question.get(name) for name in ("question", "article", "options"))
    if (
        not isinstance(question, tuple | list)
        or len(question) != 3
        or not all(isinstance(part, str) for part in question[:2])
        or not isinstance(question[2], tuple | list | np.ndarray)
        or not all(isinstance(option, str) for option in question[2])
    ):
        raise TypeError(
            f"question {place} is {question!r:.60}; expected (question, article, options): two strings and a list of "
            "strings, or a dict of these"
        )
    asked, article, options = question
    if len(options) < 2:
        raise ValueError(
            f"question {place} has the options {list(options)!r:.60}; expected at least 2"
        )
    options = tuple(replace_lone_surrogates(str(option)) for option in options)
    return MultipleChoiceQuestion(
        str(place), replace_lone_surrogates(article), replace_lone_surrogates(asked), options, 0
    )
