"""The full-width forward pass: dropped tokens are masked as keys, the length stays L.

Training uses the soft selection, differentiable for any slope. The reference uses the hard one;
every fast driver must equal it.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import key_bias
from adapler_jax.encoders.base import (
    attend,
    embed_batch,
    finalize_states,
    layers_of,
    slot_positions,
    split_layer_key,
)
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.pruning.base import (
    Pruner,
    check_sites,
    hard_step,
    hard_to_soft,
    params_of_layers,
    score_tokens,
    soft_step,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    MASK_BIAS,
    TOKEN,
    Array,
    Batch,
    EncoderConfig,
    OptionalArray,
    Params,
    SamplingNoise,
    ScanOptions,
    SiteInput,
    SoftSelection,
    TokenFeatures,
    Trace,
)

DEFAULT_SCAN = ScanOptions()


class _Carry(flax.struct.PyTreeNode):
    """State between two halves of layers."""

    hidden_BLD: Array
    bias_BL: Array  # of the tokens as keys
    survival_BL: Array
    exit_hidden_BLD: Array | None  # each token's state while it survived; None where not requested


class _Pass(NamedTuple):
    """Values that all layers of one pass share."""

    config: EncoderConfig
    pruner: Pruner
    counted_BL: Array  # bool: tokens for the pruner
    protected_BL: Array | None
    budget_B: Array | None
    token_BL: Array | None
    slope: Array | None
    key: Array | None
    noise: SamplingNoise | None
    dtype: jnp.dtype


class _LayerInputs(NamedTuple):
    """Slices of one layer."""

    layer: Params
    site_params: Params
    layer_index: Array
    noise: dict[str, Array]


def _select(shared: _Pass, inputs: _LayerInputs, carry: _Carry, token_logit_BL) -> SoftSelection:
    """Return the pruner's selection at one site, hard without a slope."""
    noise = None if shared.noise is None else shared.noise.replace(**inputs.noise)
    site = SiteInput(
        token_logit_BL=token_logit_BL,
        remaining_BL=_remaining(shared, carry) if shared.slope is None else shared.counted_BL,
        survival_BL=carry.survival_BL,
        noise=noise,
        protected_BL=shared.protected_BL,
        budget_B=shared.budget_B,
    )
    pruner, site_params = shared.pruner, inputs.site_params
    if shared.slope is None:
        return hard_to_soft(hard_step(pruner, site_params, inputs.layer_index, site))
    return soft_step(pruner, site_params, inputs.layer_index, site, shared.slope)


def _remaining(shared: _Pass, carry: _Carry) -> Array:
    """Return the tokens that no site dropped, bool [B, L]."""
    return shared.counted_BL & (carry.survival_BL > 0)


def _prune(
    shared: _Pass, inputs: _LayerInputs, carry: _Carry, received: TokenFeatures | None
) -> tuple[_Carry, Trace]:
    """Return the carry after a site, and the site's record."""
    if TOKEN in shared.pruner.needs and shared.token_BL is None:
        raise ValueError(f"pruner {shared.pruner.name} needs token_BL, the tokens of the batch")
    token_logit_BL = score_tokens(
        shared.pruner,
        inputs.site_params,
        carry.hidden_BLD,
        received,
        position_X=slot_positions(carry.hidden_BLD.shape[1]),
        token_X=shared.token_BL,
    )
    selection = _select(shared, inputs, carry, token_logit_BL)
    carry = carry.replace(
        bias_BL=jnp.maximum(MASK_BIAS, carry.bias_BL + selection.bias_BL),
        survival_BL=selection.survival_BL,
    )
    if selection.scale_BL is not None:
        carry = carry.replace(hidden_BLD=carry.hidden_BLD * selection.scale_BL[..., None])
    trace = Trace(
        score_NBL=selection.score_BL,
        survival_NBL=selection.survival_BL,
        count_NB=jnp.sum(selection.survival_BL, axis=-1),
    )
    return carry, trace


