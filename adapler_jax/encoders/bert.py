"""BERT: post-norm layers, biases everywhere, learnt absolute positions.

The tree: `{"embeddings": {token, position, segment, norm}, "layers": {...}}`. Every leaf under
`layers` has a leading layer axis N, so that one `lax.scan` body serves all layers. Kernels are (in,
out).

Source: Devlin et al., "BERT", NAACL 2019; names and constants as in the published checkpoints.
"""

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops
from adapler_jax.encoders.base import Encoder, layers_apart
from adapler_jax.nn import ACTIVATIONS, dropout, init_linear, init_norm, layer_norm, linear
from adapler_jax.nn import truncated_normal as normal
from adapler_jax.types import Array, EncoderConfig, Params, Rule, linear_rules, norm_rules

QKV_PARTS = ("query", "key_value")


def init_encoder(key: Array, config: EncoderConfig) -> Params:
    """Return a fresh parameter tree, float32, as BERT starts before pre-training."""
    D, std = config.hidden_dim, config.init_std
    keys = iter(jax.random.split(key, 9))
    embeddings = {
        "token": normal(next(keys), (config.vocab_size, D), std),
        "position": normal(next(keys), (config.num_positions, D), std),
        "segment": normal(next(keys), (config.num_segments, D), std),
        "norm": init_norm((D,)),
    }
    return {"embeddings": embeddings, "layers": _init_layers(keys, config)}


def init_layers(key: Array, config: EncoderConfig) -> Params:
    """Return fresh layers, float32."""
    return _init_layers(iter(jax.random.split(key, 6)), config)


def _init_layers(keys: Iterator[Array], config: EncoderConfig) -> Params:
    """Return fresh layers from the next six keys."""
    N, D, F, std = config.num_layers, config.hidden_dim, config.ffn_dim, config.init_std
    return {
        "query": init_linear(next(keys), (N, D, D), std),
        "key": init_linear(next(keys), (N, D, D), std),
        "value": init_linear(next(keys), (N, D, D), std),
        "attention_output": init_linear(next(keys), (N, D, D), std),
        "attention_norm": init_norm((N, D)),
        "ffn_in": init_linear(next(keys), (N, D, F), std),
        "ffn_out": init_linear(next(keys), (N, F, D), std),
        "ffn_norm": init_norm((N, D)),
    }


def embed(
    params: Params,
    config: EncoderConfig,
    token_X: Array,
    segment_X: Array,
    position_X: Array,
    *,
    key: Array | None = None,
) -> Array:
    """Return the normalised sum of token, position and segment embeddings, float32 [..., D]."""
    # A one-hot product instead of a gather for the small table: its gradient is a product, not a
    # scatter.
    segment_one_hot = jax.nn.one_hot(segment_X, config.num_segments, dtype=jnp.float32)
    segment_XD = segment_one_hot @ params["segment"]
    sum_XD = params["token"][token_X] + params["position"][position_X] + segment_XD
    return normalize_embeddings(params, config, sum_XD, key=key)


def normalize_embeddings(
    params: Params, config: EncoderConfig, sum_XD: Array, *, key: Array | None
) -> Array:
    """Return the norm of sums of embeddings, with dropout, float32 [..., D]."""
    normed_XD = layer_norm(params["norm"], sum_XD, config.norm_epsilon)
    return dropout(key, normed_XD, config.hidden_dropout_prob)


