"""A pruner for the docs: tokens with a large state stay, by a level that every layer learns."""

import jax
import jax.numpy as jnp

from adapler_jax import types
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import BEFORE_ATTENTION, Rule, Selection, Site, SoftSelection


def state_norm(params, features):
    """Return the max norm of each state. Layer norm makes Euclidean norms nearly equal."""
    return jnp.max(jnp.abs(features.state_XD), axis=-1)


def relative_norm(site, survival_BL):
    """Return the norm of each state over the mean of the remaining tokens."""
    total_B1 = jnp.sum(site.token_logit_BL * survival_BL, axis=-1, keepdims=True)
    mean_B1 = total_B1 / jnp.maximum(1.0, jnp.sum(survival_BL, axis=-1, keepdims=True))
    return jnp.where(site.remaining_BL, site.token_logit_BL / jnp.maximum(1e-6, mean_B1), 0.0)


def soft_select(params, layer, site, slope):
    """Shrink a token by a sigmoid around the level; a steep slope is the hard rule."""
    score_BL = relative_norm(site, site.survival_BL)
    bias_BL = jax.nn.log_sigmoid(slope * (score_BL - params["level_N"])).at[:, 0].set(0.0)
    return SoftSelection(score_BL, bias_BL, site.survival_BL * jnp.exp(bias_BL))


def hard_select(params, layer, site):
    """Keep [CLS] and every token whose score reaches the level."""
    score_BL = relative_norm(site, site.remaining_BL.astype(jnp.float32))
    keep_BL = site.remaining_BL & (score_BL >= params["level_N"])
    return Selection(score_BL, keep_BL.at[:, 0].set(site.remaining_BL[:, 0]))


def loss_terms(params, trace, batch):
    """Return the fraction of tokens left, the mean over layers and real texts."""
    length_B = jnp.maximum(1.0, jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.float32))
    is_real_B = batch.example_id_B != types.PADDING_EXAMPLE_ID
    return {"length": jnp.mean(trace.count_NB / length_B, where=is_real_B)}


def norm_pruner(config) -> Pruner:
    """Return the pruner with a site before every layer of the encoder."""
    return Pruner(
        name="norm",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in range(config.num_layers)),
        init=lambda key, config: {"level_N": jnp.full((config.num_layers,), 0.9, jnp.float32)},
        score=state_norm,
        soft=soft_select,
        hard=hard_select,
        loss_terms=loss_terms,
        constrain=lambda params: params | {"level_N": jnp.clip(params["level_N"], 0.0, 2.0)},
        tensor_rules=(Rule("norm_pruner.level", ("pruner", "level_N"), "N"),),
        length_loss_params=frozenset({"level_N"}),
    )
