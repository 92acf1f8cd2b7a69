"""Let every text choose its budget: a leaf of the pruner that is interpolated between budgets.

Shape letters:

    K calibrated budgets, increasing; the last is 1
"""

import jax.numpy as jnp

from adapler_jax.types import Array, Params, SiteInput

VALUES, SHARES = "budget_value_JK", "budget_share_JK"  # leaves of a calibrated method


def with_calibration(params: Params, budget_K, value_JK, *, leaf: str = VALUES) -> Params:
    """Return a method's parameters with the values of its leaf at calibrated budgets.

    Args:
      params: the method's subtree.
      budget_K: float32, increasing budgets in (0, 1], the last 1.
      value_JK: float32, of each site at each budget.
      leaf: VALUES for values of the method's own leaf, SHARES for shares of the entering tokens.
    """
    value_JK = jnp.asarray(value_JK, jnp.float32)
    budget_JK = jnp.broadcast_to(jnp.asarray(budget_K, jnp.float32), value_JK.shape)
    return params | {"budget_JK": budget_JK, leaf: value_JK}


def at_budget(params: Params, leaf: str, site: SiteInput, *, full: float) -> Array:
    """Return the value of each text at a site, float32 [B, 1], or a scalar without budgets.

    Between two calibrated budgets the value is linear in the budget. A text whose budget is NaN has
    the model's own value.

    Args:
      params: of the site.
      leaf: name of the model's own value.
      site: with the budgets of the texts.
      full: value at a budget of 1, which drops nothing.
    """
    if site.budget_B is None or VALUES not in params:
        return params[leaf]
    value_B = _at_budget(params, VALUES, site.budget_B, full)
    return jnp.where(jnp.isnan(site.budget_B), params[leaf], value_B)[:, None]


def shares_at_budget(params: Params, site: SiteInput) -> Array | None:
    """Return the share of the entering tokens of each text, float32 [B, 1]; NaN without a budget.

    None for a method that was not calibrated with shares.
    """
    if site.budget_B is None or SHARES not in params:
        return None
    return _at_budget(params, SHARES, site.budget_B, 1.0)[:, None]


def _at_budget(params: Params, leaf: str, budget_B: Array, full: float) -> Array:
    """Return the interpolated values of a leaf, float32 [B]; NaN stays NaN."""
    value_B = jnp.interp(budget_B, params["budget_JK"], params[leaf])
    # Of a single calibrated budget, `interp` returns its value for NaN.
    value_B = jnp.where(jnp.isnan(budget_B), jnp.nan, value_B)
    return jnp.where(budget_B >= 1.0, full, value_B)
