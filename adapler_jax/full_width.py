"""The full-width forward pass: nothing moves, tokens that left are masked as keys, the length stays L.

Training softens (differentiable, any slope); the oracle selects (hard), and is what every fast driver must equal.
"""

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax import encoder, heads
from adapler_jax.pruning.base import Pruner, check_sites
from adapler_jax.types import MASK_BIAS, Batch, EncoderConfig, Params, Softened, Trace, View


@flax.struct.dataclass
class _Carry:
    hidden_BLD: jax.Array
    bias_BL: jax.Array
    weight_BL: jax.Array


def harden(selection) -> Softened:
    """A hard selection as weights 0 or 1 and a key bias of 0 or MASK_BIAS."""
    keep_BL = selection.keep_BL
    return Softened(
        score_BL=selection.score_BL, bias_BL=encoder.key_bias(keep_BL), weight_BL=keep_BL.astype(jnp.float32)
    )


def run_layers(params: Params, config: EncoderConfig, pruner: Pruner, hidden_BLD, live_BL, *, slope, key, dtype,
               collect_hidden=False, unroll=1):  # fmt: skip
    """All layers with the pruner at its sites.

    Args: hidden_BLD: the embeddings' output. live_BL: bool. slope: of the soft removal, a scalar array; None for the
    hard rule. key: dropout key or None. dtype: of the operands of the encoder's products. unroll: layers that the
    program writes out one after another; all of them compile longer, and a backward pass then stacks nothing.
    Returns: last hidden_BLD; Trace; states after every layer [N, B, L, D] where collect_hidden, else None.
    """
    check_sites(pruner, config)

    def prune(carry, site_params, index):
        hard = slope is None
        view = View(
            reading_BL=pruner.read(site_params, carry.hidden_BLD),
            live_BL=live_BL & (carry.weight_BL > 0) if hard else live_BL,
            weight_BL=carry.weight_BL,
        )
        if hard:
            softened = harden(pruner.select(site_params, index, view))
        else:
            softened = pruner.soften(site_params, index, view, slope)
        bias_BL = jnp.maximum(MASK_BIAS, carry.bias_BL + softened.bias_BL)
        carry = carry.replace(bias_BL=bias_BL, weight_BL=softened.weight_BL)
        count_B = jnp.sum(softened.weight_BL, axis=-1)
        return carry, Trace(score_NBL=softened.score_BL, weight_NBL=softened.weight_BL, count_NB=count_B)

    def run_layer(carry, scanned):
        layer, site_params, index = scanned
        trace = Trace()
        if pruner.sites:
            carry, trace = prune(carry, site_params, index)
        attend_key, ffn_key = (None, None) if key is None else jax.random.split(jax.random.fold_in(key, index))
        hidden_BLD = encoder.attend(layer, config, carry.hidden_BLD, carry.bias_BL, key=attend_key, dtype=dtype)
        hidden_BLD = encoder.feed_forward(layer, config, hidden_BLD, key=ffn_key, dtype=dtype)
        return carry.replace(hidden_BLD=hidden_BLD), (trace, hidden_BLD if collect_hidden else None)

    start = _Carry(hidden_BLD, encoder.key_bias(live_BL), live_BL.astype(jnp.float32))
    scanned = (params["encoder"]["layers"], params["pruner"], jnp.arange(config.num_layers))
    carry, (trace, hidden_NBLD) = jax.lax.scan(run_layer, start, scanned, unroll=unroll)
    return carry.hidden_BLD, trace, hidden_NBLD


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, slope, key=None,
            dtype=jnp.float32, unroll=1):  # fmt: skip
    """Logits float32 [B, C] and the Trace of one batch; arguments as in `run_layers`."""
    embed_key, layers_key, head_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    embeddings = params["encoder"]["embeddings"]
    hidden_BLD = encoder.embed(embeddings, config, batch.token_BL, batch.segment_BL, key=embed_key)
    hidden_BLD, trace, _ = run_layers(
        params, config, pruner, hidden_BLD, batch.live_BL, slope=slope, key=layers_key, dtype=dtype, unroll=unroll
    )
    return heads.classify(params["head"], config, hidden_BLD[:, 0], key=head_key), trace
