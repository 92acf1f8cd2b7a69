"""Convert checkpoints of BERT's family, RoBERTa and DistilBERT, to BERT on load.

RoBERTa counts positions from the row after its padding token's row, and has one segment.
DistilBERT has no segments. Without the first rows of the position table, and with a segment table
of zeros, both compute what BERT computes. Their classifiers are a dense layer, tanh or ReLU, and a
second layer: BERT's pooler and classifier. A model whose pooler has a ReLU is saved as a
DistilBERT, because transformers' BERT has no ReLU there.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adapler_jax.io.messages import shown
from adapler_jax.types import EncoderConfig

BERT_FAMILY = "bert"  # EncoderConfig.family of all of these
ROBERTA, DISTILBERT = ("roberta", "xlm-roberta", "camembert"), ("distilbert",)
MODEL_TYPES = ("bert", *ROBERTA, *DISTILBERT)

DISTILBERT_KEYS = {
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "seq_classif_dropout": "classifier_dropout",
    "activation": "hidden_act",
}
DISTILBERT_LAYER = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
DISTILBERT_NAME = re.compile(r"(?:distilbert\.)?transformer\.layer\.(\d+)\.(.+)\.(weight|bias)")
BERT_LAYER_NAME = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.+)\.(weight|bias)")
BERT_LAYER = re.compile(r"(?:bert\.)?encoder\.layer\.\d")
ROBERTA_POOLER = re.compile(r"((roberta|bert)\.)?pooler\.")
POSITIONS = "bert.embeddings.position_embeddings.weight"
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"
DISTILBERT_EPSILON = 1e-12  # of its norms, in its code
# DistilBERT has no segments: its positions hold the only segment's row too. Ours are kept apart
# under names of our own, in a file of their own, since transformers lists unknown tensors;
# earlier releases have one file.
OWN_FILE = "adapler_jax.safetensors"
WEIGHTS_FILE = "model.safetensors"
OWN_TABLES = {f"adapler_jax.{name.removeprefix('bert.')}": name for name in (POSITIONS, SEGMENTS)}


def position_offset(raw: dict[str, Any], source="config.json") -> int:
    """Return the rows of RoBERTa's position table before the first position."""
    padding = raw.get("pad_token_id", 1)
    if type(padding) is not int or not 0 <= padding < 1 << 31:
        raise ValueError(
            f"{source} has pad_token_id {shown(padding)}; expected the padding token's number"
        )
    return padding + 1


def as_bert_config(raw: dict[str, Any], source="config.json") -> dict[str, Any]:
    """Return the contents of a config.json as a BERT's; other model types stay unchanged."""
    model_type = raw.get("model_type", "bert")
    if model_type in ROBERTA:
        changes = {"model_type": "bert"}
        if type(raw.get("max_position_embeddings")) is int:
            changes["max_position_embeddings"] = raw["max_position_embeddings"] - position_offset(
                raw, source
            )
        return raw | changes
    if model_type in DISTILBERT:
        renamed = {key: value for key, value in raw.items() if key not in DISTILBERT_KEYS}
        renamed.setdefault("classifier_dropout", 0.2)  # the default of transformers
        renamed |= {name: raw[key] for key, name in DISTILBERT_KEYS.items() if key in raw}
        renamed["layer_norm_eps"] = DISTILBERT_EPSILON
        return renamed | {"model_type": "bert", "type_vocab_size": 1, "pooler_activation": "relu"}
    return raw


def bert_tensors(tensors: dict, raw: dict[str, Any], source="the checkpoint") -> dict:
    """Return the tensors under BERT's names, with tables cut or added.

    Args:
      raw: contents of config.json, before conversion.
    """
    model_type = raw.get("model_type", "bert")
    if model_type in ROBERTA:
        return from_roberta(tensors, position_offset(raw), source)
    if model_type in DISTILBERT:
        return from_distilbert(tensors, source)
    return tensors


def from_roberta(tensors: dict, offset: int, source) -> dict:
    """Convert RoBERTa's tensors to BERT's."""
    if any(
        name.startswith("classifier.dense.") for name in tensors
    ):  # it brings the pooler's part itself
        tensors = {name: value for name, value in tensors.items() if not ROBERTA_POOLER.match(name)}
    found = renamed(tensors, roberta_name, source)
    if np.ndim(found.get(POSITIONS, 0)) == 2:
        found[POSITIONS] = found[POSITIONS][offset:]
    return found


def roberta_name(name: str) -> str:
    """Return BERT's name of a tensor of RoBERTa."""
    name = re.sub(r"^roberta\.", "bert.", name)
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = f"bert.{name}"
    return name.replace("classifier.dense.", "bert.pooler.dense.").replace(
        "classifier.out_proj.", "classifier."
    )


