"""config.json of a BERT checkpoint <-> EncoderConfig. Whatever this encoder does not compute is refused by name."""

import json
from pathlib import Path
from typing import Any

from adapler_jax.encoder import ACTIVATIONS
from adapler_jax.types import EncoderConfig
from adapler_jax.weights.families import MODEL_TYPES, bert_config

# Key in config.json -> field. Sizes must be there; the others have had these defaults since the first release.
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
    "classifier_dropout": None,  # that of the hidden states
    "pooler_activation": "tanh",  # ours, for heads like DistilBERT's; transformers reads past it
}
POOLERS = ("tanh", "relu")
# Options that change what the encoder computes, with the only value that this encoder computes.
PLAIN = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises ValueError naming the file where it is missing or not a JSON object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        inside = [file for part in ("model", "*/model") for file in sorted(path.parent.glob(f"{part}/{path.name}"))]
        hint = f"; there are {', '.join(str(file.parent) for file in inside)}" if inside else ""
        raise ValueError(f"{path} does not exist; a model directory needs it{hint}") from error
    except ValueError as error:  # bad JSON and bad UTF-8
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def is_share(value) -> bool:
    """Whether a value is a number in [0, 1)."""
    return type(value) in (int, float) and 0 <= value < 1


def find_problems(raw: dict[str, Any]) -> list[str]:
    """Everything in config.json that the encoder cannot do."""
    merged = {**PLAIN, **DEFAULTS, **raw}
    problems = [
        f"{key} is {merged[key]!r}, only {value!r} is supported" for key, value in PLAIN.items() if merged[key] != value
    ]
    problems += [f"{key} is missing" for key in SIZES if key not in merged]
    problems += [
        f"{key} is {merged[key]!r}, expected a positive integer"
        for key in SIZES
        if key in merged and (type(merged[key]) is not int or merged[key] <= 0)
    ]
    for key in CONSTANTS:
        if not is_share(merged[key]):
            problems.append(f"{key} is {merged[key]!r}, expected a number in [0, 1)")
    if merged["classifier_dropout"] is not None and not is_share(merged["classifier_dropout"]):
        problems.append(f"classifier_dropout is {merged['classifier_dropout']!r}, expected a number in [0, 1) or null")
    if merged["pooler_activation"] not in POOLERS:
        problems.append(f"pooler_activation is {merged['pooler_activation']!r}, expected one of {', '.join(POOLERS)}")
    if merged["hidden_act"] not in tuple(ACTIVATIONS):
        problems.append(f"hidden_act is {merged['hidden_act']!r}, expected one of {', '.join(ACTIVATIONS)}")
    if not problems and merged["hidden_size"] % merged["num_attention_heads"]:
        problems.append(
            f"hidden_size {merged['hidden_size']} is not a multiple of num_attention_heads "
            f"{merged['num_attention_heads']}"
        )
    return problems


def encoder_config(raw: dict[str, Any], source) -> EncoderConfig:
    """EncoderConfig of the contents of a config.json. Raises ValueError with everything that is wrong with it."""
    model_type = raw.get("model_type", "bert")
    if model_type not in MODEL_TYPES:  # alone: the other keys of a different architecture mean nothing here
        raise ValueError(f"{source}: model_type is {model_type!r}, expected one of {', '.join(MODEL_TYPES)}")
    raw = bert_config(raw)
    problems = find_problems(raw)
    if problems:
        raise ValueError(f"{source} does not describe a BERT encoder that can be loaded: {'; '.join(problems)}")
    merged = {**DEFAULTS, **raw}
    fields = {field: merged[key] for key, field in SIZES.items()}
    fields |= {field: float(merged[key]) for key, field in CONSTANTS.items()}
    if merged["classifier_dropout"] is not None:
        fields["classifier_dropout_prob"] = float(merged["classifier_dropout"])
    return EncoderConfig(activation=merged["hidden_act"], pooler_activation=merged["pooler_activation"], **fields)


def read_config(directory) -> tuple[EncoderConfig, dict[str, Any]]:
    """EncoderConfig and the raw contents of `directory`/config.json. Raises ValueError naming what is wrong."""
    path = Path(directory) / "config.json"
    raw = read_json(path)
    return encoder_config(raw, path), raw


def read_class_names(raw: dict[str, Any], source) -> tuple[str, ...] | None:
    """Class names in the order of the logits, None where config.json says nothing of classes."""
    labels = raw.get("id2label")
    if labels is None:
        return None
    if not isinstance(labels, dict) or set(labels) != {str(index) for index in range(len(labels))}:
        raise ValueError(f'{source}: id2label is {labels!r}, expected names under "0", "1", ... without a gap')
    return tuple(str(labels[str(index)]) for index in range(len(labels)))


def config_json(
    config: EncoderConfig, architecture: str, class_names: tuple[str, ...] | None
) -> dict[str, Any]:  # fmt: skip
    """The contents of a config.json that transformers reads as this encoder with a head; class_names: None where the
    head tells no classes apart."""
    return {
        "model_type": "bert",
        "architectures": [architecture],
        **{key: getattr(config, field) for key, field in (SIZES | CONSTANTS).items()},
        "hidden_act": config.activation,
        "classifier_dropout": config.classifier_dropout_prob,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        "dtype": "float32",
        **({} if class_names is None else label_names(class_names)),
        **({} if config.pooler_activation == "tanh" else {"pooler_activation": config.pooler_activation}),
    }


def label_names(class_names: tuple[str, ...]) -> dict[str, Any]:
    """The entries of a config.json that name classes."""
    return {
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
    }
