"""PoWER-BERT: each layer keeps a fixed number of tokens, the ones with the most attention.

A search multiplies states by learnt weights of their ranks. An L1 term pushes the weights towards
0; the mass that is left in a layer is the number of tokens that the layer retains. Sites are
between the two halves of a layer.

Source: Goyal et al., "PoWER-BERT: Accelerating BERT Inference via Progressive Word-vector
Elimination", ICML 2020.
"""

import functools
import itertools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning.base import Pruner, all_integers, hard_to_soft, rank_descending
from adapler_jax.pruning.scores import fixed_others_attention
from adapler_jax.types import (
    BEFORE_FEED_FORWARD,
    OTHERS_ATTENTION,
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

PADDING = "treats padding as tokens"
TENSOR_RULES = (Rule("power_bert.retention", ("pruner", "retention_N"), "N"),)


def ranks(significance_BL: Array, remaining_BL: Array, *, protects_cls: bool) -> Array:
    """Return the rank of each token by falling significance, int32 [B, L], 0 the first.

    The earlier of equal tokens is first, padding is last. With `protects_cls` [CLS] (slot 0) is
    first.
    """
    if protects_cls:
        significance_BL = significance_BL.at[:, 0].set(jnp.inf)
    return rank_descending(significance_BL, remaining_BL)


def soft_extract(
    params: Params, layer: Array, site: SiteInput, slope: Array, *, protects_cls: bool
) -> SoftSelection:
    """Scale each state by the weight of its rank: h_t <- r[rank of t] h_t. No token is masked.

    In the released program [CLS] is ranked like any other token, though never dropped later:
    protects_cls=False.

    Source: section 3.2 of the paper.
    """
    del layer, slope
    num_slots, num_ranks = site.token_logit_BL.shape[1], len(params["rank_weight_NL"])
    if num_slots > num_ranks:
        raise ValueError(
            f"the retention search is for {num_ranks} token slots, the batch has {num_slots}"
        )
    rank_BL = ranks(site.token_logit_BL, site.remaining_BL, protects_cls=protects_cls)
    return SoftSelection(
        score_BL=site.token_logit_BL,
        bias_BL=jnp.zeros_like(site.token_logit_BL),
        survival_BL=site.survival_BL,
        scale_BL=params["rank_weight_NL"][rank_BL],
    )


def retain(num_retained: Array, site: SiteInput) -> Selection:
    """Keep [CLS] and the most significant tokens, at most `num_retained`, a float32 scalar."""
    rank_BL = ranks(site.token_logit_BL, site.remaining_BL, protects_cls=True)
    return Selection(
        score_BL=site.token_logit_BL,
        keep_BL=site.remaining_BL & (rank_BL.astype(jnp.float32) < num_retained),
    )


def retention(rank_weight_NL, *, round_up: bool = False) -> tuple[int, ...]:
    """Return how many tokens each layer retains, at most as many as the layer before.

        l_j = min(l_{j-1}, max(1, floor(sum_k r_j[k])))

    Args:
      rank_weight_NL: weights r of the ranks.
      round_up: the ceiling in place of the floor of the mass.

    Source: the released program; section 3.3 of the paper.
    """
    mass_N = np.sum(np.asarray(rank_weight_NL, np.float64), axis=-1)
    count_N = np.maximum(1, np.ceil(mass_N) if round_up else np.floor(mass_N))
    return tuple(int(count) for count in np.minimum.accumulate(count_N))


def check_retention(counts: Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Return the counts as a tuple.

    Raises:
      ValueError: they are not one positive whole number a layer, never growing.
    """
    counts = tuple(counts)
    whole = all_integers(counts) and all(count >= 1 for count in counts)
    if len(counts) != num_layers or not whole or any(a < b for a, b in itertools.pairwise(counts)):
        raise ValueError(
            f"the retention configuration is {counts}; expected {num_layers} whole numbers, one "
            "for each layer, at least 1 and none larger than the one before"
        )
    return tuple(int(count) for count in counts)


def mass_term(params: Params, trace: Trace, batch: Batch) -> dict[str, Array]:
    """Return {"mass": sum_j j |r_j|_1}, j from 1: late layers have more weight.

    Source: equation 3 of the paper.
    """
    del trace, batch
    weight_NL = params["rank_weight_NL"]
    layer_number_N = jnp.arange(1.0, len(weight_NL) + 1.0)
    return {"mass": jnp.sum(layer_number_N * jnp.sum(jnp.abs(weight_NL), axis=-1))}


def sites_of(config: EncoderConfig) -> tuple[Site, ...]:
    """Return a site between the halves of every layer."""
    return tuple(Site(layer, BEFORE_FEED_FORWARD) for layer in range(config.num_layers))


@functools.cache
def powerbert_search(
    config: EncoderConfig,
    *,
    max_length: int,
    round_up: bool = False,
    protects_cls: bool = True,
    counts_padding: bool = False,
) -> Pruner:
    """Return the configuration search for texts of at most max_length token slots.

    Its hard rule retains as many tokens as the mass of the weights. protects_cls=False and
    counts_padding=True is the released program.
    """
    rounded = jnp.ceil if round_up else jnp.floor

    def hard_select(params, layer, site):
        """Keep as many tokens as the mass of the weights."""
        del layer
        return retain(jnp.maximum(1.0, rounded(jnp.sum(params["rank_weight_NL"]))), site)

    def init(key, config):
        """Return a weight of 1 for every rank."""
        return {"rank_weight_NL": jnp.ones((config.num_layers, max_length), jnp.float32)}

    def constrain(params):
        """Return the weights in [0, 1]."""
        return params | {"rank_weight_NL": jnp.clip(params["rank_weight_NL"], 0.0, 1.0)}

    return Pruner(
        name="powerbert_search",
        sites=sites_of(config),
        init=init,
        score=fixed_others_attention,
        soft=functools.partial(soft_extract, protects_cls=protects_cls),
        hard=hard_select,
        loss_terms=mass_term,
        constrain=constrain,
        needs=frozenset({OTHERS_ATTENTION}),
        counts_padding=counts_padding,
        reference_only_reason=PADDING if counts_padding else "",
    )


@functools.cache
def powerbert(config: EncoderConfig, *, counts_padding: bool = False) -> Pruner:
    """Return hard extraction in every layer, in training too.

    `retention_N` holds the counts; no gradient reaches it. counts_padding=True is the released
    program, where padding is a query whose attention counts, and padding runs until it is dropped.
    """

    def hard_select(params, layer, site):
        """Keep the layer's number of tokens."""
        del layer
        return retain(params["retention_N"], site)

    def soft_select(params, layer, site, slope):
        """Keep the layer's number of tokens, without a gradient."""
        del slope
        return hard_to_soft(hard_select(jax.lax.stop_gradient(params), layer, site))

    def init(key, config):
        """Return counts that keep every token."""
        return {"retention_N": jnp.full((config.num_layers,), config.num_positions, jnp.float32)}

    return Pruner(
        name="powerbert",
        sites=sites_of(config),
        init=init,
        score=fixed_others_attention,
        soft=soft_select,
        hard=hard_select,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
        needs=frozenset({OTHERS_ATTENTION}),
        tensor_rules=TENSOR_RULES,
        counts_padding=counts_padding,
        reference_only_reason=PADDING if counts_padding else "",
    )
