"""The encoder: a record of pure functions that every family of encoders fills.

It has no pruning.

Drivers call these slots layer by layer and pass the index of the layer and the original position of
every token, so that a family may have rotary positions and layers of different kinds. Leaves under
`layers` have a leading layer axis.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders.config_format import ConfigFormat
from adapler_jax.encoders.local_attention import LocalLayers, layer_attention, local_bias
from adapler_jax.encoders.slots import (
    AttentionOutputFn,
    EmbedFn,
    FeedForwardFn,
    FinalFn,
    InitFn,
    LocalLayersFn,
    OptionsOfLayersFn,
    PairBiasFn,
    PrepareFn,
    QkvFn,
    QkvPartFn,
)
from adapler_jax.flops import EncoderFlops
from adapler_jax.types import Array, EncoderConfig, OptionalArray, Params, Rule, TokenFeatures


class Encoder(NamedTuple):
    """A family of encoders; pure functions with operands in `dtype` and float32 results."""

    name: str
    init: InitFn
    embed: EmbedFn
    qkv: QkvFn
    attention_output: AttentionOutputFn
    feed_forward: FeedForwardFn
    prepare_inference_params: PrepareFn
    flops: EncoderFlops
    tensor_rules: tuple[Rule, ...]  # Hugging Face tensor names of every leaf
    local_layers: LocalLayersFn | None = None  # None: every token attends to every other
    final: FinalFn | None = None  # None: heads see the last layer's states
    options_of_layers: OptionsOfLayersFn | None = None  # None: layers are equal
    pair_bias: PairBiasFn | None = None  # None: no bias; for encoders without local layers
    shared: tuple[str, ...] = ()  # subtrees next to "layers" that every layer reads
    needs_positions: bool = False  # in the layers, by `qkv`, `local_layers` or `pair_bias`
    qkv_part: QkvPartFn | None = None  # None: taken from `qkv`
    # Names of the layer between [CLS] and the classifier; None: BERT's pooler
    pooler_rules: tuple[Rule, ...] | None = None
    config_format: ConfigFormat | None = None  # None: BERT's keys, with the family in our part
    variant: Callable[[EncoderConfig], Any] | None = None  # the record of a config; None: this one


def check_length(config: EncoderConfig, length: int) -> None:
    """Raise ValueError where a batch has more token slots than the encoder has positions."""
    if length > config.num_positions:
        raise ValueError(
            f"a batch of {length} token slots does not fit the encoder's "
            f"{config.num_positions} positions"
        )


def slot_positions(length: int) -> Array:
    """Return the positions of tokens that are in their original slots, int32 [1, L]."""
    return jnp.arange(length, dtype=jnp.int32)[None]


def embed_batch(
    encoder: Encoder,
    params: Params,
    config: EncoderConfig,
    token_BL: Array,
    segment_BL: Array,
    *,
    key: Array | None = None,
) -> Array:
    """Return the embeddings of a batch in its original slots, hidden_BLD float32.

    Raises:
      ValueError: L exceeds the positions of the checkpoint.
    """
    length = token_BL.shape[-1]
    check_length(config, length)
    return encoder.embed(
        params["embeddings"], config, token_BL, segment_BL, slot_positions(length), key=key
    )


def config_of_layers(
    encoder: Encoder, config: EncoderConfig, layers: tuple[int, ...]
) -> EncoderConfig:
    """Return the config of an encoder that has some of the layers, in order."""
    options = config.family_options
    if encoder.options_of_layers is not None:
        options = encoder.options_of_layers(config, layers)
    return dataclasses.replace(config, num_layers=len(layers), family_options=options)


def local_layers(encoder: Encoder, config: EncoderConfig) -> LocalLayers | None:
    """Return the encoder's local layers; None: in each layer tokens attend to all others."""
    return None if encoder.local_layers is None else encoder.local_layers(config)


def layers_of(encoder: Encoder, params: Params) -> Params:
    """Return the layers of an encoder's tree, each with the subtrees that all of them read.

    Stacked layers get copies along their axis. Layers that are apart have them already, as layers
    have that this function returned.
    """
    layers = params["layers"]
    shared = {name: params[name] for name in encoder.shared if name in params}
    if isinstance(layers, tuple) or not shared:
        return layers
    num_layers = len(jax.tree.leaves(layers)[0])
    return layers | jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf[None], (num_layers, *leaf.shape)), shared
    )


def with_shared(encoder: Encoder, params: Params) -> Params:
    """Return the parameters of a whole model with the layers of `layers_of`."""
    if not encoder.shared:
        return params
    tree = params["encoder"]
    return params | {"encoder": tree | {"layers": layers_of(encoder, tree)}}


def pair_bias(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    position_BL: OptionalArray,
    *,
    num_queries: int | None = None,
) -> Array | None:
    """Return the encoder's `pair_bias` for keys at these positions; None: it has none.

    The queries are at the first `num_queries` positions; None for all.
    """
    if encoder.pair_bias is None:
        return None
    return encoder.pair_bias(layer, config, position_BL[:, :num_queries], position_BL)


