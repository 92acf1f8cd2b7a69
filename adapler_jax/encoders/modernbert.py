"""ModernBERT: pre-norm layers without biases, rotary positions, global and local attention.

    h_0 = norm(token);   h <- h + W_o attention(norm(h));   h <- h + W_2 (act(x) g)

x and g are the halves of W_1 norm(h). Layer 0 has no norm before its attention. In a local layer a
token attends to tokens of at most so many positions to each side. Tokens keep the positions that
they had before anything was dropped.

The tree: `{"embeddings": {token, norm}, "layers": {...}, "final_norm"}`, layers stacked as in
`encoders.bert`. Row 0 of the layers' `attention_norm` is not used. Letters besides the key of
`types.py`:

    Z half of the entries of a head      U both halves of W_1 norm(h), 2 F

Source: Warner et al., "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder", 2024;
names and constants as in the published checkpoints. Su et al., "RoFormer", 2021, for the positions.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops
from adapler_jax.encoders.base import Encoder, layers_apart
from adapler_jax.encoders.modernbert_config import (
    CONFIG_FORMAT,
    is_global,
    local_layers,
    options_of_layers,
)
from adapler_jax.nn import ACTIVATIONS, dropout, layer_norm, linear
from adapler_jax.nn import truncated_normal as normal
from adapler_jax.types import Array, EncoderConfig, Params, Rule

KERNELS = ("attention_output", "ffn_in", "ffn_out")
NORMS = ("attention_norm", "ffn_norm")


def init_encoder(key: Array, config: EncoderConfig) -> Params:
    """Return a fresh parameter tree, float32."""
    N, D, F, std = config.num_layers, config.hidden_dim, config.ffn_dim, config.init_std
    keys = iter(jax.random.split(key, 5))
    out_std = std / math.sqrt(2.0 * N)  # of the maps whose results are added to the states
    layers = {
        "query_key_value": {"kernel": normal(next(keys), (N, D, 3 * D), std)},
        "attention_output": {"kernel": normal(next(keys), (N, D, D), out_std)},
        "ffn_in": {"kernel": normal(next(keys), (N, D, 2 * F), std)},
        "ffn_out": {"kernel": normal(next(keys), (N, F, D), out_std)},
    }
    layers |= {name: {"scale": jnp.ones((N, D), jnp.float32)} for name in NORMS}
    embeddings = {
        "token": normal(next(keys), (config.vocab_size, D), std),
        "norm": {"scale": jnp.ones((D,), jnp.float32)},
    }
    final_norm = {"scale": jnp.ones((D,), jnp.float32)}
    return {"embeddings": embeddings, "layers": layers, "final_norm": final_norm}


def embed(
    params: Params,
    config: EncoderConfig,
    token_X: Array,
    segment_X: Array,
    position_X: Array,
    *,
    key: Array | None = None,
) -> Array:
    """Return the normalised token embeddings, float32 [..., D]."""
    del segment_X, position_X
    normed_XD = layer_norm(params["norm"], params["token"][token_X], config.norm_epsilon)
    return dropout(key, normed_XD, config.family_options.embedding_dropout_prob)


def frequencies(config: EncoderConfig, index: Array) -> Array:
    """Return the angle from one position to the next of each pair of entries, float32 [Z].

    theta ** (-2 z / K),   theta of global or local layers
    """
    exponent_Z = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    global_Z, local_Z = (
        np.float32(1.0) / np.float32(theta) ** exponent_Z
        for theta in (config.family_options.global_theta, config.family_options.local_theta)
    )
    return jnp.where(is_global(config, index), global_Z, local_Z)


def rotate(x_XD: Array, position_X: Array, frequency_Z: Array, config: EncoderConfig) -> Array:
    """Return queries or keys, each head's pairs of entries (z, z + K/2) turned by its angles."""
    x_XHK = x_XD.reshape(*x_XD.shape[:-1], config.num_heads, config.head_dim)
    row_XZ = frequency_Z.reshape((1,) * (x_XHK.ndim - 1) + frequency_Z.shape)
    angle_X1Z = position_X[..., None, None].astype(jnp.float32) * row_XZ
    cos_X1Z, sin_X1Z = jnp.cos(angle_X1Z), jnp.sin(angle_X1Z)
    first_XHZ, second_XHZ = jnp.split(x_XHK, 2, axis=-1)
    turned_XHK = jnp.concatenate(
        [
            first_XHZ * cos_X1Z - second_XHZ * sin_X1Z,
            second_XHZ * cos_X1Z + first_XHZ * sin_X1Z,
        ],
        axis=-1,
    )
    return turned_XHK.reshape(x_XD.shape)


