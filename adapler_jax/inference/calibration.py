"""Read and write the calibration of a saved model: values for budgets, with measurements.

`calibration.json` is next to `config.json`. A model without the file has one speed.

Shape letters:

    K calibrated budgets, increasing; the last is 1
    M rows of a call
"""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.inference.drift import NAMES, QUERY_NAMES, DriftMonitor
from adapler_jax.inference.speedups import (
    Budget,
    budget_of_speedup,
    check_range,
    spread_budget,
)
from adapler_jax.io.atomic_directories import recover
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.pruning.budgets import SHARES, VALUES, with_calibration
from adapler_jax.types import Batch, Params
from adapler_jax.weights.config import CALIBRATION_FILE, FULL_FOLDER, MODEL_FILES

FORMAT = 1
MODES = THRESHOLDS, FIXED = ("thresholds", "fixed")
ADVICE = "calibrate the model again"
# Uncertain texts run again on the full model, or on the same model with all tokens.
FULL, OWN = ESCALATIONS = ("full", "own")
FULL_OPTIONS = ("autotune_table", "buckets", "driver")
KEEPS_ALL = (
    "the model keeps all tokens, so it has one speed; `adapler compress` makes a model from it "
    "that drops tokens"
)
FULL_IS_MISSING = (
    "the certificate runs uncertain texts again on the full model, which is missing: copy the "
    f"folder {FULL_FOLDER} next to {CALIBRATION_FILE}, or calibrate the model again with "
    "--reference=DIR"
)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """A pruner's values for budgets, and measurements on texts that played no part in them."""

    budgets: tuple[float, ...]  # K
    # J of K: of each site at each budget, thresholds of AdapLeR, or shares of entering tokens.
    values: tuple[tuple[float, ...], ...]
    # One a budget: budget, kept_share, flops_speedup, agreement, text_share and margin with their
    # deviations; score of labelled texts; milliseconds where they were measured. A reranker has
    # kendall_tau, top10_overlap and alike_queries in place of agreement and margin.
    rows: tuple[dict[str, float], ...]
    num_texts: int  # of the calibration
    num_held_out: int  # of the measurements
    # The fields of `evaluation.certificate.Certificate`, and the decision threshold; None if
    # nothing was certified.
    certificate: dict[str, Any] | None = None
    # THRESHOLDS, or FIXED: AdapLeR keeps a share of every text, by the highest scores.
    mode: str = THRESHOLDS
    timing: dict[str, Any] | None = None  # batch_size and device of the rows' milliseconds
    # Of a reranker: num_queries that measured, num_evidence of them that can fail, and min_shared,
    # documents that the first ten of alike_queries share with the full model's.
    queries: dict[str, int] | None = None

    def apply(self, params: Params) -> Params:
        """Return a model's parameters with the values.

        Raises:
          ValueError: a share is above 1.
        """
        are_shares = self.mode == FIXED or "share_J" in params["pruner"]
        if are_shares and np.max(self.values) > 1.0:
            raise ValueError(f"{CALIBRATION_FILE} has a share of {np.max(self.values):g}; {ADVICE}")
        leaf = SHARES if self.mode == FIXED else VALUES
        calibrated = with_calibration(
            params["pruner"], self.budgets, np.array(self.values), leaf=leaf
        )
        return params | {"pruner": calibrated}

    @property
    def needs_full(self) -> bool:
        """Return True if the certificate runs uncertain texts again on the full model."""
        found = self.certificate or {}
        return bool(found.get("margin")) and found.get("escalates_to", OWN) == FULL

    def budget_for(self, speedup: float) -> float:
        """Return the budget that was measured to have a FLOPs speedup, by interpolation.

        Raises:
          ValueError: no budget has it; says which are there.
        """
        speedups = [row["flops_speedup"] for row in self.rows]
        return budget_of_speedup(speedup, self.budgets, speedups)

    def check_budget(self, budget: Budget) -> None:
        """Raise ValueError unless all budgets are between the smallest calibrated one and 1."""
        check_range(budget, self.budgets[0])

    def with_rows(self, rows: Sequence[dict[str, float]]) -> "Calibration":
        """Return the calibration with its measurements, whose speedups fall with the budget.

        A budget that is no faster than a larger one is left out: below the cost of [CLS] alone, or
        where texts are so short that two budgets round to equal counts.
        """
        speedups = [row["flops_speedup"] for row in rows]
        kept = [k for k, found in enumerate(speedups) if found > max(speedups[k + 1 :], default=0)]
        return dataclasses.replace(
            self,
            rows=tuple(rows[k] for k in kept),
            budgets=tuple(self.budgets[k] for k in kept),
            values=tuple(tuple(row[k] for k in kept) for row in self.values),
        )

    def monitor(self) -> DriftMonitor | None:
        """Return a monitor of drift; None for a calibration of an earlier release."""
        names = NAMES if self.queries is None else QUERY_NAMES
        if not all(f"{name}_sd" in row for row in self.rows for name in names):
            return None
        if self.queries is None:
            return DriftMonitor(self.rows, self.num_held_out)
        num_queries = self.queries["num_queries"]
        return DriftMonitor(self.rows, num_queries, names=QUERY_NAMES, unit="queries")

    def write(self, directory: pathlib.Path) -> pathlib.Path:
        """Write the calibration into a model's directory, and return its path."""
        path = directory / CALIBRATION_FILE
        replace_text(
            path, json.dumps({"format": FORMAT} | dataclasses.asdict(self), indent=1) + "\n"
        )
        return path


