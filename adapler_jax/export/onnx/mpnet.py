"""MPNet as nodes of a graph: BERT's layers with a bias of relative positions."""

import numpy as np

from adapler_jax.encoders import mpnet
from adapler_jax.export.onnx import bert
from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.layers import Layer, norm
from adapler_jax.types import EncoderConfig, Params


def embed(
    graph: Graph,
    params: Params,
    config: EncoderConfig,
    *,
    token_T: Value,
    segment_T: Value | None,
    position_T: Value,
) -> Value:
    """Return the sum of two embeddings after a norm; arguments as in `EmbedFn`."""
    del segment_T
    rows = {
        name: graph.weight(f"embeddings.{name}", params[name]) for name in ("token", "position")
    }
    sum_TD = graph.add(
        "Add",
        graph.add("Gather", rows["token"], token_T, axis=0),
        graph.add("Gather", rows["position"], position_T, axis=0),
    )
    return norm(graph, "embeddings.norm", params["norm"], sum_TD, epsilon=config.norm_epsilon)


def pair_bias(graph: Graph, layer: Layer, query_BQ: Value, key_BR: Value) -> Value:
    """Return the bias of pairs by the distance of their positions; arguments as in `PairBiasFn`."""
    num_positions = layer.config.num_positions
    bias_XH = np.asarray(mpnet.bias_of_distances(layer.params, num_positions)).T
    key_B1R = graph.add("Unsqueeze", key_BR, (1,))
    distance_BQR = graph.add("Sub", key_B1R, graph.add("Unsqueeze", query_BQ, (2,)))
    row_BQR = graph.add("Add", distance_BQR, num_positions - 1)
    # The table is the same in all layers, and so one constant.
    bias_BQRH = graph.add("Gather", graph.constant(bias_XH, np.float32), row_BQR, axis=0)
    return graph.add("Transpose", bias_BQRH, perm=[0, 3, 1, 2])


MPNET = bert.BERT._replace(embed=embed, pair_bias=pair_bias)
