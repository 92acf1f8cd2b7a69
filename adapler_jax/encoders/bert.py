"""BERT as pure functions over a parameter tree. Knows nothing of pruning.

The tree: `{"embeddings": {token, position, segment, norm}, "layers": {...}}`; every leaf under `layers` has a leading
layer axis N, so that one `lax.scan` body serves all layers. Kernels are (in, out).

Source: Devlin et al., "BERT", NAACL 2019; names and constants as in the published checkpoints.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.types import MASK_BIAS, EncoderConfig, Params

SQRT_HALF = math.sqrt(0.5)


# Only the input is kept for the backward pass: on CPUs reading back four stacked arrays costs more than a second erf.
@jax.checkpoint
def gelu_erf(x):
    """x / 2 (1 + erf(x / sqrt(2))), any shape; by erf, which is faster on CPUs than jax.nn.gelu's erfc."""
    return 0.5 * x * (1.0 + jax.lax.erf(x * SQRT_HALF))


ACTIVATIONS = {
    "gelu": gelu_erf,
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def truncated_normal(key, shape, std):
    """Normal values cut at two standard deviations, float32 [shape]: the initialiser of BERT."""
    return std * jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


def init_linear(key, shape, std) -> Params:
    """Kernel [..., in, out] and zero bias [..., out]."""
    return {
        "kernel": truncated_normal(key, shape, std),
        "bias": jnp.zeros((*shape[:-2], shape[-1]), jnp.float32),
    }


def init_norm(shape) -> Params:
    """Scale one and bias zero of the given shape."""
    return {"scale": jnp.ones(shape, jnp.float32), "bias": jnp.zeros(shape, jnp.float32)}


def init_encoder(key, config: EncoderConfig) -> Params:
    """A fresh parameter tree, float32, as BERT starts before pre-training."""
    N, D, F, std = config.num_layers, config.hidden_dim, config.ffn_dim, config.init_std
    keys = iter(jax.random.split(key, 9))
    return {
        "embeddings": {
            "token": truncated_normal(next(keys), (config.vocab_size, D), std),
            "position": truncated_normal(next(keys), (config.num_positions, D), std),
            "segment": truncated_normal(next(keys), (config.num_segments, D), std),
            "norm": init_norm((D,)),
        },
        "layers": {
            "query": init_linear(next(keys), (N, D, D), std),
            "key": init_linear(next(keys), (N, D, D), std),
            "value": init_linear(next(keys), (N, D, D), std),
            "attention_output": init_linear(next(keys), (N, D, D), std),
            "attention_norm": init_norm((N, D)),
            "ffn_in": init_linear(next(keys), (N, D, F), std),
            "ffn_out": init_linear(next(keys), (N, F, D), std),
            "ffn_norm": init_norm((N, D)),
        },
    }


def broadcast_last(vector, x):
    """A vector over the last axis of x, with leading axes of one: ranks are never promoted silently."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def matrix_product(x, y, dimensions, *, precision=None):
    """`jax.lax.dot_general` without batch axes; float32 result whatever the operands: that picks the fast kernels."""
    return jax.lax.dot_general(
        x, y, (dimensions, ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


@jax.custom_vjp
def linear_bfloat16(kernel, bias, x):
    """x @ kernel + bias in bfloat16 operands, forward and backward; kernel [I, O], x [..., I], float32 [..., O]."""
    return _linear_bfloat16_forward(kernel, bias, x)[0]


def _linear_bfloat16_forward(kernel, bias, x):
    kernel, x = kernel.astype(jnp.bfloat16), x.astype(jnp.bfloat16)
    product = matrix_product(x, kernel, ((x.ndim - 1,), (0,)))
    return product + broadcast_last(bias, product), (kernel, x)


def _linear_bfloat16_backward(saved, cotangent):
    kernel, x = saved
    cotangent = cotangent.astype(jnp.bfloat16)
    rows_MI, rows_MO = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    grads = jax.lax.platform_dependent(
        rows_MI, rows_MO, cpu=_weight_grads_on_cpu, default=_weight_grads
    )
    return *grads, matrix_product(cotangent, kernel, ((cotangent.ndim - 1,), (1,)))


def _weight_grads(rows_MI, rows_MO):
    """Gradients of kernel [I, O] and bias [O]."""
    return matrix_product(rows_MI, rows_MO, ((0,), (0,))), jnp.sum(
        rows_MO, axis=0, dtype=jnp.float32
    )


def _weight_grads_on_cpu(rows_MI, rows_MO):
    """The same from one product. XLA for CPUs has no bfloat16 kernel for a transposed left side, and folds a plain
    transpose into the product; a row of ones under it keeps it out, and gives the bias its gradient."""
    left_JM = jnp.concatenate([rows_MI.T, jnp.ones((1, rows_MI.shape[0]), rows_MI.dtype)])
    grad_JO = matrix_product(left_JM, rows_MO, ((1,), (0,)))
    return grad_JO[:-1], grad_JO[-1]


linear_bfloat16.defvjp(_linear_bfloat16_forward, _linear_bfloat16_backward)


def linear(params: Params, x, dtype=jnp.float32, *, precision=None):
    """x @ kernel + bias, operands in `dtype`, result float32 [..., out]; the kernel as published or from `prepare_inference_params`.

    precision: of float32 products, as in `jax.lax.dot_general`; None for the device's default, which on accelerators
    may round the operands.
    """
    if "kernel_OI" in params:
        kernel = params["kernel_OI"].astype(dtype)
        product = matrix_product(
            x.astype(dtype), kernel, ((x.ndim - 1,), (1,)), precision=precision
        )
        return product + broadcast_last(params["bias"], product)
    if dtype == jnp.bfloat16:
        return linear_bfloat16(params["kernel"], params["bias"], x)
    kernel = params["kernel"].astype(dtype)
    product = matrix_product(x.astype(dtype), kernel, ((x.ndim - 1,), (0,)), precision=precision)
    return product + broadcast_last(params["bias"], product)


def exact_linear(params: Params, x):
    """`linear` of float32 operands in full precision on every device: for scores that a comparison decides by."""
    return linear(params, x, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.checkpoint, static_argnums=2)
def layer_norm(params: Params, x, epsilon):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32."""
    mean = jnp.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(variance + epsilon) * broadcast_last(params["scale"], x)
    return scaled + broadcast_last(params["bias"], x)


def dropout(key, x, rate):
    """Zeroes entries with probability `rate` and rescales the rest; returns x unchanged where key is None.

    One random byte decides an entry, for speed: the rate is rounded up to a whole number of 1/256 (0.1 to 0.1016).
    """
    if key is None or rate == 0.0:
        return x
    num_dropped = min(255, math.ceil(256 * rate))
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    random_bytes = (
        jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[: x.size].reshape(x.shape)
    )
    return jnp.where(random_bytes >= num_dropped, x * (256 / (256 - num_dropped)), 0.0)


def attention_bias(valid_BS):
    """Additive bias on attention logits, float32 [B, S]: 0 on valid keys, MASK_BIAS on the others."""
    return jnp.where(valid_BS, 0.0, MASK_BIAS)


def check_length(config: EncoderConfig, length: int) -> None:
    """Raises ValueError where a batch has more token slots than the checkpoint has positions."""
    if length > config.num_positions:
        raise ValueError(
            f"a batch of {length} token slots does not fit the encoder's {config.num_positions} positions"
        )


def embed(params: Params, config: EncoderConfig, token_BL, segment_BL, *, key=None):
    """Sum of token, position and segment embeddings, normalised: hidden_BLD float32.

    Raises ValueError where L exceeds the positions of the checkpoint.
    """
    length = token_BL.shape[-1]
    check_length(config, length)
    embedded_BLD = embed_rows(
        params, config, token_BL, params["position"][None, :length], segment_BL
    )
    return dropout(key, embedded_BLD, config.hidden_dropout_prob)


def embed_rows(params: Params, config: EncoderConfig, token_X, position_XD, segment_X):
    """The same of tokens in any layout [...]: position_XD holds the embeddings of their positions, broadcastable."""
    # A one-hot product instead of a gather for the small table: its gradient is a product, not a scatter.
    segment_XD = (
        jax.nn.one_hot(segment_X, config.num_segments, dtype=jnp.float32) @ params["segment"]
    )
    return layer_norm(
        params["norm"], params["token"][token_X] + position_XD + segment_XD, config.norm_epsilon
    )


def split_heads(x_BLD, num_heads):
    """[B, L, D] to [B, H, L, K], the layout in which the attention products are fastest."""
    B, L, D = x_BLD.shape
    return x_BLD.reshape(B, L, num_heads, D // num_heads).transpose(0, 2, 1, 3)


def query_key_value(layer: Params, config: EncoderConfig, hidden_BLD, dtype=jnp.float32):
    """Queries, scaled by 1 / sqrt(K), keys and values of a layer, joined: float32 [..., 3 D] of states [..., D]."""
    if "query_key_value" in layer:
        return linear(layer["query_key_value"], hidden_BLD, dtype)
    query_BLD, key_BLD, value_BLD = (
        linear(layer[name], hidden_BLD, dtype) for name in ("query", "key", "value")
    )
    return jnp.concatenate([query_BLD / math.sqrt(config.head_dim), key_BLD, value_BLD], axis=-1)


def scaled_dot_product_attention(
    query_key_value_BLX,
    bias_BS,
    *,
    num_heads,
    query_mask_BL=None,
    key=None,
    dropout_prob=0.0,
    dtype=jnp.float32,
):
    """softmax(q k^T + bias) v of every head, joined again: float32 [B, L, D]; and `attention_significance` [B, S] of the
    tokens that query_mask_BL names as queries, None where it is None.

    Args: query_key_value_BLX: as `query_key_value` gives it. bias_BS: float32, added to the logits of every head and
    query. key: dropout key of the probabilities. The sum of the exponentials divides what comes out of the product with
    the values: L K quotients a head instead of L S.
    """
    query_BHLK, key_BHSK, value_BHSK = (
        split_heads(x_BLD, num_heads) for x_BLD in jnp.split(query_key_value_BLX, 3, axis=-1)
    )
    logits_BHLS = attention_logits(query_BHLK, key_BHSK, bias_BS, dtype=dtype)
    highest_BHL1 = jax.lax.stop_gradient(jnp.max(logits_BHLS, axis=-1, keepdims=True))
    exp_logits_BHLS = jnp.exp(logits_BHLS - highest_BHL1)
    normalizer_BHL1 = jnp.sum(exp_logits_BHLS, axis=-1, keepdims=True)
    received_BS = (
        None
        if query_mask_BL is None
        else attention_significance(exp_logits_BHLS, normalizer_BHL1, query_mask_BL)
    )
    exp_logits_BHLS = dropout(key, exp_logits_BHLS, dropout_prob)
    mixed_BHLK = jnp.einsum(
        "BHLS,BHSK->BHLK",
        exp_logits_BHLS.astype(dtype),
        value_BHSK.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    B, H, L, K = mixed_BHLK.shape
    return (mixed_BHLK / normalizer_BHL1).transpose(0, 2, 1, 3).reshape(B, L, H * K), received_BS


def attention_logits(query_BHLK, key_BHSK, bias_BS, *, dtype=jnp.float32):
    """q k^T + bias of every head, float32 [B, H, L, S]; the queries are scaled already."""
    logits_BHLS = jnp.einsum(
        "BHLK,BHSK->BHLS",
        query_BHLK.astype(dtype),
        key_BHSK.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    return logits_BHLS + bias_BS[:, None, None, :]


def attention_probs(
    layer: Params, config: EncoderConfig, hidden_BLD, bias_BS, *, dtype=jnp.float32
):
    """What each token of a layer attends to, float32 [B, H, L, S], rows of sum 1; arguments as in `attend`. For looking
    at: the layer itself never holds them."""
    query_BLD, key_BLD, _ = jnp.split(query_key_value(layer, config, hidden_BLD, dtype), 3, axis=-1)
    query_BHLK, key_BHSK = (split_heads(x_BLD, config.num_heads) for x_BLD in (query_BLD, key_BLD))
    return jax.nn.softmax(attention_logits(query_BHLK, key_BHSK, bias_BS, dtype=dtype), axis=-1)


def attention_significance(exp_logits_BHLS, normalizer_BHL1, query_mask_BL):
    """What each token gets of the attention that others pay, mean over the heads: float32 [B, S].

        received(k) = 1 / H sum_h [sum_q A_h(q, k) - A_h(k, k)],   A = power / total, q over the voters

    Args: exp_logits_BHLS: attention before its division by normalizer_BHL1, L = S. query_mask_BL: bool, the queries that count.
    Source: Goyal et al., "PoWER-BERT", ICML 2020, the significance score; its program lets padding vote too.
    """
    share_BHL = jnp.where(query_mask_BL[:, None], 1.0 / normalizer_BHL1[..., 0], 0.0)
    own_BHL = jnp.diagonal(exp_logits_BHLS, axis1=-2, axis2=-1) * share_BHL
    # A product of vector and matrix: a sum over the rows of products strides through memory.
    paid_BS = jnp.einsum(
        "BHL,BHLS->BS", share_BHL, exp_logits_BHLS, precision=jax.lax.Precision.HIGHEST
    )
    return (paid_BS - jnp.sum(own_BHL, axis=1)) / exp_logits_BHLS.shape[1]


def attention_with_significance(
    layer: Params,
    config: EncoderConfig,
    hidden_BLD,
    bias_BS,
    *,
    query_mask_BL=None,
    key=None,
    dtype=jnp.float32,
):
    """Self-attention of one layer with its residual and norm: hidden_BLD float32; and what `scaled_dot_product_attention` counts.

    Args: layer: one slice of `params["layers"]`. bias_BS: float32, added to the logits of every head and query.
    key: dropout key, None to switch dropout off. dtype: of the operands of the products.
    """
    probs_key, output_key = (None, None) if key is None else jax.random.split(key)
    mixed_BLD, received_BL = scaled_dot_product_attention(
        query_key_value(layer, config, hidden_BLD, dtype),
        bias_BS,
        num_heads=config.num_heads,
        query_mask_BL=query_mask_BL,
        key=probs_key,
        dropout_prob=config.attention_dropout_prob,
        dtype=dtype,
    )
    return attention_output(
        layer, config, hidden_BLD, mixed_BLD, key=output_key, dtype=dtype
    ), received_BL


def attend(
    layer: Params, config: EncoderConfig, hidden_BLD, bias_BS, *, key=None, dtype=jnp.float32
):
    """The states of `attention_with_significance` alone."""
    return attention_with_significance(layer, config, hidden_BLD, bias_BS, key=key, dtype=dtype)[0]


def attention_output(
    layer: Params, config: EncoderConfig, hidden_BLD, mixed_BLD, *, key=None, dtype=jnp.float32
):
    """What `scaled_dot_product_attention` gave, through the output projection, residual and norm: any leading axes."""
    update_BLD = linear(layer["attention_output"], mixed_BLD, dtype)
    update_BLD = dropout(key, update_BLD, config.hidden_dropout_prob)
    return layer_norm(layer["attention_norm"], hidden_BLD + update_BLD, config.norm_epsilon)


def feed_forward(layer: Params, config: EncoderConfig, hidden_BLD, *, key=None, dtype=jnp.float32):
    """The feed-forward half of one layer with its residual and norm: hidden_BLD float32."""
    inner_BLF = ACTIVATIONS[config.activation](linear(layer["ffn_in"], hidden_BLD, dtype))
    update_BLD = dropout(
        key, linear(layer["ffn_out"], inner_BLF, dtype), config.hidden_dropout_prob
    )
    return layer_norm(layer["ffn_norm"], hidden_BLD + update_BLD, config.norm_epsilon)


def prepare_inference_params(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """The encoder's parameters as inference reads them fastest, for the same answers.

    Layers are apart, a tuple of trees: scanned ones are copied out of their stack at every call. Query, key and value
    are one kernel, the queries' scaled. Kernels are [out, in], in which the CPU's products are up to a fifth faster on
    few rows, and in `dtype` already. NumPy does it, so that a model is loaded without compiling anything.
    """
    stacked = jax.tree.map(np.asarray, params["layers"])
    num_layers = len(jax.tree.leaves(stacked)[0])

    def turned(layer):
        return {"kernel_OI": layer["kernel"].T.astype(dtype), "bias": layer["bias"]}

    def laid_out(layer):
        query = jax.tree.map(lambda leaf: leaf / math.sqrt(config.head_dim), layer["query"])
        joined = jax.tree.map(
            lambda *leaves: np.concatenate(leaves, axis=-1), query, layer["key"], layer["value"]
        )
        kept = {name: layer[name] for name in ("attention_norm", "ffn_norm")}
        names = ("attention_output", "ffn_in", "ffn_out")
        return (
            kept
            | {"query_key_value": turned(joined)}
            | {name: turned(layer[name]) for name in names}
        )

    layers = [jax.tree.map(lambda leaf: leaf[index], stacked) for index in range(num_layers)]
    return params | {"layers": jax.device_put(tuple(map(laid_out, layers)))}


def scan_layers(step, start, layers, *per_layer):
    """`jax.lax.scan` of step over stacked layers; the same unrolled over layers that are apart."""
    if not isinstance(layers, tuple):
        return jax.lax.scan(step, start, (layers, *per_layer))
    state, outputs = start, []
    for index, layer in enumerate(layers):
        state, output = step(state, (layer, *jax.tree.map(lambda leaf: leaf[index], per_layer)))
        outputs.append(output)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)


def encode(
    params: Params,
    config: EncoderConfig,
    token_BL,
    segment_BL,
    valid_BL,
    *,
    key=None,
    dtype=jnp.float32,
):
    """Plain BERT: embeddings and all layers, hidden_BLD float32. The reference that every driver must reduce to.

    Args: params: {"embeddings", "layers"}, layers stacked or apart as in `scan_layers`. token_BL, segment_BL: int32.
    valid_BL: bool, False on padding. key: dropout key, None to switch dropout off. dtype: of the products' operands.
    """
    embed_key, layers_key = (None, None) if key is None else jax.random.split(key)
    bias_BL = attention_bias(valid_BL)

    def run_layer(hidden_BLD, scanned):
        layer, index = scanned
        attend_key, ffn_key = (
            (None, None) if key is None else jax.random.split(jax.random.fold_in(layers_key, index))
        )
        hidden_BLD = attend(layer, config, hidden_BLD, bias_BL, key=attend_key, dtype=dtype)
        return feed_forward(layer, config, hidden_BLD, key=ffn_key, dtype=dtype), None

    hidden_BLD = embed(params["embeddings"], config, token_BL, segment_BL, key=embed_key)
    hidden_BLD, _ = scan_layers(
        run_layer, hidden_BLD, params["layers"], jnp.arange(config.num_layers)
    )
    return hidden_BLD
