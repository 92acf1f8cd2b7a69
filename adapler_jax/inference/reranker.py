"""A saved reranker as its users see it: a query and documents in, scores or an order out."""

import dataclasses
from collections.abc import Callable
from typing import Unpack

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.inference.calibration import (
    Calibration,
    certified_request,
    read_calibration,
    resolve_budget,
)
from adapler_jax.inference.engine import EngineOptions
from adapler_jax.inference.loading import (
    open_model,
    padded_batch_size,
    prepare_model,
    truncation_side_of,
    warm_up,
)
from adapler_jax.inference.model_kind import loader_hint
from adapler_jax.inference.pair_scores import PairScorer, Rows
from adapler_jax.inference.processes import Portable, check_process, with_origin
from adapler_jax.inference.rows import RowRunner
from adapler_jax.inference.speedups import Budget
from adapler_jax.types import Params


@dataclasses.dataclass(frozen=True, eq=False)
class Reranker(Portable, PairScorer):
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
    calibration: Calibration | None = None  # for scores at another budget

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
        if not certified:
            return resolve_budget(self.calibration, budget, speedup)
        if budget is not None or speedup is not None:
            raise ValueError("certified is given with a budget or a speedup; give one")
        return certified_request(self.calibration, None, self.dtype).budget

    def logits(self, rows: Rows, batch_size: int, budget: Budget = None) -> np.ndarray:
        """Return the logits of rows of tokens, float32 [rows].

        Args:
          rows: of `encode_tokens`.
          batch_size: rows of a batch; fewer rows run in a batch of the next power of two.
          budget: of all rows, or one for each, as `resolve` returns it.

        Raises:
          RuntimeError: JAX cannot run in this process.
        """
        check_process()
        if not rows:
            return np.zeros(0, np.float32)
        runner = RowRunner(
            self.run, self.params, self.lengths, self.num_layers, self.calibration, np.asarray
        )
        num_rows = padded_batch_size(len(rows), batch_size)
        return runner.probs(rows, num_rows, budget, num_classes=1)[0][:, 0]
