"""The heads of a saved model as nodes of a graph, after the layers.

Letters besides the key of `types.py`:

    R tokens of the longest text
    E tokens that left the encoder, of all texts
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from adapler_jax.export.onnx.graph import Graph, Value
from adapler_jax.export.onnx.layers import activate, norm
from adapler_jax.export.onnx.linear import linear
from adapler_jax.export.onnx.settings import END_LOGITS, LOGITS, MASK, START_LOGITS, TOKENS
from adapler_jax.export.onnx.texts import (
    Texts,
    flatten,
    lay_out,
    mean_of_texts,
    select,
    take,
    take_first,
)
from adapler_jax.heads import TOKEN_CLASSIFICATION
from adapler_jax.heads.embedding import MEAN, MIN_NORM, TANH
from adapler_jax.heads.pooling import pooling_of
from adapler_jax.types import MASK_BIAS
from adapler_jax.weights.save import Saved

BATCH_AXES = ("batch", "sequence")


@dataclasses.dataclass
class Walk:
    """The remaining tokens between two halves of layers."""

    graph: Graph
    hidden_TD: Value
    texts: Texts
    slot_T: Value  # int64, each token's slot in the flat batch, B L
    token_T: Value  # int64 ids
    exits: list[tuple[Value, Value]]  # states [E, D] and slots [E] of dropped tokens
    ran: list[Value]  # slots of the tokens of each layer
    keeps_exits: bool
    num_slots: Value  # int64 [1], L

    def drop(self, keep_BR: Value) -> None:
        """Leave out all tokens but the kept ones."""
        graph, texts = self.graph, self.texts
        if self.keeps_exits:
            is_gone_BR = graph.add("And", texts.valid_BR, graph.add("Not", keep_BR))
            gone_E = select(graph, texts.index_BR, is_gone_BR)
            self.exits.append(
                (take(graph, self.hidden_TD, gone_E), take(graph, self.slot_T, gone_E))
            )
        kept_T = select(graph, texts.index_BR, keep_BR)
        self.texts = lay_out(graph, keep_BR)
        self.hidden_TD = take(graph, self.hidden_TD, kept_T)
        self.slot_T = take(graph, self.slot_T, kept_T)

    def positions(self) -> Value:
        """Return the original positions, int64 [T]."""
        return self.graph.add("Mod", self.slot_T, self.num_slots)

    def take_all(self) -> None:
        """Take the last states of dropped tokens too, where they are kept."""
        exits = [*self.exits, (self.hidden_TD, self.slot_T)]
        self.hidden_TD, self.slot_T = (
            self.graph.add("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]
            for parts in zip(*exits)
        )

    def take_first(self) -> None:
        """Leave the states of [CLS] alone, float32 [B, D]."""
        self.hidden_TD = take_first(self.graph, self.texts, self.hidden_TD)


def num_logits(saved: Saved) -> int:
    """Return the logits of a text: of its classes, its number, or the entries of its vector."""
    if saved.head.name == "embedding":
        return saved.head.logits_shape(saved.config, 0, 0)[0]
    return len(saved.params["head"]["classifier"]["bias"])


def has_token(walk: Walk) -> Value:
    """Return true for texts with a token, bool [B, 1]."""
    return walk.graph.add("Greater", walk.graph.add("ReduceMax", MASK, (1,), keepdims=1), 0)


def pool(graph: Graph, saved: Saved, state_XD: Value) -> Value:
    """Return what a classifier reads; `heads.classification` has the equation."""
    head, config = saved.params["head"], saved.config
    pooled_XD = linear(graph, "head.pooler", head["pooler"], state_XD, exact=True)
    pooled_XD = activate(graph, config.pooler_activation, pooled_XD)
    if not config.has_pooler_norm:
        return pooled_XD
    params, epsilon = head["pooler_norm"], config.norm_epsilon
    return norm(graph, "head.pooler_norm", params, pooled_XD, epsilon=epsilon)


def classify(walk: Walk, saved: Saved) -> dict[str, Value]:
    """Return the logits of the classes, 0 for a text without a token.

    They are of the state of [CLS], or of the mean of the tokens that are left.
    """
    graph, head, state_BD = walk.graph, saved.params["head"], walk.hidden_TD
    if pooling_of(saved.head) == MEAN:
        state_BD = mean_of_texts(graph, walk.texts, state_BD)
    pooled_BD = pool(graph, saved, state_BD)
    logits_BC = linear(graph, "head.classifier", head["classifier"], pooled_BD, exact=True)
    return {LOGITS: graph.add("Where", has_token(walk), logits_BC, 0.0)}


def score_ends(walk: Walk, saved: Saved) -> dict[str, Value]:
    """Return the logits of each token as first and last of the answer, MASK_BIAS for padding."""
    graph, slots = walk.graph, walk.slot_T
    span = saved.params["head"]["span"]
    logits_E2 = linear(graph, "head.span", span, walk.hidden_TD, exact=True)
    zero_X = graph.add("Cast", graph.add("Mul", flatten(graph, MASK), 0), to=TensorProto.FLOAT)
    is_token_BL = graph.add("Cast", MASK, to=TensorProto.BOOL)
    shape, has_token_B1 = graph.add("Shape", TOKENS), has_token(walk)
    outputs = {}
    for end, name in enumerate((START_LOGITS, END_LOGITS)):
        logits_E = graph.add("Gather", logits_E2, graph.constant(end), axis=1)
        logits_X = graph.add("ScatterElements", zero_X, slots, logits_E, axis=0)
        logits_BL = graph.add("Reshape", logits_X, shape)
        logits_BL = graph.add("Where", is_token_BL, logits_BL, MASK_BIAS)
        outputs[name] = graph.add("Where", has_token_B1, logits_BL, 0.0)
    return outputs


def tag_tokens(walk: Walk, saved: Saved) -> dict[str, Value]:
    """Return the logits of the tags of each token, 0 for padding."""
    graph, slots = walk.graph, walk.slot_T
    classifier = saved.params["head"]["classifier"]
    state_ED = walk.hidden_TD
    if "pooler" in saved.params["head"]:
        state_ED = pool(graph, saved, state_ED)
    logits_EC = linear(graph, "head.classifier", classifier, state_ED, exact=True)
    num_tags = num_logits(saved)
    is_token_X = graph.add("Cast", flatten(graph, MASK), to=TensorProto.FLOAT)
    is_token_X1 = graph.add("Unsqueeze", is_token_X, (1,))
    zero_C = graph.constant(np.zeros(num_tags), np.float32)
    zero_XC = graph.add("Mul", is_token_X1, zero_C)
    slot_E1 = graph.add("Unsqueeze", slots, (1,))
    logits_XC = graph.add("ScatterND", zero_XC, slot_E1, logits_EC)
    logits_XC = graph.add("Mul", logits_XC, is_token_X1)  # an empty text's first slot is no token
    shape = graph.add("Concat", graph.add("Shape", TOKENS), graph.constant([num_tags]), axis=0)
    return {LOGITS: graph.add("Reshape", logits_XC, shape)}


def embed_texts(walk: Walk, saved: Saved) -> dict[str, Value]:
    """Return the vectors of texts as users receive them, 0 for a text without a token."""
    graph, options = walk.graph, dict(saved.head.factory_kwargs)
    vector_BD, dense = walk.hidden_TD, saved.params["head"].get("dense")
    if options["pooling"] == MEAN:
        vector_BD = mean_of_texts(graph, walk.texts, vector_BD)
    if dense is not None:
        vector_BD = linear(graph, "head.dense", dense, vector_BD, exact=True)
        if options["dense_activation"] == TANH:
            vector_BD = activate(graph, TANH, vector_BD)
    if options["normalizes"]:
        length_B1 = graph.add("ReduceL2", vector_BD, (1,), keepdims=1)
        vector_BD = graph.add("Div", vector_BD, graph.add("Max", length_B1, MIN_NORM))
    return {LOGITS: graph.add("Where", has_token(walk), vector_BD, 0.0)}


def axes_of_logits(saved: Saved) -> tuple[str, ...]:
    """Return the axes of logits but the last: of texts, or of tokens."""
    return BATCH_AXES if saved.head is TOKEN_CLASSIFICATION else BATCH_AXES[:1]


HEADS: dict[str, Callable[[Walk, Saved], dict[str, Value]]] = {
    "classification": classify,
    "choice": classify,
    "multi_label": classify,
    "regression": classify,
    "span": score_ends,
    "embedding": embed_texts,
    "token_classification": tag_tokens,
}
OUTPUT_AXES: dict[str, Callable[[Saved], tuple]] = {
    LOGITS: lambda saved: (*axes_of_logits(saved), num_logits(saved)),
    START_LOGITS: lambda saved: BATCH_AXES,
    END_LOGITS: lambda saved: BATCH_AXES,
}
