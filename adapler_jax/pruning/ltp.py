"""LTP: a layer keeps tokens whose received attention is above its learned threshold.

Training has a soft phase, which learns weights and thresholds together, and a hard phase, which
fixes the thresholds and trains the weights on. Sites are between the two halves of a layer.

Source: Kim et al., "Learned Token Pruning for Transformers", KDD 2022.
"""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.flops import SiteFlops
from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.scores import attention_received
from adapler_jax.types import (
    BEFORE_FEED_FORWARD,
    COLUMN_ATTENTION,
    PADDING_EXAMPLE_ID,
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

TENSOR_RULES = (Rule("ltp.threshold", ("pruner", "score_threshold_N"), "N"),)
DECISION = 2  # operations a token: a quotient, a comparison


def rising_thresholds(num_layers: int, final_threshold: float) -> Array:
    """Return first thresholds that rise linearly with the layer, float32 [N].

        theta_l = final_threshold l / N,   l from 1 to N

    Source: the paper starts from linearly rising thresholds too.
    """
    layer_N = jnp.arange(1, num_layers + 1, dtype=jnp.float32)
    return final_threshold * layer_N / num_layers


def importance(site: SiteInput) -> Array:
    """Return the mean attention that each token receives, float32 [B, L], 0 on padding.

        s(x_i) = 1 / (H n) sum_h sum_j A_h(x_j, x_i)

    The mean is over the heads and the n tokens that are still there, the token itself included.

    Source: the importance score of the paper.
    """
    is_query_BL = site.remaining_BL & (site.survival_BL > 0)
    num_queries_B1 = jnp.sum(is_query_BL, axis=-1, keepdims=True, dtype=jnp.float32)
    mean_BL = site.token_logit_BL / jnp.maximum(1.0, num_queries_B1)
    return jnp.where(site.remaining_BL, mean_BL, 0.0)


def soft_mask(params: Params, layer: Array, site: SiteInput, slope: Array) -> SoftSelection:
    """Return the soft mask, which multiplies the states.

        M(x_i) = sigmoid((s(x_i) - theta) / T),   1 for [CLS]

    Args:
      params: of the site, {"score_threshold_N"}.
      layer: unused.
      site: features of the tokens.
      slope: 1 / T.

    Source: the soft pruning of the paper. Ours adds log M to the token's key bias too: BERT's next
    norm makes a small state large again, and at a small T the soft pass must equal the hard one.
    Masks of several layers multiply.
    """
    del layer
    score_BL = importance(site)
    log_mask_BL = jax.nn.log_sigmoid(slope * (score_BL - params["score_threshold_N"]))
    log_mask_BL = log_mask_BL.at[:, 0].set(0.0)
    mask_BL = jnp.exp(log_mask_BL)
    return SoftSelection(
        score_BL=score_BL,
        bias_BL=log_mask_BL,
        survival_BL=site.survival_BL * mask_BL,
        scale_BL=mask_BL,
    )


def hard_mask(params: Params, layer: Array, site: SiteInput) -> Selection:
    """Keep [CLS] and every token whose score is above the threshold of the layer.

    Source: the threshold pruning of the paper, which does not name [CLS]. Ours keeps it always,
    since the head uses it.
    """
    del layer
    score_BL = importance(site)
    keep_BL = site.remaining_BL & (score_BL > params["score_threshold_N"])
    return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(site.remaining_BL[:, 0]))


def loss_terms(params: Params, trace: Trace, batch: Batch) -> dict[str, Array]:
    """Return {"length": the mean of the masks over layers and tokens}, a mean over real examples.

        length = 1 / N sum_l |M_l|_1 / n

    Source: the regularizer of the paper, there without the division by the number of tokens n.
    With it one coefficient serves short and long texts.
    """
    del params
    length_B = jnp.maximum(1.0, jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.float32))
    kept_fraction_B = jnp.mean(trace.count_NB, axis=0) / length_B
    is_real_B = (batch.example_id_B != PADDING_EXAMPLE_ID).astype(jnp.float32)
    total = jnp.sum(kept_fraction_B * is_real_B)
    return {"length": total / jnp.maximum(1.0, jnp.sum(is_real_B))}


def constrain(params: Params) -> Params:
    """Return the thresholds in [0, 1], the range of the scores."""
    return params | {"score_threshold_N": jnp.clip(params["score_threshold_N"], 0.0, 1.0)}


def site_flops(params: Params, config: EncoderConfig) -> SiteFlops:
    """Return the operations of a decision, for one token; drivers count the attention received."""
    del params, config
    return SiteFlops(score=0, decide=DECISION)


@functools.cache  # one object for equal arguments, so that phases of a run share compiled programs
def ltp(config: EncoderConfig, *, final_threshold: float = 0.01) -> Pruner:
    """Return the LTP pruner of an encoder.

    Args:
      config: of the encoder.
      final_threshold: first threshold of the last layer.
    """

    def init(key, config):
        """Return rising thresholds."""
        del key
        return {"score_threshold_N": rising_thresholds(config.num_layers, final_threshold)}

    return Pruner(
        name="ltp",
        sites=tuple(Site(layer, BEFORE_FEED_FORWARD) for layer in range(config.num_layers)),
        init=init,
        score=attention_received,
        soft=soft_mask,
        hard=hard_mask,
        loss_terms=loss_terms,
        constrain=constrain,
        needs=frozenset({COLUMN_ATTENTION}),
        tensor_rules=TENSOR_RULES,
        site_flops=site_flops,
    )
