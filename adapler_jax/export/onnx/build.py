"""Walk the layers of a saved model and put them into a graph with its pruner.

Letters besides the key of `types.py`:

    R tokens of the longest text
    E tokens that left the encoder, of all texts
"""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
import onnx
from onnx import TensorProto

import adapler_jax
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import layers_of
from adapler_jax.export.onnx.attention import attention
from adapler_jax.export.onnx.bert import BERT
from adapler_jax.export.onnx.budgets import SiteValues, values_of_sites
from adapler_jax.export.onnx.electra import ELECTRA
from adapler_jax.export.onnx.graph import OPSETS, Graph, Value
from adapler_jax.export.onnx.heads import BATCH_AXES, HEADS, OUTPUT_AXES, Walk, num_logits
from adapler_jax.export.onnx.layers import EncoderForm, Layer
from adapler_jax.export.onnx.modernbert import MODERNBERT
from adapler_jax.export.onnx.mpnet import MPNET
from adapler_jax.export.onnx.ranges import Ranges, end_tokens, state_ranges
from adapler_jax.export.onnx.rules import NO_VALUES, RULES, score_states
from adapler_jax.export.onnx.settings import (
    BUDGET,
    KEPT,
    MASK,
    READING,
    SEGMENTS,
    SETTINGS,
    TOKENS,
    file_digests,
)
from adapler_jax.export.onnx.texts import (
    flatten,
    lay_out,
    take,
    true_slots,
)
from adapler_jax.heads import MULTI_LABEL, TOKEN_CLASSIFICATION
from adapler_jax.inference.calibration import Calibration, read_calibration
from adapler_jax.inference.label_sets import saved_thresholds
from adapler_jax.inference.loading import threshold_of
from adapler_jax.inference.model_kind import max_length_of
from adapler_jax.inference.text_reader import INFERENCE_FIELDS
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.pruning.base import check_supported, for_first_token
from adapler_jax.types import (
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    STATE,
    TOKEN,
    EncoderConfig,
    Params,
)
from adapler_jax.weights.save import Saved
from adapler_jax.weights.sentence_modules import COSINE, DEFAULT_PROMPT, PROMPTS, SIMILARITY

FORMS: dict[str, EncoderForm] = {  # by family
    "bert": BERT,
    "electra": ELECTRA,
    "modernbert": MODERNBERT,
    "mpnet": MPNET,
}


@dataclasses.dataclass(frozen=True)
class Sites:
    """A pruner with its parameters and its values at the budgets of the texts."""

    pruner: Pruner
    params: Params
    values: list[SiteValues]

    def apply(self, walk: Walk, config: EncoderConfig, site, received: dict[str, Value]) -> None:
        """Drop tokens at a site."""
        index = self.pruner.sites.index(site)
        site_params = jax.tree.map(lambda leaf: np.asarray(leaf)[index], self.params)
        graph, name, rule = walk.graph, f"pruner.{site.layer}", RULES[self.pruner.name]
        if STATE in self.pruner.needs:
            logit_T = score_states(
                graph,
                name,
                site_params,
                walk.hidden_TD,
                activation=rule.activation or config.activation,
                norm_epsilon=config.norm_epsilon if config.is_pre_norm else None,
            )
            score_BR = take(graph, logit_T, walk.texts.index_BR)
        elif TOKEN in self.pruner.needs:
            table_V = graph.weight(f"{name}.saliency", site_params["saliency_JV"])
            score_T = take(graph, table_V, walk.token_T)
            score_BR = take(graph, score_T, walk.texts.index_BR)
        else:
            (score_BR,) = received.values()
        walk.drop(rule.keep(graph, walk.texts, score_BR, self.values[index]))


