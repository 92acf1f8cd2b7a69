"""The attention of a layer as nodes of a graph, on the padded form of `texts.py`.

Letters besides the key of `types.py`:

    R tokens of the longest text      W all slots of the padded form, B R
"""

import functools
from typing import NamedTuple

from onnx import TensorProto

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import local_layers
from adapler_jax.encoders.local_attention import is_local
from adapler_jax.export.onnx.graph import ABSENT, CONTRIB, Graph, Value
from adapler_jax.export.onnx.layers import EncoderForm, Layer
from adapler_jax.export.onnx.texts import Texts, take, unpad
from adapler_jax.types import (
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    MASK_BIAS,
    OTHERS_ATTENTION,
    VALUE_ATTENTION,
    EncoderConfig,
)


class Attention(NamedTuple):
    """Results of the attention of one layer."""

    attended_TD: Value  # float32; of [CLS] alone with `first_only`
    received: dict[str, Value]  # need of a pruner -> float32 [B, R]


def attention(
    graph: Graph,
    form: EncoderForm,
    layer: Layer,
    hidden_TD: Value,
    texts: Texts,
    *,
    position_T: Value | None,
    first_only: bool,
    needs: frozenset[str],
) -> Attention:
    """Return the attention of the remaining tokens among themselves.

    Args:
      graph: gets the nodes.
      form: of the family.
      layer: of the encoder.
      hidden_TD: float32.
      texts: their layout.
      position_T: int64 original positions; None where the encoder needs none.
      first_only: of the queries of [CLS] alone.
      needs: parts of the attention received, of ATTENTION_NEEDS.
    """
    qkv = form.query_key_value(
        graph, layer, hidden_TD, texts, position_T=position_T, first_only=first_only
    )
    bias_BHQR = _pair_bias(graph, form, layer, texts, position_T, first_only=first_only)
    if graph.uses_contrib and not needs:
        attended_BQD = _fused_attention(graph, layer.config, qkv, texts, bias_BHQR)
        received: dict[str, Value] = {}
    else:
        value_BHRK, attended_BQD, prob_BHQR = _plain_attention(
            graph, layer.config, qkv, texts, bias_BHQR
        )
        received = {
            need: _received(graph, need, prob_BHQR, value_BHRK, texts) for need in sorted(needs)
        }
    attended_WD = graph.add("Reshape", attended_BQD, (-1, layer.config.hidden_dim))
    return Attention(attended_WD if first_only else unpad(graph, texts, attended_WD), received)


def _pair_bias(
    graph: Graph,
    form: EncoderForm,
    layer: Layer,
    texts: Texts,
    position_T: Value | None,
    *,
    first_only: bool,
) -> Value | None:
    """Return what is added to the logits of pairs, float32 [B, H, Q, R], H may be 1.

    It is the family's bias, or the window of a local layer; None without either.
    """
    local, bias_of = local_layers(encoder_of(layer.config), layer.config), form.pair_bias
    if local is not None and is_local(local, layer.number):
        bias_of = functools.partial(_window_bias, window=local.window)
    if position_T is None or bias_of is None:
        return None
    key_BR = take(graph, position_T, texts.index_BR)
    query_BQ = graph.add("Gather", key_BR, (0,), axis=1) if first_only else key_BR
    return bias_of(graph, layer, query_BQ, key_BR)


def _window_bias(
    graph: Graph, layer: Layer, query_BQ: Value, key_BR: Value, *, window: int
) -> Value:
    """Return MASK_BIAS for pairs that a local layer leaves out, else 0: float32 [B, 1, Q, R]."""
    del layer
    query_B1Q1 = graph.add("Unsqueeze", query_BQ, (1, 3))
    key_B11R = graph.add("Unsqueeze", key_BR, (1, 2))
    distance_B1QR = graph.add("Abs", graph.add("Sub", query_B1Q1, key_B11R))
    is_near_B1QR = graph.add("LessOrEqual", distance_B1QR, window)
    return graph.add("Where", is_near_B1QR, 0.0, MASK_BIAS)