def read_calibration(directory: pathlib.Path, num_sites: int) -> Calibration | None:
    """Return the calibration of a model, or None without the file.

    Raises:
      ValueError: the file is damaged, of another model, or of a later release.
    """
    path = pathlib.Path(directory) / CALIBRATION_FILE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"it has format {found['format']}, this release reads {FORMAT}")
        budget_K = np.array(found["budgets"], np.float64)
        value_JK = np.array(found["values"], np.float64)
        _check_arrays(budget_K, value_JK, num_sites)
        speedups = [float(row["flops_speedup"]) for row in found["rows"]]
        if len(speedups) != len(budget_K) or not all(
            a > b for a, b in itertools.pairwise(speedups)
        ):
            raise ValueError("its speedups do not fall with the budget")
        return Calibration(
            budgets=tuple(budget_K.tolist()),
            values=tuple(map(tuple, value_JK.tolist())),
            rows=tuple(found["rows"]),
            num_texts=int(found["num_texts"]),
            num_held_out=int(found["num_held_out"]),
            certificate=found.get("certificate"),
            mode=_mode_of(found),
            timing=found.get("timing"),
            queries=found.get("queries"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); {ADVICE}") from error


class Request(NamedTuple):
    """How fast texts are classified."""

    budget: Budget = None
    margin: float = 0.0  # texts of less at this budget run again
    escalates_to: str = OWN  # one of ESCALATIONS


def full_loader(
    load: Callable,
    directory: pathlib.Path,
    calibration: Calibration | None,
    dtype: str,
    options: Mapping[str, Any],
) -> Callable[[], Any] | None:
    """Return a function that loads a certificate's full model once; None without such a model.

    Where another model replaces the full model before the function's first call, the call raises a
    ValueError: the certificate is not about that model.

    Args:
      load: a function (directory, **options) -> model.
      directory: of the certified model.
      calibration: of that model.
      dtype: of the operands of the encoder's products.
      options: of `load` for the certified model; the full model gets FULL_OPTIONS of them.
    """
    shared = {name: options[name] for name in FULL_OPTIONS if name in options}
    kept = directory / FULL_FOLDER
    if calibration is None or not calibration.needs_full or not recover(kept).exists():
        return None
    before = _versions(kept)

    @functools.cache
    def load_full():
        """Load the model."""
        if _versions(kept) != before:
            raise ValueError(f"another model is in {kept} since this one was loaded; load it again")
        return load(kept, dtype=dtype, **shared)

    return load_full


def _versions(directory: pathlib.Path) -> list[tuple[int, int, int]]:
    """Return numbers that are others once a file of a model is written again."""
    paths = [directory / name for name in MODEL_FILES]
    found = [path.stat() for path in paths if path.exists()]
    return [(entry.st_ino, entry.st_size, entry.st_mtime_ns) for entry in found]


def certified_request(
    calibration: Calibration | None,
    threshold: float | None,
    dtype: str,
    *,
    has_full: bool = False,
) -> Request:
    """Return the request that a model's certificate holds for.

    Args:
      calibration: of the model.
      threshold: of the decision.
      dtype: of the operands of the encoder's products.
      has_full: whether the full model is there to run texts again.

    Raises:
      ValueError: nothing is certified, it is for another threshold or dtype, or the full model is
        missing.
    """
    found = None if calibration is None else calibration.certificate
    if calibration is None or found is None:
        raise ValueError(
            "nothing is certified for this model; certify with `adapler calibrate "
            "--max_disagreement=0.02`, and load it without exported programs"
        )
    if found.get("threshold") != threshold:
        raise ValueError(
            f"the certificate is for the decision threshold {found.get('threshold')}, not "
            f"{threshold}; give no other threshold, or calibrate again"
        )
    if found.get("dtype", dtype) != dtype:
        raise ValueError(
            f"the certificate is for operands of {found['dtype']}, not {dtype}; give "
            f"--dtype={found['dtype']}, or calibrate again with --dtype={dtype}"
        )
    if calibration.needs_full and not has_full:
        raise ValueError(FULL_IS_MISSING)
    return Request(
        float(found["budget"]), float(found.get("margin", 0.0)), found.get("escalates_to", OWN)
    )


def _mode_of(found: dict[str, Any]) -> str:
    """Return the mode of a calibration; files of release 0.2 have none."""
    mode = found.get("mode", THRESHOLDS)
    if mode not in MODES:
        raise ValueError(f"its mode is {mode!r:.40}")
    return mode


def check_has_speeds(
    drops_tokens: bool, budget: Budget, speedup: float | None, *, certified: bool
) -> None:
    """Raise ValueError where a request for a model that keeps all tokens names a speed."""
    if not drops_tokens and (certified or budget is not None or speedup is not None):
        raise ValueError(KEEPS_ALL)


def resolve_budget(
    calibration: Calibration | None, budget: Budget, speedup: float | None
) -> Budget:
    """Return the budget of a request; None for the model's own speed.

    Raises:
      ValueError: the model is not calibrated, or has no such budget or speedup.
    """
    if budget is None and speedup is None:
        return None
    if calibration is None:
        raise ValueError(
            "the model has no calibration, so it has one speed; make one with `adapler calibrate`. "
            "With programs=True a model has one speed too"
        )
    if budget is not None and speedup is not None:
        raise ValueError("budget and speedup are both given; give one")
    if speedup is not None:
        return calibration.budget_for(speedup)
    calibration.check_budget(budget)
    return budget


def budgets_of(calibration: Calibration | None, budget: Budget, num_rows: int) -> np.ndarray | None:
    """Return the budget of every row, float32 [M]; None without a calibration.

    NaN means the model's own values, so that calls with and without a budget share a program.

    Raises:
      ValueError: there are budgets for another number of rows.
    """
    if calibration is None:
        return None
    return spread_budget(np.nan if budget is None else budget, num_rows)


def add_budgets(batch: Batch, row_B: np.ndarray, budget_M: np.ndarray | None) -> Batch:
    """Return a batch with the budgets of its rows; padding examples have the model's own."""
    if budget_M is None:
        return batch
    budget_B = np.full(len(batch.token_BL), np.nan, np.float32)
    budget_B[: len(row_B)] = budget_M[row_B]
    return batch.replace(budget_B=budget_B)


def _check_arrays(budget_K: np.ndarray, value_JK: np.ndarray, num_sites: int) -> None:
    """Raise ValueError unless the arrays fit a calibration of so many sites."""
    if budget_K.ndim != 1 or value_JK.shape != (num_sites, len(budget_K)):
        raise ValueError(f"its values have shape {value_JK.shape}")
    check_budgets(budget_K.tolist())
    if not np.all((value_JK >= 0.0) & np.isfinite(value_JK)):
        raise ValueError("a value is negative or not finite")


def check_budgets(budgets: Sequence[float]) -> None:
    """Raise ValueError unless budgets increase within (0, 1] and end with 1."""
    is_rising = all(low < high for low, high in itertools.pairwise(budgets))
    if not budgets or not is_rising or budgets[0] <= 0.0 or budgets[-1] != 1.0:
        raise ValueError(
            f"budgets are {tuple(budgets)}; expected rising numbers above 0, the last 1"
        )
