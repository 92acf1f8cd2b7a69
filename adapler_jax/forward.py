"""The full-width forward pass: nothing moves, tokens that left are masked as keys, the length stays L.

Training softens (differentiable, any slope); the oracle selects (hard), and is what every fast driver must equal.
"""

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.pruning.base import (
    Pruner,
    check_sites,
    hard_step,
    hard_to_soft,
    params_of_layers,
    soft_step,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    MASK_BIAS,
    Batch,
    EncoderConfig,
    Params,
    ScanOptions,
    SiteInput,
    Trace,
)


@flax.struct.dataclass
class _Carry:
    hidden_BLD: jax.Array
    bias_BL: jax.Array
    survival_BL: jax.Array
    exit_hidden_BLD: (
        jax.Array | None
    )  # the state of every token that was the last to count; None if not asked for


def forward_layers(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    hidden_BLD,
    valid_BL,
    *,
    slope,
    key,
    dtype,
    noise=None,
    collect_hidden=False,
    return_exit_hidden=False,
    protected_BL=None,
    loop=ScanOptions(),
):
    """All layers with the pruner at its sites.

    Args: hidden_BLD: the embeddings' output. valid_BL: bool. slope: of the soft removal, a scalar array; None for the
    hard rule. key: dropout key or None. dtype: of the operands of the encoder's products. draws: for a method that
    samples, uniform and guide with a leading axis of layers. return_exit_hidden: whether the Trace has the last state of every
    token; of a soft removal, the states mixed by what was left of the token. protected_BL: bool, tokens that stay.
    loop: how the layers are walked; one that unrolls more layers than there are unrolls all.
    Returns: last hidden_BLD; Trace; states after every layer [N, B, L, D] where collect_hidden, else None.
    """
    check_sites(pruner, config)
    slot_BL = (
        jnp.ones_like(valid_BL) if pruner.counts_padding else valid_BL
    )  # what counts as a token

    def prune(carry, site_params, index, noise, token_logit_BL):
        hard = slope is None
        entering_BL = slot_BL & (carry.survival_BL > 0) if hard else slot_BL
        view = SiteInput(token_logit_BL, entering_BL, carry.survival_BL, noise, protected_BL)
        if hard:
            softened = hard_to_soft(hard_step(pruner, site_params, index, view))
        else:
            softened = soft_step(pruner, site_params, index, view, slope)
        bias_BL = jnp.maximum(MASK_BIAS, carry.bias_BL + softened.bias_BL)
        carry = carry.replace(bias_BL=bias_BL, survival_BL=softened.survival_BL)
        if softened.scale_BL is not None:
            carry = carry.replace(hidden_BLD=carry.hidden_BLD * softened.scale_BL[..., None])
        count_B = jnp.sum(softened.survival_BL, axis=-1)
        return carry, Trace(
            score_NBL=softened.score_BL, survival_NBL=softened.survival_BL, count_NB=count_B
        )

    def advance(carry, hidden_BLD):
        """The carry with new states, which are the last ones of tokens that are still there."""
        exit_hidden_BLD = carry.exit_hidden_BLD
        if exit_hidden_BLD is not None:
            survival_BL1 = carry.survival_BL[..., None]
            exit_hidden_BLD = survival_BL1 * hidden_BLD + (1.0 - survival_BL1) * exit_hidden_BLD
        return carry.replace(hidden_BLD=hidden_BLD, exit_hidden_BLD=exit_hidden_BLD)

    def run_layer(carry, scanned):
        layer, site_params, index, layer_draws = scanned
        here = None if noise is None else noise.replace(**layer_draws)
        trace = Trace()
        attend_key, ffn_key = (
            (None, None) if key is None else jax.random.split(jax.random.fold_in(key, index))
        )
        if pruner.point == BEFORE_ATTENTION:
            carry, trace = prune(
                carry, site_params, index, here, pruner.score(site_params, carry.hidden_BLD)
            )
        query_mask_BL = (
            slot_BL & (carry.survival_BL > 0) if pruner.point == BEFORE_FEED_FORWARD else None
        )
        hidden_BLD, received_BL = encoder.attention_with_significance(
            layer,
            config,
            carry.hidden_BLD,
            carry.bias_BL,
            query_mask_BL=query_mask_BL,
            key=attend_key,
            dtype=dtype,
        )
        if pruner.point == BEFORE_FEED_FORWARD:
            carry = advance(carry, hidden_BLD)
            carry, trace = prune(
                carry, site_params, index, here, jax.lax.stop_gradient(received_BL)
            )
        else:
            carry = carry.replace(hidden_BLD=hidden_BLD)
        carry = advance(
            carry, encoder.feed_forward(layer, config, carry.hidden_BLD, key=ffn_key, dtype=dtype)
        )
        return carry, (trace, carry.hidden_BLD if collect_hidden else None)

    exit_hidden_BLD = (
        jnp.where(valid_BL[..., None], hidden_BLD, 0.0) if return_exit_hidden else None
    )
    start = _Carry(
        hidden_BLD, encoder.attention_bias(valid_BL), slot_BL.astype(jnp.float32), exit_hidden_BLD
    )
    site_params = params_of_layers(pruner, params["pruner"], config.num_layers)
    layer_draws = (
        {}
        if noise is None
        else {"uniform_BL": noise.uniform_BL, "importance_BL": noise.importance_BL}
    )
    scanned = (params["encoder"]["layers"], site_params, jnp.arange(config.num_layers), layer_draws)
    # Of layers written out one after another XLA computes all inner states anew before it uses the first.
    step, unroll = (
        (jax.checkpoint(run_layer), 1)
        if loop.remat
        else (run_layer, min(loop.unroll, config.num_layers))
    )
    carry, (trace, hidden_NBLD) = jax.lax.scan(step, start, scanned, unroll=unroll)
    return carry.hidden_BLD, trace.replace(exit_hidden_BLD=carry.exit_hidden_BLD), hidden_NBLD


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    slope,
    key=None,
    dtype=jnp.float32,
    noise=None,
    head: Head = CLASSIFICATION,
    loop=ScanOptions(),
):
    """Logits float32, as the head gives them, and the Trace of one batch; arguments as in `forward_layers`.

    A row without a token has logits 0, and no gradient comes from it.
    """
    embed_key, layers_key, head_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    embeddings = params["encoder"]["embeddings"]
    hidden_BLD = encoder.embed(embeddings, config, batch.token_BL, batch.segment_BL, key=embed_key)
    hidden_BLD, trace, _ = forward_layers(
        params,
        config,
        pruner,
        hidden_BLD,
        batch.valid_BL,
        slope=slope,
        key=layers_key,
        dtype=dtype,
        noise=noise,
        return_exit_hidden=head.needs_all_states,
        protected_BL=head.protected_tokens(batch),
        loop=loop,
    )
    states = trace.exit_hidden_BLD if head.needs_all_states else hidden_BLD[:, 0]
    logits = zero_empty_rows(
        head.apply(params["head"], config, states, batch, head_key), jnp.any(batch.valid_BL, axis=1)
    )
    return logits, trace.replace(exit_hidden_BLD=None)
