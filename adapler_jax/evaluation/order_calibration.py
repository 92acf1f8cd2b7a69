"""Measure a reranker's order of documents at every budget, and certify it.

The pairs of one first text are a query and its documents. They stay together: whole queries
calibrate, and other whole queries measure the budgets and certify one.

A query fails at a budget if its first k documents share fewer than m with the full model's first k.
Two sets of k among n documents share at least 2 k - n, so a query of fewer than 2 k - m + 1
documents cannot fail. It is no evidence, and the certificate leaves it out.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax import flops
from adapler_jax.evaluation.budgets import mean_and_sd
from adapler_jax.evaluation.certificate import (
    MIN_SHARED,
    NONE,
    Certificate,
    Promise,
    certify,
    max_failures,
    min_texts,
)
from adapler_jax.evaluation.models import flops_of_examples
from adapler_jax.evaluation.passes import join_passes, run_batches
from adapler_jax.evaluation.task_texts import MIN_TEXTS, TaskTexts
from adapler_jax.inference.calibration import Calibration
from adapler_jax.inference.drift import QUERY_LOGIT, QUERY_SHARE, query_means
from adapler_jax.inference.pair_scores import split_given_pairs
from adapler_jax.io.heartbeat import watch
from adapler_jax.metrics.ranking import (
    TOP,
    compare_orders,
    kendall_tau,
    num_documents,
    shared_counts,
    text_numbers,
)
from adapler_jax.pruning import pruner_of_saved
from adapler_jax.types import Params
from adapler_jax.weights.save import Saved
from adapler_jax.weights.students import full_config

# Fraction of the queries that calibrates. A certificate's candidates are budgets alone, so that no
# texts are needed to order them.
CALIBRATED = 0.2
MIN_PAIRS = 20  # that calibrate, and that measure

Pair = tuple[str, str]


def as_pairs(texts: Sequence) -> list[Pair]:
    """Return pairs as tuples.

    Raises:
      ValueError: a text is no pair.
    """
    try:
        return list(zip(*split_given_pairs(list(texts))))
    except TypeError as error:
        raise ValueError(
            f"{error}, since a model of one number has budgets for pairs alone; of a file name two "
            "columns, as --column=query,document"
        ) from error


def split_queries(
    texts: Sequence, *, seed: int, fraction: float = CALIBRATED, name: str = "the pairs"
) -> tuple[list[Pair], list[Pair]]:
    """Return two parts of the different pairs by whole queries, in random order.

    Args:
      texts: pairs.
      seed: of the order.
      fraction: of the queries, in the first part.
      name: of the pairs, in messages.

    Raises:
      ValueError: a text is no pair, or there are too few pairs or queries.
    """
    different = list(dict.fromkeys(as_pairs(texts)))
    if len(different) < MIN_TEXTS:
        raise ValueError(
            f"{name} are {len(different)} different ones; a calibration needs at least {MIN_TEXTS}"
        )
    rng = np.random.default_rng(seed)
    queries = list(dict.fromkeys(query for query, _ in different))
    order = rng.permutation(len(queries)).tolist()
    first = {queries[index] for index in order[: round(fraction * len(queries))]}
    shuffled = [different[index] for index in rng.permutation(len(different)).tolist()]
    parts = (
        [pair for pair in shuffled if pair[0] in first],
        [pair for pair in shuffled if pair[0] not in first],
    )
    if min(map(len, parts)) < MIN_PAIRS:
        raise ValueError(
            f"{name} have {len(queries)} queries, and {len(first)} of them with "
            f"{len(parts[0])} pairs are set apart; at least {MIN_PAIRS} pairs must be on either "
            "side: give more queries"
        )
    return parts


def min_documents(min_shared: int) -> int:
    """Return the fewest documents of a query that can fail."""
    return 2 * TOP - min_shared + 1


def check_orders(
    pairs: Sequence[Pair], promise: Promise | None, *, labels: Sequence | None, fraction: float
) -> None:
    """Raise ValueError for options of classifiers, or if queries cannot prove a promise.

    Args:
      pairs: that would prove it.
      promise: to certify.
      labels: of all pairs, which are not used.
      fraction: of all queries, those in `pairs`.
    """
    if labels is not None or (promise is not None and promise.needs_labels):
        raise ValueError(
            "labels are for classifiers, and the model is a reranker; leave out --label and "
            "--max_drop, in Python `labels` and `needs_labels`"
        )
    if promise is None:
        return
    if promise.escalates_to not in (None, NONE):
        raise ValueError(
            f"escalates_to is {promise.escalates_to!r:.40}, and a reranker runs no pair again; "
            "leave out --escalate_to"
        )
    is_count = type(promise.min_shared) is int and 1 <= promise.min_shared <= TOP
    if not is_count:
        raise ValueError(
            f"min_shared is {promise.min_shared!r:.40}; expected 1 to {TOP}, the documents of the "
            f"first {TOP} that must be the same"
        )
    smallest, num_queries = min_documents(promise.min_shared), num_evidence(pairs, promise)
    if max_failures(num_queries, promise.max_rate, promise.confidence) < 0:
        needed = min_texts(promise.max_rate, promise.confidence)
        raise ValueError(
            f"{num_queries} queries of {smallest} documents or more cannot prove a rate of "
            f"{promise.max_rate:g} with {promise.confidence:g} confidence; that takes at least "
            f"{needed}, so give {math.ceil(needed / fraction)} such queries: "
            f"{100 * fraction:.0f}% of the queries prove it"
        )


def num_evidence(pairs: Sequence[Pair], promise: Promise) -> int:
    """Return the queries that can fail, and so prove a promise."""
    size_G = num_documents(_queries_of(pairs))
    return int(np.sum(size_G >= min_documents(promise.min_shared)))


class MeasuredScores(NamedTuple):
    """The speed and the logits of a reranker for some pairs."""

    kept_share: float
    logit_M: np.ndarray  # float32
    share_M: np.ndarray  # float64, mean over layers of the kept share of each pair
    dense_M: np.ndarray  # int64, operations of the dense model on true tokens
    pruned_M: np.ndarray  # int64, operations of the model

    @property
    def flops_speedup(self) -> float:
        """Return dense over pruned operations of all pairs."""
        return flops.speedup(self.dense_M, self.pruned_M)


class MeasuredOrders(NamedTuple):
    """Some pairs at every budget."""

    measured: dict[float, MeasuredScores]  # by budget
    full_M: np.ndarray  # float32, logits of the full model
    group_M: np.ndarray  # int64, number of the query of each pair
    min_shared: int  # of the first ten documents, where a query does not fail

    def failures(self) -> dict[float, np.ndarray]:
        """Return which queries fail at each budget, bool [G], without queries that cannot."""
        return {budget: self._failed(found.logit_M) for budget, found in self.measured.items()}

    def _failed(self, logit_M: np.ndarray) -> np.ndarray:
        """Return which queries fail, bool [G]."""
        smallest = min_documents(self.min_shared)
        shared_G = shared_counts(logit_M, self.full_M, self.group_M, smallest=smallest)
        return shared_G < self.min_shared

    def counts(self) -> dict[str, int]:
        """Return the numbers of queries for calibration.json."""
        size_G = num_documents(self.group_M)
        return {
            "num_queries": len(size_G),
            "num_evidence": int(np.sum(size_G >= min_documents(self.min_shared))),
            "min_shared": self.min_shared,
        }

    def records(self) -> list[dict[str, float]]:
        """Return the rows of all budgets for calibration.json."""
        return [self._record(budget, found) for budget, found in self.measured.items()]

    def _agreement(self, logit_M: np.ndarray) -> dict[str, float]:
        """Return the agreement of orders; where no query has two documents, of all pairs' order."""
        if num_documents(self.group_M).max() < 2:
            return {"kendall_tau": kendall_tau(logit_M, self.full_M)}
        return compare_orders(logit_M, self.full_M, self.group_M).means()

    def _record(self, budget: float, found: MeasuredScores) -> dict[str, float]:
        """Return the row of a budget; what no query has enough documents for is left out."""
        failed_G = self._failed(found.logit_M)
        alike = {"alike_queries": float(np.mean(~failed_G))} if len(failed_G) else {}
        share_Q, logit_Q = query_means(self.group_M, found.share_M, found.logit_M)
        return {
            "budget": budget,
            "kept_share": found.kept_share,
            "flops_speedup": found.flops_speedup,
            **self._agreement(found.logit_M),
            **alike,
            **mean_and_sd(QUERY_SHARE, share_Q),
            **mean_and_sd(QUERY_LOGIT, logit_Q),
        }