def attention_input(layer: Params, config: EncoderConfig, hidden_XD: Array, index: Array) -> Array:
    """Return norm(h), and h in layer 0."""
    normed_XD = layer_norm(layer["attention_norm"], hidden_XD, config.norm_epsilon)
    return jnp.where(index == 0, hidden_XD, normed_XD)


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
    assert index is not None and position_X is not None
    if "query_key_value" not in layer:
        options = {"index": index, "position_X": position_X, "dtype": dtype}
        parts = [
            qkv_part(layer, config, hidden_XD, part, **options) for part in ("query", "key_value")
        ]
        return jnp.concatenate(parts, axis=-1)
    input_XD = attention_input(layer, config, hidden_XD, index)
    query_XD, key_XD, value_XD = jnp.split(
        linear(layer["query_key_value"], input_XD, dtype), 3, axis=-1
    )
    frequency_Z = frequencies(config, index)
    query_XD = rotate(query_XD, position_X, frequency_Z, config) / math.sqrt(config.head_dim)
    key_XD = rotate(key_XD, position_X, frequency_Z, config)
    return jnp.concatenate([query_XD, key_XD, value_XD], axis=-1)


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
    """Return queries, scaled, or keys and values, joined.

    The last layer of `prepare_inference_params` has the parts apart. Elsewhere a part is cut out of
    the joined kernel.
    """
    assert index is not None and position_X is not None
    input_XD = attention_input(layer, config, hidden_XD, index)
    frequency_Z = frequencies(config, index)
    params = layer[part] if part in layer else _part_of(layer["query_key_value"], config, part)
    found_XD = linear(params, input_XD, dtype)
    if part == "query":
        return rotate(found_XD, position_X, frequency_Z, config) / math.sqrt(config.head_dim)
    key_XD, value_XD = jnp.split(found_XD, 2, axis=-1)
    return jnp.concatenate([rotate(key_XD, position_X, frequency_Z, config), value_XD], axis=-1)


def _part_of(params: Params, config: EncoderConfig, part: str) -> Params:
    """Return the kernel of queries, or of keys and values."""
    rows = slice(config.hidden_dim) if part == "query" else slice(config.hidden_dim, None)
    if "kernel_OI" in params:
        return {"kernel_OI": params["kernel_OI"][rows]}
    return {"kernel": params["kernel"][:, rows]}


