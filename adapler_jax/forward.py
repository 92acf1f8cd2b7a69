"""The full-width forward pass: nothing moves, tokens that left are masked as keys, the length stays L.

Training softens (differentiable, any slope); the oracle selects (hard), and is what every fast driver must equal.
"""

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, answered
from adapler_jax.pruning.base import (
    Pruner,
    check_sites,
    harden,
    params_of_layers,
    select_at,
    soften_at,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    MASK_BIAS,
    Batch,
    EncoderConfig,
    LayerLoop,
    Params,
    Trace,
    View,
)


@flax.struct.dataclass
class _Carry:
    hidden_BLD: jax.Array
    bias_BL: jax.Array
    weight_BL: jax.Array
    last_BLD: (
        jax.Array | None
    )  # the state of every token that was the last to count; None if not asked for


def run_layers(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    hidden_BLD,
    live_BL,
    *,
    slope,
    key,
    dtype,
    draws=None,
    collect_hidden=False,
    with_last=False,
    protected_BL=None,
    loop=LayerLoop(),
):
    """All layers with the pruner at its sites.

    Args: hidden_BLD: the embeddings' output. live_BL: bool. slope: of the soft removal, a scalar array; None for the
    hard rule. key: dropout key or None. dtype: of the operands of the encoder's products. draws: for a method that
    samples, uniform and guide with a leading axis of layers. with_last: whether the Trace has the last state of every
    token; of a soft removal, the states mixed by what was left of the token. protected_BL: bool, tokens that stay.
    loop: how the layers are walked; one that unrolls more layers than there are unrolls all.
    Returns: last hidden_BLD; Trace; states after every layer [N, B, L, D] where collect_hidden, else None.
    """
    check_sites(pruner, config)
    slot_BL = jnp.ones_like(live_BL) if pruner.keeps_padding else live_BL  # what counts as a token

    def prune(carry, site_params, index, draws, reading_BL):
        hard = slope is None
        entering_BL = slot_BL & (carry.weight_BL > 0) if hard else slot_BL
        view = View(reading_BL, entering_BL, carry.weight_BL, draws, protected_BL)
        if hard:
            softened = harden(select_at(pruner, site_params, index, view))
        else:
            softened = soften_at(pruner, site_params, index, view, slope)
        bias_BL = jnp.maximum(MASK_BIAS, carry.bias_BL + softened.bias_BL)
        carry = carry.replace(bias_BL=bias_BL, weight_BL=softened.weight_BL)
        if softened.scale_BL is not None:
            carry = carry.replace(hidden_BLD=carry.hidden_BLD * softened.scale_BL[..., None])
        count_B = jnp.sum(softened.weight_BL, axis=-1)
        return carry, Trace(
            score_NBL=softened.score_BL, weight_NBL=softened.weight_BL, count_NB=count_B
        )

    def advance(carry, hidden_BLD):
        """The carry with new states, which are the last ones of tokens that are still there."""
        last_BLD = carry.last_BLD
        if last_BLD is not None:
            weight_BL1 = carry.weight_BL[..., None]
            last_BLD = weight_BL1 * hidden_BLD + (1.0 - weight_BL1) * last_BLD
        return carry.replace(hidden_BLD=hidden_BLD, last_BLD=last_BLD)

    def run_layer(carry, scanned):
        layer, site_params, index, layer_draws = scanned
        here = None if draws is None else draws.replace(**layer_draws)
        trace = Trace()
        attend_key, ffn_key = (
            (None, None) if key is None else jax.random.split(jax.random.fold_in(key, index))
        )
        if pruner.point == BEFORE_ATTENTION:
            carry, trace = prune(
                carry, site_params, index, here, pruner.read(site_params, carry.hidden_BLD)
            )
        voter_BL = slot_BL & (carry.weight_BL > 0) if pruner.point == BEFORE_FEED_FORWARD else None
        hidden_BLD, received_BL = encoder.attend_and_count(
            layer,
            config,
            carry.hidden_BLD,
            carry.bias_BL,
            voter_BL=voter_BL,
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

    last_BLD = jnp.where(live_BL[..., None], hidden_BLD, 0.0) if with_last else None
    start = _Carry(hidden_BLD, encoder.key_bias(live_BL), slot_BL.astype(jnp.float32), last_BLD)
    site_params = params_of_layers(pruner, params["pruner"], config.num_layers)
    layer_draws = (
        {} if draws is None else {"uniform_BL": draws.uniform_BL, "guide_BL": draws.guide_BL}
    )
    scanned = (params["encoder"]["layers"], site_params, jnp.arange(config.num_layers), layer_draws)
    # Of layers written out one after another XLA computes all inner states anew before it uses the first.
    step, unroll = (
        (jax.checkpoint(run_layer), 1)
        if loop.remat
        else (run_layer, min(loop.unroll, config.num_layers))
    )
    carry, (trace, hidden_NBLD) = jax.lax.scan(step, start, scanned, unroll=unroll)
    return carry.hidden_BLD, trace.replace(last_BLD=carry.last_BLD), hidden_NBLD


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    slope,
    key=None,
    dtype=jnp.float32,
    draws=None,
    head: Head = CLASSIFICATION,
    loop=LayerLoop(),
):
    """Logits float32, as the head gives them, and the Trace of one batch; arguments as in `run_layers`.

    A row without a token has logits 0, and no gradient comes from it.
    """
    embed_key, layers_key, head_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    embeddings = params["encoder"]["embeddings"]
    hidden_BLD = encoder.embed(embeddings, config, batch.token_BL, batch.segment_BL, key=embed_key)
    hidden_BLD, trace, _ = run_layers(
        params,
        config,
        pruner,
        hidden_BLD,
        batch.live_BL,
        slope=slope,
        key=layers_key,
        dtype=dtype,
        draws=draws,
        with_last=head.reads_tokens,
        protected_BL=head.protects(batch),
        loop=loop,
    )
    states = trace.last_BLD if head.reads_tokens else hidden_BLD[:, 0]
    logits = answered(
        head.read(params["head"], config, states, batch, head_key), jnp.any(batch.live_BL, axis=1)
    )
    return logits, trace.replace(last_BLD=None)
