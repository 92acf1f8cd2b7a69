"""The plain encoder: all layers without a site between them, and the last one for [CLS] alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders.attention import key_bias, scaled_dot_product_attention
from adapler_jax.encoders.base import (
    Encoder,
    embed_batch,
    finalize_states,
    layer_bias,
    layers_of,
    plain_layer,
    scan_layers,
    slot_positions,
)
from adapler_jax.types import Array, EncoderConfig, Params


def qkv_part(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    part: str,
    *,
    index: Array | None = None,
    position_X: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return queries, or keys and values, of a layer; arguments as in `QkvPartFn`."""
    options = {"index": index, "position_X": position_X, "dtype": dtype}
    if encoder.qkv_part is not None:
        return encoder.qkv_part(layer, config, hidden_XD, part, **options)
    query_XD, key_value_XE = jnp.split(
        encoder.qkv(layer, config, hidden_XD, **options), [config.hidden_dim], axis=-1
    )
    return {"query": query_XD, "key_value": key_value_XE}[part]


def first_token_layer(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    hidden_BLD: Array,
    bias_BS: Array,
    *,
    index: Array,
    position_BL: Array | None,
    dtype=jnp.float32,
) -> Array:
    """Return the state of the first token after both halves of a layer, float32 [B, 1, D].

    It equals `plain_layer` there. Of the other tokens the layer computes keys and values alone.
    Arguments are as in `attend`.
    """
    first_B1D = hidden_BLD[:, :1]
    first_position_B1 = None if position_BL is None else position_BL[:, :1]
    project = functools.partial(qkv_part, encoder, layer, config, index=index, dtype=dtype)
    query_B1D = project(first_B1D, "query", position_X=first_position_B1)
    key_value_BLE = project(hidden_BLD, "key_value", position_X=position_BL)
    key_BLD, value_BLD = jnp.split(key_value_BLE, 2, axis=-1)
    attended_B1D, _ = scaled_dot_product_attention(
        query_B1D,
        key_BLD,
        value_BLD,
        bias_BS,
        layer_bias(encoder, layer, config, index, position_BL, num_queries=1),
        num_heads=config.num_heads,
        dtype=dtype,
    )
    first_B1D = encoder.attention_output(layer, config, first_B1D, attended_B1D, dtype=dtype)
    return encoder.feed_forward(layer, config, first_B1D, dtype=dtype)


def encode(
    encoder: Encoder,
    params: Params,
    config: EncoderConfig,
    *,
    token_BL: Array,
    segment_BL: Array,
    valid_BL: Array,
    key: Array | None = None,
    dtype=jnp.float32,
    needs_all: bool = True,
) -> Array:
    """Return the states of the plain encoder, hidden_BLD float32.

    Every driver without a pruner equals it.

    Args:
      encoder: the family.
      params: {"embeddings", "layers", ...}, layers stacked or apart as in `scan_layers`.
      config: sizes.
      token_BL: int32.
      segment_BL: int32.
      valid_BL: bool, False on padding.
      key: dropout key; None switches dropout off.
      dtype: of the operands of the products.
      needs_all: False where the caller reads the first token alone, without dropout. The last
        layer then computes no other row, unless layers are stacked: the result is [B, 1, D] or
        [B, L, D].
    """
    embed_key, layers_key = (None, None) if key is None else jax.random.split(key)
    shared = {"position_BL": slot_positions(token_BL.shape[-1]), "dtype": dtype}
    bias_BL = key_bias(valid_BL)

    def run_layer(hidden_BLD, scanned):
        """Return the states after one layer."""
        layer, index = scanned
        hidden_BLD = plain_layer(
            encoder, layer, config, hidden_BLD, bias_BL, index=index, key=layers_key, **shared
        )
        return hidden_BLD, None

    def run_last(hidden_BLD, scanned):
        """Return the state of the first token after the last layer."""
        layer, index = scanned
        hidden_B1D = first_token_layer(
            encoder, layer, config, hidden_BLD, bias_BL, index=index, **shared
        )
        return hidden_B1D, None

    hidden_BLD = embed_batch(encoder, params, config, token_BL, segment_BL, key=embed_key)
    hidden_BLD, _ = scan_layers(
        run_layer,
        hidden_BLD,
        layers_of(encoder, params),
        np.arange(config.num_layers, dtype=np.int32),
        last=None if needs_all else run_last,
    )
    return finalize_states(encoder, params, config, hidden_BLD)