def attention_output(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    attended_XD: Array,
    *,
    key: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return h + W a, the states after the attention half, float32 [..., D]."""
    update_XD = linear(layer["attention_output"], attended_XD, dtype)
    return hidden_XD + dropout(key, update_XD, config.attention_dropout_prob)


def feed_forward(
    layer: Params,
    config: EncoderConfig,
    hidden_XD: Array,
    *,
    key: Array | None = None,
    dtype=jnp.float32,
) -> Array:
    """Return h + W2 (act(x) g), the states after the feed-forward half, float32 [..., D]."""
    normed_XD = layer_norm(layer["ffn_norm"], hidden_XD, config.norm_epsilon)
    inner_XF, gate_XF = jnp.split(linear(layer["ffn_in"], normed_XD, dtype), 2, axis=-1)
    inner_XF = dropout(
        key, ACTIVATIONS[config.activation](inner_XF) * gate_XF, config.hidden_dropout_prob
    )
    return hidden_XD + linear(layer["ffn_out"], inner_XF, dtype)


def final(params: Params, config: EncoderConfig, hidden_XD: Array) -> Array:
    """Return the states after the last norm, float32 [..., D]."""
    return layer_norm(params["final_norm"], hidden_XD, config.norm_epsilon)


def prepare_inference_params(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """Return the encoder's parameters as inference runs them fastest, for equal results.

    Layers are apart, kernels are [out, in] and already in `dtype`, as BERT's are. In the last layer
    the query has a kernel of its own.
    """
    D, layers = config.hidden_dim, []
    for index, layer in enumerate(layers_apart(params["layers"])):
        joined = layer["query_key_value"]["kernel"]
        kernels = {name: layer[name]["kernel"] for name in KERNELS}
        if index == config.num_layers - 1:
            kernels |= {"query": joined[:, :D], "key_value": joined[:, D:]}
        else:
            kernels["query_key_value"] = joined
        prepared = {name: {"kernel_OI": x.T.astype(dtype)} for name, x in kernels.items()}
        layers.append(prepared | {name: layer[name] for name in NORMS})
    return params | {"layers": jax.device_put(tuple(layers))}


def _norm_flops(dim: int) -> int:
    """Return the operations of a norm without bias, for one token."""
    return flops.norm_flops(dim) - dim


def _rotation_flops(config: EncoderConfig, num_vectors: int) -> int:
    """Return the operations of the angles of one token, and of vectors [D] that are turned.

    Each pair of entries has an angle, its cosine and its sine: 3 for K/2 pairs. A turned entry is
    two products and a sum.
    """
    return 3 * (config.head_dim // 2) + 3 * config.hidden_dim * num_vectors


def embedding_flops(config: EncoderConfig, num_tokens):
    """Return the operations of the norm of the token embeddings."""
    return flops.as_counts(num_tokens) * _norm_flops(config.hidden_dim)


def attention_token_flops(config: EncoderConfig, num_tokens):
    """Return the token-wise operations of the attention half.

    They are the norm, four linear maps without bias, the rotation of query and key, and the sum.
    """
    D = config.hidden_dim
    per_token = _norm_flops(D) + 8 * D * D + _rotation_flops(config, 2) + D
    return flops.as_counts(num_tokens) * per_token


def key_value_flops(config: EncoderConfig, num_tokens):
    """Return the operations of keys and values, with the norm before them."""
    D = config.hidden_dim
    per_token = _norm_flops(D) + 4 * D * D + _rotation_flops(config, 1)
    return flops.as_counts(num_tokens) * per_token


def feed_forward_flops(config: EncoderConfig, num_tokens):
    """Return the operations of the feed-forward half: norm, two linear maps, gate and sum."""
    D, F = config.hidden_dim, config.ffn_dim
    gated = flops.activation_flops(config.activation, F) + F
    per_token = _norm_flops(D) + 2 * D * 2 * F + gated + 2 * F * D + D
    return flops.as_counts(num_tokens) * per_token


_LAYER, _LAYERS = "model.layers.{layer}", ("encoder", "layers")
_EMBEDDINGS = "model.embeddings"
TENSOR_RULES = (
    Rule(f"{_EMBEDDINGS}.tok_embeddings.weight", ("encoder", "embeddings", "token"), "VD"),
    Rule(f"{_EMBEDDINGS}.norm.weight", ("encoder", "embeddings", "norm", "scale"), "D"),
    Rule(f"{_LAYER}.attn_norm.weight", (*_LAYERS, "attention_norm", "scale"), "D", start=1),
    Rule(f"{_LAYER}.attn.Wqkv.weight", (*_LAYERS, "query_key_value", "kernel"), "DQ"),
    Rule(f"{_LAYER}.attn.Wo.weight", (*_LAYERS, "attention_output", "kernel"), "DD"),
    Rule(f"{_LAYER}.mlp_norm.weight", (*_LAYERS, "ffn_norm", "scale"), "D"),
    Rule(f"{_LAYER}.mlp.Wi.weight", (*_LAYERS, "ffn_in", "kernel"), "DU"),
    Rule(f"{_LAYER}.mlp.Wo.weight", (*_LAYERS, "ffn_out", "kernel"), "FD"),
    Rule("model.final_norm.weight", ("encoder", "final_norm", "scale"), "D"),
)
POOLER_RULES = (
    Rule("head.dense.weight", ("head", "pooler", "kernel"), "DD"),
    Rule("head.norm.weight", ("head", "pooler_norm", "scale"), "D"),
)

MODERNBERT = Encoder(
    name="modernbert",
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
    local_layers=local_layers,
    options_of_layers=options_of_layers,
    final=final,
    needs_positions=True,
    qkv_part=qkv_part,
    pooler_rules=POOLER_RULES,
    config_format=CONFIG_FORMAT,
)
