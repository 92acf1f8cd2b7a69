"""Layers of every encoder, head and pruner: linear maps, norms, activations, dropout, initialisers.

Functions take any leading axes, written X. Letters of this file, in addition to the key of
`types.py`:

    I entries of a linear map's input
    O entries of a linear map's output
    J entries of the input and a row of ones
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from adapler_jax.types import Array, Params

SQRT_HALF = math.sqrt(0.5)


# Only the input is kept for the backward pass: on CPUs reading back four stacked arrays costs more
# than a second erf.
@jax.checkpoint
def gelu_erf(x: Array) -> Array:
    """Return x / 2 (1 + erf(x / sqrt(2))) for an array of any shape.

    `erf` is faster on CPUs than the `erfc` of jax.nn.gelu.
    """
    return 0.5 * x * (1.0 + jax.lax.erf(x * SQRT_HALF))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": gelu_erf,
    "gelu_new": functools.partial(jax.nn.gelu, approximate=True),
    "gelu_pytorch_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "tanh": jnp.tanh,
}


def truncated_normal(key: Array, shape: tuple[int, ...], std: float) -> Array:
    """Return float32 normal values cut at two standard deviations, the initial values of BERT."""
    return std * jax.random.truncated_normal(key, -2.0, 2.0, shape, jnp.float32)


def init_linear(key: Array, shape: tuple[int, ...], std: float) -> Params:
    """Return a random kernel [..., in, out] and a zero bias [..., out]."""
    return {
        "kernel": truncated_normal(key, shape, std),
        "bias": jnp.zeros((*shape[:-2], shape[-1]), jnp.float32),
    }


def init_norm(shape: tuple[int, ...]) -> Params:
    """Return a scale of ones and a bias of zeros."""
    return {"scale": jnp.ones(shape, jnp.float32), "bias": jnp.zeros(shape, jnp.float32)}


def broadcast_last(vector: Array, x: Array) -> Array:
    """Reshape a vector for the last axis of x: ranks are never promoted silently."""
    return vector.reshape((1,) * (x.ndim - 1) + vector.shape)


def matrix_product(x: Array, y: Array, dimensions, *, precision=None) -> Array:
    """Return `jax.lax.dot_general` without batch axes.

    The result is float32 whatever the operands are, which picks the fast kernels.
    """
    return jax.lax.dot_general(
        x, y, (dimensions, ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


@jax.custom_vjp
def linear_bfloat16(kernel: Array, bias: Array, x: Array) -> Array:
    """Return x @ kernel + bias with bfloat16 operands in both passes.

    Args:
      kernel: [I, O].
      bias: [O].
      x: [..., I].

    Returns:
      float32 [..., O].
    """
    return _linear_bfloat16_forward(kernel, bias, x)[0]


def _linear_bfloat16_forward(kernel, bias, x):
    """Return the result, and the operands for the backward pass."""
    kernel, x = kernel.astype(jnp.bfloat16), x.astype(jnp.bfloat16)
    product = matrix_product(x, kernel, ((x.ndim - 1,), (0,)))
    return product + broadcast_last(bias, product), (kernel, x)


def _linear_bfloat16_backward(saved, cotangent):
    """Return the gradients by kernel, bias and input."""
    kernel, x = saved
    cotangent = cotangent.astype(jnp.bfloat16)
    rows_XI, rows_XO = x.reshape(-1, x.shape[-1]), cotangent.reshape(-1, cotangent.shape[-1])
    grads = jax.lax.platform_dependent(
        rows_XI, rows_XO, cpu=_weight_grads_on_cpu, default=_weight_grads
    )
    return *grads, matrix_product(cotangent, kernel, ((cotangent.ndim - 1,), (1,)))


def _weight_grads(rows_XI, rows_XO):
    """Return the gradients of kernel [I, O] and bias [O]."""
    kernel_grad_IO = matrix_product(rows_XI, rows_XO, ((0,), (0,)))
    return kernel_grad_IO, jnp.sum(rows_XO, axis=0, dtype=jnp.float32)


def _weight_grads_on_cpu(rows_XI, rows_XO):
    """Return the gradients of `_weight_grads` from one product.

    XLA for CPUs has no bfloat16 kernel for a transposed left side, and folds a plain transpose into
    the product. A row of ones under the transpose keeps it out, and gives the gradient of the bias.
    """
    left_JX = jnp.concatenate([rows_XI.T, jnp.ones((1, rows_XI.shape[0]), rows_XI.dtype)])
    grad_JO = matrix_product(left_JX, rows_XO, ((1,), (0,)))
    return grad_JO[:-1], grad_JO[-1]


linear_bfloat16.defvjp(_linear_bfloat16_forward, _linear_bfloat16_backward)


def linear(params: Params, x: Array, dtype=jnp.float32, *, precision=None) -> Array:
    """Return x @ kernel + bias with operands in `dtype`, float32 [..., out].

    Args:
      params: a "kernel" [in, out] as published, or a "kernel_OI" that was prepared for inference;
        the "bias" may be absent.
      x: [..., in].
      dtype: of the operands.
      precision: of float32 products, as in `jax.lax.dot_general`. None is the device's default,
        which may round the operands on accelerators.
    """
    if "kernel_OI" in params:
        kernel = params["kernel_OI"].astype(dtype)
        dimensions = ((x.ndim - 1,), (1,))
    elif dtype == jnp.bfloat16 and "bias" in params:
        return linear_bfloat16(params["kernel"], params["bias"], x)
    else:
        kernel = params["kernel"].astype(dtype)
        dimensions = ((x.ndim - 1,), (0,))
    product = matrix_product(x.astype(dtype), kernel, dimensions, precision=precision)
    return product + broadcast_last(params["bias"], product) if "bias" in params else product


def exact_linear(params: Params, x: Array) -> Array:
    """Return `linear` in full float32 precision on every device, for scores in comparisons."""
    return linear(params, x, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.checkpoint, static_argnums=2)
def layer_norm(params: Params, x: Array, epsilon: float) -> Array:
    """Return (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32.

    A norm without bias has no "bias" in its parameters.
    """
    mean = jnp.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = jnp.mean(centred * centred, axis=-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(variance + epsilon) * broadcast_last(params["scale"], x)
    return scaled + broadcast_last(params["bias"], x) if "bias" in params else scaled


def dropout(key: Array | None, x: Array, rate: float) -> Array:
    """Zero entries with probability `rate` and rescale the rest; return x unchanged without a key.

    One random byte decides an entry, for speed. The rate is rounded up to a whole number of 1/256
    (0.1 to 0.1016).
    """
    if key is None or rate == 0.0:
        return x
    num_dropped = min(255, math.ceil(256 * rate))
    words = jax.random.bits(key, (-(-x.size // 4),), jnp.uint32)
    random_bytes = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)
    is_kept = random_bytes[: x.size].reshape(x.shape) >= num_dropped
    return jnp.where(is_kept, x * (256 / (256 - num_dropped)), 0.0)
