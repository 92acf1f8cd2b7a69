"""The oracle: removal as a mask. No token moves and nothing gets faster; every fast driver must equal it."""

import jax.numpy as jnp

from adapler_jax import encoder, full_width, heads
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Batch, EncoderConfig, Params


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, dtype=jnp.float32,
            with_last=False):  # fmt: skip
    """Logits float32 [B, C] and the Trace, counts int32, of one batch under the hard rule.

    with_last: whether the Trace has the last state of every token.
    """
    start_BLD = encoder.embed(params["encoder"]["embeddings"], config, batch.token_BL, batch.segment_BL)
    hidden_BLD, trace, hidden_NBLD = full_width.run_layers(
        params, config, pruner, start_BLD, batch.live_BL, slope=None, key=None, dtype=dtype, collect_hidden=with_last
    )
    if pruner.sites:
        trace = trace.replace(count_NB=trace.count_NB.astype(jnp.int32))
    if with_last:
        state_MBLD = jnp.concatenate([start_BLD[None], hidden_NBLD])
        trace = trace.replace(last_BLD=last_states(state_MBLD, trace.weight_NBL, batch.live_BL))
    return heads.classify(params["head"], config, hidden_BLD[:, 0]), trace


def last_states(state_MBLD, weight_NBL, live_BL):
    """Of the states in front of the first and behind every layer (M = N + 1), those behind the last layer that ran on
    the token: [B, L, D], 0 on padding. weight_NBL: 1 where the layer does, None where all do."""
    if weight_NBL is None:
        last_BLD = state_MBLD[-1]
    else:
        num_layers_BL = jnp.sum(weight_NBL, axis=0).astype(jnp.int32)
        last_BLD = jnp.take_along_axis(state_MBLD, num_layers_BL[None, ..., None], axis=0)[0]
    return jnp.where(live_BL[..., None], last_BLD, 0.0)
