"""Saved models of numbers as their users see them: rerankers, and regressors of any texts."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self, Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.calibration import (
    Calibration,
    certified_request,
    check_has_speeds,
    read_calibration,
    resolve_budget,
)
from adapler_jax.inference.drift import DriftMonitor, query_means
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
    with_origin,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.number_models import (
    SCORE,
    NumberModel,
    Rows,
    TextScorer,
    check_one_output,
)
from adapler_jax.inference.pair_scores import PairScorer
from adapler_jax.inference.processes import Portable, check_process
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.speedups import Budget
from adapler_jax.types import Params
from adapler_jax.weights.save import Saved


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedNumbers(Portable, NumberModel):
    """A saved model of numbers that runs in JAX."""

    run: Callable = dataclasses.field(repr=False)  # (params, Batch) -> (logits, Trace)
    params: Params = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    activation: str  # from a logit to its number: identity or sigmoid
    num_layers: int
    max_length: int  # token slots of a text or pair
    lengths: tuple[int, ...]  # padded lengths of batches
    truncation_side: str = "right"  # that loses the tokens of long texts: right, left or middle
    dtype: str = "float32"  # of the operands of the encoder's products
    calibration: Calibration | None = None  # for numbers at another budget
    output_names: tuple[str, ...] = (SCORE,)  # in the order of the logits
    drops_tokens: bool = True
    # Warns where queries at a budget are unlike the calibration's; compared by `Reranker` alone.
    drift: DriftMonitor | None = dataclasses.field(default=None, repr=False)

    @classmethod
    @with_origin
    def load(
        cls, directory, *, compilation_cache: str = "", **options: Unpack[EngineOptions]
    ) -> Self:
        """Load a model.

        Args:
          directory: as in `Classifier.load`.
          compilation_cache: as in `Classifier.load`.
          **options: as in `Classifier.load`.

        Raises:
          ValueError: the model is damaged, or of another kind.
        """
        saved = open_model(directory, compilation_cache=compilation_cache)
        cls._check(saved, directory)
        loaded = prepare_model(saved, **options)
        calibration = None
        if loaded.pruner.takes_budgets:
            calibration = read_calibration(saved.directory, len(loaded.pruner.sites))
        return cls(
            run=loaded.run,
            params=loaded.params if calibration is None else calibration.apply(loaded.params),
            tokenizer=loaded.tokenizer,
            activation=dict(saved.head.factory_kwargs)["activation"],
            num_layers=saved.config.num_layers,
            max_length=loaded.max_length,
            lengths=loaded.lengths,
            truncation_side=truncation_side_of(saved, loaded.tokenizer_side),
            dtype=loaded.dtype,
            calibration=calibration,
            output_names=saved.class_names or (SCORE,),
            drops_tokens=bool(loaded.pruner.sites),
            drift=None if calibration is None else calibration.monitor(),
        )

    @classmethod
    def _check(cls, saved: Saved, directory) -> None:
        """Raise ValueError unless a saved model gives numbers."""
        if saved.head.name != "regression":
            raise ValueError(
                f"{directory} holds a model with the head {saved.head.name!r}, which gives no "
                f"{SCORE} to a text or pair; {loader_hint(saved)}"
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
        is_calibrated = self.calibration is not None
        return warm_up(self.run, self.params, self.lengths, batch_size, is_calibrated=is_calibrated)

    def resolve(
        self, budget: Budget = None, speedup: float | None = None, *, certified: bool = False
    ) -> Budget:
        """Return the budget for arguments of `predict`; None for the trained thresholds.

        Raises:
          ValueError: they contradict each other, or the model is not calibrated or certified.
        """
        check_has_speeds(self.drops_tokens, budget, speedup, certified=certified)
        if not certified:
            return resolve_budget(self.calibration, budget, speedup)
        if budget is not None or speedup is not None:
            raise ValueError("certified is given with a budget or a speedup; give one")
        return certified_request(self.calibration, None, self.dtype).budget

    def outputs(self, rows: Rows, batch_size: int, budget: Budget = None) -> np.ndarray:
        """Return the logits of rows of tokens, float32 [rows, outputs].

        Args:
          rows: of `encode_tokens`.
          batch_size: rows of a batch; fewer rows run in a batch of the next power of two.
          budget: of all rows, or one for each, as `resolve` returns it.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        return self._outputs_and_shares(rows, batch_size, budget)[0]

    def _outputs_and_shares(
        self, rows: Rows, batch_size: int, budget: Budget
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `outputs` does, and with a budget kept shares, float64 [rows]."""
        check_process()
        num_outputs = len(self.output_names)
        if not rows:
            return np.zeros((0, num_outputs), np.float32), np.zeros(0)
        runner = RowRunner(
            self.run, self.params, self.lengths, self.num_layers, self.calibration, np.asarray
        )
        num_rows = padded_batch_size(len(rows), batch_size)
        return runner.probs(rows, num_rows, budget, num_classes=num_outputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Reranker(LoadedNumbers, PairScorer):
    """A model that scores a document for a query. Make one with `Reranker.load`."""

    @classmethod
    def _check(cls, saved: Saved, directory) -> None:
        """Raise ValueError unless a saved model gives one number."""
        super()._check(saved, directory)
        check_one_output(saved.class_names, directory)

    def logits(
        self,
        rows: Rows,
        batch_size: int,
        budget: Budget = None,
        *,
        queries: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the logits of rows of tokens, and compare their queries with the calibration's.

        It is called as `PairScorer.logits` is.
        """
        logit_MC, share_M = self._outputs_and_shares(rows, batch_size, budget)
        if self.drift is not None and budget is not None and len(queries):
            budget_M = np.broadcast_to(np.asarray(budget, np.float64), share_M.shape)
            self.drift.add(*query_means(queries, budget_M, share_M, logit_MC[:, 0]))
        return logit_MC[:, 0]


@dataclasses.dataclass(frozen=True, eq=False)
class Regressor(LoadedNumbers, TextScorer):
    """A model that gives one or several numbers to a text. Make one with `Regressor.load`."""
