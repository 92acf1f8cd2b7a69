"""Scores of several methods: a small network on a token's state, attention received."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from adapler_jax import flops
from adapler_jax.nn import ACTIVATIONS, exact_linear, init_linear, layer_norm
from adapler_jax.types import Array, EncoderConfig, Params, TokenFeatures


def init_scorer(key: Array, num_sites: int, scorer_dim: int, config: EncoderConfig) -> Params:
    """Return a network D -> P -> 1 for every site: {"hidden", "score"}."""
    hidden_key, score_key = jax.random.split(key)
    D, std = config.hidden_dim, config.init_std
    return {
        "hidden": init_linear(hidden_key, (num_sites, D, scorer_dim), std),
        "score": init_linear(score_key, (num_sites, scorer_dim, 1), std),
    }


def make_scorer(config: EncoderConfig, activation: str) -> Callable[..., Array]:
    """Return `scorer_logits` for the states of an encoder; activation is a name in ACTIVATIONS."""
    epsilon = config.norm_epsilon if config.is_pre_norm else None
    return functools.partial(scorer_logits, activation=activation, norm_epsilon=epsilon)


def scorer_logits(
    site_params: Params,
    features: TokenFeatures,
    *,
    activation: str,
    norm_epsilon: float | None = None,
) -> Array:
    """Return z = W2 act(W1 h + b1) + b2 for each state h, float32 [...].

    Args:
      site_params: {"hidden", "score"} of one site.
      features: with states [..., D].
      activation: name in nn.ACTIVATIONS.
      norm_epsilon: h is the state after a norm without parameters, with this epsilon; None for the
        state as it is.
    """
    state_XD = features.state_XD
    if norm_epsilon is not None:
        ones_D = jnp.ones(state_XD.shape[-1:], jnp.float32)
        state_XD = layer_norm({"scale": ones_D}, state_XD, norm_epsilon)
    inner_XP = ACTIVATIONS[activation](exact_linear(site_params["hidden"], state_XD))
    return exact_linear(site_params["score"], inner_XP)[..., 0]


def scorer_site_flops(params: Params, config: EncoderConfig) -> flops.SiteFlops:
    """Return the operations of the network and of the decision by its logits, for one token."""
    scorer_dim = params["hidden"]["bias"].shape[-1]
    return flops.SiteFlops(flops.scorer_flops(config, scorer_dim), flops.DECISION)


def fixed_others_attention(site_params: Params, features: TokenFeatures) -> Array:
    """Return the attention that a token receives from others, without a gradient."""
    del site_params
    return jax.lax.stop_gradient(features.others_attention_X)


def attention_received(site_params: Params, features: TokenFeatures) -> Array:
    """Return the attention that each token receives, summed over queries, with gradients."""
    del site_params
    return features.column_attention_X


def value_received(site_params: Params, features: TokenFeatures) -> Array:
    """Return the attention that each token receives times the length of its value."""
    del site_params
    return features.value_attention_X
