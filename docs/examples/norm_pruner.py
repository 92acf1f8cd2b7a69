"""Drop tokens whose state has a small norm: the pruner of the example in add-a-method.md."""

import functools

import jax
import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner
from adapler_jax.types import (
    BEFORE_ATTENTION,
    PADDING_EXAMPLE_ID,
    Rule,
    Selection,
    Site,
    SoftSelection,
)


def init(key, config):
    """Return the first levels: one for each layer."""
    return {"level_N": jnp.full((config.num_layers,), 0.9, jnp.float32)}


def norms(site_params, features):
    """Return the max norm of each state. LayerNorm makes Euclidean norms nearly equal."""
    return jnp.max(jnp.abs(features.state_XD), axis=-1)


def scores(site, survival_BL):
    """Return each norm over the mean norm of the remaining tokens."""
    total_B1 = jnp.sum(site.token_logit_BL * survival_BL, axis=-1, keepdims=True)
    num_tokens_B1 = jnp.sum(survival_BL, axis=-1, keepdims=True)
    mean_B1 = total_B1 / jnp.maximum(1.0, num_tokens_B1)
    relative_BL = site.token_logit_BL / jnp.maximum(1e-6, mean_B1)
    return jnp.where(site.remaining_BL, relative_BL, 0.0)


def soft(site_params, layer, site, slope):
    """Train: survival is a sigmoid around the level; a large slope makes it the hard rule."""
    score_BL = scores(site, site.survival_BL)
    bias_BL = jax.nn.log_sigmoid(slope * (score_BL - site_params["level_N"])).at[:, 0].set(0.0)
    survival_BL = site.survival_BL * jnp.exp(bias_BL)
    return SoftSelection(score_BL=score_BL, bias_BL=bias_BL, survival_BL=survival_BL)


def hard(site_params, layer, site):
    """Infer: keep a token whose score reaches the level, and [CLS]."""
    score_BL = scores(site, site.remaining_BL.astype(jnp.float32))
    keep_BL = site.remaining_BL & (score_BL >= site_params["level_N"])
    return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(site.remaining_BL[:, 0]))


def loss_terms(params, trace, batch):
    """Return the fraction of tokens that remain, a mean over layers and real texts."""
    length_B = jnp.maximum(1.0, jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.float32))
    is_real_B = batch.example_id_B != PADDING_EXAMPLE_ID
    return {"length": jnp.mean(trace.count_NB / length_B[None], where=is_real_B[None])}


def constrain(params):
    """Return the levels in [0, 2]."""
    return params | {"level_N": jnp.clip(params["level_N"], 0.0, 2.0)}


@functools.cache
def norm_pruner(config) -> Pruner:
    """Return the pruner, with a site before every layer of the encoder."""
    return Pruner(
        name="norm",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in range(config.num_layers)),
        init=init,
        score=norms,
        soft=soft,
        hard=hard,
        loss_terms=loss_terms,
        constrain=constrain,
        tensor_rules=(Rule("norm_pruner.level", ("pruner", "level_N"), "N"),),
        length_loss_params=frozenset({"level_N"}),
    )