def query_key_value(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    *,
    index: Array | None = None,
    position_X: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return queries, scaled by 1 / sqrt(K), keys and values, joined: float32 [..., 3 D]."""
    del index, position_X
    if "query_key_value" in layer:
        return linear(layer["query_key_value"], hidden_XD, dtype)
    parts = (qkv_part(layer, config, hidden_XD, part, dtype=dtype) for part in QKV_PARTS)
    return jnp.concatenate(tuple(parts), axis=-1)


def qkv_part(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    part: str,
    *,
    index: Array | None = None,
    position_X: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return queries, scaled, or keys and values, joined, of a layer that is not joined.

    The published layer and the last one of `prepare_inference_params` have the parts apart.
    """
    del index, position_X
    if "key_value" in layer:
        return linear(layer[part], hidden_XD, dtype)
    if part == "query":
        return linear(layer["query"], hidden_XD, dtype) / math.sqrt(config.head_dim)
    return jnp.concatenate(
        [linear(layer[name], hidden_XD, dtype) for name in ("key", "value")], axis=-1
    )


def attention_output(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    attended_XD: Array,
    *,
    key: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return norm(h + W a), the states after the attention half, float32 [..., D]."""
    update_XD = linear(layer["attention_output"], attended_XD, dtype)
    update_XD = dropout(key, update_XD, config.hidden_dropout_prob)
    return layer_norm(layer["attention_norm"], hidden_XD + update_XD, config.norm_epsilon)


def feed_forward(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    *,
    key: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return norm(h + W2 act(W1 h)), the states after the feed-forward half, float32 [..., D]."""
    inner_XF = ACTIVATIONS[config.activation](linear(layer["ffn_in"], hidden_XD, dtype))
    update_XD = linear(layer["ffn_out"], inner_XF, dtype)
    update_XD = dropout(key, update_XD, config.hidden_dropout_prob)
    return layer_norm(layer["ffn_norm"], hidden_XD + update_XD, config.norm_epsilon)


def prepare_inference_params(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """Return the encoder's parameters as inference runs them fastest, for equal results.

    Layers are apart, a tuple of trees: scanned ones are copied out of their stack at every call.
    Query, key and value are one kernel, with scaled queries. In the last layer, which may need
    fewer queries than keys, the query has a kernel of its own. Kernels are [out, in], in which the
    CPU's products are up to a fifth faster on few rows, and already in `dtype`. NumPy does it, so
    that a model is loaded without compiling anything.
    """
    *first, last = layers_apart(params["layers"])
    layers = [_prepare_layer(layer, config, dtype, is_last=False) for layer in first]
    layers.append(_prepare_layer(last, config, dtype, is_last=True))
    return params | {"layers": jax.device_put(tuple(layers))}


def _prepare_layer(layer: Params, config: EncoderConfig, dtype, *, is_last: bool) -> Params:
    """Return one layer's kernels transposed, query, key and value joined."""

    def join(*parts):
        """Return linear maps of the same tokens as one."""
        return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)

    query = jax.tree.map(lambda leaf: leaf / math.sqrt(config.head_dim), layer["query"])
    if is_last:
        kernels = {"query": query, "key_value": join(layer["key"], layer["value"])}
    else:
        kernels = {"query_key_value": join(query, layer["key"], layer["value"])}
    kernels |= {name: layer[name] for name in ("attention_output", "ffn_in", "ffn_out")}
    prepared = {name: layer[name] for name in ("attention_norm", "ffn_norm")}
    for name, dense in kernels.items():
        prepared[name] = {"kernel_OI": dense["kernel"].T.astype(dtype), "bias": dense["bias"]}
    return prepared


def embedding_flops(config: EncoderConfig, length):
    """Return the operations of one-hot product, two sums and the norm, for `length` tokens."""
    return flops.as_counts(length) * embedded_token_flops(config, config.hidden_dim)


def embedded_token_flops(config: EncoderConfig, dim: int) -> int:
    """Return the operations of the embeddings, of `dim` entries, of one token."""
    return 2 * config.num_segments * dim + 2 * dim + flops.norm_flops(dim)


def attention_token_flops(config: EncoderConfig, num_tokens):
    """Return the token-wise operations of the attention half: four linears, residual and norm."""
    D = config.hidden_dim
    per_token = 4 * flops.linear_flops(D, D) + D + flops.norm_flops(D)
    return flops.as_counts(num_tokens) * per_token


def key_value_flops(config: EncoderConfig, num_tokens):
    """Return the operations of keys and values."""
    D = config.hidden_dim
    return flops.as_counts(num_tokens) * 2 * flops.linear_flops(D, D)


def feed_forward_flops(config: EncoderConfig, num_tokens):
    """Return the operations of the feed-forward half, with residual and norm."""
    D, F = config.hidden_dim, config.ffn_dim
    linear = flops.linear_flops(D, F) + flops.linear_flops(F, D)
    per_token = linear + flops.activation_flops(config.activation, F) + D + flops.norm_flops(D)
    return flops.as_counts(num_tokens) * per_token


def layer_rules(layer: str) -> tuple[Rule, ...]:
    """Return the rules of the layers; `layer` begins the names of one and holds "{layer}"."""
    return (
        *linear_rules(f"{layer}.attention.self.query", "encoder/layers/query", "DD"),
        *linear_rules(f"{layer}.attention.self.key", "encoder/layers/key", "DD"),
        *linear_rules(f"{layer}.attention.self.value", "encoder/layers/value", "DD"),
        *linear_rules(f"{layer}.attention.output.dense", "encoder/layers/attention_output", "DD"),
        *norm_rules(f"{layer}.attention.output.LayerNorm", "encoder/layers/attention_norm"),
        *linear_rules(f"{layer}.intermediate.dense", "encoder/layers/ffn_in", "DF"),
        *linear_rules(f"{layer}.output.dense", "encoder/layers/ffn_out", "FD"),
        *norm_rules(f"{layer}.output.LayerNorm", "encoder/layers/ffn_norm"),
    )


_EMBEDDINGS = "bert.embeddings"
TENSOR_RULES = (
    Rule(f"{_EMBEDDINGS}.word_embeddings.weight", ("encoder", "embeddings", "token"), "VD"),
    Rule(f"{_EMBEDDINGS}.position_embeddings.weight", ("encoder", "embeddings", "position"), "XD"),
    Rule(f"{_EMBEDDINGS}.token_type_embeddings.weight", ("encoder", "embeddings", "segment"), "YD"),
    *norm_rules(f"{_EMBEDDINGS}.LayerNorm", "encoder/embeddings/norm"),
    *layer_rules("bert.encoder.layer.{layer}"),
)

BERT = Encoder(
    name="bert",
    init=init_encoder,
    embed=embed,
    qkv=query_key_value,
    attention_output=attention_output,
    feed_forward=feed_forward,
    prepare_inference_params=prepare_inference_params,
    flops=flops.EncoderFlops(
        embedding_flops, attention_token_flops, feed_forward_flops, key_value_flops
    ),
    tensor_rules=TENSOR_RULES,
    qkv_part=qkv_part,
)
