"""Wrappers' prefixes of tensors are stripped; foreign tensors and other prefixes are named."""

import jax
import numpy as np
import pytest

from adapler_jax.weights.pretrained import load_pretrained
from tests.weights.hostile import KEY, refused

WRAPPED = {
    "ddp": "module.{}",
    "compiled": "_orig_mod.{}",
    "lightning": "model.{}",
    "both": "_orig_mod.module.{}",
    "fsdp": "_fsdp_wrapped_module.{}",
    "peft": "base_model.model.{}",
    "compiled lightning": "model._orig_mod.{}",
}
# Every wrapper with one family, and every family with a wrapper of one or two parts.
WRAPPED_FAMILIES = [("bert", wrapper) for wrapper in WRAPPED]
WRAPPED_FAMILIES += [
    (family, wrapper)
    for family in ("roberta", "distilbert", "bare")
    for wrapper in ("lightning", "both", "peft")
]


@pytest.mark.parametrize(("family", "wrapper"), WRAPPED_FAMILIES)
def test_prefixes_of_wrappers_are_stripped_for_every_family(
    write_checkpoint, raw_config, tensors, wrapper, family
):
    raw, names = in_family(raw_config, tensors, family)
    expected = load_pretrained(write_checkpoint(names, raw, name="plain"), KEY)
    wrapped = {WRAPPED[wrapper].format(name): value for name, value in names.items()}
    found = load_pretrained(write_checkpoint(wrapped, raw, name="wrapped"), KEY)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert found.notes == expected.notes


def in_family(raw, tensors, family):
    """A config.json and the tensors of the tiny checkpoint under a family's names."""
    if family == "bert":
        return raw, tensors
    if family == "bare":
        return raw, {
            name.removeprefix("bert."): value
            for name, value in tensors.items()
            if "classifier" not in name
        }
    if family == "roberta":
        table = "roberta.embeddings.position_embeddings.weight"
        names = {name.replace("bert.", "roberta."): value for name, value in tensors.items()}
        names[table] = np.concatenate([names[table][:2], names[table]])
        return raw | {
            "model_type": "roberta",
            "pad_token_id": 1,
            "max_position_embeddings": 14,
        }, names
    keys = {"n_layers": 4, "n_heads": 2, "dim": 16, "hidden_dim": 24, "activation": "gelu"}
    parts = {
        "bert.encoder.layer.": "distilbert.transformer.layer.",
        "bert.embeddings.": "distilbert.embeddings.",
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
        "bert.pooler.dense": "pre_classifier",
    }
    names = {}
    for name, value in tensors.items():
        renamed = name
        for part, other in parts.items():
            renamed = renamed.replace(part, other)
        names[renamed] = value
    del names["distilbert.embeddings.token_type_embeddings.weight"]
    return {
        "model_type": "distilbert",
        "vocab_size": 50,
        "max_position_embeddings": 12,
        **keys,
    }, names


def test_wrappers_inside_a_name_are_stripped(write_checkpoint, tensors):
    inside = {
        name.replace(".layer.", "._fsdp_wrapped_module.layer."): value
        for name, value in tensors.items()
    }
    inside = {
        name.replace(".output.dense", ".output._checkpoint_wrapped_module.dense"): x
        for name, x in inside.items()
    }
    expected = load_pretrained(write_checkpoint(tensors), KEY)
    found = load_pretrained(write_checkpoint(inside, name="inside"), KEY)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)


def test_foreign_tensors_are_ignored_with_a_note(write_checkpoint, tensors):
    foreign = {
        name: np.zeros(2, np.float32)
        for name in ("loss_fct.weight", "ema.decay", "crf.transitions", "teacher.a")
    }
    foreign |= {f"teacher.{name}": value for name, value in tensors.items()}
    loaded = load_pretrained(write_checkpoint(tensors | foreign), KEY)
    assert loaded.notes == (
        f"ignored: crf.*, ema.*, loss_fct.*, teacher.* ({len(tensors) + 1} tensors)",
    )


@pytest.mark.parametrize("prefix", ["backbone.", "encoder.", "net.bert_model.", "roberta."])
def test_a_prefix_that_would_match_is_named(write_checkpoint, tensors, prefix):
    renamed = {name.replace("bert.", prefix): value for name, value in tensors.items()}
    refused(
        load_pretrained,
        write_checkpoint(renamed),
        KEY,
        match=f"have the prefix '{prefix}', without which they would",
    )
    half = {
        name.replace("bert.encoder.", f"{prefix}encoder."): value for name, value in tensors.items()
    }
    refused(load_pretrained, write_checkpoint(half), KEY, match=f"have the prefix '{prefix}'")
