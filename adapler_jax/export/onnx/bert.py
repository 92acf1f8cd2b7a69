"""BERT as nodes of a graph; RoBERTa and DistilBERT are BERT once they are loaded.

Letters besides the key of `types.py`:

    I entries of a linear map's input
"""

import math

import numpy as np

from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.layers import (
    LARGE_TOKEN,
    LOWEST,
    EncoderForm,
    Layer,
    activate,
    layer_linear,
    layer_norm,
    norm,
)
from adapler_jax.export.onnx.ranges import LinearInputs
from adapler_jax.export.onnx.texts import Texts, take, take_first
from adapler_jax.nn import ACTIVATIONS
from adapler_jax.nn import linear as dense
from adapler_jax.types import Array, EncoderConfig, Params


def embed(
    graph: Graph,
    params: Params,
    config: EncoderConfig,
    *,
    token_T: Value,
    segment_T: Value | None,
    position_T: Value,
) -> Value:
    """Return the sum of three embeddings after a norm; arguments as in `EmbedFn`."""
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


def query_key_value(
    graph: Graph,
    layer: Layer,
    hidden_TD: Value,
    texts: Texts,
    *,
    position_T: Value | None,
    first_only: bool,
) -> list[Value]:
    """Return queries, keys and values; arguments as in `QkvFn`."""
    del position_T
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
        query_BD = layer_linear(graph, layer, "query", first_BD, params=query, range_I=range_D)
        queries = [graph.add("Unsqueeze", query_BD, (1,))]
    joined = {
        leaf: np.concatenate([part[leaf] for part in parts.values()], axis=-1)
        for leaf in ("kernel", "bias")
    }
    joined_TX = layer_linear(
        graph, layer, "_".join(parts), hidden_TD, params=joined, range_I=range_D
    )
    padded_BRX = take(graph, joined_TX, texts.index_BR)
    num_parts = len(parts)
    return queries + graph.add_many(
        "Split", padded_BRX, num_results=num_parts, axis=-1, num_outputs=num_parts
    )


def attention_output(graph: Graph, layer: Layer, hidden_XD: Value, attended_XD: Value) -> Value:
    """Return norm(h + W a), the states after the attention half."""
    update_XD = layer_linear(graph, layer, "attention_output", attended_XD)
    return layer_norm(graph, layer, "attention_norm", graph.add("Add", update_XD, hidden_XD))


def feed_forward(graph: Graph, layer: Layer, hidden_XD: Value) -> Value:
    """Return norm(h + W2 act(W1 h)), the states after the feed-forward half."""
    range_D = layer.ranges and layer.ranges.feed_forward
    inner_XF = layer_linear(graph, layer, "ffn_in", hidden_XD, range_I=range_D)
    inner_XF = activate(graph, layer.config.activation, inner_XF)
    has_large_tokens = layer.ranges is not None and layer.ranges.token_ratio >= LARGE_TOKEN
    lowest = LOWEST[layer.config.activation] if has_large_tokens else None
    update_XD = layer_linear(graph, layer, "ffn_out", inner_XF, above=lowest)
    return layer_norm(graph, layer, "ffn_norm", graph.add("Add", update_XD, hidden_XD))


def linear_inputs(
    params: Params,
    config: EncoderConfig,
    hidden_BLD: Array,
    middle_BLD: Array,
    *,
    index: Array,
) -> LinearInputs:
    """Return the inputs of the linear maps; arguments as in `InputsFn`."""
    del index
    inner_BLF = ACTIVATIONS[config.activation](dense(params["ffn_in"], middle_BLD))
    return LinearInputs(hidden_BLD, middle_BLD, inner_BLF)


BERT = EncoderForm(embed, query_key_value, attention_output, feed_forward, linear_inputs)
