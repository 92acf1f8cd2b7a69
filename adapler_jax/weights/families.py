"""Encoders of BERT's family that are published under other names: RoBERTa and DistilBERT become BERT at the door.

RoBERTa counts positions from the row behind its padding token's, and has one segment; DistilBERT has no segments. With
the first rows of the position table cut off, and a segment table of zeros, both compute what BERT computes. Their
classifiers are a dense layer, tanh or ReLU, and a second one: BERT's pooler and classifier.
"""

import re
from typing import Any

import numpy as np

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
POSITIONS = "bert.embeddings.position_embeddings.weight"
SEGMENTS = "bert.embeddings.token_type_embeddings.weight"


def position_offset(raw: dict[str, Any]) -> int:
    """Rows of RoBERTa's position table in front of the first position: those up to its padding token's number."""
    padding = raw.get("pad_token_id", 1)
    if not isinstance(padding, int) or isinstance(padding, bool):
        raise ValueError(f"config.json has pad_token_id {padding!r}; expected the padding token's number")
    return padding + 1


def bert_config(raw: dict[str, Any]) -> dict[str, Any]:
    """The contents of a config.json as those of a BERT; of other model types as they are."""
    model_type = raw.get("model_type", "bert")
    if model_type in ROBERTA:
        changes = {"model_type": "bert"}
        if isinstance(raw.get("max_position_embeddings"), int):
            changes["max_position_embeddings"] = raw["max_position_embeddings"] - position_offset(raw)
        return raw | changes
    if model_type in DISTILBERT:
        renamed = {DISTILBERT_KEYS.get(key, key): value for key, value in raw.items()}
        renamed.setdefault("classifier_dropout", 0.2)  # as transformers has it
        return renamed | {"model_type": "bert", "type_vocab_size": 1, "pooler_activation": "relu"}
    return raw


def bert_tensors(tensors: dict, raw: dict[str, Any]) -> dict:
    """The tensors under BERT's names, tables cut or added. raw: config.json as it is in the file."""
    model_type = raw.get("model_type", "bert")
    if model_type in ROBERTA:
        return from_roberta(tensors, position_offset(raw))
    if model_type in DISTILBERT:
        return from_distilbert(tensors)
    return tensors


def from_roberta(tensors: dict, offset: int) -> dict:
    """RoBERTa's tensors as BERT's."""
    has_head = any(name.startswith("classifier.dense.") for name in tensors)
    found = {}
    for name, value in tensors.items():
        name = re.sub(r"^roberta\.", "bert.", name)
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        if has_head and name.startswith("bert.pooler."):
            continue  # the classifier brings its own
        name = name.replace("classifier.dense.", "bert.pooler.dense.").replace("classifier.out_proj.", "classifier.")
        found[name] = value[offset:] if name == POSITIONS else value
    return found


def from_distilbert(tensors: dict) -> dict:
    """DistilBERT's tensors as BERT's."""
    found = {}
    for name, value in tensors.items():
        match = DISTILBERT_NAME.fullmatch(name)
        if match and match[2] in DISTILBERT_LAYER:
            name = f"bert.encoder.layer.{match[1]}.{DISTILBERT_LAYER[match[2]]}.{match[3]}"
        else:
            name = re.sub(r"^(distilbert\.)?embeddings\.", "bert.embeddings.", name)
            name = name.replace("pre_classifier.", "bert.pooler.dense.")
        found[name] = value
    if POSITIONS in found:
        found[SEGMENTS] = np.zeros((1, found[POSITIONS].shape[-1]), np.float32)
    return found
