"""Certify a model whose uncertain texts run again.

A candidate is a budget and a margin. Texts whose margin at the budget is smaller run again on the
full model, or on the same model at budget 1. The calibration texts order the candidates, and other
texts test them, so that the order does not depend on the test.

Source: Laufer-Goldshtein, Fisch, Barzilay, Jaakkola, "Efficiently Controlling Multiple Risks with
Pareto Testing", ICLR 2023: candidates on the Pareto front, tested from the safest on.

Shape letters:

    E texts of a set
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from adapler_jax import flops
from adapler_jax.evaluation.budgets import Measured
from adapler_jax.evaluation.certificate import Certificate, accepted
from adapler_jax.inference.calibration import FULL, OWN

# Of the texts that order the candidates, those below a candidate's margin.
ESCALATED_SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4)


class Candidate(NamedTuple):
    """A budget, and the margin from which its answers count."""

    budget: float
    margin: float  # 0: no text runs again


class Outcome(NamedTuple):
    """The speed and the failures of a candidate on some texts."""

    failed_E: np.ndarray  # bool, of `MeasuredTexts.failures`
    is_escalated_E: np.ndarray  # bool
    flops_speedup: float  # dense operations over the operations of both runs


class MeasuredTexts(NamedTuple):
    """Some texts at every budget."""

    measured: Mapping[float, Measured]  # by budget, 1 among them
    full_E: np.ndarray  # int32, classes by the full model
    label_E: np.ndarray | None = None  # int32
    escalates_to: str = OWN  # one of `inference.calibration.ESCALATIONS`
    full_cost_E: np.ndarray | None = None  # operations of the full model; None: the dense ones

    def at(self, budgets: Iterable[float]) -> "MeasuredTexts":
        """Return the texts at these budgets."""
        return self._replace(measured={budget: self.measured[budget] for budget in budgets})

    def records(self) -> list[dict[str, float]]:
        """Return the rows of all budgets for calibration.json."""
        rows = []
        for budget, found in self.measured.items():
            row = found.record(budget, self.full_E)
            if self.label_E is not None:
                row["score"] = float(np.mean(found.predicted_E == self.label_E))
            rows.append(row)
        return rows

    def outcome(self, candidate: Candidate) -> Outcome:
        """Return the speed and the failures of a candidate."""
        first, own = self.measured[candidate.budget], self.measured[1.0]
        is_full = self.escalates_to == FULL
        again_E = self.full_E if is_full else own.predicted_E
        is_escalated_E = first.margin_E < candidate.margin
        predicted_E = np.where(is_escalated_E, again_E, first.predicted_E)
        full_cost_E = first.dense_E if self.full_cost_E is None else self.full_cost_E
        again_cost_E = full_cost_E if is_full else own.pruned_E
        cost_E = first.pruned_E + np.where(is_escalated_E, again_cost_E, 0)
        return Outcome(
            self.failures(predicted_E), is_escalated_E, flops.speedup(first.dense_E, cost_E)
        )

    def plain_failures(self) -> dict[float, np.ndarray]:
        """Return which answers are failures at each budget, where no text runs again."""
        return {budget: self.failures(found.predicted_E) for budget, found in self.measured.items()}

    def failures(self, predicted_E: np.ndarray) -> np.ndarray:
        """Return which answers are failures, bool [E].

        Without labels, those that differ from the full model's. With labels, those that are wrong
        where the full model is right.
        """
        if self.label_E is None:
            return predicted_E != self.full_E
        return (self.full_E == self.label_E) & (predicted_E != self.label_E)


def order_candidates(texts: MeasuredTexts) -> list[Candidate]:
    """Return candidates from the safest to the fastest.

    A candidate is left out if a safer one is as fast on these texts. Of equally safe candidates the
    slower ones come first, with budget 1 among them.
    """
    candidates = [
        Candidate(budget, float(np.quantile(found.margin_E, share)) if share else 0.0)
        for budget, found in texts.measured.items()
        for share in (ESCALATED_SHARES if budget < 1.0 else (0.0,))
    ]
    ranked = []
    for candidate in candidates:
        outcome = texts.outcome(candidate)
        ranked.append((int(outcome.failed_E.sum()), outcome.flops_speedup, candidate))
    front, fastest = [], 0.0
    for _, speedup, candidate in sorted(ranked):
        if speedup > fastest:
            front.append(candidate)
            fastest = speedup
    return front


def certify_escalation(
    calibration: MeasuredTexts, held_out: MeasuredTexts, *, max_rate: float, confidence: float
) -> Certificate | None:
    """Return the fastest candidate whose failure rate is at most `max_rate`.

    Args:
      calibration: texts that order the candidates.
      held_out: other texts, which test them.
      max_rate: bound on the rate of failures.
      confidence: probability that the bound holds, over draws of the held-out texts.

    Returns:
      None if no candidate can be certified.

    Raises:
      ValueError: there are too few texts for any candidate; says how many suffice.
    """
    candidates = order_candidates(calibration)
    outcomes = [held_out.outcome(candidate) for candidate in candidates]
    num_accepted = accepted(
        [outcome.failed_E for outcome in outcomes], max_rate=max_rate, confidence=confidence
    )
    if num_accepted == 0:
        return None
    (budget, margin), found = candidates[num_accepted - 1], outcomes[num_accepted - 1]
    return Certificate(
        budget,
        max_rate,
        confidence,
        len(found.failed_E),
        int(found.failed_E.sum()),
        margin=margin,
        escalates_to=calibration.escalates_to,
        escalated_share=float(np.mean(found.is_escalated_E)),
        flops_speedup=found.flops_speedup,
    )
