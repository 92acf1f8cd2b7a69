"""Dot-product attention of every encoder family, and the attention that tokens receive."""

from typing import Any

import jax
import jax.numpy as jnp

from adapler_jax.nn import dropout
from adapler_jax.types import (
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    MASK_BIAS,
    OTHERS_ATTENTION,
    VALUE_ATTENTION,
    Array,
    OptionalArray,
    TokenFeatures,
)

# Queries of a long text attend so many at a time: their logits stay in the caches of a CPU.
QUERIES_AT_A_TIME = 128
LONG_ON_CPUS = 256  # slots; texts of more are long
LONG = 2048  # elsewhere, where memory alone matters


def key_bias(valid_BS: Array) -> Array:
    """Return the additive bias of keys, float32 [B, S]: 0 where valid, MASK_BIAS elsewhere."""
    return jnp.where(valid_BS, 0.0, MASK_BIAS)


def split_heads(x_BLD: Array, num_heads: int) -> Array:
    """Reshape [B, L, D] to [B, H, L, K], the layout of the fastest attention products."""
    B, L, D = x_BLD.shape
    return x_BLD.reshape(B, L, num_heads, D // num_heads).transpose(0, 2, 1, 3)


def attention_logits(
    query_BHLK: Array,
    key_BHSK: Array,
    bias_BS: Array,
    pair_bias_BHLS: Array | None = None,
    *,
    dtype=jnp.float32,
) -> Array:
    """Return q k^T + bias of every head, float32 [B, H, L, S]; the queries are already scaled."""
    logits_BHLS = jnp.einsum(
        "BHLK,BHSK->BHLS",
        query_BHLK.astype(dtype),
        key_BHSK.astype(dtype),
        preferred_element_type=jnp.float32,
    )
    logits_BHLS = logits_BHLS + bias_BS[:, None, None, :]
    return logits_BHLS if pair_bias_BHLS is None else logits_BHLS + pair_bias_BHLS


def attention_probs(
    qkv_BLQ: Array,
    bias_BS: Array,
    pair_bias_BHLS: Array | None = None,
    *,
    num_heads: int,
    dtype=jnp.float32,
) -> Array:
    """Return the attention of each token, float32 [B, H, L, S], rows of sum 1; for explanations.

    `qkv_BLQ` is as `Encoder.qkv` returns it, other arguments are as in
    `scaled_dot_product_attention`, which never holds these probabilities.
    """
    query_BLD, key_BLD, _ = jnp.split(qkv_BLQ, 3, axis=-1)
    query_BHLK, key_BHSK = (split_heads(x_BLD, num_heads) for x_BLD in (query_BLD, key_BLD))
    logits_BHLS = attention_logits(query_BHLK, key_BHSK, bias_BS, pair_bias_BHLS, dtype=dtype)
    return jax.nn.softmax(logits_BHLS, axis=-1)


def scaled_dot_product_attention(
    query_BLD: Array,
    key_BSD: Array,
    value_BSD: Array,
    bias_BS: Array,
    pair_bias_BHLS: Array | None = None,
    *,
    num_heads: int,
    query_mask_BL: Array | None = None,
    needs: frozenset[str] = frozenset(),
    key: Array | None = None,
    dropout_prob: float = 0.0,
    dtype=jnp.float32,
) -> tuple[Array, TokenFeatures]:
    """Return softmax(q k^T + bias) v of every head, joined, and the attention that tokens receive.

    Long texts attend some queries at a time, so that no array has all pairs of their tokens.

    Args:
      query_BLD: scaled, of the first L of S tokens.
      key_BSD: of all S tokens.
      value_BSD: of all S tokens.
      bias_BS: float32, added to the logits of every head and query.
      pair_bias_BHLS: float32, added for each query and key; None for none. The first two axes may
        be 1.
      num_heads: heads H.
      query_mask_BL: bool, queries that count in the attention received; not needed where `needs` is
        empty.
      needs: parts of the attention received that a pruner needs, of ATTENTION_NEEDS.
      key: dropout key of the probabilities; None switches dropout off.
      dropout_prob: probability of dropout.
      dtype: of the operands of the products.

    Returns:
      float32 [B, L, D], and the needed features of the keys, float32 [B, S].
    """
    tokens = query_BLD, key_BSD, value_BSD, bias_BS
    options: dict[str, Any] = {"num_heads": num_heads, "query_mask_BL": query_mask_BL}
    options |= {"needs": needs, "dtype": dtype}
    is_long = query_BLD.shape[1] > (LONG_ON_CPUS if jax.default_backend() == "cpu" else LONG)
    has_parts = pair_bias_BHLS is None and key is None and OTHERS_ATTENTION not in needs
    if is_long and has_parts:
        return _attend_in_parts(*tokens, **options)
    return _attend(*tokens, pair_bias_BHLS, key=key, dropout_prob=dropout_prob, **options)


def _attend_in_parts(
    query_BLD: Array,
    key_BSD: Array,
    value_BSD: Array,
    bias_BS: Array,
    *,
    num_heads: int,
    query_mask_BL: Array | None,
    needs: frozenset[str],
    dtype,
) -> tuple[Array, TokenFeatures]:
    """Return what `_attend` returns, at most QUERIES_AT_A_TIME queries after each other."""
    B, L, D = query_BLD.shape
    num_parts = -(-L // QUERIES_AT_A_TIME)
    size = -(-L // num_parts)

    def parts(x_BLX: Array) -> Array:
        """Return the queries' axis in equal parts, which come first; 0 fills up the last."""
        sides = [(0, 0), (0, num_parts * size - L)] + [(0, 0)] * (x_BLX.ndim - 2)
        parted = jnp.pad(x_BLX, sides).reshape(B, num_parts, size, *x_BLX.shape[2:])
        return jnp.moveaxis(parted, 1, 0)

    def run(part: tuple) -> tuple[Array, TokenFeatures]:
        """Return the attention of one part of the queries."""
        query_part, mask_part = part
        return _attend(
            query_part,
            key_BSD,
            value_BSD,
            bias_BS,
            num_heads=num_heads,
            query_mask_BL=mask_part,
            needs=needs,
            dtype=dtype,
        )

    mask_BL = jnp.ones((B, L), bool) if query_mask_BL is None else query_mask_BL
    attended, received = jax.lax.map(run, (parts(query_BLD), parts(mask_BL)))
    attended_BLD = jnp.moveaxis(attended, 0, 1).reshape(B, -1, D)[:, :L]
    cls = received.cls_attention_X
    received = jax.tree.map(lambda x: jnp.sum(x, axis=0), received)
    if cls is not None:  # [CLS] is in the first part
        received = received.replace(cls_attention_X=cls[0])
    return attended_BLD, received


def _attend(
    query_BLD: Array,
    key_BSD: Array,
    value_BSD: Array,
    bias_BS: Array,
    pair_bias_BHLS: Array | None = None,
    *,
    num_heads: int,
    query_mask_BL: Array | None,
    needs: frozenset[str],
    key: Array | None = None,
    dropout_prob: float = 0.0,
    dtype=jnp.float32,
) -> tuple[Array, TokenFeatures]:
    """Return what `scaled_dot_product_attention` returns, all queries at once.

    The sum of the exponentials divides the product with the values: L K quotients a head instead of
    L S.
    """
    query_BHLK, key_BHSK, value_BHSK = (
        split_heads(x_BLD, num_heads) for x_BLD in (query_BLD, key_BSD, value_BSD.astype(dtype))
    )
    logits_BHLS = attention_logits(query_BHLK, key_BHSK, bias_BS, pair_bias_BHLS, dtype=dtype)
    highest_BHL1 = jax.lax.stop_gradient(jnp.max(logits_BHLS, axis=-1, keepdims=True))
    exp_logits_BHLS = jnp.exp(logits_BHLS - highest_BHL1)
    normalizer_BHL1 = jnp.sum(exp_logits_BHLS, axis=-1, keepdims=True)
    received = attention_received(
        exp_logits_BHLS, normalizer_BHL1, value_BHSK, query_mask_BL, needs=needs
    )
    exp_logits_BHLS = dropout(key, exp_logits_BHLS, dropout_prob)
    attended_BHLK = jnp.einsum(
        "BHLS,BHSK->BHLK",
        exp_logits_BHLS.astype(dtype),
        value_BHSK,
        preferred_element_type=jnp.float32,
    )
    B, H, L, K = attended_BHLK.shape
    attended_BLHK = (attended_BHLK / normalizer_BHL1).transpose(0, 2, 1, 3)
    return attended_BLHK.reshape(B, L, H * K), received


def attention_received(
    exp_logits_BHLS: Array,
    normalizer_BHL1: Array,
    value_BHSK: Array,
    query_mask_BL: OptionalArray,
    *,
    needs: frozenset[str],
) -> TokenFeatures:
    """Return the needed parts of the attention that each key receives, float32 [B, S].

        A_h(q, k) = exp_logits / normalizer
        column_attention(k) = 1 / H sum_h sum_q A_h(q, k)
        others_attention(k) = 1 / H sum_h [sum_q A_h(q, k) - A_h(k, k)]
        cls_attention(k)    = 1 / H sum_h A_h(0, k)
        value_attention(k)  = 1 / H sum_h |v_h(k)| sum_q A_h(q, k),   |v| the length of a vector

    Args:
      exp_logits_BHLS: attention before its division by the normalizer.
      normalizer_BHL1: its sums over the keys.
      value_BHSK: v, of the keys.
      query_mask_BL: bool, the queries q that count.
      needs: the parts to compute.

    Source: Goyal et al., "PoWER-BERT", ICML 2020, the significance score, is others_attention; Kim
      et al., "Learned Token Pruning", KDD 2022, equation 1, is column_attention over the number of
      queries. value_attention follows Guo et al., "Attention Score is not All You Need for Token
      Importance Indicator in KV Cache Reduction: Value Also Matters", EMNLP 2024, which takes the
      sum of |v|'s entries.
    """
    num_heads = exp_logits_BHLS.shape[1]
    features = TokenFeatures()
    if CLS_ATTENTION in needs:
        cls_BHS = exp_logits_BHLS[:, :, 0] / normalizer_BHL1[:, :, 0]
        features = features.replace(cls_attention_X=jnp.mean(cls_BHS, axis=1))
    if not needs & {COLUMN_ATTENTION, OTHERS_ATTENTION, VALUE_ATTENTION}:
        return features
    weight_BHL = jnp.where(query_mask_BL[:, None], 1.0 / normalizer_BHL1[..., 0], 0.0)
    if VALUE_ATTENTION in needs:
        features = features.replace(
            value_attention_X=value_attention(exp_logits_BHLS, weight_BHL, value_BHSK)
        )
    if not needs & {COLUMN_ATTENTION, OTHERS_ATTENTION}:
        return features
    # A product of vector and matrix: a sum over the rows of products strides through memory.
    column_sum_BS = jnp.einsum(
        "BHL,BHLS->BS", weight_BHL, exp_logits_BHLS, precision=jax.lax.Precision.HIGHEST
    )
    if COLUMN_ATTENTION in needs:
        features = features.replace(column_attention_X=column_sum_BS / num_heads)
    if OTHERS_ATTENTION in needs:
        diagonal_BHL = jnp.diagonal(exp_logits_BHLS, axis1=-2, axis2=-1) * weight_BHL
        num_others = column_sum_BS.shape[1] - diagonal_BHL.shape[2]  # keys without a query
        own_BS = jnp.pad(jnp.sum(diagonal_BHL, axis=1), ((0, 0), (0, num_others)))
        others_BS = (column_sum_BS - own_BS) / num_heads
        features = features.replace(others_attention_X=others_BS)
    return features


def value_attention(exp_logits_BHLS: Array, weight_BHL: Array, value_BHSK: Array) -> Array:
    """Return the attention that each key receives times the length of its value, float32 [B, S].

    Args:
      exp_logits_BHLS: attention before its division by the normalizer.
      weight_BHL: 1 over the normalizer, and 0 for queries that do not count.
      value_BHSK: of the keys.
    """
    column_BHS = jnp.einsum(
        "BHL,BHLS->BHS", weight_BHL, exp_logits_BHLS, precision=jax.lax.Precision.HIGHEST
    )
    square_BHS = jnp.sum(jnp.square(value_BHSK.astype(jnp.float32)), axis=-1)
    return jnp.mean(column_BHS * jnp.sqrt(square_BHS), axis=1)
