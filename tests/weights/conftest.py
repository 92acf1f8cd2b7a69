"""A tiny checkpoint in Hugging Face names, written by hand: an independent rule table."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from adapler_jax.weights.pretrained import load_pretrained
from adapler_jax.weights.save import save_model

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "vocab_size": 50,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.2,
    "initializer_range": 0.02,
    "id2label": {"0": "bad", "1": "so-so", "2": "good"},
}


def bert_shapes(raw):
    """Names and shapes of the tensors of a BertForSequenceClassification with three classes."""
    D, F = raw["hidden_size"], raw["intermediate_size"]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (raw["vocab_size"], D),
        "bert.embeddings.position_embeddings.weight": (raw["max_position_embeddings"], D),
        "bert.embeddings.token_type_embeddings.weight": (raw["type_vocab_size"], D),
        "bert.embeddings.LayerNorm.weight": (D,),
        "bert.embeddings.LayerNorm.bias": (D,),
        "bert.pooler.dense.weight": (D, D),
        "bert.pooler.dense.bias": (D,),
        "classifier.weight": (3, D),
        "classifier.bias": (3,),
    }
    dense = {
        "attention.self.query": (D, D),
        "attention.self.key": (D, D),
        "attention.self.value": (D, D),
        "attention.output.dense": (D, D),
        "intermediate.dense": (F, D),
        "output.dense": (D, F),
    }
    for layer in range(raw["num_hidden_layers"]):
        prefix = f"bert.encoder.layer.{layer}."
        for name, shape in dense.items():
            shapes |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{prefix}{name}.weight": (D,), f"{prefix}{name}.bias": (D,)}
    return shapes


@pytest.fixture
def raw_config():
    return dict(CONFIG)


@pytest.fixture
def tensors(raw_config):
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in bert_shapes(raw_config).items()
    }


@pytest.fixture
def write_config(tmp_path):
    """Writes a config.json and returns its directory."""

    def write(raw, name="checkpoint"):
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps(raw))
        return directory

    return write


@pytest.fixture
def write_checkpoint(write_config, raw_config):
    """Writes a directory with config.json and model.safetensors."""

    def write(tensors, raw=None, name="checkpoint"):
        directory = write_config(raw or raw_config, name)
        safetensors.numpy.save_file(tensors, directory / "model.safetensors")
        return directory

    return write


@pytest.fixture
def saved(tmp_path, write_checkpoint, tensors):
    """A saved model of ours, and a function that changes its config.json."""
    loaded = load_pretrained(write_checkpoint(tensors), jax.random.key(0))
    directory = save_model(
        tmp_path / "model", loaded.params | {"pruner": {}}, loaded.config, max_length=8
    )
    raw = json.loads((directory / "config.json").read_text())

    def change(section=None, **changes):
        contents = raw | changes
        contents["adapler_jax"] = raw["adapler_jax"] | (section or {})
        (directory / "config.json").write_text(json.dumps(contents))
        return directory

    return change
