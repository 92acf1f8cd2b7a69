"""Bound how often a pruned model errs, from texts that played no part in its calibration.

A text is a failure if the pruned model answers otherwise than the full model, or, where labels are
there, if the full model is right and the pruned one wrong. Of a reranker, queries take the place of
texts, see `order_calibration`. The bound holds for texts drawn as the certification texts were
drawn, and for no others.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from adapler_jax.inference.calibration import FULL, OWN
from adapler_jax.metrics.ranking import TOP

NONE = "none"  # of `Promise.escalates_to`
MIN_SHARED = 9  # of the first ten documents


class Promise(NamedTuple):
    """A bound to certify, on how often a model fails."""

    max_rate: float  # of failures
    confidence: float = 0.95  # probability that the bound holds
    # A failure is an answer that differs from the full model's, or, of labelled texts, one that is
    # wrong where the full model is right.
    needs_labels: bool = False
    # Uncertain texts may run again on the full model, or with OWN and where it is no other model on
    # the same one with all tokens, or with NONE not at all. None is FULL for a classifier; a
    # reranker runs nothing again.
    escalates_to: str | None = None
    # Of a reranker, a query fails if its first ten documents share fewer with the full model's.
    min_shared: int = MIN_SHARED


class Certificate(NamedTuple):
    """The fastest budget whose failures are bounded."""

    budget: float  # kept share, in (0, 1]
    max_rate: float  # bound on the failure rate, in (0, 1)
    confidence: float  # in (0, 1)
    num_texts: int
    num_failures: int
    margin: float = 0.0  # texts below it run again, see `escalation`
    escalates_to: str = OWN  # one of `inference.calibration.ESCALATIONS`
    escalated_share: float = 0.0  # of the texts, those that were
    flops_speedup: float | None = None  # with both runs; None where it was not measured
    needs_labels: bool = False  # failures are answers that became wrong
    # Of a reranker: num_texts are queries, which fail if their first ten documents share fewer.
    min_shared: int = 0
    num_left_out: int = 0  # queries of so few documents that none can fail

    def sentence(self) -> str:
        """Return the certificate in words."""
        if self.min_shared:
            return self._order_sentence()
        are_failures, were_failures = "differ from the full model's", "differed"
        if self.needs_labels:
            are_failures = "are wrong where the full model is right"
            were_failures = "became wrong"
        return (
            f"on texts like these, at most {100 * self.max_rate:.1f}% of answers {are_failures} "
            f"({100 * self.confidence:g}% confidence, n = {self.num_texts:,}, "
            f"{self.num_failures} {were_failures})"
        )

    def _order_sentence(self) -> str:
        """Return the certificate of a reranker in words."""
        return (
            f"on queries like these, the first {TOP} documents share at least {self.min_shared} "
            f"with the full model's for at least {100 * (1 - self.max_rate):g}% of queries "
            f"({100 * self.confidence:g}% confidence, n = {self.num_texts:,} queries, "
            f"{self.num_failures} differed)"
        )

    def left_out(self) -> str:
        """Return in words which queries a reranker's certificate does not count."""
        smallest = 2 * TOP - self.min_shared + 1
        return (
            f"{self.num_left_out:,} queries of fewer than {smallest} documents are not counted: "
            f"their first {TOP} always share {self.min_shared}"
        )

    def speed(self) -> str:
        """Return the budget and its speed in words."""
        faster = "" if self.flops_speedup is None else f", {self.flops_speedup:.2f}x"
        again = 100 * self.escalated_share
        how = "on the full model" if self.escalates_to == FULL else "with all tokens"
        escalated = f"; {again:.1f}% of the texts run again {how}" if self.margin else ""
        return f"budget {self.budget:g}{faster}{escalated}"


def check_promise(max_rate: float, confidence: float) -> None:
    """Raise ValueError unless both are in (0, 1)."""
    for name, value in (("rate of a promise", max_rate), ("confidence", confidence)):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0.0 < value < 1.0:
            raise ValueError(f"the {name} is {value!r:.60}; expected a number between 0 and 1")


