"""A pruner for the docs: a token stays where the norm of its state is large, by a level that every layer learns."""

import jax
import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner
from adapler_jax.types import BEFORE_ATTENTION, PADDING_EXAMPLE_ID, Selection, Site, SoftSelection


def read(params, hidden):
    """All that is read off a token alone: the max norm of its state. LayerNorm makes Euclidean ones nearly equal."""
    return jnp.max(jnp.abs(hidden), axis=-1)


def scores(view, survival_BL):
    """The norm of each state over the mean of the tokens that are there."""
    total_B1 = jnp.sum(view.token_logit_BL * survival_BL, axis=-1, keepdims=True)
    mean_B1 = total_B1 / jnp.maximum(1.0, jnp.sum(survival_BL, axis=-1, keepdims=True))
    return jnp.where(view.remaining_BL, view.token_logit_BL / jnp.maximum(1e-6, mean_B1), 0.0)


def soften(params, layer, view, slope):
    """Training: survival is a sigmoid around the level, the steeper the more it is the hard rule."""
    score_BL = scores(view, view.survival_BL)
    bias_BL = jax.nn.log_sigmoid(slope * (score_BL - params["level_N"])).at[:, 0].set(0.0)
    return SoftSelection(
        score_BL=score_BL, bias_BL=bias_BL, survival_BL=view.survival_BL * jnp.exp(bias_BL)
    )


def select(params, layer, view):
    """Inference: the score reaches the level; [CLS] always stays, padding never."""
    score_BL = scores(view, view.remaining_BL.astype(jnp.float32))
    keep_BL = view.remaining_BL & (score_BL >= params["level_N"])
    return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(view.remaining_BL[:, 0]))


def loss_terms(params, trace, batch):
    """What the speed-up loss pays for: the share of tokens left, mean over layers and texts that are no filler."""
    length_B = jnp.maximum(1.0, jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.float32))
    return {
        "length": jnp.mean(
            trace.count_NB / length_B, where=batch.example_id_B != PADDING_EXAMPLE_ID
        )
    }


def norm_pruner(config) -> Pruner:
    """The pruner, with a site in front of every layer of the encoder."""
    return Pruner(
        name="norm",
        sites=tuple(Site(layer, BEFORE_ATTENTION) for layer in range(config.num_layers)),
        init=lambda key, config: {"level_N": jnp.full((config.num_layers,), 0.9, jnp.float32)},
        read=read,
        soften=soften,
        select=select,
        loss_terms=loss_terms,
        constrain=lambda params: params | {"level_N": jnp.clip(params["level_N"], 0.0, 2.0)},
        length_loss_params=frozenset({"level_N"}),
    )