def _advance(carry: _Carry, hidden_BLD: Array) -> _Carry:
    """Return the carry with new states, which become the exit states of surviving tokens."""
    exit_hidden_BLD = carry.exit_hidden_BLD
    if exit_hidden_BLD is not None:
        survival_BL1 = carry.survival_BL[..., None]
        exit_hidden_BLD = survival_BL1 * hidden_BLD + (1.0 - survival_BL1) * exit_hidden_BLD
    return carry.replace(hidden_BLD=hidden_BLD, exit_hidden_BLD=exit_hidden_BLD)


def _run_layer(shared: _Pass, carry: _Carry, inputs: _LayerInputs) -> tuple[_Carry, Trace]:
    """Return the carry after one layer and its site, and the site's record."""
    config, pruner, encoder = shared.config, shared.pruner, encoder_of(shared.config)
    trace = Trace()
    attend_key, ffn_key = split_layer_key(shared.key, inputs.layer_index)
    if pruner.point == BEFORE_ATTENTION:
        carry, trace = _prune(shared, inputs, carry, None)
    hidden_BLD, received = attend(
        encoder,
        inputs.layer,
        config,
        carry.hidden_BLD,
        carry.bias_BL,
        index=inputs.layer_index,
        position_BL=slot_positions(carry.hidden_BLD.shape[1]),
        query_mask_BL=_remaining(shared, carry) if pruner.attention_needs else None,
        needs=pruner.attention_needs,
        key=attend_key,
        dtype=shared.dtype,
    )
    if pruner.point == BEFORE_FEED_FORWARD:
        carry, trace = _prune(shared, inputs, _advance(carry, hidden_BLD), received)
    else:
        carry = carry.replace(hidden_BLD=hidden_BLD)
    hidden_BLD = encoder.feed_forward(
        inputs.layer, config, carry.hidden_BLD, key=ffn_key, dtype=shared.dtype
    )
    return _advance(carry, hidden_BLD), trace


def _noise_of_layers(noise: SamplingNoise | None) -> dict[str, Array]:
    """Return the random numbers that have a leading axis N."""
    if noise is None:
        return {}
    return {"uniform_BL": noise.uniform_BL, "importance_BL": noise.importance_BL}


def _scan(run_layer: Callable, start: _Carry, scanned: tuple, loop: ScanOptions):
    """Return `jax.lax.scan` over the layers with these options."""
    if loop.remat:
        # With unrolled layers XLA would recompute all inner states before it uses the first.
        return jax.lax.scan(jax.checkpoint(run_layer), start, scanned)
    num_layers = len(jax.tree.leaves(scanned)[0])
    return jax.lax.scan(run_layer, start, scanned, unroll=min(loop.unroll, num_layers))


