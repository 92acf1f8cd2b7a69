"""ELECTRA: BERT's layers on embeddings of a size of their own.

    h_0 = W norm(token + position + segment) + b

Where the embeddings have the size of the states there is no W. The tree is BERT's with
`embeddings/projection`. Letters besides the key of `types.py`:

    Z entries of an embedding

A checkpoint has no pooler: its classifier of texts is a dense layer, GELU and a second layer. They
are pooler and classifier here.

Source: Clark et al., "ELECTRA", ICLR 2020; names and constants as in the published checkpoints.
"""

from typing import Any, NamedTuple

import jax

from adapler_jax import flops
from adapler_jax.encoders import bert, bert_config
from adapler_jax.encoders.base import Encoder
from adapler_jax.encoders.config_format import (
    TEXT_HEADS,
    ConfigFormat,
    names_of_text_head,
    renamed_parts,
)
from adapler_jax.io.messages import shown
from adapler_jax.nn import init_linear, init_norm, linear
from adapler_jax.nn import truncated_normal as normal
from adapler_jax.types import Array, EncoderConfig, Params, Rule, linear_rules

EMBEDDING_SIZE = 128  # of transformers, where config.json names none
POOLER_ACTIVATION = "gelu"
SUPPORTED_VALUES = {"model_type": "electra"} | bert_config.SUPPORTED_VALUES
# Of the layer before the classifier of options, with the only values that are computed here.
SUMMARY = {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}
CHOICE_CLASS = "ElectraForMultipleChoice"
ARCHITECTURES = dict.fromkeys(TEXT_HEADS, "ElectraForSequenceClassification") | {
    "choice": CHOICE_CLASS,
    "span": "ElectraForQuestionAnswering",
    "token_classification": "ElectraForTokenClassification",
}


class ElectraOptions(NamedTuple):
    """Constants of ELECTRA that other families lack."""

    embedding_dim: int  # entries of an embedding


def init_encoder(key: Array, config: EncoderConfig) -> Params:
    """Return a fresh parameter tree, float32."""
    Z, std = config.family_options.embedding_dim, config.init_std
    table_key, layers_key = jax.random.split(key)
    *keys, projection_key = jax.random.split(table_key, 4)
    sizes = {
        "token": config.vocab_size,
        "position": config.num_positions,
        "segment": config.num_segments,
    }
    embeddings: Params = {
        name: normal(key, (size, Z), std) for key, (name, size) in zip(keys, sizes.items())
    }
    embeddings["norm"] = init_norm((Z,))
    if Z != config.hidden_dim:
        embeddings["projection"] = init_linear(projection_key, (Z, config.hidden_dim), std)
    return {"embeddings": embeddings, "layers": bert.init_layers(layers_key, config)}


def embed(
    params: Params,
    config: EncoderConfig,
    token_X: Array,
    segment_X: Array,
    position_X: Array,
    *,
    key: Array | None = None,
) -> Array:
    """Return the projection of BERT's embeddings, float32 [..., D]."""
    state_XZ = bert.embed(params, config, token_X, segment_X, position_X, key=key)
    return linear(params["projection"], state_XZ) if "projection" in params else state_XZ


def embedding_flops(config: EncoderConfig, length):
    """Return the operations of one-hot product, sums, norm and projection, for `length` tokens."""
    Z, D = config.family_options.embedding_dim, config.hidden_dim
    per_token = bert.embedded_token_flops(config, Z)
    return flops.as_counts(length) * (per_token + (flops.linear_flops(Z, D) if Z != D else 0))


def find_problems(raw: dict[str, Any]) -> list[str]:
    """Return everything in config.json that the encoder cannot compute; one line each."""
    problems = bert_config.find_problems(raw, SUPPORTED_VALUES)
    size = raw.get("embedding_size", EMBEDDING_SIZE)
    if not bert_config.is_size(size):
        problems.append(f"embedding_size is {shown(size)}, expected a positive integer")
    if raw.get("architectures") == [CHOICE_CLASS]:
        problems += [
            f"{key} is {shown(raw[key])}, only {value!r} is supported"
            for key, value in SUMMARY.items()
            if raw.get(key, value) != value
        ]
    return problems


def read_fields(raw: dict[str, Any]) -> EncoderConfig:
    """Return the config of a file without problems."""
    return EncoderConfig(
        **bert_config.read_fields(raw),
        pooler_activation=POOLER_ACTIVATION,
        family_options=ElectraOptions(raw.get("embedding_size", EMBEDDING_SIZE)),
        family="electra",
    )


def write_fields(config: EncoderConfig) -> dict[str, Any]:
    """Return the contents of a config.json that describe the encoder."""
    size = {"embedding_size": config.family_options.embedding_dim}
    return {"model_type": "electra"} | bert_config.write_fields(config) | size | SUMMARY


_POOLER = "electra.pooler.dense."
_CHOICE_NAMES = {"sequence_summary.summary.": _POOLER}
_TEXT_NAMES = names_of_text_head(_POOLER)


def from_published(tensors: dict) -> dict:
    """Return the tensors with pooler and classifier under the names of the rules."""
    return renamed_parts(tensors, _CHOICE_NAMES | _TEXT_NAMES)


def to_published(tensors: dict, head: str) -> dict:
    """Return the tensors under the names of the head's class, the inverse of `from_published`."""
    names = {"choice": _CHOICE_NAMES} | dict.fromkeys(TEXT_HEADS, _TEXT_NAMES)
    return renamed_parts(tensors, {ours: other for other, ours in names.get(head, {}).items()})


_EMBEDDINGS, _TREE = "electra.embeddings", ("encoder", "embeddings")
_PROJECTION = linear_rules("electra.embeddings_project", "encoder/embeddings/projection", "ZD")
_RULES = (
    Rule(f"{_EMBEDDINGS}.word_embeddings.weight", (*_TREE, "token"), "VZ"),
    Rule(f"{_EMBEDDINGS}.position_embeddings.weight", (*_TREE, "position"), "XZ"),
    Rule(f"{_EMBEDDINGS}.token_type_embeddings.weight", (*_TREE, "segment"), "YZ"),
    Rule(f"{_EMBEDDINGS}.LayerNorm.weight", (*_TREE, "norm", "scale"), "Z"),
    Rule(f"{_EMBEDDINGS}.LayerNorm.bias", (*_TREE, "norm", "bias"), "Z"),
    *bert.layer_rules("electra.encoder.layer.{layer}"),
)


def variant_of(config: EncoderConfig) -> Encoder:
    """Return the encoder with a projection, or without where the sizes are equal."""
    has_projection = config.family_options.embedding_dim != config.hidden_dim
    return ELECTRA if has_projection else _WITHOUT_PROJECTION


ELECTRA = bert.BERT._replace(
    name="electra",
    init=init_encoder,
    embed=embed,
    flops=bert.BERT.flops._replace(embedding=embedding_flops),
    tensor_rules=_RULES + _PROJECTION,
    pooler_rules=linear_rules(_POOLER.removesuffix("."), "head/pooler", "DD"),
    config_format=ConfigFormat(
        find_problems=find_problems,
        read=read_fields,
        write=write_fields,
        architectures=ARCHITECTURES,
        base_architecture="ElectraModel",
        from_published=from_published,
        to_published=to_published,
    ),
    variant=variant_of,
)
_WITHOUT_PROJECTION = ELECTRA._replace(tensor_rules=_RULES)
