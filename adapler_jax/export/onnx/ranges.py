"""Find how large the inputs of BERT's linear maps become.

A few columns of the states are large for every token, and a few tokens are large inside of a
feed-forward half, whatever the text: random tokens show them. [CLS] and [SEP] are often such
tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import attend, embed_batch, scan_layers
from adapler_jax.nn import ACTIVATIONS, linear
from adapler_jax.types import EncoderConfig, Params

SEED = 0
NUM_TEXTS, MAX_LENGTH = 16, 64
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")  # files of tokenizers, one of them
SMALLEST = 1e-8  # of a median that divides


class Ranges(NamedTuple):
    """Ranges in all layers, or without the first axis in one."""

    attention: np.ndarray  # largest |h| of each column of the states that enter, float32 [N, D]
    feed_forward: np.ndarray  # of the states between the halves, float32 [N, D]
    # Inside of the feed-forward half: the largest entry over the median token's, float32 [N].
    token_ratio: np.ndarray


def end_tokens(directory: Path) -> list[int]:
    """Return the ids that a saved model's tokenizer puts around a text, [CLS] first.

    A model without a tokenizer has none.
    """
    if not any((directory / name).exists() for name in VOCABULARIES):
        return []
    return load_core(directory).encode("").ids


def state_ranges(params: Params, config: EncoderConfig, ends: Sequence[int] = ()) -> Ranges:
    """Return the ranges of the states of NUM_TEXTS texts of random tokens; none is dropped.

    Args:
      params: of the encoder.
      config: of the encoder, of BERT's family.
      ends: ids around a text, as `end_tokens` returns them: one before it, the others after it.
    """
    encoder = encoder_of(config)
    length = min(MAX_LENGTH, config.num_positions)
    token_BL = np.random.default_rng(SEED).integers(config.vocab_size, size=(NUM_TEXTS, length))
    after = ends[1:length]
    token_BL[:, length - len(after) :], token_BL[:, : len(ends[:1])] = after, ends[:1]

    def largest(hidden_BLD):
        """Return the range of each column."""
        return jnp.max(jnp.abs(hidden_BLD), axis=(0, 1))

    def step(hidden_BLD, inputs):
        """Run one layer."""
        (layer,) = inputs
        bias_BS = jnp.zeros((NUM_TEXTS, length))
        middle_BLD, _ = attend(encoder, layer, config, hidden_BLD, bias_BS)
        inner_BLF = ACTIVATIONS[config.activation](linear(layer["ffn_in"], middle_BLD, jnp.float32))
        size_BL = jnp.max(inner_BLF, axis=-1)
        ratio = jnp.max(size_BL) / jnp.maximum(jnp.median(size_BL), SMALLEST)
        ranges = Ranges(largest(hidden_BLD), largest(middle_BLD), ratio)
        return encoder.feed_forward(layer, config, middle_BLD), ranges

    @jax.jit
    def run(params, token_BL):
        """Run all layers."""
        hidden_BLD = embed_batch(encoder, params, config, token_BL, jnp.zeros_like(token_BL))
        return scan_layers(step, hidden_BLD, params["layers"])[1]

    return jax.tree.map(np.asarray, run(params, jnp.asarray(token_BL, jnp.int32)))