def from_distilbert(tensors: dict, source) -> dict:
    """Convert DistilBERT's tensors to BERT's.

    Raises:
      ValueError: they have BERT's names.
    """
    if wrong := next(filter(BERT_LAYER.match, tensors), None):
        raise ValueError(
            f"{source}: config.json has model_type 'distilbert', but the tensor {shown(wrong)} "
            "is of a BERT; give the "
            "config.json of this checkpoint"
        )
    found = renamed(tensors, distilbert_name, source)
    if all(name in found for name in OWN_TABLES):
        return found | {OWN_TABLES[name]: found.pop(name) for name in tuple(OWN_TABLES)}
    if np.ndim(found.get(POSITIONS, 0)) == 2:
        found[SEGMENTS] = np.zeros((1, found[POSITIONS].shape[-1]), np.float32)
    return found


def with_own_tables(tensors: dict, own: dict, source: Path) -> dict:
    """Add the tables of `OWN_TABLES` from the file `source` to a DistilBERT's tensors.

    Raises:
      ValueError: the file has other contents, or tables for other weights.
    """
    by_name = {distilbert_name(name): value for name, value in tensors.items()}
    position_XD = np.asarray(by_name.get(POSITIONS, ()))
    expected = [position_XD.shape, (1, *position_XD.shape[1:])]
    tables = [np.asarray(own[name]) for name in OWN_TABLES if name in own]
    has_tables = own.keys() == OWN_TABLES.keys()
    has_shapes = [table.shape for table in tables] == expected
    if not (has_tables and has_shapes and np.array_equal(tables[0] + tables[1], position_XD)):
        raise ValueError(
            f"{source} does not belong to the weights next to it: its tables do not add up to "
            "their position table; "
            "remove it if you changed the weights yourself, else restore both"
        )
    return tensors | own


def distilbert_name(name: str) -> str:
    """Return BERT's name of a tensor of DistilBERT."""
    match = DISTILBERT_NAME.fullmatch(name)
    if match and match[2] in DISTILBERT_LAYER:
        return f"bert.encoder.layer.{match[1]}.{DISTILBERT_LAYER[match[2]]}.{match[3]}"
    name = re.sub(r"^(distilbert\.)?embeddings\.", "bert.embeddings.", name)
    return name.replace("pre_classifier.", "bert.pooler.dense.")


def renamed(tensors: dict, rename: Callable[[str], str], source) -> dict:
    """Return the tensors under other names.

    Raises:
      ValueError: two of them get one name.
    """
    found: dict = {}
    origins: dict = {}
    for name, value in tensors.items():
        new = rename(name)
        if new in found:
            raise ValueError(f"{source} holds {new} twice: as {origins[new]} and as {name}")
        found[new], origins[new] = value, name
    return found


def saves_as_distilbert(config: EncoderConfig) -> bool:
    """Return whether a model is saved as a DistilBERT: one segment, ReLU, its epsilon."""
    return (
        config.family == BERT_FAMILY
        and config.pooler_activation == "relu"
        and config.num_segments == 1
        and config.norm_epsilon == DISTILBERT_EPSILON
    )


def distilbert_config(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of a BERT's config.json as an equal DistilBERT's."""
    names = {value: key for key, value in DISTILBERT_KEYS.items()}
    left_out = ("type_vocab_size", "pooler_activation", "layer_norm_eps", "position_embedding_type")
    found = {names.get(key, key): value for key, value in raw.items() if key not in left_out}
    if found["seq_classif_dropout"] is None:
        found["seq_classif_dropout"] = raw["hidden_dropout_prob"]
    architecture = raw["architectures"][0].replace("Bert", "DistilBert")
    return found | {
        "model_type": "distilbert",
        "architectures": [architecture],
        "sinusoidal_pos_embds": False,
    }


def distilbert_tensors(tensors: dict) -> dict:
    """Return a BERT's tensors under DistilBERT's names, the inverse of `from_distilbert`."""
    parts = {value: key for key, value in DISTILBERT_LAYER.items()}
    found = {own: tensors[name] for own, name in OWN_TABLES.items()}
    for name, value in tensors.items():
        match = BERT_LAYER_NAME.fullmatch(name)
        if match:
            own = f"distilbert.transformer.layer.{match[1]}.{parts[match[2]]}.{match[3]}"
        else:
            own = name.replace("bert.embeddings.", "distilbert.embeddings.")
            own = own.replace("bert.pooler.dense.", "pre_classifier.")
        found[own] = value
    found["distilbert.embeddings.position_embeddings.weight"] = (
        tensors[POSITIONS] + tensors[SEGMENTS]
    )
    del found["distilbert.embeddings.token_type_embeddings.weight"]
    return found
