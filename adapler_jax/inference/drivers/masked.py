"""The reference, which every fast driver must equal: removal is a mask, and no token moves."""

import jax.numpy as jnp

from adapler_jax.forward import embed_tokens, forward_layers
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.inference.drivers.stages import keeps_exits, read_out, running_pruner
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
    return_exit_hidden: bool = False,
):
    """Return the head's logits, float32, and the Trace, counts int32, under the hard rule.

    `return_exit_hidden` puts the last state of every token into the Trace.
    """
    pruner = running_pruner(pruner, config, head, return_exit_hidden)
    hidden_BLD, trace, _ = forward_layers(
        params,
        config,
        pruner,
        embed_tokens(params, config, batch),
        batch.valid_BL,
        slope=None,
        key=None,
        dtype=dtype,
        return_exit_hidden=keeps_exits(head, return_exit_hidden),
        protected_BL=head.protected_tokens(batch),
        budget_B=batch.budget_B,
        token_BL=batch.token_BL,
    )
    if pruner.sites:
        trace = trace.replace(count_NB=trace.count_NB.astype(jnp.int32))
    logits, exit_hidden_BLD = read_out(
        params,
        config,
        head,
        batch,
        cls_BD=hidden_BLD[:, 0],
        exit_hidden_BLD=trace.exit_hidden_BLD,
        trace=trace,
    )
    logits = zero_empty_rows(logits, jnp.any(batch.valid_BL, axis=1))
    trace = trace.replace(exit_hidden_BLD=exit_hidden_BLD if return_exit_hidden else None)
    return logits, trace