def judge_orders(
    calibration: Calibration,
    saved: Saved,
    full: Saved,
    promise: Promise | None,
    *,
    part: TaskTexts,
    dtype: DTypeLike,
    log: Callable[[str], None],
) -> Calibration:
    """Return a reranker's calibration with the measurements of pairs, and the certificate.

    Args:
      calibration: of the model.
      saved: the model.
      full: the model that orders are compared with, or `saved`.
      promise: to certify; None for no certificate.
      part: pairs that measure the budgets.
      dtype: of the operands of the encoder's products.
      log: receives the certificate in words.
    """
    orders = _measure(calibration, saved, full, promise, part=part, dtype=dtype, log=log)
    calibration = dataclasses.replace(
        calibration, num_held_out=len(part.texts), queries=orders.counts()
    ).with_rows(orders.records())
    if promise is None:
        return calibration
    found = certify_orders(promise, orders, calibration.budgets)
    if found is None:
        log("no budget can be certified")
        return calibration
    log(f"{found.sentence()}: {found.speed()}")
    if found.num_left_out:
        log(found.left_out())
    certificate = found._asdict() | {"threshold": None, "dtype": jnp.dtype(dtype).name}
    return dataclasses.replace(calibration, certificate=certificate)


def certify_orders(
    promise: Promise, orders: MeasuredOrders, budgets: Sequence[float]
) -> Certificate | None:
    """Return the fastest of the budgets at which few enough queries fail; None if none does."""
    failures = orders.failures()
    found = certify(
        {budget: failures[budget] for budget in budgets},
        max_rate=promise.max_rate,
        confidence=promise.confidence,
    )
    if found is None:
        return None
    return found._replace(
        flops_speedup=orders.measured[found.budget].flops_speedup,
        min_shared=orders.min_shared,
        num_left_out=orders.counts()["num_queries"] - found.num_texts,
    )


