"""The tokens of a batch, text after text in one array, and their padded form for attention.

Values are names in a graph, with the shapes of their arrays. Letters besides the key of
`types.py`:

    R tokens of the longest text      W all slots of the padded form, B R
"""

from typing import NamedTuple

from onnx import TensorProto

from adapler_jax.export.onnx.graph import Graph, Value


class Texts(NamedTuple):
    """The remaining tokens of every text; each has at least [CLS], its first token."""

    num_B1: Value  # int64, tokens of a text
    start_B1: Value  # int64, index of its first token
    lane_R: Value  # int64, 0 to R - 1
    valid_BR: Value  # bool
    index_BR: Value  # int64, token of a padded slot; 0 where not valid


def lay_out(graph: Graph, mask_BX: Value) -> Texts:
    """Return the layout of texts with the true entries of a mask, bool."""
    num_B1 = graph.add("ReduceSum", graph.add("Cast", mask_BX, to=TensorProto.INT64), (1,))
    longest = graph.add("ReduceMax", num_B1, keepdims=0)
    lane_R = graph.add("Range", graph.constant(0), longest, graph.constant(1))
    start_B1 = graph.add("CumSum", num_B1, graph.constant(0), exclusive=1)
    valid_BR = graph.add("Less", lane_R, num_B1)
    index_BR = graph.add("Where", valid_BR, graph.add("Add", lane_R, start_B1), 0)
    return Texts(num_B1, start_B1, lane_R, valid_BR, index_BR)


def flatten(graph: Graph, x: Value) -> Value:
    """Return an array with one axis."""
    return graph.add("Reshape", x, (-1,))


def true_slots(graph: Graph, mask_BX: Value) -> Value:
    """Return the indices of the true entries in the flat mask, int64, increasing."""
    return flatten(graph, graph.add("NonZero", flatten(graph, mask_BX)))


def select(graph: Graph, x_BX: Value, mask_BX: Value) -> Value:
    """Return the entries under a mask, in order, with one axis."""
    # Not the operator Compress: its result has no fixed number of axes in OpenVINO.
    return take(graph, flatten(graph, x_BX), true_slots(graph, mask_BX))


def take(graph: Graph, x_TX: Value, index: Value) -> Value:
    """Return rows of an array."""
    return graph.add("Gather", x_TX, index, axis=0)


def take_first(graph: Graph, texts: Texts, x_TX: Value) -> Value:
    """Return the rows of [CLS], one for each text."""
    return take(graph, x_TX, flatten(graph, texts.start_B1))


def mean_of_texts(graph: Graph, texts: Texts, x_TX: Value) -> Value:
    """Return the mean over the tokens of each text, float32 [B, D]."""
    valid_BR1 = graph.add("Unsqueeze", texts.valid_BR, (2,))
    x_BRX = graph.add("Where", valid_BR1, take(graph, x_TX, texts.index_BR), 0.0)
    total_BX = graph.add("ReduceSum", x_BRX, (1,), keepdims=0)
    return graph.add("Div", total_BX, graph.add("Cast", texts.num_B1, to=TensorProto.FLOAT))


def unpad(graph: Graph, texts: Texts, x_WX: Value) -> Value:
    """Return the rows of tokens out of all rows of the padded form, [T, ...]."""
    return take(graph, x_WX, true_slots(graph, texts.valid_BR))