def max_failures(num_texts: int, max_rate: float, confidence: float) -> int:
    """Return the largest k for which P(Bin(n, max_rate) <= k) <= 1 - confidence.

    Args:
      num_texts: n.
      max_rate: bound on the failure rate.
      confidence: probability that the bound holds.

    Returns:
      -1 if even no failure among n texts is too weak a proof.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 1934: a
      one-sided exact test.
    """
    check_promise(max_rate, confidence)
    # ppf is the smallest k with a tail of at least 1 - confidence, up to rounding.
    k = int(stats.binom.ppf(1.0 - confidence, num_texts, max_rate)) + 1
    while k >= 0 and stats.binom.cdf(k, num_texts, max_rate) > 1.0 - confidence:
        k -= 1
    return k


def min_texts(max_rate: float, confidence: float) -> int:
    """Return the smallest number of texts that can prove the bound, if none of them fails."""
    check_promise(max_rate, confidence)
    return math.ceil(math.log(1.0 - confidence) / math.log1p(-max_rate))


def allowance(num_texts: int, promise: Promise, *, unit: str = "texts") -> str:
    """Return in words how many of the texts, or queries, may fail where a promise is kept."""
    allowed = max_failures(num_texts, promise.max_rate, promise.confidence)
    return (
        f"{num_texts:,} {unit} will test the promise of {100 * promise.max_rate:g}%: at most "
        f"{allowed} of them may fail"
    )


def check_num_texts(num_texts: int, max_rate: float, confidence: float) -> None:
    """Raise ValueError if so few texts cannot prove the bound; says how many can."""
    if max_failures(num_texts, max_rate, confidence) < 0:
        raise ValueError(
            f"{num_texts} texts cannot prove a rate of {max_rate:g} with {confidence:g} "
            f"confidence; give at least {min_texts(max_rate, confidence)}"
        )


def certify(
    failures: Mapping[float, np.ndarray], *, max_rate: float, confidence: float
) -> Certificate | None:
    """Return the fastest budget whose failure rate is at most `max_rate` with this confidence.

    Budgets are tested from the largest kept share to the smallest, and the first that is not
    accepted ends the walk. All accepted budgets hold together with the confidence of one test.

    Args:
      failures: kept share -> bool [B], one entry a certification text, which may not be among
        the calibration texts.
      max_rate: bound on the failure rate.
      confidence: probability that the bound holds, over draws of the texts.

    Returns:
      None if no budget can be certified.

    Raises:
      ValueError: there are too few texts for any budget; says how many suffice.

    Source: fixed-sequence testing, as in Angelopoulos et al., "Learn then Test", 2021.
    """
    budgets = sorted(failures, reverse=True)
    in_order = [failures[budget] for budget in budgets]
    num_accepted = accepted(in_order, max_rate=max_rate, confidence=confidence)
    if num_accepted == 0:
        return None
    last_E = in_order[num_accepted - 1]
    return Certificate(
        budgets[num_accepted - 1], max_rate, confidence, len(last_E), int(np.sum(last_E))
    )


def accepted(failures: Sequence[np.ndarray], *, max_rate: float, confidence: float) -> int:
    """Return how many of the first candidates are accepted by fixed-sequence testing.

    All of them hold together with the confidence of one test. Their order may not depend on these
    failures.

    Args:
      failures: bool [E] of each candidate in the order of the tests.
      max_rate: bound on the failure rate.
      confidence: probability that the bound holds.

    Raises:
      ValueError: there are too few texts for any candidate; says how many suffice.
    """
    num_texts = len(failures[0])
    check_num_texts(num_texts, max_rate, confidence)
    limit = max_failures(num_texts, max_rate, confidence)
    is_accepted = (np.sum(failed_E) <= limit for failed_E in failures)
    return sum(1 for _ in itertools.takewhile(bool, is_accepted))
