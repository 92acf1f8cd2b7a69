"""The layers of BERT as nodes of a graph, on the flat tokens of `texts.py`.

Letters besides the key of `types.py`:

    R tokens of the longest text      W all slots of the padded form, B R
    I entries of a linear map's input
"""

import math
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from adapler_jax.export.onnx.graph import ABSENT, CONTRIB, Graph, Value
from adapler_jax.export.onnx.linear import linear
from adapler_jax.export.onnx.ranges import Ranges
from adapler_jax.export.onnx.texts import Texts, take, take_first, unpad
from adapler_jax.types import (
    CLS_ATTENTION,
    COLUMN_ATTENTION,
    MASK_BIAS,
    OTHERS_ATTENTION,
    VALUE_ATTENTION,
    EncoderConfig,
    Params,
)


def norm(graph: Graph, name: str, params: Params, x_XD: Value, *, epsilon: float) -> Value:
    """Return the layer norm over the last axis."""
    scale, bias = (graph.weight(f"{name}.{part}", params[part]) for part in ("scale", "bias"))
    return graph.add("LayerNormalization", x_XD, scale, bias, axis=-1, epsilon=epsilon)


def activate(graph: Graph, activation: str, x: Value) -> Value:
    """Return an activation of `nn.ACTIVATIONS` of an array of any shape."""
    if activation == "gelu":
        return graph.add("Gelu", x)
    if activation in ("gelu_new", "gelu_pytorch_tanh"):
        return graph.add("Gelu", x, approximate="tanh")
    if activation in ("silu", "swish"):
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return graph.add({"relu": "Relu", "tanh": "Tanh"}[activation], x)


def embed(
    graph: Graph,
    params: Params,
    config: EncoderConfig,
    *,
    token_T: Value,
    segment_T: Value | None,
    position_T: Value,
) -> Value:
    """Return the states that enter layer 0, float32 [T, D].

    Args:
      graph: gets the nodes.
      params: of the embeddings.
      config: of the encoder.
      token_T: int64 ids.
      segment_T: int64; None for segment 0.
      position_T: int64, slots of the texts.
    """
    rows = {
        name: graph.weight(f"embeddings.{name}", params[name])
        for name in ("token", "position", "segment")
    }
    segment_T = "" if segment_T is None else segment_T
    segment_XD = graph.add("Gather", rows["segment"], segment_T or (0,), axis=0)
    sum_TD = graph.add("Gather", rows["token"], token_T, axis=0)
    sum_TD = graph.add("Add", sum_TD, graph.add("Gather", rows["position"], position_T, axis=0))
    sum_TD = graph.add("Add", sum_TD, segment_XD)
    return norm(graph, "embeddings.norm", params["norm"], sum_TD, epsilon=config.norm_epsilon)


LARGE_TOKEN = 2.0  # largest entry over the median token's, from which each token has a scale
# Below the values of an activation, for inputs of any size; close to it.
LOWEST = {"gelu": -0.2, "gelu_new": -0.2, "gelu_pytorch_tanh": -0.2, "silu": -0.3, "swish": -0.3}
LOWEST |= {"relu": -0.01, "tanh": -1.0}


class Layer(NamedTuple):
    """One layer of an encoder."""

    name: str
    params: Params
    config: EncoderConfig
    ranges: Ranges | None = None  # of its states, where the graph quantizes


class Attention(NamedTuple):
    """Results of the attention of one layer."""

    attended_TD: Value  # float32; of [CLS] alone with `first_only`
    received: dict[str, Value]  # need of a pruner -> float32 [B, R]


def attention(
    graph: Graph,
    layer: Layer,
    hidden_TD: Value,
    texts: Texts,
    *,
    first_only: bool,
    needs: frozenset[str],
) -> Attention:
    """Return the attention of the remaining tokens among themselves.

    Args:
      graph: gets the nodes.
      layer: of the encoder.
      hidden_TD: float32.
      texts: their layout.
      first_only: of the queries of [CLS] alone.
      needs: parts of the attention received, of ATTENTION_NEEDS.
    """
    qkv = _padded_qkv(graph, layer, hidden_TD, texts, first_only=first_only)
    if graph.uses_contrib and not needs:
        attended_BQD = _fused_attention(graph, layer.config, qkv, texts)
        received: dict[str, Value] = {}
    else:
        value_BHRK, attended_BQD, prob_BHQR = _plain_attention(graph, layer.config, qkv, texts)
        received = {
            need: _received(graph, need, prob_BHQR, value_BHRK, texts) for need in sorted(needs)
        }
    attended_WD = graph.add("Reshape", attended_BQD, (-1, layer.config.hidden_dim))
    return Attention(attended_WD if first_only else unpad(graph, texts, attended_WD), received)


