"""Read ModernBERT's config.json, of both published forms, and write it.

Newer files have `layer_types` and `rope_parameters`. Older ones have `global_attn_every_n_layers`,
`global_rope_theta` and `local_rope_theta`. There a local theta of null is the global one, as in the
releases of transformers that read such files.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp

from adapler_jax.encoders.bert_config import is_share, is_size
from adapler_jax.encoders.config_format import TEXT_HEADS, ConfigFormat
from adapler_jax.encoders.local_attention import LocalLayers
from adapler_jax.io.messages import shown
from adapler_jax.nn import ACTIVATIONS
from adapler_jax.types import Array, EncoderConfig

GLOBAL, LOCAL = "full_attention", "sliding_attention"  # of layer_types
POOLINGS = ("cls", "mean")
SIZES = {
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "ffn_dim",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "num_positions",
}
SHARES = {  # numbers in [0, 1), with the defaults of transformers
    "norm_eps": 1e-5,
    "initializer_range": 0.02,
    "embedding_dropout": 0.0,
    "attention_dropout": 0.0,
    "mlp_dropout": 0.0,
    "classifier_dropout": 0.0,
}
NO_BIASES = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
DEFAULTS = {
    "local_attention": 128,
    "hidden_activation": "gelu",
    "classifier_activation": "gelu",
    "classifier_pooling": "cls",
    "global_attn_every_n_layers": 3,
    "layer_types": None,
    "rope_parameters": None,
    "rope_scaling": None,
}
# Classes of transformers for the heads; the encoder's for others.
ARCHITECTURES = dict.fromkeys(TEXT_HEADS, "ModernBertForSequenceClassification")
ARCHITECTURES["token_classification"] = "ModernBertForTokenClassification"


class ModernBertOptions(NamedTuple):
    """Constants of ModernBERT that other families lack."""

    global_layers: tuple[int, ...]  # whose tokens attend to all others
    window: int  # positions to each side that a token of a local layer attends to
    global_theta: float  # base of the rotary angles in global layers
    local_theta: float
    embedding_dropout_prob: float = 0.0


def is_global(config: EncoderConfig, index: Array) -> Array:
    """Return whether a layer, an int32 scalar, is global: a bool scalar."""
    return jnp.isin(index, jnp.array(config.family_options.global_layers, jnp.int32))


def local_layers(config: EncoderConfig) -> LocalLayers | None:
    """Return the layers with a local window; None: all are global."""
    options, layers = config.family_options, range(config.num_layers)
    found = tuple(layer for layer in layers if layer not in options.global_layers)
    return LocalLayers(found, options.window) if found else None


def options_of_layers(config: EncoderConfig, layers: tuple[int, ...]) -> ModernBertOptions:
    """Return the constants for some of the layers, which stay global or local.

    Raises:
      ValueError: layer 0 is not among them.
    """
    if layers[0] != 0:
        raise ValueError(
            f"layers {layers} leave out layer 0, the only one of ModernBERT without a norm before "
            "its attention; keep it"
        )
    options = config.family_options
    is_kept_global = [layer in options.global_layers for layer in layers]
    found = tuple(index for index, is_global in enumerate(is_kept_global) if is_global)
    return options._replace(global_layers=found)


def find_problems(raw: dict[str, Any]) -> list[str]:
    """Return everything in config.json that the encoder cannot compute; one line each."""
    merged = {**DEFAULTS, **SHARES, **dict.fromkeys(NO_BIASES, False), **raw}
    problems = [f"{key} is missing" for key in SIZES if key not in merged]
    problems += [
        f"{key} is {shown(merged[key])}, expected a positive integer"
        for key in SIZES
        if key in merged and not is_size(merged[key])
    ]
    problems += [
        f"{key} is {shown(merged[key])}, expected a number in [0, 1)"
        for key in SHARES
        if not is_share(merged[key])
    ]
    problems += [
        f"{key} is {shown(merged[key])}, only False is supported"
        for key in NO_BIASES
        if merged[key] is not False
    ]
    choices = (
        ("hidden_activation", tuple(ACTIVATIONS)),
        ("classifier_activation", tuple(ACTIVATIONS)),
        ("classifier_pooling", POOLINGS),
    )
    problems += [
        f"{key} is {shown(merged[key])}, expected one of {', '.join(known)}"
        for key, known in choices
        if merged[key] not in known
    ]
    if not is_size(merged["local_attention"]) or merged["local_attention"] % 2:
        problems.append(
            f"local_attention is {shown(merged['local_attention'])}, expected an even number from "
            "2: half of it is the window to each side"
        )
    problems += _rope_problems(merged)
    if problems:
        return problems
    return _layer_problems(merged) + _division_problems(merged)


def _division_problems(merged: dict[str, Any]) -> list[str]:
    """Return whether heads of an even size divide the states."""
    width, heads = merged["hidden_size"], merged["num_attention_heads"]
    if width % heads:
        return [f"hidden_size {width} is not a multiple of num_attention_heads {heads}"]
    if (width // heads) % 2:
        return [
            f"hidden_size {width} gives {heads} heads of {width // heads} entries, expected an "
            "even number for rotary positions"
        ]
    return []


def _layer_problems(merged: dict[str, Any]) -> list[str]:
    """Return what is wrong with the kinds of the layers."""
    kinds, num_layers = merged["layer_types"], merged["num_hidden_layers"]
    if kinds is None:
        every = merged["global_attn_every_n_layers"]
        if is_size(every):
            return []
        return [f"global_attn_every_n_layers is {shown(every)}, expected a positive integer"]
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        return [f"layer_types is {shown(kinds)}, expected a list of {num_layers} kinds of layers"]
    unknown = [kind for kind in kinds if kind not in (GLOBAL, LOCAL)]
    return [f"layer_types has {shown(kind)}, expected {GLOBAL} or {LOCAL}" for kind in unknown[:1]]


def _rope_problems(merged: dict[str, Any]) -> list[str]:
    """Return what is wrong with the bases of the rotary angles."""
    if merged["rope_scaling"] is not None:
        return [f"rope_scaling is {shown(merged['rope_scaling'])}, only null is supported"]
    rope = merged["rope_parameters"]
    if rope is None:
        keys = ("global_rope_theta", "local_rope_theta")
        if all(key not in merged for key in keys):
            return [f"rope_parameters is missing, and so are {' and '.join(keys)} of older files"]
        has_null = "local_rope_theta" in merged and merged["local_rope_theta"] is None
        return [
            f"{key} is {shown(merged[key])}, expected a positive number"
            if key in merged
            else f"{key} is missing"
            for key in (keys[:1] if has_null else keys)
            if not _is_theta(merged.get(key))
        ]
    problems = []
    for kind in (GLOBAL, LOCAL):
        of_kind = rope.get(kind) if isinstance(rope, dict) else None
        if not isinstance(of_kind, dict):
            problems.append(f"rope_parameters lacks {kind}, an object with rope_theta")
        elif of_kind.get("rope_type", "default") != "default":
            found = shown(of_kind["rope_type"])
            problems.append(f"rope_type of {kind} is {found}, only 'default' is supported")
        elif of_kind.get("partial_rotary_factor", 1.0) != 1.0:
            found = shown(of_kind["partial_rotary_factor"])
            problems.append(f"partial_rotary_factor of {kind} is {found}, only 1.0 is supported")
        elif not _is_theta(of_kind.get("rope_theta")):
            found = shown(of_kind.get("rope_theta"))
            problems.append(f"rope_theta of {kind} is {found}, expected a positive number")
    return problems


def _is_theta(value) -> bool:
    """Return whether a value is a finite number above 0."""
    return type(value) in (int, float) and 0 < value < float("inf")


def read_fields(raw: dict[str, Any]) -> EncoderConfig:
    """Return the config of a file without problems."""
    merged = {**DEFAULTS, **SHARES, **raw}
    num_layers, kinds = merged["num_hidden_layers"], merged["layer_types"]
    if kinds is None:
        layers = tuple(range(0, num_layers, merged["global_attn_every_n_layers"]))
    else:
        layers = tuple(layer for layer in range(num_layers) if kinds[layer] == GLOBAL)
    rope = merged["rope_parameters"]
    if rope is None:
        global_theta, local_theta = merged["global_rope_theta"], merged["local_rope_theta"]
        thetas = global_theta, global_theta if local_theta is None else local_theta
    else:
        thetas = rope[GLOBAL]["rope_theta"], rope[LOCAL]["rope_theta"]
    options = ModernBertOptions(
        global_layers=layers,
        window=merged["local_attention"] // 2,
        global_theta=float(thetas[0]),
        local_theta=float(thetas[1]),
        embedding_dropout_prob=float(merged["embedding_dropout"]),
    )
    return EncoderConfig(
        **{field: merged[key] for key, field in SIZES.items()},
        num_segments=1,
        activation=merged["hidden_activation"],
        norm_epsilon=float(merged["norm_eps"]),
        hidden_dropout_prob=float(merged["mlp_dropout"]),
        attention_dropout_prob=float(merged["attention_dropout"]),
        classifier_dropout_prob=float(merged["classifier_dropout"]),
        init_std=float(merged["initializer_range"]),
        pooler_activation=merged["classifier_activation"],
        has_pooler_norm=True,
        is_pre_norm=True,
        family_options=options,
        family="modernbert",
    )


def write_fields(config: EncoderConfig) -> dict[str, Any]:
    """Return the contents of a config.json, of the newer form, that describe the encoder."""
    options, layers = config.family_options, range(config.num_layers)
    dropout_prob = config.classifier_dropout_prob
    return {
        "model_type": "modernbert",
        **{key: getattr(config, field) for key, field in SIZES.items()},
        "hidden_activation": config.activation,
        "classifier_activation": config.pooler_activation,
        "norm_eps": config.norm_epsilon,
        "initializer_range": config.init_std,
        "embedding_dropout": options.embedding_dropout_prob,
        "attention_dropout": config.attention_dropout_prob,
        "mlp_dropout": config.hidden_dropout_prob,
        "classifier_dropout": config.hidden_dropout_prob if dropout_prob is None else dropout_prob,
        **dict.fromkeys(NO_BIASES, False),
        "local_attention": 2 * options.window,
        "layer_types": [GLOBAL if layer in options.global_layers else LOCAL for layer in layers],
        "rope_parameters": {
            GLOBAL: {"rope_type": "default", "rope_theta": options.global_theta},
            LOCAL: {"rope_type": "default", "rope_theta": options.local_theta},
        },
    }


CONFIG_FORMAT = ConfigFormat(
    find_problems=find_problems,
    read=read_fields,
    write=write_fields,
    architectures=ARCHITECTURES,
    base_architecture="ModernBertModel",
    names_pooling=True,
)
