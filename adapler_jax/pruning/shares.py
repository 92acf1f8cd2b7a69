"""Keep a share of every text: the rule of methods that need no training.

The count of a text depends on its length alone, so the operations of a set of texts are exact
before any of them runs.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from adapler_jax.flops import SiteFlops
from adapler_jax.pruning.base import Pruner, ScoreFn, hard_to_soft, rank_descending
from adapler_jax.pruning.budgets import at_budget
from adapler_jax.types import (
    Array,
    Batch,
    EncoderConfig,
    Params,
    Rule,
    Selection,
    Site,
    SiteInput,
    SoftSelection,
    Trace,
)

# A product that is whole but for rounding in float32 counts as whole.
ROUNDING = 1e-3
DECISION = 1  # operations a token: a comparison


def kept_counts(num_tokens, share) -> Array:
    """Return how many tokens a share of a text is, float32.

        k = min(n, max(1, ceil(share n)))

    Args:
      num_tokens: n, an array of any shape.
      share: in [0, 1], broadcastable; 0 keeps [CLS] alone.
    """
    num_tokens = jnp.asarray(num_tokens, jnp.float32)
    asked = jnp.ceil(jnp.asarray(share, jnp.float32) * num_tokens - ROUNDING)
    return jnp.minimum(num_tokens, jnp.maximum(1.0, asked))


def check_shares(params: Params, source) -> None:
    """Raise ValueError with the name of a source where a method's subtree has a wrong share."""
    share_J = np.asarray(params.get("share_J", ()))
    if not np.all((share_J >= 0.0) & (share_J <= 1.0)):
        raise ValueError(f"{source}: shares are {share_J.tolist()}; expected 0 to 1")


def keep_share(params: Params, layer: Array, site: SiteInput) -> Selection:
    """Keep [CLS] and the tokens of the highest scores, a share of those that enter the site.

    Of equal scores the earlier token stays. Protected tokens come first, and count.

    Args:
      params: of the site: its share, and the shares at budgets where the model is calibrated.
      layer: unused.
      site: scores and remaining tokens.
    """
    del layer
    score_BL = jnp.where(site.remaining_BL, site.token_logit_BL, 0.0)
    share_B1 = at_budget(params, "share_J", site, full=1.0)
    ranked_BL = score_BL
    if site.protected_BL is not None:
        ranked_BL = jnp.where(site.protected_BL, jnp.inf, score_BL)
    keep_BL = keep_highest(ranked_BL, site.remaining_BL, share_B1)
    return Selection(score_BL=score_BL, keep_BL=keep_BL)


def keep_highest(score_BL: Array, remaining_BL: Array, share_B1: Array) -> Array:
    """Return which tokens stay: [CLS] and the highest scores up to `kept_counts`, bool [B, L].

    Args:
      score_BL: float32.
      remaining_BL: bool.
      share_B1: of the remaining tokens, broadcastable to [B, 1].
    """
    num_entering_B1 = jnp.sum(remaining_BL, axis=-1, keepdims=True)
    rank_BL = rank_descending(score_BL.at[:, 0].set(jnp.inf), remaining_BL)
    is_kept_BL = rank_BL.astype(jnp.float32) < kept_counts(num_entering_B1, share_B1)
    return remaining_BL & is_kept_BL


def soft_share(params: Params, layer: Array, site: SiteInput, slope: Array) -> SoftSelection:
    """Return `keep_share` as a soft selection; no gradient reaches the share."""
    del slope
    return hard_to_soft(keep_share(params, layer, site))


def no_loss_terms(params: Params, trace: Trace, batch: Batch) -> dict[str, Array]:
    """Return no terms: nothing is trained."""
    del params, trace, batch
    return {}


def decision_flops(params: Params, config: EncoderConfig) -> SiteFlops:
    """Return the operations of a decision, for one token; drivers count the attention received."""
    del params, config
    return SiteFlops(score=0, decide=DECISION)


def share_pruner(
    name: str,
    sites: Sequence[Site],
    *,
    score: ScoreFn,
    needs: frozenset[str],
    init: Callable[..., Params],
    tensor_rules: tuple[Rule, ...],
    site_flops: Callable[..., SiteFlops] = decision_flops,
) -> Pruner:
    """Return a method that keeps a share of every text by a score that needs no training."""
    return Pruner(
        name=name,
        sites=tuple(sites),
        init=init,
        score=score,
        soft=soft_share,
        hard=keep_share,
        loss_terms=no_loss_terms,
        constrain=lambda params: params,
        needs=needs,
        tensor_rules=tensor_rules,
        site_flops=site_flops,
        takes_budgets=True,
    )
