"""The oracle: removal as a mask. No token moves and nothing gets faster; every fast driver must equal it."""

import jax.numpy as jnp

from adapler_jax import forward as full_width
from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import Batch, EncoderConfig, Params


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
):
    """Logits float32 of the head and the Trace, counts int32, of one batch under the hard rule.

    return_exit_hidden: whether the Trace has the last state of every token.
    """
    start_BLD = encoder.embed(
        params["encoder"]["embeddings"], config, batch.token_BL, batch.segment_BL
    )
    hidden_BLD, trace, _ = full_width.forward_layers(
        params,
        config,
        pruner,
        start_BLD,
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=dtype,
        return_exit_hidden=return_exit_hidden or head.needs_all_states,
        protected_BL=head.protected_tokens(batch),
    )
    if pruner.sites:
        trace = trace.replace(count_NB=trace.count_NB.astype(jnp.int32))
    states = trace.exit_hidden_BLD if head.needs_all_states else hidden_BLD[:, 0]
    logits = zero_empty_rows(
        head.apply(params["head"], config, states, batch), jnp.any(batch.valid_BL, axis=1)
    )
    return logits, trace if return_exit_hidden else trace.replace(exit_hidden_BLD=None)
