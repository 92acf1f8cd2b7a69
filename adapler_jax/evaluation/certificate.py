"""Bound how often a pruned model errs, from texts that played no part in its calibration.

A text is a failure if the pruned model answers otherwise than the full model, or, where labels are
there, if the full model is right and the pruned one wrong. The bound holds for texts drawn as the
certification texts were drawn, and for no others.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats


class Certificate(NamedTuple):
    """The fastest budget whose failures are bounded."""

    budget: float  # kept share, in (0, 1]
    max_rate: float  # bound on the failure rate, in (0, 1)
    confidence: float  # in (0, 1)
    num_texts: int
    num_failures: int

    def sentence(self) -> str:
        """Return the certificate in words, for disagreement with the full model."""
        return (
            f"on texts like these, at most {100 * self.max_rate:.1f}% of answers differ from the "
            f"full model's ({100 * self.confidence:g}% confidence, n = {self.num_texts:,}, "
            f"{self.num_failures} differed)"
        )


def check_promise(max_rate: float, confidence: float) -> None:
    """Raise ValueError unless both are in (0, 1)."""
    for name, value in (("max_rate", max_rate), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} is {value}; expected a number between 0 and 1")


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
    num_texts = len(next(iter(failures.values())))
    check_num_texts(num_texts, max_rate, confidence)
    limit = max_failures(num_texts, max_rate, confidence)
    found = None
    for budget in sorted(failures, reverse=True):
        num_failures = int(np.sum(failures[budget]))
        if num_failures > limit:
            break
        found = Certificate(budget, max_rate, confidence, num_texts, num_failures)
    return found
