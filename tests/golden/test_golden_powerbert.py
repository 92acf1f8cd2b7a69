"""Parity with the PoWER-BERT authors' own program, in float32.

Weights and inputs follow a formula of the file's makers; nothing of the program is needed.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax.inference.drivers import masked
from adapler_jax.pruning import keep_all
from adapler_jax.pruning.powerbert import mass_term, powerbert, retention
from adapler_jax.types import Batch, EncoderConfig

TOLERANCE = 2e-6
PLACES = {
    "Embedding-Token": [("embeddings", "token")],
    "Embedding-Segment": [("embeddings", "segment")],
    "Embedding-Position": [("embeddings", "position")],
    "Embedding-Norm": [("embeddings", "norm", "scale"), ("embeddings", "norm", "bias")],
    "MultiHeadSelfAttention": [
        ("layers", name, leaf)
        for name in ("query", "key", "value", "attention_output")
        for leaf in ("kernel", "bias")
    ],
    "MultiHeadSelfAttention-Norm": [
        ("layers", "attention_norm", leaf) for leaf in ("scale", "bias")
    ],
    "FeedForward": [
        ("layers", name, leaf) for name in ("ffn_in", "ffn_out") for leaf in ("kernel", "bias")
    ],
    "FeedForward-Norm": [("layers", "ffn_norm", leaf) for leaf in ("scale", "bias")],
    "NSP-Dense": [("head", "pooler", leaf) for leaf in ("kernel", "bias")],
    "NSP": [("head", "classifier", leaf) for leaf in ("kernel", "bias")],
}


def value(place: int, shape, path) -> np.ndarray:
    """The weight of that place in the model's order, from 1."""
    index = np.arange(1, np.prod(shape) + 1)
    base = np.sin(1.7 * index + 0.9 * place).reshape(shape)
    if path[-1] == "scale":
        return 1.0 + 0.1 * base
    return (0.1 if path[-1] == "bias" else 0.4) * base


def tree_of(weight_order, num_layers: int, skipped=()):
    """{"encoder", "head"} of all weights; `skipped`: places that belong to other weights."""
    found = {}
    places = (place for place in range(1, 10_000) if place not in skipped)
    for place, (full_name, index, shape) in zip(places, weight_order):
        is_of_encoder = full_name.startswith("Encoder-")
        name = full_name.split("-", 2)[2] if is_of_encoder else full_name
        path = PLACES[name][index]
        found.setdefault(path, []).append(value(place, shape, path))
    tree = {"encoder": {}, "head": {}}
    for own_path, leaves in found.items():
        path = own_path if own_path[0] == "head" else ("encoder", *own_path)
        assert len(leaves) == (num_layers if path[1] == "layers" else 1)
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = jnp.float32(np.stack(leaves) if path[1] == "layers" else leaves[0])
    return tree


class Golden:
    """The reference file: the encoder's config, its parameters and the batch."""

    def __init__(self, path):
        self.numbers = json.loads(path.read_text())
        raw = self.numbers["config"]
        self.config = EncoderConfig(
            num_layers=raw["num_hidden_layers"],
            num_heads=raw["num_attention_heads"],
            hidden_dim=raw["hidden_size"],
            ffn_dim=raw["intermediate_size"],
            vocab_size=raw["vocab_size"],
            num_positions=self.numbers["seq_len"],
            norm_epsilon=1e-14,
        )
        self.params = tree_of(self.numbers["weight_order"], self.config.num_layers)
        self.batch = Batch(
            token_BL=np.array(self.numbers["ids"], np.int32),
            segment_BL=np.array(self.numbers["segment"], np.int32),
            valid_BL=np.array(self.numbers["mask"]) > 0,
            label_B=np.array(self.numbers["soft"]["labels"], np.int32),
            example_id_B=np.arange(5, dtype=np.int32),
        )


@pytest.fixture(scope="module")
def golden(golden_file):
    return Golden(golden_file("powerbert.json"))


def probabilities(logits_BC):
    return np.asarray(jax.nn.softmax(logits_BC))


def test_plain_bert_matches(golden):
    logits_BC, _ = masked.forward(
        golden.params | {"pruner": {}}, golden.config, keep_all(), golden.batch
    )
    np.testing.assert_allclose(
        probabilities(logits_BC), golden.numbers["plain"]["probs"], rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("case", ["hard", "hard_to_one"])
def test_hard_extraction_matches(golden, case):
    counts, expected = (
        golden.numbers[case]["retention_configuration"],
        golden.numbers[case]["probs"],
    )
    params = golden.params | {"pruner": {"retention_N": jnp.array(counts, jnp.float32)}}
    pruner = powerbert(golden.config, counts_padding=True)
    options = {"return_exit_hidden": True}  # so that the site in the last layer runs too
    logits_BC, trace = masked.forward(params, golden.config, pruner, golden.batch, **options)
    np.testing.assert_allclose(probabilities(logits_BC), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_array_equal(trace.count_NB, np.repeat(np.array(counts)[:, None], 5, axis=1))
    # The votes of padding choose other tokens in one row of the second case; without them no
    # padding is kept.
    pruner = powerbert(golden.config)
    exact_BC, trace = masked.forward(params, golden.config, pruner, golden.batch, **options)
    differs_B = np.abs(probabilities(exact_BC) - expected).max(axis=-1) > TOLERANCE
    assert differs_B.tolist() == [False, case == "hard_to_one", False, False, False]
    lengths = np.asarray(golden.batch.valid_BL).sum(-1)
    np.testing.assert_array_equal(trace.count_NB, np.minimum(lengths, np.array(counts)[:, None]))


def test_the_search_loss_and_what_it_leads_to_match(golden):
    """The file has the sums of the weights of ranks, not the weights; loss and configuration need
    no more."""
    soft = golden.numbers["soft"]
    sums_N = np.array(soft["retention_sums"])
    weight_NL = jnp.float32(np.repeat(sums_N[:, None] / 16, 16, axis=1))
    mass = mass_term({"rank_weight_NL": weight_NL}, None, None)["mass"]
    task = -np.mean(np.log(np.array(soft["probs"])[np.arange(5), golden.batch.label_B]))
    np.testing.assert_allclose(
        task + soft["LAMBDA"] * mass, soft["total_loss"], rtol=0, atol=TOLERANCE
    )
    assert list(retention(weight_NL)) == soft["derived_retention"]
