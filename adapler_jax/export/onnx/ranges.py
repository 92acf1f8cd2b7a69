"""Find how large the inputs of an encoder's linear maps become.

A few columns of the states are large for every token, and a few tokens are large inside of a
feed-forward half, whatever the text: random tokens show them. [CLS] and [SEP] are often such
tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.data.tokenization.tokenizers import load_core
from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import (
    attend,
    embed_batch,
    layers_of,
    scan_layers,
    slot_positions,
)
from adapler_jax.types import Array, EncoderConfig, Params
from adapler_jax.weights.saved_tokenizer import has_tokenizer

SEED = 0
NUM_TEXTS, MAX_LENGTH = 16, 64
SMALLEST = 1e-8  # of a median that divides


class LinearInputs(NamedTuple):
    """Inputs of the linear maps of a layer."""

    attention_BLD: Array  # of queries, keys and values
    feed_forward_BLD: Array
    inner_BLF: Array  # of the second map of the feed-forward half


class InputsFn(Protocol):
    """Return the inputs of a layer's linear maps, by JAX.

    `hidden_BLD` enters the layer, and `middle_BLD` is between its halves.
    """

    def __call__(
        self,
        params: Params,
        config: EncoderConfig,
        hidden_BLD: Array,
        middle_BLD: Array,
        /,
        *,
        index: Array,
    ) -> LinearInputs:
        """Return the inputs; `index` is the layer, an int32 scalar."""


class Ranges(NamedTuple):
    """Ranges in all layers, or without the first axis in one."""

    attention: np.ndarray  # largest |x| of each input of queries, keys, values, float32 [N, D]
    feed_forward: np.ndarray  # of the feed-forward half, float32 [N, D]
    # Inside of the feed-forward half: the largest entry over the median token's, float32 [N].
    token_ratio: np.ndarray


def end_tokens(directory: Path) -> list[int]:
    """Return the ids that a saved model's tokenizer puts around a text, [CLS] first.

    A model without a tokenizer has none.
    """
    if not has_tokenizer(directory):
        return []
    return load_core(directory).encode("").ids


def state_ranges(
    linear_inputs: InputsFn, params: Params, config: EncoderConfig, ends: Sequence[int] = ()
) -> Ranges:
    """Return the ranges of NUM_TEXTS texts of random tokens; none is dropped.

    Args:
      linear_inputs: of the family.
      params: of the encoder.
      config: of the encoder.
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
        layer, index = inputs
        bias_BS, position_1L = jnp.zeros((NUM_TEXTS, length)), slot_positions(length)
        middle_BLD, _ = attend(
            encoder, layer, config, hidden_BLD, bias_BS, index=index, position_BL=position_1L
        )
        found = linear_inputs(layer, config, hidden_BLD, middle_BLD, index=index)
        size_BL = jnp.max(found.inner_BLF, axis=-1)
        ratio = jnp.max(size_BL) / jnp.maximum(jnp.median(size_BL), SMALLEST)
        ranges = Ranges(largest(found.attention_BLD), largest(found.feed_forward_BLD), ratio)
        return encoder.feed_forward(layer, config, middle_BLD), ranges

    @jax.jit
    def run(params, token_BL):
        """Run all layers."""
        hidden_BLD = embed_batch(encoder, params, config, token_BL, jnp.zeros_like(token_BL))
        layers = layers_of(encoder, params)
        return scan_layers(step, hidden_BLD, layers, np.arange(config.num_layers))[1]

    return jax.tree.map(np.asarray, run(params, jnp.asarray(token_BL, jnp.int32)))