def _padded_qkv(
    graph: Graph,
    layer: Layer,
    hidden_TD: Value,
    texts: Texts,
    *,
    first_only: bool,
) -> list[Value]:
    """Return queries, scaled by 1 / sqrt(K), keys and values in padded form, [B, R, D].

    With `first_only` the queries are of [CLS], [B, 1, D].
    """
    parts = {
        part: {leaf: np.asarray(array) for leaf, array in layer.params[part].items()}
        for part in ("query", "key", "value")
    }
    scale = math.sqrt(layer.config.head_dim)
    parts["query"] = {leaf: array / scale for leaf, array in parts["query"].items()}
    range_D = layer.ranges and layer.ranges.attention
    queries = []
    if first_only:
        first_BD = take_first(graph, texts, hidden_TD)
        query = parts.pop("query")
        query_BD = linear(graph, f"{layer.name}.query", query, first_BD, range_I=range_D)
        queries = [graph.add("Unsqueeze", query_BD, (1,))]
    joined = {
        leaf: np.concatenate([part[leaf] for part in parts.values()], axis=-1)
        for leaf in ("kernel", "bias")
    }
    name = f"{layer.name}.{'_'.join(parts)}"
    joined_TX = linear(graph, name, joined, hidden_TD, range_I=range_D)
    padded_BRX = take(graph, joined_TX, texts.index_BR)
    num_parts = len(parts)
    return queries + graph.add_many(
        "Split", padded_BRX, num_results=num_parts, axis=-1, num_outputs=num_parts
    )


def _fused_attention(graph: Graph, config: EncoderConfig, qkv: list[Value], texts: Texts) -> Value:
    """Return softmax(q k^T) v by one operator, float32 [B, Q, D]."""
    length_B = graph.add("Cast", graph.add("Reshape", texts.num_B1, (-1,)), to=TensorProto.INT32)
    return graph.add(
        "MultiHeadAttention",
        *qkv,
        ABSENT,  # bias
        length_B,
        domain=CONTRIB,
        num_heads=config.num_heads,
        scale=1.0,
    )


def _plain_attention(
    graph: Graph, config: EncoderConfig, qkv: list[Value], texts: Texts
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


def attention_output(graph: Graph, layer: Layer, hidden_XD: Value, attended_XD: Value) -> Value:
    """Return norm(h + W a), the states after the attention half."""
    update_XD = _layer_linear(graph, layer, "attention_output", attended_XD)
    return _layer_norm(graph, layer, "attention_norm", graph.add("Add", update_XD, hidden_XD))


def feed_forward(graph: Graph, layer: Layer, hidden_XD: Value) -> Value:
    """Return norm(h + W2 act(W1 h)), the states after the feed-forward half."""
    range_D = layer.ranges and layer.ranges.feed_forward
    inner_XF = _layer_linear(graph, layer, "ffn_in", hidden_XD, range_I=range_D)
    inner_XF = activate(graph, layer.config.activation, inner_XF)
    has_large_tokens = layer.ranges is not None and layer.ranges.token_ratio >= LARGE_TOKEN
    lowest = LOWEST[layer.config.activation] if has_large_tokens else None
    update_XD = _layer_linear(graph, layer, "ffn_out", inner_XF, above=lowest)
    return _layer_norm(graph, layer, "ffn_norm", graph.add("Add", update_XD, hidden_XD))


def _layer_linear(graph: Graph, layer: Layer, part: str, x_XI: Value, **options) -> Value:
    """Return a linear map of a layer; options are as in `linear`."""
    return linear(graph, f"{layer.name}.{part}", layer.params[part], x_XI, **options)


def _layer_norm(graph: Graph, layer: Layer, part: str, x_XD: Value) -> Value:
    """Return a norm of a layer."""
    epsilon = layer.config.norm_epsilon
    return norm(graph, f"{layer.name}.{part}", layer.params[part], x_XD, epsilon=epsilon)
