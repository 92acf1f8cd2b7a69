"""A saved reranker as its users see it: a query and documents in, scores or an order out."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NotRequired, TypedDict, Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.templates import read_template
from adapler_jax.heads.regression import ACTIVATIONS, SIGMOID
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    check_request,
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
)
from adapler_jax.inference.long_texts import encode_windows
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.processes import Portable, with_origin
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.texts import split_pairs
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens
from adapler_jax.types import Params

TRUNCATE, BEST_WINDOW = "truncate", "best_window"
LONG_DOCUMENT_MODES = (TRUNCATE, BEST_WINDOW)  # for documents that are longer than the model

Pairs = Iterable[tuple[str, str]]


class Ranked(TypedDict):
    """A document of `Reranker.rank`, with the keys that CrossEncoder.rank returns."""

    corpus_id: int  # index of the document
    score: float
    text: NotRequired[str]  # the document, on request


@dataclasses.dataclass(frozen=True, eq=False)
class Reranker(Portable):
    """A model that scores a document for a query. Make one with `Reranker.load`."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    activation: str  # from the logit to the score: identity or sigmoid
    num_layers: int
    max_length: int  # token slots of a pair
    lengths: tuple[int, ...]  # padded lengths of batches
    truncation_side: str = "right"  # that loses the tokens of long pairs: right, left or middle
    dtype: str = "float32"  # of the operands of the encoder's products

    @classmethod
    @with_origin
    def load(
        cls, directory, *, compilation_cache: str = "", **options: Unpack[EngineOptions]
    ) -> "Reranker":
        """Load a saved model directory.

        Args:
          directory: of the model.
          compilation_cache: as in `Classifier.load`.
          **options: as in `Classifier.load`.

        Raises:
          ValueError: the model is damaged, or does not return one number.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        if saved.head.name != "regression":
            raise ValueError(
                f"{directory} holds a model with the head {saved.head.name!r}, which gives no "
                f"score to a pair; {loader_hint(saved)}"
            )
        loaded = prepare_model(saved, **options)
        return cls(
            run=loaded.run,
            params=loaded.params,
            tokenizer=loaded.tokenizer,
            activation=dict(saved.head.factory_kwargs)["activation"],
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            dtype=loaded.dtype,
        )

    def warm_up(self, batch_size: int = 32) -> float:
        """Compile, or read from the cache, every program for batches up to this size.

        Args:
          batch_size: as in `predict`.

        Returns:
          Seconds that it took.

        Raises:
          ValueError: batch_size is below 1.
        """
        return warm_up(self.run, self.params, self.lengths, batch_size)

    def predict(
        self,
        pairs: Pairs,
        *,
        batch_size: int = 32,
        activation: str | None = None,
        long_documents: str = TRUNCATE,
    ) -> np.ndarray:
        """Score pairs of a query and a document, or of any two texts.

        Pairs of similar length share a batch. Of a pair that is longer than the model, the longer
        text is cut.

        Args:
          pairs: a list, array or generator of pairs: tuples, lists, or dicts with text and
            text_pair. A single pair of strings has a single score.
          batch_size: pairs in a batch.
          activation: from the logit to the score, "identity" or "sigmoid"; None for the model's.
          long_documents: "truncate" cuts long pairs. "best_window" reads the longer text of such a
            pair in windows that overlap by half, and returns the highest score.

        Returns:
          Scores, float32 [pairs], in the order of the pairs; a number for a single pair.

        Raises:
          TypeError: an entry is no pair of strings.
          ValueError: an argument has another value.
        """
        check_request(batch_size)
        is_single = _is_pair(pairs)
        firsts, seconds = split_pairs([pairs] if is_single else pairs)
        if firsts and seconds is None:
            raise TypeError(
                f"text 0 is {firsts[0]!r:.60}; expected pairs of a query and a document"
            )
        score_M = self._score(
            firsts,
            seconds or [],
            batch_size,
            activation=self.activation if activation is None else activation,
            long_documents=long_documents,
        )
        return score_M[0] if is_single else score_M

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        *,
        batch_size: int = 32,
        activation: str | None = None,
        long_documents: str = TRUNCATE,
    ) -> list[Ranked]:
        """Sort documents by their score for a query, the highest first.

        A document's score does not depend on the other documents. Equal scores keep their order.

        Args:
          query: the text that documents are compared with.
          documents: texts.
          top_k: number of documents to return; None for all.
          return_documents: add the documents to the results.
          batch_size: as in `predict`.
          activation: as in `predict`.
          long_documents: as in `predict`.

        Returns:
          A dict for each document: corpus_id, its index; score; and on request text.

        Raises:
          TypeError: the query or a document is no string.
          ValueError: there are no documents, the query leaves no room for a document, or an
            argument has another value.
        """
        texts = _checked_documents(query, documents)
        _check_top_k(top_k)
        self._check_room(query)
        score_M = self.predict(
            [(query, text) for text in texts],
            batch_size=batch_size,
            activation=activation,
            long_documents=long_documents,
        )
        order_M = np.argsort(-score_M, kind="stable")[:top_k]
        return [
            Ranked(corpus_id=int(row), score=float(score_M[row]), text=texts[row])
            if return_documents
            else Ranked(corpus_id=int(row), score=float(score_M[row]))
            for row in order_M
        ]

    def encode_tokens(self, pairs: Pairs) -> list[Tokens]:
        """Tokenize pairs, cut to the model's length.

        Raises:
          TypeError: as in `predict`.
        """
        return self._encode(*split_pairs(pairs))

    def _encode(self, firsts: list[str], seconds: list[str] | None) -> list[Tokens]:
        """Tokenize first and second texts."""
        return encode_tokens(
            self.tokenizer,
            firsts,
            seconds,
            max_length=self.max_length,
            truncation_side=self.truncation_side,
        )

    def _score(
        self,
        firsts: list[str],
        seconds: list[str],
        batch_size: int,
        *,
        activation: str,
        long_documents: str,
    ) -> np.ndarray:
        """Return the scores of pairs, float32 [M]."""
        for name, value, known in (
            ("activation", activation, ACTIVATIONS),
            ("long_documents", long_documents, LONG_DOCUMENT_MODES),
        ):
            if value not in known:
                raise ValueError(f"{name} is {value!r:.60}; expected {' or '.join(known)}")
        if not firsts:
            return np.zeros(0, np.float32)
        windows: Sequence[Tokens] | Sequence[Encoded]
        if long_documents == TRUNCATE:
            windows, first_M = self._encode(firsts, seconds), None
        else:
            found = encode_windows(
                self.tokenizer, firsts, seconds, max_length=self.max_length, stride=None
            )
            windows = [window for pair in found for window in pair]
            first_M = np.cumsum([0, *map(len, found[:-1])])
        num_rows = padded_batch_size(len(windows), batch_size)
        score_W1, _ = self._runner.probs(windows, num_rows, None, num_classes=1)
        logit_W = score_W1[:, 0]
        logit_M = logit_W if first_M is None else np.maximum.reduceat(logit_W, first_M)
        return _sigmoid(logit_M) if activation == SIGMOID else logit_M

    @property
    def _runner(self) -> RowRunner:
        """Return what runs rows of tokens in batches, and returns their logits."""
        return RowRunner(self.run, self.params, self.lengths, self.num_layers, None, np.asarray)

    def _check_room(self, query: str) -> None:
        """Raise ValueError where a query leaves no room for a document."""
        ids = self.tokenizer.encode(replace_lone_surrogates(query), add_special_tokens=False).ids
        room = (
            self.max_length - read_template(self.tokenizer, pair=True, is_strict=False).num_special
        )
        if len(ids) >= room:
            raise ValueError(
                f"the query has {len(ids)} tokens; this model takes {room} of a query and a "
                "document together: shorten the query"
            )


def _is_pair(pairs) -> bool:
    """Return whether a value is one pair of strings, and not a list of pairs."""
    return isinstance(pairs, tuple | list) and len(pairs) == 2 and isinstance(pairs[0], str)


def _checked_documents(query, documents) -> list[str]:
    """Return the documents as a list.

    Raises:
      TypeError: the query or a document is no string.
      ValueError: there are no documents.
    """
    if not isinstance(query, str):
        raise TypeError(f"query is {query!r:.60}; expected a string")
    if isinstance(documents, str):
        raise TypeError(f"documents is {documents!r:.60}; expected a list of strings")
    texts = list(documents)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"document {index} is {text!r:.60}; expected a string")
    if not texts:
        raise ValueError("there are no documents to rank; give at least one")
    return texts


def _check_top_k(top_k) -> None:
    """Raise ValueError unless a number of documents is None or at least 1."""
    is_count = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool) and top_k >= 1
    if top_k is not None and not is_count:
        raise ValueError(f"top_k is {top_k!r:.60}; expected None or a whole number, at least 1")


def _sigmoid(logit_M: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-logit)), without an overflow."""
    return (0.5 * (1.0 + np.tanh(0.5 * logit_M))).astype(np.float32)