def build_model(
    saved: Saved,
    *,
    opset: int = OPSETS[0],
    uses_contrib: bool = True,
    weight_bits: int | None = None,
) -> onnx.ModelProto:
    """Return a saved model as an ONNX model that drops tokens.

    Args:
      saved: a model with one of the heads in `HEADS`.
      opset: version of the standard operators, of OPSETS.
      uses_contrib: take operators that only ONNX Runtime has where they are faster.
      weight_bits: of the integers in place of the encoder's kernels, with `uses_contrib`; None for
        float32.

    Raises:
      ValueError: the model has another head, or its pruner cannot be exported.
    """
    config, pruner = saved.config, _checked_pruner(saved, opset)
    form, encoder = FORMS[config.family], saved.params["encoder"]
    graph = Graph(uses_contrib=uses_contrib, weight_bits=weight_bits)
    calibration = None
    if pruner.takes_budgets:
        calibration = read_calibration(saved.directory, len(pruner.sites))
    walk = _start(graph, saved)
    sites = _sites(graph, saved, pruner, calibration)
    ranges = None
    if weight_bits is not None:
        ranges = state_ranges(form.linear_inputs, encoder, config, end_tokens(saved.directory))
    for layer in range(config.num_layers):
        _run_layer(walk, saved, sites, layer, ranges)
    if walk.keeps_exits:
        walk.take_all()
    if form.final is not None:
        walk.hidden_TD = form.final(graph, encoder, config, walk.hidden_TD)
    outputs = HEADS[saved.head.name](walk, saved)
    for name, value in (outputs | {KEPT: _kept_layers(walk)}).items():
        graph.name_result(value, name)
    inputs = {TOKENS: (np.int64, BATCH_AXES), MASK: (np.int64, BATCH_AXES)}
    if config.num_segments > 1:
        inputs[SEGMENTS] = (np.int64, BATCH_AXES)
    kinds = {name: (np.float32, OUTPUT_AXES[name](saved)) for name in outputs}
    return graph.model(
        inputs,
        kinds | {KEPT: (np.int64, BATCH_AXES)},
        optional={} if calibration is None else {BUDGET: (np.float32, ("budgets",))},
        opset=opset,
        facts={
            SETTINGS: json.dumps(_settings(saved, calibration)),
            "version": adapler_jax.__version__,
            "pruner": pruner.name,
        },
    )


def _checked_pruner(saved: Saved, opset: int) -> Pruner:
    """Return a model's pruner.

    Raises:
      ValueError: the model cannot be exported, or there is no such opset.
    """
    if saved.head.name not in HEADS:
        raise ValueError(
            f"{saved.directory} has the head {saved.head.name!r}; ONNX files are for "
            f"{', '.join(HEADS)}"
        )
    if dict(saved.head.factory_kwargs).get("protects_query"):
        raise ValueError(
            f"{saved.directory} protects its query's tokens, which ONNX files do not; make the "
            "model without protects_query"
        )
    if opset not in OPSETS:
        raise ValueError(f"opset is {opset}; expected {OPSETS[0]} to {OPSETS[-1]}")
    pruner, family = pruner_of_saved(saved), saved.config.family
    check_supported(pruner, saved.config)
    if family not in FORMS or (pruner.sites and pruner.name not in RULES):
        raise ValueError(
            f"{saved.directory}: encoder {family!r} with pruner {pruner.name!r} has no ONNX "
            f"form; there are {', '.join(FORMS)} with {', '.join(RULES)}"
        )
    return pruner


def _settings(saved: Saved, calibration: Calibration | None) -> dict[str, Any]:
    """Return what `adapler_jax.onnx` needs to run a model; JSON values."""
    rows = () if calibration is None else calibration.rows
    thresholds = None
    if saved.head.name == MULTI_LABEL.name:
        thresholds = saved_thresholds(saved.extra, saved.class_names, where=saved.directory)
    return {
        "class_names": list(saved.class_names),
        "activation": dict(saved.head.factory_kwargs).get("activation"),
        "gives_tags": saved.head is TOKEN_CLASSIFICATION,
        READING: _reading(saved),
        "dim": num_logits(saved) if saved.head.name == "embedding" else None,
        PROMPTS: saved.extra.get(PROMPTS, {}),
        DEFAULT_PROMPT: saved.extra.get(DEFAULT_PROMPT),
        SIMILARITY: saved.extra.get(SIMILARITY, COSINE),
        "max_length": max_length_of(saved),
        "num_layers": saved.config.num_layers,
        "threshold": threshold_of(saved, None),
        "thresholds": thresholds,
        "truncation_side": saved.extra.get("truncation_side"),
        "vocab_size": saved.config.vocab_size,
        "budgets": [] if calibration is None else list(calibration.budgets),
        "speedups": [row["flops_speedup"] for row in rows],
        "digests": file_digests(saved.directory),
    }


def _reading(saved: Saved) -> dict[str, Any] | None:
    """Return the limits and the threshold of answers, of a model that was trained with them."""
    limits = saved.extra.get("qa", {})
    if saved.head.name != "span" or not all(name in limits for name in INFERENCE_FIELDS):
        return None
    return {
        "limits": {name: limits[name] for name in INFERENCE_FIELDS},
        "no_answer_threshold": saved.extra.get("no_answer_threshold"),
    }


