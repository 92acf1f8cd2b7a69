"""Run rows of tokens through a model in batches of similar length.

Shape letters:

    M rows of a call
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adapler_jax.inference.calibration import Budget, Calibration, add_budgets, budgets_of
from adapler_jax.inference.loading import sorted_batches
from adapler_jax.inference.words import Encoded, TokenRow, Tokens
from adapler_jax.metrics.classification import margins, softmax
from adapler_jax.types import Batch, Params, Trace


class RowResult(NamedTuple):
    """Output of the model for one row of tokens."""

    row: int
    prob_C: np.ndarray  # float32
    keep_NL: np.ndarray  # bool: the token enters the layer
    score_NL: np.ndarray | None  # float32; None for a model without a pruner
    # Tokens of the run before, of a text that ran again; 0 in layers that it did not have.
    earlier_N: np.ndarray | None = None


def text_shares(batch: Batch, trace: Trace) -> np.ndarray:
    """Return the mean over layers of the kept share of each text, float64 [B]."""
    length_B = np.asarray(batch.valid_BL).sum(axis=-1)
    if trace.count_NB is None:
        return np.ones(len(length_B))
    return np.asarray(trace.count_NB).mean(axis=0) / np.maximum(1, length_B)


class RowRunner(NamedTuple):
    """A model and the shapes of its batches."""

    run: Callable  # (params, Batch) -> (logits, Trace)
    params: Params
    lengths: tuple[int, ...]  # padded lengths of batches
    num_layers: int
    calibration: Calibration | None
    # Logits [B, C] -> what `probs` and `results` return of them: probabilities, or scores.
    activate: Callable[[np.ndarray], np.ndarray] = softmax

    def results(
        self, encoded: Sequence[Encoded], num_rows: int, budget: Budget = None
    ) -> list[RowResult]:
        """Return the results of all rows in their order.

        Args:
          encoded: the rows.
          num_rows: of a batch.
          budget: of all rows, or one for each; None for the model's own speed.
        """
        found = []
        for row_B, batch, prob_BC, trace in self.batches(encoded, num_rows, budget):
            keep_NBL = np.broadcast_to(batch.valid_BL, (self.num_layers, *batch.valid_BL.shape))
            if trace.survival_NBL is not None:
                keep_NBL = np.asarray(trace.survival_NBL) > 0
            score_NBL = None if trace.score_NBL is None else np.asarray(trace.score_NBL)
            for index, row in enumerate(row_B.tolist()):
                tokens = np.s_[:, index, : len(encoded[row].token_L)]
                score_NL = None if score_NBL is None else score_NBL[tokens]
                found.append(RowResult(row, prob_BC[index], keep_NBL[tokens], score_NL))
        return sorted(found, key=lambda result: result.row)

    def probs(
        self,
        tokens: Sequence[Tokens] | Sequence[Encoded],
        num_rows: int,
        budget: Budget,
        *,
        num_classes: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities, float32 [M, C], and with a budget kept shares, float64 [M]."""
        prob_MC, share_M = np.zeros((len(tokens), num_classes), np.float32), np.zeros(len(tokens))
        for row_B, batch, prob_BC, trace in self.batches(tokens, num_rows, budget):
            prob_MC[row_B] = prob_BC
            if budget is not None:
                share_M[row_B] = text_shares(batch, trace)[: len(row_B)]
        return prob_MC, share_M

    def batches(
        self, tokens: Sequence[TokenRow], num_rows: int, budget: Budget = None
    ) -> Iterator[tuple[np.ndarray, Batch, np.ndarray, Trace]]:
        """Yield the rows of each batch, the batch, their probabilities [B, ...], and the trace."""
        token_rows = [row.token_L for row in tokens]
        segment_rows = [row.segment_L for row in tokens]
        batches = sorted_batches(token_rows, segment_rows, lengths=self.lengths, num_rows=num_rows)
        budget_M = budgets_of(self.calibration, budget, len(tokens))
        for row_B, plain in batches:
            batch = add_budgets(plain, row_B, budget_M)
            logits_BC, trace = self.run(self.params, batch)
            yield row_B, batch, self.activate(np.asarray(logits_BC)[: len(row_B)]), trace


class SecondRun(NamedTuple):
    """A model that runs uncertain texts again: the full model, or the same with all tokens."""

    runner: RowRunner
    budget: Budget
    margin: float  # texts of less run again
    threshold: float | None  # of the decision

    def rows(self, prob_MC: np.ndarray) -> list[int]:
        """Return the rows that run again, by the probabilities of the first run."""
        if not len(prob_MC):
            return []
        return np.flatnonzero(margins(prob_MC, self.threshold) < self.margin).tolist()

    def replace_results(
        self, results: list[RowResult], encoded: Sequence[Encoded], num_rows: int
    ) -> None:
        """Replace the results of the uncertain rows."""
        rows = self.rows(np.array([result.prob_C for result in results]))
        again = self.runner.results([encoded[row] for row in rows], num_rows, self.budget)
        for row, result in zip(rows, again):
            first_N = results[row].keep_NL.sum(axis=-1)
            earlier_N = np.zeros(len(result.keep_NL), first_N.dtype)
            earlier_N[: len(first_N)] = first_N
            results[row] = result._replace(row=row, earlier_N=earlier_N)

    def replace_probs(
        self, prob_MC: np.ndarray, tokens: Sequence[Tokens], num_rows: int
    ) -> list[int]:
        """Replace the probabilities of the uncertain rows, and return these rows."""
        rows, sizes = self.rows(prob_MC), {"num_classes": prob_MC.shape[1]}
        again = [tokens[row] for row in rows]
        prob_MC[rows] = self.runner.probs(again, num_rows, self.budget, **sizes)[0]
        return rows
