"""Attention received: each layer keeps a share of every text, the tokens with the most attention.

Nothing is trained. The shares follow from the lengths of texts and a speedup. Sites are between the
two halves of a layer. A token's attention counts as much as its value is long: [SEP] and marks of
punctuation receive much attention, and their short values add little to other tokens.

Source: the rule is ours. `encoders.attention.attention_received` has the scores and their papers.
"""

import functools

import jax.numpy as jnp

from adapler_jax.flops import SiteFlops
from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.scores import value_received
from adapler_jax.pruning.shares import DECISION, share_pruner
from adapler_jax.types import (
    BEFORE_FEED_FORWARD,
    VALUE_ATTENTION,
    EncoderConfig,
    Params,
    Rule,
    Site,
)

TENSOR_RULES = (Rule("attention_received.share", ("pruner", "share_J"), "N"),)


def value_flops(params: Params, config: EncoderConfig) -> SiteFlops:
    """Return the operations of the lengths of a token's values, of their products, and a decision.

    Of each head with K entries these are K squares, K - 1 sums, a root, and a product.
    """
    del params
    return SiteFlops(score=2 * config.hidden_dim + config.num_heads, decide=DECISION)


@functools.cache
def attention(config: EncoderConfig) -> Pruner:
    """Return the method; `share_J` is the share of the entering tokens that each layer keeps."""

    def init(key, config):
        """Return shares that keep every token."""
        del key
        return {"share_J": jnp.ones((config.num_layers,), jnp.float32)}

    return share_pruner(
        "attention",
        [Site(layer, BEFORE_FEED_FORWARD) for layer in range(config.num_layers)],
        score=value_received,
        needs=frozenset({VALUE_ATTENTION}),
        init=init,
        tensor_rules=TENSOR_RULES,
        site_flops=value_flops,
    )