def forward_layers(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    hidden_BLD: Array,
    valid_BL: Array,
    *,
    slope: Array | None,
    key: Array | None,
    dtype,
    noise: SamplingNoise | None = None,
    collect_hidden: bool = False,
    return_exit_hidden: bool = False,
    protected_BL: Array | None = None,
    budget_B: Array | None = None,
    token_BL: Array | None = None,
    loop: ScanOptions = DEFAULT_SCAN,
    first_layer: int = 0,
) -> tuple[Array, Trace, OptionalArray]:
    """Run all layers with the pruner at its sites.

    Args:
      params: of the whole model, encoder layers stacked; or of some adjacent layers.
      config: of the whole encoder.
      pruner: the method.
      hidden_BLD: the output of the embeddings, or of the layer before `first_layer`.
      valid_BL: bool.
      slope: of the soft removal, a scalar array; None for the hard rule.
      key: dropout key or None.
      dtype: of the operands of products.
      noise: for a method that samples; uniform_BL and importance_BL have a leading axis N.
      collect_hidden: return the states after every layer.
      return_exit_hidden: put every token's last state into the Trace; a soft removal mixes states.
      protected_BL: bool, tokens that stay.
      budget_B: see `Batch`, as for `token_BL`, which a pruner may need.
      loop: how to walk the layers.
      first_layer: index of the first of these layers in its encoder.

    Returns:
      Last hidden_BLD; Trace; states after every layer [N, B, L, D] where collect_hidden, else None.
      States are before the encoder's final norm, if it has one.
    """
    check_sites(pruner, config)
    counted_BL = jnp.ones_like(valid_BL) if pruner.counts_padding else valid_BL
    of_texts = counted_BL, protected_BL, budget_B, token_BL
    shared = _Pass(config, pruner, *of_texts, slope, key, noise, dtype)

    def run_layer(carry, scanned):
        """Return the carry after one layer, its record and, on request, its states."""
        carry, trace = _run_layer(shared, carry, _LayerInputs(*scanned))
        return carry, (trace, carry.hidden_BLD if collect_hidden else None)

    entering_BLD = jnp.where(valid_BL[..., None], hidden_BLD, 0.0) if return_exit_hidden else None
    start = _Carry(hidden_BLD, key_bias(valid_BL), counted_BL.astype(jnp.float32), entering_BLD)
    layers = layers_of(encoder_of(config), params["encoder"])
    index_N = first_layer + jnp.arange(len(jax.tree.leaves(layers)[0]))
    site_params = params_of_layers(pruner, params["pruner"], len(index_N))
    scanned = (layers, site_params, index_N, _noise_of_layers(noise))
    carry, (trace, hidden_NBLD) = _scan(run_layer, start, scanned, loop)
    return carry.hidden_BLD, trace.replace(exit_hidden_BLD=carry.exit_hidden_BLD), hidden_NBLD


def embed_tokens(
    params: Params, config: EncoderConfig, batch: Batch, *, key: Array | None = None
) -> Array:
    """Return the states of a batch that enter layer 0, hidden_BLD float32."""
    encoder = encoder_of(config)
    return embed_batch(
        encoder, params["encoder"], config, batch.token_BL, batch.segment_BL, key=key
    )


def with_survival(batch: Batch, trace: Trace) -> Batch:
    """Return the batch with the tokens that are left after the last layer, for the head."""
    left_BL = None if trace.survival_NBL is None else trace.survival_NBL[-1]
    return batch.replace(survival_BL=left_BL)


def head_logits(
    params: Params,
    config: EncoderConfig,
    head: Head,
    hidden_BLD: Array,
    batch: Batch,
    *,
    key: Array | None = None,
):
    """Return the head's logits of the last state of every token, float32.

    Args:
      params: of the whole model.
      config: of the encoder.
      head: of the model.
      hidden_BLD: states before the encoder's final norm; exit states where the head needs all.
      batch: the examples.
      key: dropout key of the head or None.
    """
    states = hidden_BLD if head.needs_all_states else hidden_BLD[:, 0]
    states = finalize_states(encoder_of(config), params["encoder"], config, states)
    return head.apply(params["head"], config, states, batch, key)


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    slope: Array | None,
    key: Array | None = None,
    dtype=jnp.float32,
    noise: SamplingNoise | None = None,
    head: Head = CLASSIFICATION,
    loop: ScanOptions = DEFAULT_SCAN,
):
    """Return the head's logits, float32, and the Trace of one batch.

    Arguments are as in `forward_layers`. A row without a token has logits 0, and no gradient comes
    from it.
    """
    embed_key, layers_key, head_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    hidden_BLD, trace, _ = forward_layers(
        params,
        config,
        pruner,
        embed_tokens(params, config, batch, key=embed_key),
        batch.valid_BL,
        slope=slope,
        key=layers_key,
        dtype=dtype,
        noise=noise,
        return_exit_hidden=head.needs_all_states,
        protected_BL=head.protected_tokens(batch),
        token_BL=batch.token_BL,
        loop=loop,
    )
    last_BLD = trace.exit_hidden_BLD if head.needs_all_states else hidden_BLD
    batch = with_survival(batch, trace)
    logits = head_logits(params, config, head, last_BLD, batch, key=head_key)
    logits = zero_empty_rows(logits, jnp.any(batch.valid_BL, axis=1))
    return logits, trace.replace(exit_hidden_BLD=None)
