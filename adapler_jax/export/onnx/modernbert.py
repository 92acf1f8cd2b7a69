"""ModernBERT as nodes of a graph; `encoders.modernbert` has the equations.

Letters besides the key of `types.py`:

    Z half of the entries of a head      Y heads of queries and keys
    U both halves of W_1 norm(h), 2 F    I entries of a linear map's input
"""

import math

import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import modernbert
from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.layers import (
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
from adapler_jax.nn import layer_norm as normalize
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
    """Return the token embeddings after a norm; arguments as in `EmbedFn`."""
    del segment_T, position_T
    row_TD = take(graph, graph.weight("embeddings.token", params["token"]), token_T)
    return norm(graph, "embeddings.norm", params["norm"], row_TD, epsilon=config.norm_epsilon)


def query_key_value(
    graph: Graph,
    layer: Layer,
    hidden_TD: Value,
    texts: Texts,
    *,
    position_T: Value | None,
    first_only: bool,
) -> list[Value]:
    """Return queries, keys and values; arguments as in `QkvFn`.

    [CLS] is at position 0, so its query alone has no rotation.
    """
    assert position_T is not None
    D = layer.config.hidden_dim
    kernel_DQ = np.array(layer.params["query_key_value"]["kernel"])
    kernel_DQ[:, :D] /= math.sqrt(layer.config.head_dim)
    range_D = layer.ranges and layer.ranges.attention
    input_TD = hidden_TD
    if layer.number > 0:
        input_TD = layer_norm(graph, layer, "attention_norm", hidden_TD)

    def project(part: str, x_XD: Value, kernel_DX: np.ndarray) -> Value:
        """Return a part of the joined map."""
        return layer_linear(graph, layer, part, x_XD, params={"kernel": kernel_DX}, range_I=range_D)

    queries = []
    if first_only:
        query_BD = project("query", take_first(graph, texts, input_TD), kernel_DQ[:, :D])
        queries = [graph.add("Unsqueeze", query_BD, (1,))]
        kernel_DQ = kernel_DQ[:, D:]
    joined_TX = project("key_value" if first_only else "query_key_value", input_TD, kernel_DQ)
    turned_TX, value_TD = graph.add_many(
        "Split", joined_TX, (kernel_DQ.shape[1] - D, D), num_results=2, axis=-1
    )
    turned_TX = rotate(graph, layer, turned_TX, position_T)
    turned_BRX, value_BRD = (take(graph, x_TX, texts.index_BR) for x_TX in (turned_TX, value_TD))
    if first_only:
        return [*queries, turned_BRX, value_BRD]
    parts = graph.add_many("Split", turned_BRX, num_results=2, axis=-1, num_outputs=2)
    return [*parts, value_BRD]


def rotate(graph: Graph, layer: Layer, x_TX: Value, position_T: Value) -> Value:
    """Return vectors of heads, each head's pairs of entries turned by the angles of its token."""
    # Tables, since an engine may compute in bfloat16, which has no room for large angles.
    frequency_Z = np.asarray(modernbert.frequencies(layer.config, jnp.int32(layer.number)))
    position_P11 = np.arange(layer.config.num_positions, dtype=np.float32)[:, None, None]
    cos_T1Z, sin_T1Z = (
        graph.add(
            "Gather",
            graph.constant(function(position_P11 * frequency_Z), np.float32),
            position_T,
            axis=0,
        )
        for function in (np.cos, np.sin)
    )
    x_TYK = graph.add("Reshape", x_TX, (0, -1, layer.config.head_dim))
    first_TYZ, second_TYZ = graph.add_many("Split", x_TYK, num_results=2, axis=-1, num_outputs=2)

    def turn(operator: str, left: Value, right: Value) -> Value:
        """Return left cos -+ right sin."""
        return graph.add(
            operator, graph.add("Mul", left, cos_T1Z), graph.add("Mul", right, sin_T1Z)
        )

    turned = turn("Sub", first_TYZ, second_TYZ), turn("Add", second_TYZ, first_TYZ)
    turned_TYK = graph.add("Concat", *turned, axis=-1)
    return graph.add("Reshape", turned_TYK, graph.add("Shape", x_TX))


def attention_output(graph: Graph, layer: Layer, hidden_XD: Value, attended_XD: Value) -> Value:
    """Return h + W a, the states after the attention half."""
    return graph.add("Add", layer_linear(graph, layer, "attention_output", attended_XD), hidden_XD)


def feed_forward(graph: Graph, layer: Layer, hidden_XD: Value) -> Value:
    """Return h + W2 (act(x) g), the states after the feed-forward half."""
    normed_XD = layer_norm(graph, layer, "ffn_norm", hidden_XD)
    range_D = layer.ranges and layer.ranges.feed_forward
    joined_XU = layer_linear(graph, layer, "ffn_in", normed_XD, range_I=range_D)
    inner_XF, gate_XF = graph.add_many("Split", joined_XU, num_results=2, axis=-1, num_outputs=2)
    inner_XF = graph.add("Mul", activate(graph, layer.config.activation, inner_XF), gate_XF)
    return graph.add("Add", layer_linear(graph, layer, "ffn_out", inner_XF), hidden_XD)


def final(graph: Graph, params: Params, config: EncoderConfig, x_XD: Value) -> Value:
    """Return the states after the last norm."""
    return norm(graph, "final_norm", params["final_norm"], x_XD, epsilon=config.norm_epsilon)


def linear_inputs(
    params: Params,
    config: EncoderConfig,
    hidden_BLD: Array,
    middle_BLD: Array,
    *,
    index: Array,
) -> LinearInputs:
    """Return the inputs of the linear maps; arguments as in `InputsFn`."""
    normed_BLD = normalize(params["ffn_norm"], middle_BLD, config.norm_epsilon)
    inner_BLF, gate_BLF = jnp.split(dense(params["ffn_in"], normed_BLD), 2, axis=-1)
    return LinearInputs(
        modernbert.attention_input(params, config, hidden_BLD, index),
        normed_BLD,
        ACTIVATIONS[config.activation](inner_BLF) * gate_BLF,
    )


MODERNBERT = EncoderForm(
    embed, query_key_value, attention_output, feed_forward, linear_inputs, final
)
