"""Parts of the layers of every family, and the record that a family fills.

Letters besides the key of `types.py`:

    I entries of a linear map's input
    R tokens of the longest text, as keys
"""

from typing import NamedTuple, Protocol

from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.linear import linear
from adapler_jax.export.onnx.ranges import InputsFn, Ranges
from adapler_jax.export.onnx.texts import Texts
from adapler_jax.types import EncoderConfig, Params

LARGE_TOKEN = 2.0  # largest entry over the median token's, from which each token has a scale
# Below the values of an activation, for inputs of any size; close to it.
LOWEST = {"gelu": -0.2, "gelu_new": -0.2, "gelu_pytorch_tanh": -0.2, "silu": -0.3, "swish": -0.3}
LOWEST |= {"relu": -0.01, "tanh": -1.0}


class Layer(NamedTuple):
    """One layer of an encoder."""

    number: int  # from 0
    params: Params
    config: EncoderConfig
    ranges: Ranges | None = None  # of its states, where the graph quantizes

    @property
    def name(self) -> str:
        """The beginning of the names of its weights."""
        return f"layers.{self.number}"


class EmbedFn(Protocol):
    """Return the states that enter layer 0, float32 [T, D]."""

    def __call__(
        self,
        graph: Graph,
        params: Params,
        config: EncoderConfig,
        /,
        *,
        token_T: Value,
        segment_T: Value | None,
        position_T: Value,
    ) -> Value:
        """Return the states.

        Args:
          graph: gets the nodes.
          params: of the embeddings.
          config: of the encoder.
          token_T: int64 ids.
          segment_T: int64; None for segment 0.
          position_T: int64, slots of the texts.
        """


class QkvFn(Protocol):
    """Return queries, scaled by 1 / sqrt(K), keys and values in padded form, [B, R, D].

    With `first_only` the queries are of [CLS], [B, 1, D].
    """

    def __call__(
        self,
        graph: Graph,
        layer: Layer,
        hidden_TD: Value,
        texts: Texts,
        /,
        *,
        position_T: Value | None,
        first_only: bool,
    ) -> list[Value]:
        """Return the vectors; positions are int64, None where the encoder needs none."""


class AttentionOutputFn(Protocol):
    """Return the states after the attention half, float32 [..., D]."""

    def __call__(
        self, graph: Graph, layer: Layer, hidden_XD: Value, attended_XD: Value, /
    ) -> Value:
        """Return the states."""


class FeedForwardFn(Protocol):
    """Return the states after the feed-forward half, float32 [..., D]."""

    def __call__(self, graph: Graph, layer: Layer, hidden_XD: Value, /) -> Value:
        """Return the states."""


class FinalFn(Protocol):
    """Return the states that a head sees; `params` is the encoder's tree."""

    def __call__(
        self, graph: Graph, params: Params, config: EncoderConfig, x_XD: Value, /
    ) -> Value:
        """Return the states."""


class PairBiasFn(Protocol):
    """Return what each head adds to the attention logits of pairs, float32 [B, H, Q, R].

    Positions are int64 and original; Q is R, or 1 where [CLS] alone has a query.
    """

    def __call__(
        self, graph: Graph, layer: Layer, query_position_BQ: Value, key_position_BR: Value, /
    ) -> Value:
        """Return the bias."""


class EncoderForm(NamedTuple):
    """A family of encoders as nodes of a graph, on the flat tokens of `texts.py`."""

    embed: EmbedFn
    query_key_value: QkvFn
    attention_output: AttentionOutputFn
    feed_forward: FeedForwardFn
    linear_inputs: InputsFn
    final: FinalFn | None = None  # None: heads see the last layer's states
    pair_bias: PairBiasFn | None = None  # None: no bias


def norm(graph: Graph, name: str, params: Params, x_XD: Value, *, epsilon: float) -> Value:
    """Return the layer norm over the last axis; its parameters may have no bias."""
    parts = [part for part in ("scale", "bias") if part in params]
    weights = [graph.weight(f"{name}.{part}", params[part]) for part in parts]
    return graph.add("LayerNormalization", x_XD, *weights, axis=-1, epsilon=epsilon)


def activate(graph: Graph, activation: str, x: Value) -> Value:
    """Return an activation of `nn.ACTIVATIONS` of an array of any shape."""
    if activation == "gelu":
        return graph.add("Gelu", x)
    if activation in ("gelu_new", "gelu_pytorch_tanh"):
        return graph.add("Gelu", x, approximate="tanh")
    if activation in ("silu", "swish"):
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    return graph.add({"relu": "Relu", "tanh": "Tanh"}[activation], x)


def layer_linear(
    graph: Graph, layer: Layer, part: str, x_XI: Value, *, params: Params | None = None, **options
) -> Value:
    """Return a linear map of a layer.

    Args:
      graph: gets the nodes.
      layer: of the encoder.
      part: name of the map.
      x_XI: float32.
      params: of the map; None for the layer's.
      **options: as in `linear`.
    """
    params = layer.params[part] if params is None else params
    return linear(graph, f"{layer.name}.{part}", params, x_XI, **options)


def layer_norm(graph: Graph, layer: Layer, part: str, x_XD: Value) -> Value:
    """Return a norm of a layer."""
    epsilon = layer.config.norm_epsilon
    return norm(graph, f"{layer.name}.{part}", layer.params[part], x_XD, epsilon=epsilon)
