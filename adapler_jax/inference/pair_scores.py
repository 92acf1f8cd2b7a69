"""Score pairs and rank documents: shared by the rerankers with JAX and without. NumPy only.

Shape letters:

    M pairs of a call
    W windows of all pairs
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NotRequired, TypedDict

import numpy as np

from adapler_jax.data.sources.text import replace_lone_surrogates
from adapler_jax.data.tokenization.templates import read_template
from adapler_jax.inference.long_texts import encode_windows
from adapler_jax.inference.number_models import NumberModel, Rows, activate, check_option
from adapler_jax.inference.speedups import Budget, repeat_budgets, spread_budget
from adapler_jax.inference.texts import PAIR_KEYS, check_batch_size, split_pairs
from adapler_jax.inference.words import encode_tokens, read_parts

TRUNCATE, BEST_WINDOW = "truncate", "best_window"
LONG_DOCUMENT_MODES = (TRUNCATE, BEST_WINDOW)  # for documents that are longer than the model

Pairs = Iterable[tuple[str, str]]


class Ranked(TypedDict):
    """A document of `rank`, with the keys that CrossEncoder.rank returns."""

    corpus_id: int  # index of the document
    score: float
    text: NotRequired[str]  # the document, on request


class PairScorer(NumberModel):
    """Methods of a reranker, which has one number."""

    def logits(
        self,
        rows: Rows,
        batch_size: int,
        budget: Budget = None,
        *,
        queries: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the logits of rows of tokens, float32 [rows], in batches.

        Args:
          rows: of `encode_tokens`.
          batch_size: rows of a batch; fewer rows run in a batch of the next power of two.
          budget: of all rows, or one for each, as `resolve` returns it.
          queries: of all rows, for a model that compares them with its calibration's; none for
            windows.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        del queries
        return self.outputs(rows, batch_size, budget)[:, 0]

    def predict(
        self,
        pairs: Pairs,
        *,
        batch_size: int = 32,
        activation: str | None = None,
        long_documents: str = TRUNCATE,
        budget: Budget = None,
        speedup: float | None = None,
        certified: bool = False,
    ) -> np.ndarray:
        """Score pairs of a query and a document, or of any two texts.

        Pairs of similar length share a batch. Of a pair that is longer than the model, the longer
        text is cut.

        Args:
          pairs: a list, array or generator of pairs: tuples, lists, or dicts with text and
            text_pair. A single pair of strings has a single score.
          batch_size: pairs in a batch.
          activation: from the logit to the score, "identity" or "sigmoid"; None for the model's.
          long_documents: "truncate" cuts long pairs. "best_window" reads the second text of such a
            pair in windows that overlap by half, each with the whole first text, and returns the
            highest score.
          budget: share of the tokens that a calibrated model keeps, a number in (0, 1] or one for
            each pair. None for the trained thresholds. Another budget compiles nothing.
          speedup: FLOPs speedup on pairs like the calibration's, in place of a budget.
          certified: take the certified budget.

        Returns:
          Scores, float32 [pairs], in the order of the pairs; a number for a single pair.

        Raises:
          TypeError: an entry is no pair of strings.
          ValueError: an argument has another value, or the model is not calibrated or certified.
        """
        activation = self._checked(activation, long_documents, batch_size)
        _check_cut(certified, long_documents)
        budget = self.resolve(budget, speedup, certified=certified)
        is_single = _is_pair(pairs)
        firsts, seconds = split_given_pairs([pairs] if is_single else pairs)
        logit_M = self._pair_logits(firsts, seconds, batch_size, long_documents, budget=budget)
        score_M = activate(logit_M, activation)
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
        budget: Budget = None,
        speedup: float | None = None,
        certified: bool = False,
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
          budget: as in `predict`; one, or one for each document.
          speedup: as in `predict`.
          certified: as in `predict`.

        Returns:
          A dict for each document: corpus_id, its index; score; and on request text.

        Raises:
          TypeError: the query or a document is no string.
          ValueError: there are no documents, the query leaves no room for a document, or an
            argument has another value; or the model is not calibrated or certified.
        """
        texts = _checked_documents(query, documents)
        _check_top_k(top_k)
        self._check_room(query)
        activation = self._checked(activation, long_documents, batch_size)
        _check_cut(certified, long_documents)
        budget = self.resolve(budget, speedup, certified=certified)
        logit_M = self._pair_logits(
            [query] * len(texts), texts, batch_size, long_documents, budget=budget
        )
        score_M = activate(logit_M, activation)
        ranked = []
        # Different logits may have equal scores.
        for row in np.argsort(-logit_M, kind="stable")[:top_k].tolist():
            found = Ranked(corpus_id=row, score=float(score_M[row]))
            if return_documents:
                found["text"] = texts[row]
            ranked.append(found)
        return ranked

    def _checked(self, activation: str | None, long_documents: str, batch_size: int) -> str:
        """Return the activation; raise for a wrong argument of `predict`."""
        check_batch_size(batch_size)
        activation = self.choose_activation(activation)
        check_option("long_documents", long_documents, LONG_DOCUMENT_MODES)
        return activation

    def _pair_logits(
        self,
        firsts: list[str],
        seconds: list[str],
        batch_size: int,
        long_documents: str,
        *,
        budget: Budget,
    ) -> np.ndarray:
        """Return the logit of each pair, float32 [M].

        Raises:
          ValueError: there are budgets for another number of pairs.
        """
        budget_M = spread_budget(budget, len(firsts), unit="pairs")
        if not firsts:
            return np.zeros(0, np.float32)
        if long_documents == TRUNCATE:
            rows = read_parts(self, encode_tokens, firsts, seconds)
            return self.logits(rows, batch_size, budget_M, queries=firsts)
        return self._best_windows(firsts, seconds, batch_size, budget_M)

    def _best_windows(
        self,
        firsts: list[str],
        seconds: list[str] | None,
        batch_size: int,
        budget_M: np.ndarray | None,
    ) -> np.ndarray:
        """Return the highest logit of the windows of each pair, float32 [M]."""
        found = encode_windows(
            self.tokenizer, firsts, seconds, max_length=self.max_length, stride=None, part=1
        )
        counts = list(map(len, found))
        windows = [window for pair in found for window in pair]
        # Without the queries: a calibration has the logits of cut pairs.
        logit_W = self.logits(windows, batch_size, repeat_budgets(budget_M, counts))
        return np.maximum.reduceat(logit_W, np.cumsum([0, *counts[:-1]]))

    def _check_room(self, query: str) -> None:
        """Raise ValueError where a query leaves no room for a document."""
        ids = self.tokenizer.encode(replace_lone_surrogates(query), add_special_tokens=False).ids
        template = read_template(self.tokenizer, pair=True, is_strict=False)
        room = self.max_length - template.num_special
        if len(ids) >= room:
            raise ValueError(
                f"the query has {len(ids)} tokens; this model takes {room} of a query and a "
                "document together: shorten the query"
            )


