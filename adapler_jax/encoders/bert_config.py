"""Keys of config.json that BERT and families with its layers have in common."""

from collections.abc import Mapping
from typing import Any

from adapler_jax.io.messages import shown
from adapler_jax.nn import ACTIVATIONS
from adapler_jax.types import EncoderConfig

MAX_SIZE = 1 << 31  # of an axis
# Key in config.json -> field. Sizes must be there; the others have had these defaults since the
# first release.
SIZES = {
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "hidden_size": "hidden_dim",
    "intermediate_size": "ffn_dim",
    "vocab_size": "vocab_size",
    "max_position_embeddings": "num_positions",
    "type_vocab_size": "num_segments",
}
CONSTANTS = {
    "layer_norm_eps": "norm_epsilon",
    "hidden_dropout_prob": "hidden_dropout_prob",
    "attention_probs_dropout_prob": "attention_dropout_prob",
    "initializer_range": "init_std",
}
DEFAULTS = {
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "classifier_dropout": None,  # None for hidden_dropout_prob
}
# Options that change what the encoder computes, with the only value that these encoders compute.
SUPPORTED_VALUES = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def is_share(value) -> bool:
    """Return whether a value is a number in [0, 1)."""
    return type(value) in (int, float) and 0 <= value < 1


def is_size(value) -> bool:
    """Return whether a value is an integer in the range of an axis."""
    return type(value) is int and 0 < value < MAX_SIZE


def find_problems(
    raw: dict[str, Any], supported: Mapping[str, Any], sizes: Mapping[str, str] = SIZES
) -> list[str]:
    """Return everything in config.json that the encoder cannot compute; one line each.

    Args:
      raw: contents of config.json.
      supported: the only supported value of each option, which a file may leave out.
      sizes: fields by the keys that must be there, unless `DEFAULTS` has them.
    """
    merged = {**supported, **DEFAULTS, **raw}
    problems = [
        f"{key} is {shown(merged[key])}, only {value!r} is supported"
        for key, value in supported.items()
        if merged[key] != value
    ]
    problems += [f"{key} is missing" for key in sizes if key not in merged]
    problems += [
        f"{key} is {shown(merged[key])}, expected a positive integer"
        for key in sizes
        if key in merged and not is_size(merged[key])
    ]
    problems += [
        f"{key} is {shown(merged[key])}, expected a number in [0, 1)"
        for key in CONSTANTS
        if not is_share(merged[key])
    ]
    if merged["classifier_dropout"] is not None and not is_share(merged["classifier_dropout"]):
        problems.append(
            f"classifier_dropout is {shown(merged['classifier_dropout'])}, expected a number in "
            "[0, 1) or null"
        )
    if merged["hidden_act"] not in tuple(ACTIVATIONS):
        known = ", ".join(ACTIVATIONS)
        problems.append(f"hidden_act is {shown(merged['hidden_act'])}, expected one of {known}")
    if not problems and merged["hidden_size"] % merged["num_attention_heads"]:
        problems.append(
            f"hidden_size {merged['hidden_size']} is not a multiple of num_attention_heads "
            f"{merged['num_attention_heads']}"
        )
    return problems


def read_fields(raw: dict[str, Any], sizes: Mapping[str, str] = SIZES) -> dict[str, Any]:
    """Return the fields of `EncoderConfig` in a file without problems."""
    merged = {**DEFAULTS, **raw}
    fields = {field: merged[key] for key, field in sizes.items()}
    fields |= {field: float(merged[key]) for key, field in CONSTANTS.items()}
    if merged["classifier_dropout"] is not None:
        fields["classifier_dropout_prob"] = float(merged["classifier_dropout"])
    return fields | {"activation": merged["hidden_act"]}


def write_fields(config: EncoderConfig, sizes: Mapping[str, str] = SIZES) -> dict[str, Any]:
    """Return the keys of config.json for these fields."""
    names = {**sizes, **CONSTANTS}
    return {
        **{key: getattr(config, field) for key, field in names.items()},
        "hidden_act": config.activation,
        "classifier_dropout": config.classifier_dropout_prob,
    }
