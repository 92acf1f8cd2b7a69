"""Tokens per layer -> floating point operations. Plain integer arithmetic from the sizes of the encoder.

Convention: every operation that runs is counted at the length at which it runs. A multiply-add is 2; every other
element-wise operation is 1, whatever it computes (exp, erf, tanh, a division, a comparison); a reduction is 1 an entry.
Table look-ups, gathers and copies are 0. A predictor is charged for the tokens that it *reads*, a layer for those kept.

Source: the released program of AdapLeR fits constants to a profiler's count (BERT-base: 37872 n^2 + 170216500 n + ...);
they agree with this arithmetic within 0.1%. It charges predictors at the length after their own removal; here not.
"""

from collections.abc import Sequence

import numpy as np

from adapler_jax.types import BEFORE_FEED_FORWARD, EncoderConfig, Params, Site

# Operations an entry. Attention counts in its textbook form; encoder.py scales queries and divides after the values.
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
_SCORE = _SOFTMAX + 4  # softmax, weight, sum, quotient, threshold


def as_counts(x):
    """Numbers of tokens, or of operations, in a type that holds their products.

    Args: x: a number, a list, or an array of NumPy or JAX. Whole numbers become int64, and of Python stay as they are;
    int32 overflows at one layer of 512 tokens. JAX's become NumPy's, but for traced ones, whose values nobody knows
    yet: those become float32. Soft counts stay floats.
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


def leaf_predictor_dim(params: Params) -> int:
    """Hidden units P of the contribution predictors in the tree, 0 without any."""
    hidden = params.get("pruner", {}).get("hidden")
    return 0 if hidden is None else hidden["bias"].shape[-1]


def linear_flops(num_inputs, num_outputs):
    """A dense layer with bias, for one token."""
    return 2 * num_inputs * num_outputs + num_outputs


def activation_flops(name: str, dim):
    """An activation of `dim` entries."""
    return _ACTIVATION[name] * dim


def norm_flops(dim):
    """A LayerNorm, for one token; the two are epsilon and root."""
    return _NORM * dim + 2


def embedding_flops(config: EncoderConfig, length):
    """One-hot product with the segment table, two sums and the norm, for `length` tokens (int or int array)."""
    length = as_counts(length)
    D = config.hidden_dim
    return length * (2 * config.num_segments * D + 2 * D + norm_flops(D))


def attention_flops(config: EncoderConfig, length):
    """The attention half of one layer, with residual and norm, on `length` tokens (int or int array)."""
    length = as_counts(length)
    return attention_row_flops(config, length) + attention_pair_flops(config, length * length)


def attention_row_flops(config: EncoderConfig, length):
    """Of the attention half what is done token by token: its four linears, residual and norm."""
    D = config.hidden_dim
    return as_counts(length) * (4 * linear_flops(D, D) + D + norm_flops(D))


def attention_pair_flops(config: EncoderConfig, num_pairs):
    """Of the attention half what is done for pairs of tokens, for so many pairs."""
    return as_counts(num_pairs) * (4 * config.hidden_dim + _LOGIT * config.num_heads)


def feed_forward_flops(config: EncoderConfig, length):
    """The feed-forward half of one layer, with residual and norm, on `length` tokens (int or int array)."""
    length = as_counts(length)
    D, F = config.hidden_dim, config.ffn_dim
    linear = linear_flops(D, F) + linear_flops(F, D)
    return length * (linear + activation_flops(config.activation, F) + D + norm_flops(D))


def layer_flops(config: EncoderConfig, length):
    """One encoder layer on `length` tokens (int or int array)."""
    return attention_flops(config, length) + feed_forward_flops(config, length)


def significance_flops(config: EncoderConfig, length):
    """What `encoder.attention_significance` takes of the attention among `length` tokens; their ranking is left out."""
    length = as_counts(length)
    return length * config.num_heads * (2 * length + 3)


def predictor_flops(config: EncoderConfig, length, *, predictor_dim: int):
    """One contribution predictor and its decision on `length` tokens; 0 where predictor_dim is 0."""
    reading = reading_flops(config, length, predictor_dim=predictor_dim)
    return reading + decision_flops(length, predictor_dim=predictor_dim)


def reading_flops(config: EncoderConfig, length, *, predictor_dim: int):
    """What a predictor does token by token, on `length` tokens; 0 where predictor_dim is 0."""
    length = as_counts(length)
    if predictor_dim == 0:
        return 0 * length
    inner = linear_flops(config.hidden_dim, predictor_dim) + activation_flops(
        config.activation, predictor_dim
    )
    return length * (inner + linear_flops(predictor_dim, 1))


def decision_flops(length, *, predictor_dim: int):
    """What the decision by a predictor's scores does, on `length` tokens; 0 where predictor_dim is 0."""
    return as_counts(length) * (_SCORE if predictor_dim else 0)


def pooled_flops(config: EncoderConfig, num_outputs: int) -> int:
    """Pooler and a linear of so many outputs, for one example."""
    D = config.hidden_dim
    return linear_flops(D, D) + D + linear_flops(D, num_outputs)


def dense_flops(config: EncoderConfig, length_B, *, head):
    """Plain BERT on examples of these lengths: int64 [B], float32 of soft counts.

    embedding(n) + N layer(n) + head,    head: operations of the head, a number or [B]
    """
    length_B = np.int64(length_B) if isinstance(length_B, int) else as_counts(length_B)
    head = as_counts(head)
    return (
        embedding_flops(config, length_B) + config.num_layers * layer_flops(config, length_B) + head
    )


def pruned_flops(
    config: EncoderConfig, length_B, kept_NB, *, sites: Sequence[Site], predictor_dim: int, head
):
    """The same of a model that drops tokens at its sites: int64 [B], float32 of soft counts.

        before the attention:     embedding(n) + sum_l [predictor(n_{l-1}) + layer(n_l)] + head,    n_{-1} = n
        before the feed-forward:  embedding(n) + sum_l [attention(n_{l-1}) + significance(n_{l-1}) + ffn(n_l)] + head

    Args: length_B: tokens of each example without padding. kept_NB: tokens n_l that are left in layer l. For the
    operations that a padded batch executes, give padded lengths. sites: of the pruner; a layer without one has no
    predictor. predictor_dim: 0 for methods without predictors. head: operations of the head, a number or [B].
    """
    total_B = embedding_flops(config, length_B) + as_counts(head)
    points = {site.layer: site.point for site in sites}
    entering_B = as_counts(length_B)
    for layer, kept_B in enumerate(as_counts(kept_NB)):
        if points.get(layer) == BEFORE_FEED_FORWARD:
            total_B = (
                total_B
                + attention_flops(config, entering_B)
                + significance_flops(config, entering_B)
            )
            total_B = total_B + feed_forward_flops(config, kept_B)
        else:
            if layer in points:
                total_B = total_B + predictor_flops(config, entering_B, predictor_dim=predictor_dim)
            total_B = total_B + layer_flops(config, kept_B)
        entering_B = kept_B
    return total_B


def speedup(dense_B, pruned_B) -> float:
    """Sum of the dense over sum of the pruned operations of a set of examples."""
    return float(np.sum(as_counts(dense_B)) / np.sum(as_counts(pruned_B)))