def split_given_pairs(pairs) -> tuple[list[str], list[str]]:
    """Return first and second texts of pairs.

    Raises:
      TypeError: an entry is no pair of strings, or a table is given.
    """
    if _is_table(pairs):
        raise TypeError(
            "pairs are a list, not a table; give two columns of it, as "
            "zip(table['query'], table['document'])"
        )
    firsts, seconds = split_pairs(pairs)
    if firsts and seconds is None:
        raise TypeError(f"text 0 is {firsts[0]!r:.60}; expected pairs of a query and a document")
    return firsts, seconds or []


def _is_table(value) -> bool:
    """Return whether a value is a table of pandas."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def _is_pair(pairs) -> bool:
    """Return whether a value is one pair of strings, and not a list of pairs."""
    if isinstance(pairs, Mapping):
        return set(pairs) == set(PAIR_KEYS)
    is_list = isinstance(pairs, tuple | list) or (isinstance(pairs, np.ndarray) and pairs.ndim == 1)
    return is_list and len(pairs) == 2 and isinstance(pairs[0], str)


def _checked_documents(query, documents) -> list[str]:
    """Return the documents as a list.

    Raises:
      TypeError: the query or a document is no string.
      ValueError: there are no documents.
    """
    if not isinstance(query, str):
        raise TypeError(f"query is {query!r:.60}; expected a string")
    others = (str, bytes, Mapping, set, frozenset)
    is_other = isinstance(documents, others) or _is_table(documents)
    if is_other or not isinstance(documents, Iterable):
        raise TypeError(f"documents is {documents!r:.60}; expected a list of strings")
    texts = list(documents)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"document {index} is {text!r:.60}; expected a string")
    if not texts:
        raise ValueError("there are no documents to rank; give at least one")
    return texts


def _check_cut(certified: bool, long_documents: str) -> None:
    """Raise ValueError for a certified request on windows: the certificate is of cut pairs."""
    if certified and long_documents != TRUNCATE:
        raise ValueError(
            f"certified is given with long_documents={long_documents!r}; the certificate is of cut "
            f"pairs: take {TRUNCATE!r}"
        )


def _check_top_k(top_k) -> None:
    """Raise ValueError unless a number of documents is None or at least 1."""
    is_count = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool) and top_k >= 1
    if top_k is not None and not is_count:
        raise ValueError(f"top_k is {top_k!r:.60}; expected None or a whole number, at least 1")
