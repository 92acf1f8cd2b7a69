"""ELECTRA as nodes of a graph: BERT's layers after a projection of the embeddings."""

from adapler_jax.export.onnx import bert
from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.linear import linear
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
    """Return the projection of the embeddings; arguments as in `EmbedFn`."""
    state_TX = bert.embed(
        graph, params, config, token_T=token_T, segment_T=segment_T, position_T=position_T
    )
    if "projection" not in params:
        return state_TX
    return linear(graph, "embeddings.projection", params["projection"], state_TX, exact=True)


ELECTRA = bert.BERT._replace(embed=embed)
