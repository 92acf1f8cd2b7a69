"""A small encoder with the parts of ModernBERT.

It has pre-norm, no biases, rotary positions and a local attention window.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops
from adapler_jax.encoders import Encoder
from adapler_jax.encoders.local_attention import LocalLayers
from adapler_jax.nn import ACTIVATIONS, dropout, layer_norm, linear, truncated_normal
from adapler_jax.types import Rule

EPSILON = 1e-5
WINDOW = 2  # tokens to each side that a local layer attends to
BASES = (10000.0, 100.0)  # of the rotary angles, in global and local layers
KERNELS = {
    "qkv": lambda D, F: (D, 3 * D),
    "output": lambda D, F: (D, D),
    "ffn_in": lambda D, F: (D, F),
    "ffn_out": lambda D, F: (F, D),
}


def is_local(index):
    """Every other layer, from the second."""
    return index % 2 == 1


def init(key, config):
    N, D, F, std = config.num_layers, config.hidden_dim, config.ffn_dim, config.init_std
    keys = jax.random.split(key, len(KERNELS) + 1)
    layers = {
        name: {"kernel": truncated_normal(keys[place], (N, *shape(D, F)), std)}
        for place, (name, shape) in enumerate(KERNELS.items())
    }
    layers |= {name: {"scale": jnp.ones((N, D))} for name in ("attention_norm", "ffn_norm")}
    return {
        "embeddings": {"token": truncated_normal(keys[-1], (config.vocab_size, D), std)},
        "layers": layers,
        "final_norm": {"scale": jnp.linspace(0.5, 1.5, D)},
    }


def embed(params, config, token_X, segment_X, position_X, *, key=None):
    del segment_X, position_X
    return dropout(key, params["token"][token_X], config.hidden_dropout_prob)


def rotate(x_XHK, position_X, index):
    """Rotate pairs of entries by angles that grow with the position."""
    half = x_XHK.shape[-1] // 2
    base = jnp.where(is_local(index), BASES[1], BASES[0])
    frequency_K = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle_X1K = position_X[..., None, None].astype(jnp.float32) * frequency_K.reshape(
        (1,) * (x_XHK.ndim - 1) + (half,)
    )
    first, second = x_XHK[..., :half], x_XHK[..., half:]
    cos, sin = jnp.cos(angle_X1K), jnp.sin(angle_X1K)
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def qkv(layer, config, hidden_XD, *, index=None, position_X=None, dtype=jnp.float32):
    normed_XD = layer_norm(layer["attention_norm"], hidden_XD, EPSILON)
    joined = linear(layer["qkv"], normed_XD, dtype)
    position_X = jnp.broadcast_to(position_X, hidden_XD.shape[:-1])
    shape = (*hidden_XD.shape[:-1], config.num_heads, config.head_dim)
    query, key, value = (x.reshape(shape) for x in jnp.split(joined, 3, axis=-1))
    query = rotate(query, position_X, index) / math.sqrt(config.head_dim)
    parts = query, rotate(key, position_X, index), value
    return jnp.concatenate([part.reshape(hidden_XD.shape) for part in parts], axis=-1)


def local_layers(config):
    return LocalLayers(tuple(filter(is_local, range(config.num_layers))), WINDOW)


def attention_output(layer, config, hidden_XD, attended_XD, *, key=None, dtype=jnp.float32):
    update_XD = linear(layer["output"], attended_XD, dtype)
    return hidden_XD + dropout(key, update_XD, config.hidden_dropout_prob)


def feed_forward(layer, config, hidden_XD, *, key=None, dtype=jnp.float32):
    normed_XD = layer_norm(layer["ffn_norm"], hidden_XD, EPSILON)
    inner_XF = ACTIVATIONS[config.activation](linear(layer["ffn_in"], normed_XD, dtype))
    update_XD = linear(layer["ffn_out"], inner_XF, dtype)
    return hidden_XD + dropout(key, update_XD, config.hidden_dropout_prob)


def final(params, config, hidden_XD):
    return layer_norm(params["final_norm"], hidden_XD, EPSILON)


def prepare_inference_params(params, config, dtype=jnp.float32):
    """Layers apart, kernels as they are."""
    stacked = jax.tree.map(np.asarray, params["layers"])
    layers = [
        jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
        for index in range(config.num_layers)
    ]
    return params | {"layers": jax.device_put(tuple(layers))}


def embedding_flops(config, num_tokens):
    return 0 * flops.as_counts(num_tokens)


def attention_token_flops(config, num_tokens):
    D = config.hidden_dim
    return flops.as_counts(num_tokens) * (8 * D * D + 8 * D)


def feed_forward_flops(config, num_tokens):
    D, F = config.hidden_dim, config.ffn_dim
    return flops.as_counts(num_tokens) * (4 * D * F + 8 * D + 5 * F)


def key_value_flops(config, num_tokens):
    D = config.hidden_dim
    return flops.as_counts(num_tokens) * 2 * flops.linear_flops(D, D)


_LAYERS = ("encoder", "layers")
# Q is of no config: three vectors side by side. Names begin as wrappers of published ones do.
TENSOR_RULES = (
    Rule("model.embeddings.tok_embeddings.weight", ("encoder", "embeddings", "token"), "VD"),
    Rule("model.layers.{layer}.attn.Wqkv.weight", (*_LAYERS, "qkv", "kernel"), "DQ"),
    Rule("model.layers.{layer}.attn.Wo.weight", (*_LAYERS, "output", "kernel"), "DD"),
    Rule("model.layers.{layer}.mlp.Wi.weight", (*_LAYERS, "ffn_in", "kernel"), "DF"),
    Rule("model.layers.{layer}.mlp.Wo.weight", (*_LAYERS, "ffn_out", "kernel"), "FD"),
    Rule("model.layers.{layer}.attn_norm.weight", (*_LAYERS, "attention_norm", "scale"), "D"),
    Rule("model.layers.{layer}.mlp_norm.weight", (*_LAYERS, "ffn_norm", "scale"), "D"),
    Rule("model.final_norm.weight", ("encoder", "final_norm", "scale"), "D"),
)
TOY = Encoder(
    name="toy",
    init=init,
    embed=embed,
    qkv=qkv,
    attention_output=attention_output,
    feed_forward=feed_forward,
    prepare_inference_params=prepare_inference_params,
    flops=flops.EncoderFlops(
        embedding_flops, attention_token_flops, feed_forward_flops, key_value_flops
    ),
    tensor_rules=TENSOR_RULES,
    local_layers=local_layers,
    final=final,
    needs_positions=True,
)
