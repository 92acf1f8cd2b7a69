"""PoWER-BERT: the same number of tokens in every text, fewer layer by layer, those that others attend to most.

A search multiplies states by learnt weights of their ranks, which an L1 term pushes towards 0; the mass that is left in
a layer is the number of tokens that the layer retains. Sites are between the two halves of a layer.

Source: Goyal et al., "PoWER-BERT: Accelerating BERT Inference via Progressive Word-vector Elimination", ICML 2020.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.pruning.base import Pruner, all_integers, hard_to_soft, rank_descending
from adapler_jax.types import BEFORE_FEED_FORWARD, EncoderConfig, Selection, Site, SoftSelection

PADDING = "treats padding as tokens"


def ranks(significance_BL, remaining_BL, *, protects_cls: bool):
    """Place of each token by falling significance, int32 [B, L], 0 the first; of equal ones the earlier token.

    Padding comes behind all tokens. protects_cls: whether [CLS] (slot 0) comes first.
    """
    if protects_cls:
        significance_BL = significance_BL.at[:, 0].set(jnp.inf)
    return rank_descending(significance_BL, remaining_BL)


def search(params, layer, view, slope, *, protects_cls: bool) -> SoftSelection:
    """Soft extraction: h_t <- r[rank of t] h_t; nothing is masked, all tokens go on. Source: section 3.2 of the paper.

    In the released program [CLS] is ranked like any other token here, though never dropped later: protects_cls=False.
    """
    del layer, slope
    num_slots, num_ranks = view.token_logit_BL.shape[1], len(params["rank_weight_NL"])
    if num_slots > num_ranks:
        raise ValueError(
            f"the retention search is for {num_ranks} token slots, the batch has {num_slots}"
        )
    rank_BL = ranks(view.token_logit_BL, view.remaining_BL, protects_cls=protects_cls)
    return SoftSelection(
        score_BL=view.token_logit_BL,
        bias_BL=jnp.zeros_like(view.token_logit_BL),
        survival_BL=view.survival_BL,
        scale_BL=params["rank_weight_NL"][rank_BL],
    )


def retain(num_retained, view) -> Selection:
    """[CLS] and the most significant tokens, as many as there is room for: float32 scalar num_retained."""
    rank_BL = ranks(view.token_logit_BL, view.remaining_BL, protects_cls=True)
    return Selection(
        score_BL=view.token_logit_BL,
        keep_BL=view.remaining_BL & (rank_BL.astype(jnp.float32) < num_retained),
    )


def retention(rank_weight_NL, *, round_up: bool = False) -> tuple[int, ...]:
    """How many tokens each layer retains by the weights of its ranks, at most as many as the layer before.

        l_j = min(l_{j-1}, max(1, floor(sum_k r_j[k])))

    round_up: the ceiling in place of the floor of the mass. Source: the released program; section 3.3 of the paper.
    """
    mass_N = np.sum(np.asarray(rank_weight_NL, np.float64), axis=-1)
    count_N = np.maximum(1, np.ceil(mass_N) if round_up else np.floor(mass_N))
    return tuple(int(count) for count in np.minimum.accumulate(count_N))


def check_retention(counts, num_layers: int) -> tuple[int, ...]:
    """The counts as a tuple. Raises ValueError where they are not one positive whole number a layer, never growing."""
    counts = tuple(counts)
    whole = all_integers(counts) and all(count >= 1 for count in counts)
    if len(counts) != num_layers or not whole or any(a < b for a, b in zip(counts, counts[1:])):
        raise ValueError(
            f"the retention configuration is {counts}; expected {num_layers} whole numbers, one for each layer, at "
            "least 1 and none larger than the one before"
        )
    return tuple(int(count) for count in counts)


def mass_term(params, trace, batch):
    """{"mass": sum_j j |r_j|_1}, j from 1: late layers are pushed harder. Source: equation 3 of the paper."""
    del trace, batch
    weight_NL = params["rank_weight_NL"]
    return {
        "mass": jnp.sum(
            jnp.arange(1.0, len(weight_NL) + 1.0) * jnp.sum(jnp.abs(weight_NL), axis=-1)
        )
    }


def sites_of(config: EncoderConfig) -> tuple[Site, ...]:
    """One between the halves of every layer."""
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
    """The configuration search for texts of at most max_length token slots; its hard rule retains what the mass of the
    weights allows. protects_cls=False and counts_padding=True is the released program."""
    rounded = jnp.ceil if round_up else jnp.floor

    def select(params, layer, view):
        del layer
        return retain(jnp.maximum(1.0, rounded(jnp.sum(params["rank_weight_NL"]))), view)

    return Pruner(
        name="powerbert_search",
        sites=sites_of(config),
        init=lambda key, config: {
            "rank_weight_NL": jnp.ones((config.num_layers, max_length), jnp.float32)
        },
        score=None,
        soft=functools.partial(search, protects_cls=protects_cls),
        hard=select,
        loss_terms=mass_term,
        constrain=lambda params: (
            params | {"rank_weight_NL": jnp.clip(params["rank_weight_NL"], 0.0, 1.0)}
        ),
        counts_padding=counts_padding,
        reference_only_reason=PADDING if counts_padding else "",
    )


@functools.cache
def powerbert(config: EncoderConfig, *, counts_padding: bool = False) -> Pruner:
    """Hard extraction in every layer, in training too; `retention_N` holds the counts and no gradient reaches it.

    counts_padding=True is the released program, where padding votes and its rows run until they are dropped.
    """

    def select(params, layer, view):
        del layer
        return retain(params["retention_N"], view)

    return Pruner(
        name="powerbert",
        sites=sites_of(config),
        init=lambda key, config: {
            "retention_N": jnp.full((config.num_layers,), config.num_positions, jnp.float32)
        },
        score=None,
        soft=lambda params, layer, view, slope: hard_to_soft(
            select(jax.lax.stop_gradient(params), layer, view)
        ),
        hard=select,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
        counts_padding=counts_padding,
        reference_only_reason=PADDING if counts_padding else "",
    )