def _fused_attention(
    graph: Graph,
    config: EncoderConfig,
    qkv: list[Value],
    texts: Texts,
    bias_BHQR: Value | None,
) -> Value:
    """Return softmax(q k^T) v by one operator, float32 [B, Q, D]."""
    length_B = graph.add("Cast", graph.add("Reshape", texts.num_B1, (-1,)), to=TensorProto.INT32)
    return graph.add(
        "MultiHeadAttention",
        *qkv,
        ABSENT,  # bias
        length_B,
        *(() if bias_BHQR is None else (bias_BHQR,)),
        domain=CONTRIB,
        num_heads=config.num_heads,
        scale=1.0,
    )


def _plain_attention(
    graph: Graph,
    config: EncoderConfig,
    qkv: list[Value],
    texts: Texts,
    bias_BHQR: Value | None,
) -> tuple[Value, Value, Value]:
    """Return v by heads, softmax(q k^T) v, float32 [B, Q, D], and the probabilities.

    The probabilities are float32 [B, H, Q, R], and v is [B, H, R, K].
    """
    by_head = (0, 0, config.num_heads, config.head_dim)
    query_BHQK, key_BHKR, value_BHRK = (
        graph.add("Transpose", graph.add("Reshape", part, by_head), perm=perm)
        for part, perm in zip(qkv, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]))
    )
    bias_BR = graph.add("Where", texts.valid_BR, 0.0, MASK_BIAS)
    logits_BHQR = graph.add("MatMul", query_BHQK, key_BHKR)
    logits_BHQR = graph.add("Add", logits_BHQR, graph.add("Unsqueeze", bias_BR, (1, 2)))
    if bias_BHQR is not None:
        logits_BHQR = graph.add("Add", logits_BHQR, bias_BHQR)
    prob_BHQR = graph.add("Softmax", logits_BHQR, axis=-1)
    attended_BHQK = graph.add("MatMul", prob_BHQR, value_BHRK)
    attended_BQHK = graph.add("Transpose", attended_BHQK, perm=[0, 2, 1, 3])
    attended_BQD = graph.add("Reshape", attended_BQHK, (0, 0, config.hidden_dim))
    return value_BHRK, attended_BQD, prob_BHQR


def _received(graph: Graph, need: str, prob_BHQR: Value, value_BHRK: Value, texts: Texts) -> Value:
    """Return the attention that each token receives, as `encoders.attention` defines it.

    Padding gets any number.
    """
    if need == VALUE_ATTENTION:
        length_BHR1 = graph.add("ReduceL2", value_BHRK, (-1,))
        length_BH1R = graph.add("Transpose", length_BHR1, perm=[0, 1, 3, 2])
        prob_BHQR = graph.add("Mul", prob_BHQR, length_BH1R)
    prob_BQR = graph.add("ReduceMean", prob_BHQR, (1,), keepdims=0)
    if need == CLS_ATTENTION:
        return graph.add("Gather", prob_BQR, graph.constant(0), axis=1)
    is_query_BR = graph.add("Cast", texts.valid_BR, to=TensorProto.FLOAT)
    weight_BQR = graph.add("Unsqueeze", is_query_BR, (2,))
    if need == OTHERS_ATTENTION:
        lane_Q1 = graph.add("Unsqueeze", texts.lane_R, (1,))
        is_other_QR = graph.add("Not", graph.add("Equal", lane_Q1, texts.lane_R))
        other_QR = graph.add("Cast", is_other_QR, to=TensorProto.FLOAT)
        weight_BQR = graph.add("Mul", weight_BQR, other_QR)
    elif need not in (COLUMN_ATTENTION, VALUE_ATTENTION):
        raise ValueError(f"unknown need {need!r}")
    weighted_BQR = graph.add("Mul", prob_BQR, weight_BQR)
    return graph.add("ReduceSum", weighted_BQR, (1,), keepdims=0)
