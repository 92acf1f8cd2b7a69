"""TR-BERT: at a few layers a policy network decides for each token: it continues or it is final.

The policy is trained by reinforcement. Several samples of the actions on each text are rewarded by
the task's loss and by the fraction of tokens that continued. In the first steps one of the samples
imitates a heuristic.

Source: Ye et al., "TR-BERT: Dynamic Token Reduction for Accelerating BERT Inference", NAACL 2021.
"""

import functools
from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner, hard_to_soft, is_layer_subset, rank_descending
from adapler_jax.pruning.scores import init_scorer, make_scorer, scorer_site_flops
from adapler_jax.types import (
    BEFORE_ATTENTION,
    Array,
    EncoderConfig,
    Params,
    Selection,
    Site,
    SiteInput,
    SoftSelection,
    Trace,
    linear_rules,
)

KEEP_PROBABILITY = 0.5  # probability from which a token continues
SELECTOR_ACTIVATION = "gelu"  # of every encoder
PROBABILITY_EPS = 1e-6  # keeps logarithms of probabilities finite
TENSOR_RULES = (
    *linear_rules("token_selector.{site}.hidden", "pruner/hidden", "DP"),
    *linear_rules("token_selector.{site}.score", "pruner/score", "P1"),
)


def default_layers(num_layers: int) -> tuple[int, ...]:
    """Return the layers before which the published model selects, from 0: 1 and the middle."""
    return tuple(sorted({1, num_layers // 2}))


def check_layers(layers: Iterable[int], num_layers: int) -> tuple[int, ...]:
    """Return the layers as a tuple.

    Raises:
      ValueError: they are not increasing numbers from 1 to the last layer.
    """
    layers = tuple(layers)
    if not is_layer_subset(layers, lowest=1, num_layers=num_layers):
        raise ValueError(
            f"token selection before layers {layers}; expected increasing numbers from 1 to "
            f"{num_layers - 1}, layers counted from 0"
        )
    return layers


def probabilities(site: SiteInput) -> Array:
    """Return the probability of each token to continue, float32 [B, L]; 0 where it is dropped."""
    is_here_BL = site.remaining_BL & (site.survival_BL > 0)
    return jnp.where(is_here_BL, jax.nn.sigmoid(site.token_logit_BL), 0.0)


def force_cls(keep_BL: Array, remaining_BL: Array) -> Array:
    """Return the selection with [CLS] (slot 0) kept in every row that has one."""
    return keep_BL.at[:, 0].set(remaining_BL[:, 0])


def hard_select(params: Params, layer: Array, site: SiteInput) -> Selection:
    """Keep [CLS] and tokens whose probability is at least a half."""
    del params, layer
    score_BL = probabilities(site)
    keep_BL = site.remaining_BL & (score_BL >= KEEP_PROBABILITY)
    return Selection(score_BL=score_BL, keep_BL=force_cls(keep_BL, site.remaining_BL))


def hard_select_by_batch(params: Params, layer: Array, site: SiteInput) -> Selection:
    """Keep as many tokens in every row as the row with the most of them, the most probable first.

    The released program does this for batches, with tokens below a half too. A text's logits then
    depend on its batch.
    """
    alone = hard_select(params, layer, site)
    most = jnp.max(jnp.sum(alone.keep_BL, axis=-1, dtype=jnp.int32))
    rank_BL = rank_descending(alone.score_BL.at[:, 0].set(jnp.inf), site.remaining_BL)
    return Selection(score_BL=alone.score_BL, keep_BL=site.remaining_BL & (rank_BL < most))


def imitated_actions(score_BL: Array, importance_BL: Array, entering_BL: Array) -> Array:
    """Return the heuristic's first m tokens, as many as the policy keeps on average: bool [B, L].

        m = round(sum_t p_t), halves up

    Source: the released program ("guide"). [CLS] is forced elsewhere.
    """
    num_kept_B1 = jnp.floor(jnp.sum(score_BL, axis=-1, keepdims=True) + 0.5).astype(jnp.int32)
    return entering_BL & (rank_descending(importance_BL, entering_BL) < num_kept_B1)


def soft_select(params: Params, layer: Array, site: SiteInput, slope: Array) -> SoftSelection:
    """Sample one action a token: it continues with its probability, [CLS] always.

    `site.noise` holds the random numbers. In imitating rows the heuristic decides. No gradient
    reaches the probabilities through the actions.
    """
    del params, layer, slope
    score_BL, noise = probabilities(site), site.noise
    if noise is None:
        raise ValueError("pruner trbert samples its actions in training; it needs noise")
    entering_BL = site.remaining_BL & (site.survival_BL > 0)
    keep_BL = entering_BL & (noise.uniform_BL < score_BL)
    if noise.importance_BL is not None:
        imitated_BL = imitated_actions(score_BL, noise.importance_BL, entering_BL)
        keep_BL = jnp.where(noise.imitate_B[:, None], imitated_BL, keep_BL)
    keep_BL = force_cls(keep_BL, site.remaining_BL)
    return hard_to_soft(Selection(score_BL=score_BL, keep_BL=keep_BL))


def action_losses(trace: Trace, sites: Sequence[Site], valid_BL: Array) -> Array:
    """Return the negative log-likelihood of the actions, summed over the sites, float32 [B].

        - sum_t m_t [a_t log(p_t + 1e-6) + (1 - a_t) log(1 - p_t + 1e-6)] / sum_t m_t,   m_t = 1
        where t enters the site

    The forced [CLS] counts with its own probability, and learns to be kept.

    Source: the released program.
    """
    total_B = jnp.zeros(valid_BL.shape[0])
    for site in sites:
        is_first = site.layer == 0
        entering_BL = (
            valid_BL.astype(jnp.float32) if is_first else trace.survival_NBL[site.layer - 1]
        )
        action_BL, score_BL = trace.survival_NBL[site.layer], trace.score_NBL[site.layer]
        log_keep_BL = jnp.log(score_BL + PROBABILITY_EPS)
        log_drop_BL = jnp.log(1.0 - score_BL + PROBABILITY_EPS)
        log_BL = action_BL * log_keep_BL + (1.0 - action_BL) * log_drop_BL
        num_entering_B = jnp.maximum(1.0, jnp.sum(entering_BL, axis=-1))
        total_B = total_B - jnp.sum(log_BL * entering_BL, axis=-1) / num_entering_B
    return total_B


def selected_fraction(
    trace: Trace,
    sites: Sequence[Site],
    valid_BL: Array,
    *,
    normalize_by_padded_length: bool = False,
) -> Array:
    """Return the fraction of a text's tokens that continued, mean over the sites, float32 [B].

    Args:
      trace: of the pass.
      sites: of the pruner.
      valid_BL: bool.
      normalize_by_padded_length: divide by the batch's slots, as the released program does. The
        length penalty then depends on the padding.
    """
    if normalize_by_padded_length:
        length_B = jnp.full(valid_BL.shape[:1], valid_BL.shape[1], jnp.float32)
    else:
        length_B = jnp.maximum(1.0, jnp.sum(valid_BL, axis=-1, dtype=jnp.float32))
    return sum(trace.count_NB[site.layer] for site in sites) / (len(sites) * length_B)


@functools.cache
def trbert(
    config: EncoderConfig,
    *,
    layers: tuple[int, ...] | None = None,
    selector_dim: int = 32,
    by_batch: bool = False,
) -> Pruner:
    """Return the TR-BERT pruner.

    Args:
      config: of the encoder.
      layers: layers before which tokens are selected, from 0; None for the published model's.
      selector_dim: hidden units P of each policy network.
      by_batch: the released program's rule for batches; only the masked driver runs it.
    """
    layers = default_layers(config.num_layers) if layers is None else layers
    layers = check_layers(layers, config.num_layers)
    return Pruner(
        name="trbert",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in layers),
        init=lambda key, config: init_scorer(key, len(layers), selector_dim, config),
        score=make_scorer(config, SELECTOR_ACTIVATION),
        soft=soft_select,
        hard=hard_select_by_batch if by_batch else hard_select,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
        tensor_rules=TENSOR_RULES,
        site_flops=scorer_site_flops,
        factory_kwargs=(("layers", layers),),
        reference_only_reason="fills the rows of a batch up to the longest" if by_batch else "",
    )
