"""Floating point operations of whole models, from the tokens that each layer runs on."""

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import local_layers
from adapler_jax.encoders.local_attention import is_local, uses_blocks
from adapler_jax.flops import Count, as_counts, attention_pair_flops, significance_flops
from adapler_jax.pruning.base import Pruner, for_first_token
from adapler_jax.types import ATTENTION_NEEDS, BEFORE_FEED_FORWARD, EncoderConfig, Params


def embedding_flops(config: EncoderConfig, length: Count) -> Count:
    """Return the operations of the embeddings of `length` tokens."""
    return encoder_of(config).flops.embedding(config, length)


def num_pairs(config: EncoderConfig, length: Count, *, layer: int = 0) -> Count:
    """Return the pairs of tokens of which a layer computes the attention.

    They are 3 W n in a local layer of window W for n > 4 W tokens, and n^2 elsewhere. The empty
    slots of a last block do not count.
    """
    length, local = as_counts(length), local_layers(encoder_of(config), config)
    if local is None or not is_local(local, layer):
        return length * length
    near = 3 * local.window * length
    where = jnp.where if isinstance(length, jax.Array) else np.where
    return as_counts(where(uses_blocks(local, length), near, length * length))


def pair_flops(config: EncoderConfig, num_pairs: Count) -> Count:
    """Return the operations of attention for so many pairs, with the terms of the encoder."""
    terms = encoder_of(config).flops.num_pair_terms * config.num_heads
    return attention_pair_flops(config, num_pairs) + as_counts(num_pairs) * terms


def attention_flops(config: EncoderConfig, length: Count, *, layer: int = 0) -> Count:
    """Return the operations of the attention half of a layer on `length` tokens."""
    length = as_counts(length)
    token_wise = encoder_of(config).flops.attention_tokens(config, length)
    return token_wise + pair_flops(config, num_pairs(config, length, layer=layer))


def feed_forward_flops(config: EncoderConfig, length: Count) -> Count:
    """Return the operations of the feed-forward half of one layer on `length` tokens."""
    return encoder_of(config).flops.feed_forward(config, length)


def layer_flops(config: EncoderConfig, length: Count, *, layer: int = 0) -> Count:
    """Return the operations of an encoder layer on `length` tokens."""
    return attention_flops(config, length, layer=layer) + feed_forward_flops(config, length)


def last_layer_flops(config: EncoderConfig, length: Count) -> Count:
    """Return the operations of the last layer on `length` tokens, where a head reads [CLS] alone.

    Keys and values are computed for all tokens. The query, its n pairs of the attention, and all
    that follows are computed for one.
    """
    length, encoder = as_counts(length), encoder_of(config).flops
    first = encoder.attention_tokens(config, 1) + encoder.feed_forward(config, 1)
    return encoder.key_value(config, length - 1) + pair_flops(config, length) + first


def received_flops(
    config: EncoderConfig, pruner: Pruner, length: Count, *, layer: int = 0
) -> Count:
    """Return the operations of the attention received that the pruner needs, on `length` tokens."""
    if pruner.needs & ATTENTION_NEEDS:
        pairs = num_pairs(config, length, layer=layer)
        return significance_flops(config, length, num_pairs=pairs)
    return 0 * as_counts(length)


def site_flops(
    config: EncoderConfig, pruner: Pruner, params: Params, length: Count, *, layer: int = 0
) -> Count:
    """Return the operations of a site on `length` tokens.

    Args:
      config: of the encoder.
      pruner: the method.
      params: of the whole model.
      length: tokens that enter the site.
      layer: of the site.
    """
    length = as_counts(length)
    per_token = pruner.site_flops(params["pruner"], config)
    scored = length * per_token.score + length * per_token.decide
    return scored + received_flops(config, pruner, length, layer=layer)


def dense_flops(
    config: EncoderConfig, length_B: Count, *, head: Count, reads_first: bool = False
) -> Count:
    """Return the operations of the plain encoder, int64 [B], or float32 for soft counts.

        embedding(n) + sum_l layer_l(n) + head

    Args:
      config: of the encoder.
      length_B: tokens of each example without padding.
      head: operations of the head, a number or [B].
      reads_first: the last layer computes [CLS] alone, as our drivers do where the head reads no
        other token. Other libraries compute all tokens.
    """
    length_B = np.int64(length_B) if isinstance(length_B, int) else as_counts(length_B)
    last = config.num_layers - 1
    total_B = embedding_flops(config, length_B) + as_counts(head)
    for layer in range(last):
        total_B = total_B + layer_flops(config, length_B, layer=layer)
    if reads_first:
        return total_B + last_layer_flops(config, length_B)
    return total_B + layer_flops(config, length_B, layer=last)


def pruned_flops(
    config: EncoderConfig,
    pruner: Pruner,
    params: Params,
    length_B: Count,
    kept_NB: Count,
    *,
    head: Count,
    reads_first: bool = False,
) -> Count:
    """Return the operations of a model that drops tokens, int64 [B], or float32 for soft counts.

        before the attention:     e(n) + sum_l [site(n_{l-1}) + layer(n_l)] + head,    n_{-1} = n
        before the feed-forward:  e(n) + sum_l [attention(n_{l-1}) + site(n_{l-1}) +
        ffn(n_l)] + head

    e are the embeddings. A layer without a site runs on n_{l-1} tokens and has no term for one.

    Args:
      config: of the encoder.
      pruner: the method.
      params: of the whole model, for the sizes of the pruner's leaves.
      length_B: tokens of each example without padding; padded lengths give the operations of a
        padded batch.
      kept_NB: tokens n_l that are left in layer l.
      head: operations of the head, a number or [B].
      reads_first: as in `dense_flops`. There is then no site inside the last layer.
    """
    total_B = embedding_flops(config, length_B) + as_counts(head)
    if reads_first:
        pruner = for_first_token(pruner, config)
    points = {site.layer: site.point for site in pruner.sites}
    left_B = as_counts(length_B)
    for layer, kept_B in enumerate(as_counts(kept_NB)):
        entering_B, is_inside = left_B, points.get(layer) == BEFORE_FEED_FORWARD
        if layer in points:
            left_B = kept_B
            total_B = total_B + site_flops(config, pruner, params, entering_B, layer=layer)
        if is_inside:
            total_B = total_B + attention_flops(config, entering_B, layer=layer)
            total_B = total_B + feed_forward_flops(config, left_B)
        elif reads_first and layer == config.num_layers - 1:
            total_B = total_B + last_layer_flops(config, left_B)
        else:
            total_B = total_B + layer_flops(config, left_B, layer=layer)
    return total_B
