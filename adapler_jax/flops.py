"""Floating point operations of layers, norms and activations, as plain integer arithmetic.

Convention: every operation that runs is counted at the length at which it runs. A multiply-add is
2. Every other element-wise operation is 1, whatever it computes (exp, erf, tanh, a division, a
comparison). A reduction is 1 an entry. Table look-ups, gathers and copies are 0. A scorer counts
for the tokens that it scores, a layer for the tokens kept. `model_flops` adds them up for whole
models.

Source: the released program of AdapLeR fits constants to a profiler's count (BERT-base: 37872 n^2 +
170216500 n + ...); they agree with this arithmetic within 0.1%. It counts predictors at the length
after their own removal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from adapler_jax.types import EncoderConfig

# Operations an entry. Attention counts in its textbook form, whatever the order in which the
# encoder scales and divides.
_NORM = 7  # two means, difference, square, two products, sum
_SOFTMAX = 5  # maximum, difference, exp, sum, quotient
_LOGIT = 2 + _SOFTMAX  # scaling, key bias, softmax
_ACTIVATION = {
    "gelu": 5,
    "gelu_new": 8,
    "gelu_pytorch_tanh": 8,
    "relu": 1,
    "silu": 4,
    "swish": 4,
    "tanh": 1,
}
DECISION = _SOFTMAX + 4  # of a softmax over tokens: softmax, weight, sum, quotient, threshold

Count = Any  # an int, or an array of NumPy or JAX


class EncoderFlops(NamedTuple):
    """Operations of a family of encoders, functions of (config, tokens), linear in the tokens."""

    embedding: Callable[[EncoderConfig, Count], Count]
    attention_tokens: Callable[
        [EncoderConfig, Count], Count
    ]  # linears, norms and residual of the attention half
    feed_forward: Callable[[EncoderConfig, Count], Count]
    key_value: Callable[[EncoderConfig, Count], Count]  # keys and values alone
    num_pair_terms: int = 0  # added to a logit besides the bias of its key


class SiteFlops(NamedTuple):
    """Operations of a pruner at one site for one token."""

    score: int = 0  # of `Pruner.score`
    decide: int = 0  # of `Pruner.hard`


def as_counts(x: Any) -> Any:
    """Return numbers of tokens, or of operations, in a type that holds their products.

    Whole numbers become int64, and Python's stay as they are: int32 overflows at one layer of 512
    tokens. Arrays of JAX become NumPy's. Traced ones have no values yet and become float32. Soft
    counts stay floats.

    Args:
      x: a number, a list, or an array of NumPy or JAX.
    """
    if isinstance(x, int | float):
        return x
    if isinstance(x, list | tuple):
        x = np.asarray(x)
    if x.dtype.name in ("float16", "bfloat16"):
        x = x.astype(np.float32)
    if np.issubdtype(x.dtype, np.floating):
        is_whole = (
            isinstance(x, np.ndarray | np.generic)
            and np.all(x == np.floor(x))
            and np.all(np.isfinite(x))
        )
        if is_whole:
            return np.asarray(x, np.int64)
        return x
    try:
        return np.asarray(x, np.int64)
    except TypeError:  # traced
        return x.astype(np.float32)


def linear_flops(num_inputs: int, num_outputs: int) -> int:
    """Return the operations of a dense layer with bias, for one token."""
    return 2 * num_inputs * num_outputs + num_outputs


def activation_flops(name: str, dim: int) -> int:
    """Return the operations of an activation of `dim` entries."""
    return _ACTIVATION[name] * dim


def norm_flops(dim: int) -> int:
    """Return the operations of a layer norm for one token; the 2 are epsilon and root."""
    return _NORM * dim + 2


def attention_pair_flops(config: EncoderConfig, num_pairs: Count) -> Count:
    """Return the operations of attention for so many pairs of tokens."""
    return as_counts(num_pairs) * (4 * config.hidden_dim + _LOGIT * config.num_heads)


def significance_flops(
    config: EncoderConfig, length: Count, *, num_pairs: Count | None = None
) -> Count:
    """Return the operations of the attention that `length` tokens receive, without a ranking.

    Args:
      config: of the encoder.
      length: tokens.
      num_pairs: of tokens; None for all.
    """
    length = as_counts(length)
    num_pairs = length * length if num_pairs is None else as_counts(num_pairs)
    return config.num_heads * (2 * num_pairs + 3 * length)


def scorer_flops(config: EncoderConfig, scorer_dim: int) -> int:
    """Return the operations of a scorer D -> P -> 1 for one token.

    In a pre-norm encoder a norm without scale and bias comes before it.
    """
    D = config.hidden_dim
    inner = linear_flops(D, scorer_dim) + (norm_flops(D) - 2 * D if config.is_pre_norm else 0)
    return inner + activation_flops(config.activation, scorer_dim) + linear_flops(scorer_dim, 1)


def pooled_flops(config: EncoderConfig, num_outputs: int) -> int:
    """Return the operations of the pooler and a linear map of so many outputs, for one example."""
    D = config.hidden_dim
    inner = linear_flops(D, D) + activation_flops(config.pooler_activation, D)
    if config.has_pooler_norm:  # neither the linear map nor the norm has a bias
        inner += norm_flops(D) - 2 * D
    return inner + linear_flops(D, num_outputs)


def speedup(dense_B, pruned_B) -> float:
    """Return the sum of the dense over the sum of the pruned operations of a set of examples."""
    return float(np.sum(as_counts(dense_B)) / np.sum(as_counts(pruned_B)))
