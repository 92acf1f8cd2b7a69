"""Solve the shares of a text that layers keep, from the lengths of texts alone.

Shape letters:

    E examples of a set
    I sites that run where a head reads [CLS] alone
    K budgets, increasing; the last is 1
"""

from collections.abc import Callable, Sequence

import numpy as np

from adapler_jax.evaluation.models import true_speedup
from adapler_jax.heads import CLASSIFICATION, Head
from adapler_jax.pruning import Pruner
from adapler_jax.pruning.base import for_first_token
from adapler_jax.pruning.shares import kept_counts
from adapler_jax.types import EncoderConfig, Params

NUM_BISECTIONS = 40


class OutOfReachError(ValueError):
    """No share reaches a speedup; `highest` is the FLOPs speedup with [CLS] alone."""

    def __init__(self, method: str, speedup: float, highest: float):
        """Say what is asked and what is there."""
        super().__init__(
            f"{method}: {speedup:g}x is out of reach; with [CLS] alone these texts have "
            f"{highest:.2f}x"
        )
        self.highest = highest


def share_profile(
    pruner: Pruner, config: EncoderConfig, share: float, *, steepness: float = 1.0
) -> np.ndarray:
    """Return the share of the entering tokens that each site keeps, float32 [J].

        kept of a text after site i of I:  share ^ (I (i / I) ^ steepness),   i from 1

    At a steepness of 1 all sites keep an equal share. The share of a site that does not run is 1.
    """
    num_running = len(for_first_token(pruner, config).sites)
    exponent_I = num_running * (np.arange(1, num_running + 1) / num_running) ** steepness
    share_J = np.ones(len(pruner.sites), np.float32)
    share_J[:num_running] = entering_shares(share**exponent_I)
    return share_J


def entering_shares(kept_J: np.ndarray) -> np.ndarray:
    """Return shares of the tokens that enter each site, of shares of a text, float32 [J]."""
    before_J = np.concatenate([[1.0], kept_J[:-1]])
    return np.divide(kept_J, before_J, out=np.zeros(len(kept_J)), where=before_J > 0).astype(
        np.float32
    )


def share_counts(
    pruner: Pruner,
    share_J: np.ndarray,
    length_E: np.ndarray,
    num_layers: int,
    *,
    protected_E: np.ndarray | int = 0,
) -> np.ndarray:
    """Return the tokens that each layer runs on, int64 [N, E].

    Lengths decide them, and the number of protected tokens, which stay.
    """
    share_of = {site.layer: share for site, share in zip(pruner.sites, share_J, strict=True)}
    counts, count_E = [], np.asarray(length_E)
    for layer in range(num_layers):
        if layer in share_of:
            count_E = np.asarray(kept_counts(count_E, share_of[layer])).astype(np.int64)
            count_E = np.maximum(count_E, protected_E)
        counts.append(count_E)
    return np.stack(counts)


def solve_shares(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    *,
    speedup: float,
    steepness: float = 1.0,
    protected_E: np.ndarray | int = 0,
    head: Head = CLASSIFICATION,
) -> np.ndarray:
    """Return the shares of each site that give texts of these lengths a FLOPs speedup.

    Args:
      params: of the whole model.
      config: of the encoder.
      pruner: of the model.
      length_E: int, tokens of each text.
      speedup: FLOPs speedup on true tokens.
      steepness: of `share_profile`.
      protected_E: int, tokens of each text that are never dropped.
      head: of the model.

    Raises:
      OutOfReachError: no share reaches the speedup.
      ValueError: the speedup is no number of 1 or more.
    """

    def speedup_of(share: float) -> float:
        """Return the FLOPs speedup with a share."""
        share_J = share_profile(pruner, config, share, steepness=steepness)
        count_NE = share_counts(
            pruner, share_J, length_E, config.num_layers, protected_E=protected_E
        )
        return true_speedup(params, config, pruner, length_E, count_NE, head=head)

    if not (np.isfinite(speedup) and speedup >= 1.0):
        raise ValueError(f"speedup is {speedup}; expected a factor of 1 or more")
    if speedup == 1.0:
        return share_profile(pruner, config, 1.0)
    if (highest := speedup_of(0.0)) < speedup:
        raise OutOfReachError(pruner.name, speedup, highest)
    share = _bisect(lambda share: -speedup_of(share), -speedup)
    return share_profile(pruner, config, share, steepness=steepness)


def budget_shares(
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    budgets: Sequence[float],
    *,
    protected_E: np.ndarray | int = 0,
) -> np.ndarray:
    """Return the share of every site at every budget, float32 [J, K].

    A budget is the mean over layers of the tokens that a layer runs on, as a fraction of the tokens
    of the texts.
    """
    return _solve_budgets(
        config,
        pruner,
        length_E,
        budgets,
        shares=lambda share: share_profile(pruner, config, share),
        protected_E=protected_E,
    )


def ranked_shares(
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    budgets: Sequence[float],
    *,
    profile: Callable[[float], np.ndarray],
    protected_E: np.ndarray | int = 0,
) -> np.ndarray:
    """Return the share of the entering tokens of every site at every budget, float32 [J, K].

    A site keeps the tokens of the highest scores, so lengths alone decide the counts.

    Args:
      config: of the encoder.
      pruner: with a site before every layer.
      length_E: int, tokens of each text.
      budgets: as in `budget_shares`.
      profile: (budget) -> shares of a text's tokens by layer, which rise with the budget.
      protected_E: as in `solve_shares`.
    """
    return _solve_budgets(
        config,
        pruner,
        length_E,
        budgets,
        shares=lambda budget: entering_shares(profile(budget)),
        protected_E=protected_E,
    )


def _solve_budgets(
    config: EncoderConfig,
    pruner: Pruner,
    length_E: np.ndarray,
    budgets: Sequence[float],
    *,
    shares: Callable[[float], np.ndarray],
    protected_E: np.ndarray | int,
) -> np.ndarray:
    """Return the shares of every site at every budget, float32 [J, K].

    Args:
      config: of the encoder.
      pruner: of the model.
      length_E: int, tokens of each text.
      budgets: kept shares; at 1 no token is dropped.
      shares: (x) -> shares of the tokens that enter each site, which rise with x, and are 1 at 1.
      protected_E: as in `solve_shares`.
    """

    def kept_share(x: float) -> float:
        """Return the kept share of texts with these lengths."""
        count_NE = share_counts(
            pruner, shares(x), length_E, config.num_layers, protected_E=protected_E
        )
        return float(count_NE.sum() / (config.num_layers * length_E.sum()))

    found = [_bisect(kept_share, budget) if budget < 1.0 else 1.0 for budget in budgets]
    return np.stack([shares(x) for x in found], axis=1)


def _bisect(function: Callable[[float], float], target: float) -> float:
    """Return the largest number below 1 at which a rising function is at most the target."""
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if function(middle) > target else (middle, high)
    return low
