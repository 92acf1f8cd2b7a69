"""Attention received: each layer keeps a share of every text, the tokens with the most attention.

Nothing is trained. The shares follow from the lengths of texts and a speedup. Sites are between the
two halves of a layer.

Source: the score is the importance of Kim et al., "Learned Token Pruning for Transformers", KDD
2022, and nearly the significance of PoWER-BERT; the rule is ours.
"""

import functools

import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.scores import attention_received
from adapler_jax.pruning.shares import share_pruner
from adapler_jax.types import BEFORE_FEED_FORWARD, COLUMN_ATTENTION, EncoderConfig, Rule, Site

TENSOR_RULES = (Rule("attention_received.share", ("pruner", "share_J"), "N"),)


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
        score=attention_received,
        needs=frozenset({COLUMN_ATTENTION}),
        init=init,
        tensor_rules=TENSOR_RULES,
    )
