"""The oracle: removal as a mask. No token moves and nothing gets faster; every fast driver must equal it."""

import jax.numpy as jnp

from adapler_jax import full_width
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Batch, EncoderConfig, Params


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, dtype=jnp.float32):
    """Logits float32 [B, C] and the Trace, counts int32, of one batch under the hard rule."""
    logits_BC, trace = full_width.forward(params, config, pruner, batch, slope=None, dtype=dtype)
    if pruner.sites:
        trace = trace.replace(count_NB=trace.count_NB.astype(jnp.int32))
    return logits_BC, trace