def _sites(graph: Graph, saved: Saved, pruner: Pruner, calibration: Calibration | None) -> Sites:
    """Return the pruner's sites; none for a dense model."""
    values: list[SiteValues] = []
    if pruner.sites:
        rule = RULES[pruner.name]
        own_J = np.zeros(len(pruner.sites))
        if rule.leaf != NO_VALUES:
            own_J = np.asarray(saved.params["pruner"][rule.leaf])
        values = values_of_sites(graph, own_J, rule.full, calibration)
    if not saved.head.needs_all_states:
        pruner = for_first_token(pruner, saved.config)
    return Sites(pruner, saved.params["pruner"], values)


def _start(graph: Graph, saved: Saved) -> Walk:
    """Return the tokens of the batch with their embeddings; an empty text has its first slot."""
    num_slots = graph.add("Shape", TOKENS, start=1, end=2)
    lane_L = graph.add(
        "Range", graph.constant(0), graph.add("Squeeze", num_slots, (0,)), graph.constant(1)
    )
    is_empty_B1 = graph.add("Equal", graph.add("ReduceMax", MASK, (1,)), 0)
    is_first_BL = graph.add("And", graph.add("Equal", lane_L, 0), is_empty_B1)
    valid_BL = graph.add("Or", graph.add("Cast", MASK, to=TensorProto.BOOL), is_first_BL)
    slot_T = true_slots(graph, valid_BL)
    texts = lay_out(graph, valid_BL)
    token_T = take(graph, flatten(graph, TOKENS), slot_T)
    segment_T = None
    if saved.config.num_segments > 1:
        segment_T = take(graph, flatten(graph, SEGMENTS), slot_T)
    hidden_TD = FORMS[saved.config.family].embed(
        graph,
        saved.params["encoder"]["embeddings"],
        saved.config,
        token_T=token_T,
        segment_T=segment_T,
        position_T=graph.add("Mod", slot_T, num_slots),
    )
    keeps_exits = saved.head.name in ("span", "token_classification")
    return Walk(graph, hidden_TD, texts, slot_T, token_T, [], [], keeps_exits, num_slots)


def _run_layer(walk: Walk, saved: Saved, sites: Sites, index: int, ranges: Ranges | None) -> None:
    """Run one layer with the pruner's site in it; the last one for [CLS] alone where it can."""
    graph, config, num_layers = walk.graph, saved.config, saved.config.num_layers
    form = FORMS[config.family]
    layers = layers_of(encoder_of(config), saved.params["encoder"])
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[index], layers)
    ranges = jax.tree.map(lambda leaf: leaf[index], ranges)
    layer = Layer(index, params, config, ranges)
    here = {site.point: site for site in sites.pruner.sites if site.layer == index}
    inner_site = here.get(BEFORE_FEED_FORWARD)
    if BEFORE_ATTENTION in here:
        sites.apply(walk, config, here[BEFORE_ATTENTION], {})
    reads_first = index == num_layers - 1 and not saved.head.needs_all_states
    first_only = reads_first and inner_site is None
    attended = attention(
        graph,
        form,
        layer,
        walk.hidden_TD,
        walk.texts,
        position_T=walk.positions() if encoder_of(config).needs_positions else None,
        first_only=first_only,
        needs=sites.pruner.attention_needs if inner_site else frozenset(),
    )
    slot_T = walk.slot_T
    if first_only:
        walk.take_first()
    walk.hidden_TD = form.attention_output(graph, layer, walk.hidden_TD, attended.attended_TD)
    if inner_site is not None:
        sites.apply(walk, config, inner_site, attended.received)
        slot_T = walk.slot_T
        if reads_first:
            walk.take_first()
    walk.ran.append(slot_T)
    walk.hidden_TD = form.feed_forward(graph, layer, walk.hidden_TD)


def _kept_layers(walk: Walk) -> Value:
    """Return the number of layers that ran on each token, int64 [B, L]; 0 for padding."""
    graph = walk.graph
    shape = graph.add("Shape", TOKENS)
    zero_X = flatten(graph, graph.add("Mul", MASK, 0))
    slot_X = graph.add("Concat", *walk.ran, axis=0) if len(walk.ran) > 1 else walk.ran[0]
    one_X = graph.add("Expand", graph.constant([1]), graph.add("Shape", slot_X))
    count_X = graph.add("ScatterElements", zero_X, slot_X, one_X, axis=0, reduction="add")
    count_BL = graph.add("Reshape", count_X, shape)
    is_token_BL = graph.add(
        "Cast", graph.add("Cast", MASK, to=TensorProto.BOOL), to=TensorProto.INT64
    )
    return graph.add("Mul", count_BL, is_token_BL)
