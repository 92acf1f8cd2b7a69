"""Give numbers to texts or pairs with an exported file, without JAX.

`adapler_jax.onnx` shows the classes.

Shape letters:

    M texts of a call
"""

import dataclasses
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.export.onnx.engines import (
    FLOAT32,
    ONNXRUNTIME,
    Engine,
    load_file,
    other_class,
    run_rows,
)
from adapler_jax.inference.number_models import (
    SCORE,
    NumberModel,
    Rows,
    TextScorer,
    check_one_output,
)
from adapler_jax.inference.pair_scores import PairScorer
from adapler_jax.inference.speedups import Budget, resolve_exported, spread_budget


@dataclasses.dataclass(frozen=True, eq=False)
class ExportedNumbers(NumberModel):
    """An exported model of numbers."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    activation: str  # from a logit to its number: identity or sigmoid
    max_length: int  # token slots of a text or pair
    truncation_side: str  # that loses the tokens of long texts
    budgets: tuple[float, ...] = ()  # calibrated, increasing; empty for one speed
    speedups: tuple[float, ...] = ()  # measured at these budgets
    output_names: tuple[str, ...] = (SCORE,)  # in the order of the logits

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
    ) -> Self:
        """Load a model directory with an exported file; arguments as in `Classifier.load`.

        Raises:
          ValueError: there is no such file or dtype, or the file is of another task.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        settings, takes_budgets = found.settings, found.engine.takes_budgets
        activation = settings.get("activation")
        if activation is None:
            raise ValueError(f"{found.path} gives no scores to texts; {other_class(settings)}")
        cls._check(settings["class_names"], found.path)
        return cls(
            engine=found.engine,
            tokenizer=found.tokenizer,
            activation=activation,
            max_length=settings["max_length"],
            truncation_side=found.truncation_side,
            budgets=tuple(settings["budgets"]) if takes_budgets else (),
            speedups=tuple(settings["speedups"]) if takes_budgets else (),
            output_names=tuple(settings["class_names"]) or (SCORE,),
        )

    @classmethod
    def _check(cls, class_names: list[str], path: Path) -> None:
        """Raise ValueError unless the class takes a file of these numbers."""

    def resolve(
        self, budget: Budget = None, speedup: float | None = None, *, certified: bool = False
    ) -> Budget:
        """Return the budget for arguments of `predict`.

        Raises:
          ValueError: they contradict each other, or the file has no such budget or certificate.
        """
        if certified:
            raise ValueError(
                "a certificate is of the library's model, not of an exported file; load the model "
                f"with adapler_jax.{type(self).__name__}, or give the certified budget as budget"
            )
        return resolve_exported(budget, speedup, budgets=self.budgets, speedups=self.speedups)

    def outputs(self, rows: Rows, batch_size: int, budget: Budget = None) -> np.ndarray:
        """Return the logits of rows of tokens, float32 [rows, outputs]."""
        logit_MC = np.zeros((len(rows), len(self.output_names)), np.float32)
        budget_M = spread_budget(budget, len(rows))
        for row_B, logits_BC, _ in run_rows(self.engine, rows, batch_size, budget_M):
            logit_MC[row_B] = logits_BC
        return logit_MC


@dataclasses.dataclass(frozen=True, eq=False)
class Reranker(ExportedNumbers, PairScorer):
    """An exported model that scores a document for a query. Make one with `Reranker.load`."""

    @classmethod
    def _check(cls, class_names: list[str], path: Path) -> None:
        """Raise ValueError unless a file gives one number."""
        check_one_output(class_names, path)


@dataclasses.dataclass(frozen=True, eq=False)
class Regressor(ExportedNumbers, TextScorer):
    """An exported model that gives numbers to a text. Make one with `Regressor.load`."""