def _measure(
    calibration: Calibration,
    saved: Saved,
    full: Saved,
    promise: Promise | None,
    *,
    part: TaskTexts,
    dtype: DTypeLike,
    log: Callable[[str], None],
) -> MeasuredOrders:
    """Run a reranker over pairs at every budget; arguments as in `judge_orders`."""
    params = calibration.apply(saved.params)
    dense_config, budgets = full_config(full), calibration.budgets
    measured = {
        budget: _measure_scores(saved, params, part.at(budget), dense_config, dtype=dtype)
        for budget in watch(budgets, "budgets measured", total=len(budgets), log=log)
    }
    found = measured[1.0]
    if full is not saved:
        found = _measure_scores(full, full.params, part, dense_config, dtype=dtype)
    if np.ptp(found.logit_M) == 0 or not np.all(np.isfinite(found.logit_M)):
        raise ValueError(
            f"the full model gives all of {len(found.logit_M)} pairs the score "
            f"{found.logit_M[0]:g}, so there is no order to keep; give a trained reranker, and "
            "pairs of its task"
        )
    min_shared = MIN_SHARED if promise is None else promise.min_shared
    return MeasuredOrders(measured, found.logit_M, _queries_of(part.texts), min_shared)


def _queries_of(pairs: Sequence[Pair]) -> np.ndarray:
    """Return the number of the query of each pair, int64 [M]."""
    return text_numbers([query for query, _ in pairs])


def _measure_scores(
    saved: Saved, params: Params, part: TaskTexts, dense_config, *, dtype: DTypeLike
) -> MeasuredScores:
    """Run a reranker over pairs, with these parameters."""
    model = params, saved.config, pruner_of_saved(saved)
    passes = run_batches(*model, part.batches, head=saved.head, dtype=dtype, driver=part.driver)
    found = join_passes(passes)
    spent_E = flops_of_examples(
        *model, found.length_E, found.count_NE, head=saved.head, dense_config=dense_config
    )
    return MeasuredScores(
        float(found.count_NE.sum() / (saved.config.num_layers * found.length_E.sum())),
        found.logit_EC[:, 0],
        found.count_NE.mean(axis=0) / found.length_E,
        *spent_E,
    )
