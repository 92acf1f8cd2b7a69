"""The hard rules of the pruners as nodes of a graph; `pruning/` has the equations.

Letters besides the key of `types.py`:

    R tokens of the longest text
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from onnx import TensorProto

from adapler_jax.export.onnx.budgets import SiteValues
from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.layers import activate, norm
from adapler_jax.export.onnx.linear import linear
from adapler_jax.export.onnx.texts import Texts
from adapler_jax.pruning.adapler import MASKED_LOGIT, SCORE_RTOL
from adapler_jax.pruning.shares import ROUNDING
from adapler_jax.pruning.trbert import KEEP_PROBABILITY, SELECTOR_ACTIVATION
from adapler_jax.types import Params

KeepFn = Callable[[Graph, Texts, Value, SiteValues], Value]
NO_VALUES = ""  # leaf of a pruner without a value for each site


class Rule(NamedTuple):
    """How one pruner drops tokens."""

    keep: KeepFn  # (graph, texts, score of padded slots [B, R], values) -> bool [B, R]
    leaf: str = NO_VALUES  # the pruner's value for each site
    full: float = 0.0  # value that keeps all tokens
    # Of the network that scores states; empty for the encoder's.
    activation: str = ""


def score_states(
    graph: Graph,
    name: str,
    site_params: Params,
    hidden_TD: Value,
    *,
    activation: str,
    norm_epsilon: float | None = None,
) -> Value:
    """Return the number of a small network for each state, float32 [T].

    Args:
      graph: gets the nodes.
      name: beginning of the names of its weights.
      site_params: of the network.
      hidden_TD: float32.
      activation: a name in nn.ACTIVATIONS.
      norm_epsilon: as in `scores.scorer_logits`.
    """
    if norm_epsilon is not None:
        ones_D = np.ones(np.shape(site_params["hidden"]["kernel"])[0], np.float32)
        hidden_TD = norm(graph, f"{name}.norm", {"scale": ones_D}, hidden_TD, epsilon=norm_epsilon)
    inner_TP = linear(graph, f"{name}.hidden", site_params["hidden"], hidden_TD, exact=True)
    inner_TP = activate(graph, activation, inner_TP)
    kernel_P1 = np.asarray(site_params["score"]["kernel"])
    as_vector = {"kernel": kernel_P1[:, 0], "bias": site_params["score"]["bias"]}
    return linear(graph, f"{name}.score", as_vector, inner_TP, exact=True)


def keep_above_threshold(graph: Graph, texts: Texts, logit_BR: Value, values: SiteValues) -> Value:
    """Keep [CLS] and every token with softmax(z) >= eta / n; AdapLeR."""
    masked_BR = graph.add("Where", texts.valid_BR, logit_BR, MASKED_LOGIT)
    score_BR = graph.add("Softmax", masked_BR, axis=-1)
    eta_B1 = graph.add("Mul", values.value, 1.0 - SCORE_RTOL)
    is_low_BR = graph.add("Less", score_BR, graph.add("Div", eta_B1, _num_tokens(graph, texts)))
    keep_BR = with_first(graph, texts, graph.add("Not", is_low_BR))
    if values.share is None:
        return keep_BR
    ranked_BR = keep_share(graph, texts, score_BR, SiteValues(values.share))
    # Not Where: ONNX Runtime has none for truth values. Without a share no token is ranked too low.
    no_share_B1 = graph.add("IsNaN", values.share)
    ranked_BR = graph.add("Or", ranked_BR, no_share_B1)
    return graph.add("And", graph.add("Or", keep_BR, graph.add("Not", no_share_B1)), ranked_BR)


def keep_probable(graph: Graph, texts: Texts, logit_BR: Value, values: SiteValues) -> Value:
    """Keep [CLS] and tokens whose probability is at least a half; TR-BERT."""
    del values
    prob_BR = graph.add("Sigmoid", logit_BR)
    return with_first(graph, texts, graph.add("Not", graph.add("Less", prob_BR, KEEP_PROBABILITY)))


def keep_received(graph: Graph, texts: Texts, received_BR: Value, values: SiteValues) -> Value:
    """Keep [CLS] and tokens whose mean received attention is above the threshold; LTP."""
    mean_BR = graph.add("Div", received_BR, _num_tokens(graph, texts))
    is_low_BR = graph.add("LessOrEqual", mean_BR, values.value)
    return with_first(graph, texts, graph.add("Not", is_low_BR))


def keep_share(graph: Graph, texts: Texts, score_BR: Value, values: SiteValues) -> Value:
    """Keep [CLS] and the highest scores, a share of each text; methods without training."""
    num_B1 = _num_tokens(graph, texts)
    asked_B1 = graph.add("Ceil", graph.add("Sub", graph.add("Mul", values.value, num_B1), ROUNDING))
    count_B1 = graph.add("Min", num_B1, graph.add("Max", asked_B1, 1.0))
    return keep_highest(graph, texts, score_BR, SiteValues(count_B1))


def keep_highest(graph: Graph, texts: Texts, score_BR: Value, values: SiteValues) -> Value:
    """Keep [CLS] and the highest scores, at most a number of tokens; PoWER-BERT."""
    infinity = float("inf")
    ranked_BR = graph.add("Where", _is_first(graph, texts), infinity, score_BR)
    ranked_BR = graph.add("Where", texts.valid_BR, ranked_BR, -infinity)
    num_slots = graph.add("Shape", ranked_BR, start=1, end=2)
    # Of equal scores TopK puts the earlier token first. The order of the order is the rank.
    _, order_BR = graph.add_many("TopK", ranked_BR, num_slots, num_results=2, axis=-1)
    _, rank_BR = graph.add_many("TopK", order_BR, num_slots, num_results=2, axis=-1, largest=0)
    is_high_BR = graph.add("Less", graph.add("Cast", rank_BR, to=TensorProto.FLOAT), values.value)
    return graph.add("And", texts.valid_BR, is_high_BR)


def with_first(graph: Graph, texts: Texts, keep_BR: Value) -> Value:
    """Return the selection with [CLS] and without padding."""
    keep_BR = graph.add("Or", keep_BR, _is_first(graph, texts))
    return graph.add("And", texts.valid_BR, keep_BR)


def _is_first(graph: Graph, texts: Texts) -> Value:
    """Return true for [CLS], bool [R]."""
    return graph.add("Equal", texts.lane_R, 0)


def _num_tokens(graph: Graph, texts: Texts) -> Value:
    """Return the tokens of each text, float32 [B, 1]."""
    return graph.add("Cast", texts.num_B1, to=TensorProto.FLOAT)


RULES = {
    "adapler": Rule(keep_above_threshold, "threshold_N"),
    "attention": Rule(keep_share, "share_J", full=1.0),
    "ltp": Rule(keep_received, "score_threshold_N"),
    "powerbert": Rule(keep_highest, "retention_N"),
    "trbert": Rule(keep_probable, activation=SELECTOR_ACTIVATION),
    "vocabulary": Rule(keep_share, "share_J", full=1.0),
}