def layer_bias(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    index: OptionalArray,
    position_BL: OptionalArray,
    *,
    num_queries: int | None = None,
) -> Array | None:
    """Return the bias of pairs in a layer, for keys at these positions, float32 [B, H, L, S].

    It is `pair_bias`, or 0 and MASK_BIAS of local layers, the same for all heads: [B, 1, L, S]. An
    encoder with neither has no bias. The queries are at the first `num_queries` positions; None for
    all.
    """
    local = local_layers(encoder, config)
    if local is None:
        return pair_bias(encoder, layer, config, position_BL, num_queries=num_queries)
    return local_bias(local, index, position_BL[:, :num_queries], position_BL)


def attend(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    hidden_BLD: Array,
    bias_BS: Array,
    *,
    index: Array | None = None,
    position_BL: Array | None = None,
    query_mask_BL: Array | None = None,
    needs: frozenset[str] = frozenset(),
    key: Array | None = None,
    dtype=jnp.float32,
) -> tuple[Array, TokenFeatures]:
    """Return the states after the attention half of a layer, and the attention that tokens receive.

    Args:
      encoder: the family.
      layer: one slice of `params["layers"]`.
      config: sizes.
      hidden_BLD: float32 states that enter.
      bias_BS: float32, added to the logits of every head and query.
      index: the layer, int32 scalar; needed by families with `needs_positions`.
      position_BL: int32 original positions; needed by the same families. The first axis may be 1.
      query_mask_BL: as in `scaled_dot_product_attention`.
      needs: as in `scaled_dot_product_attention`.
      key: dropout key; None switches dropout off.
      dtype: of the operands of the products.
    """
    probs_key, output_key = (None, None) if key is None else jax.random.split(key)
    qkv_BLQ = encoder.qkv(
        layer, config, hidden_BLD, index=index, position_X=position_BL, dtype=dtype
    )
    query_BLD, key_BLD, value_BLD = jnp.split(qkv_BLQ, 3, axis=-1)
    attended_BLD, received = layer_attention(
        local_layers(encoder, config),
        query_BLD,
        key_BLD,
        value_BLD,
        bias_BS,
        index=index,
        position_BL=position_BL,
        pair_bias_BHLL=pair_bias(encoder, layer, config, position_BL),
        num_heads=config.num_heads,
        query_mask_BL=query_mask_BL,
        needs=needs,
        key=probs_key,
        dropout_prob=config.attention_dropout_prob,
        dtype=dtype,
    )
    hidden_BLD = encoder.attention_output(
        layer, config, hidden_BLD, attended_BLD, key=output_key, dtype=dtype
    )
    return hidden_BLD, received


def plain_layer(
    encoder: Encoder,
    layer: Params,
    config: EncoderConfig,
    hidden_BLD: Array,
    bias_BS: Array,
    *,
    index: Array,
    position_BL: Array | None,
    key: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return the states after both halves of a layer, without a site between them.

    Args:
      key: of all layers; the layer's own keys follow from it. Others are as in `attend`.
    """
    attend_key, ffn_key = split_layer_key(key, index)
    hidden_BLD, _ = attend(
        encoder,
        layer,
        config,
        hidden_BLD,
        bias_BS,
        index=index,
        position_BL=position_BL,
        key=attend_key,
        dtype=dtype,
    )
    return encoder.feed_forward(layer, config, hidden_BLD, key=ffn_key, dtype=dtype)


def finalize_states(
    encoder: Encoder, params: Params, config: EncoderConfig, hidden_XD: Array
) -> Array:
    """Return the states that a head sees: the last norm of families that have one."""
    return hidden_XD if encoder.final is None else encoder.final(params, config, hidden_XD)


def scan_layers(step, start, layers, *layer_inputs, last=None):
    """Return `jax.lax.scan` of step over stacked layers, unrolled over layers in a tuple.

    In a tuple `last` runs the last layer in place of `step`.
    """
    if not isinstance(layers, tuple):
        return jax.lax.scan(step, start, (layers, *layer_inputs))
    state, outputs = start, []
    steps = [step] * (len(layers) - 1) + [last or step]
    for index, (run, layer) in enumerate(zip(steps, layers)):
        inputs = slice_of_layer(layer_inputs, index)
        state, output = run(state, (layer, *inputs))
        outputs.append(output)
    return state, stack_layers(outputs)


def slice_of_layer(tree, index: int):
    """Return one index of the layer axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack_layers(trees: Sequence):
    """Return the trees of all layers as one, with a leading layer axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def layers_apart(layers: Params) -> list[Params]:
    """Return stacked layers as one tree a layer, of NumPy arrays."""
    stacked = jax.tree.map(np.asarray, layers)
    num_layers = len(jax.tree.leaves(stacked)[0])
    return [slice_of_layer(stacked, index) for index in range(num_layers)]


def split_layer_key(key: Array | None, index: Array) -> tuple[Array | None, Array | None]:
    """Return the dropout keys of a layer's two halves, None without a key."""
    if key is None:
        return None, None
    attend_key, ffn_key = jax.random.split(jax.random.fold_in(key, index))
    return attend_key, ffn_key
