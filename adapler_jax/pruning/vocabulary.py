"""Vocabulary saliency: one number an entry of the vocabulary chooses the tokens of every text.

Tokens are dropped before layer 0, so the encoder never sees them. Nothing is trained. The table is
the mean saliency of each entry in texts of the task.

Source: ours. A list of stop words is the oldest method of this kind.
"""

import functools

import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner
from adapler_jax.pruning.shares import share_pruner
from adapler_jax.types import (
    BEFORE_ATTENTION,
    TOKEN,
    Array,
    EncoderConfig,
    Params,
    Rule,
    Site,
    TokenFeatures,
)

TENSOR_RULES = (
    Rule("vocabulary.share", ("pruner", "share_J"), "1"),
    Rule("vocabulary.saliency", ("pruner", "saliency_JV"), "1V"),
)


def saliency_of_tokens(site_params: Params, features: TokenFeatures) -> Array:
    """Return the entry of the table for each token, float32 [...]."""
    return site_params["saliency_JV"][features.token_X]


@functools.cache
def vocabulary(config: EncoderConfig) -> Pruner:
    """Return the method: `saliency_JV` is the table, `share_J` the share of a text that stays."""

    def init(key, config):
        """Return a share that keeps every token."""
        del key
        return {
            "share_J": jnp.ones((1,), jnp.float32),
            "saliency_JV": jnp.zeros((1, config.vocab_size), jnp.float32),
        }

    return share_pruner(
        "vocabulary",
        [Site(0, BEFORE_ATTENTION)],
        score=saliency_of_tokens,
        needs=frozenset({TOKEN}),
        init=init,
        tensor_rules=TENSOR_RULES,
    )
