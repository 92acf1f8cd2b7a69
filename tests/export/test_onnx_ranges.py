"""Random tokens show the range of every column of the states, layer by layer."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import nn
from adapler_jax.encoders import bert
from adapler_jax.encoders.base import attend
from adapler_jax.export.onnx.bert import linear_inputs
from adapler_jax.export.onnx.ranges import (
    MAX_LENGTH,
    NUM_TEXTS,
    SEED,
    end_tokens,
    state_ranges,
)
from tests.export.onnx_models import save_tiny
from tests.tiny import CONFIG

LENGTH = min(MAX_LENGTH, CONFIG.num_positions)


def make_encoder():
    """An encoder one of whose columns is large between the halves of layer 1."""
    params = bert.init_encoder(jax.random.key(0), CONFIG)
    scale_ND = params["layers"]["attention_norm"]["scale"].at[1, 5].set(30.0)
    params["layers"]["attention_norm"]["scale"] = scale_ND
    return params


@pytest.mark.parametrize("ends", [(), (2,), (2, 3), (2, 3, 4)])
def test_ranges_are_the_largest_values_of_each_column(ends):
    params = make_encoder()
    found = state_ranges(linear_inputs, params, CONFIG, ends)
    shape = (NUM_TEXTS, LENGTH)
    token_BL = np.random.default_rng(SEED).integers(CONFIG.vocab_size, size=shape)
    if ends:
        token_BL[:, 0] = ends[0]
        token_BL[:, LENGTH - len(ends) + 1 :] = ends[1:]
    hidden_BLD = bert.embed(
        params["embeddings"], CONFIG, token_BL, jnp.zeros(shape, int), jnp.arange(LENGTH)[None]
    )
    for index in range(2):
        layer = jax.tree.map(lambda leaf, index=index: leaf[index], params["layers"])
        np.testing.assert_allclose(
            found.attention[index], np.abs(hidden_BLD).max(axis=(0, 1)), rtol=1e-4
        )
        middle_BLD, _ = attend(bert.BERT, layer, CONFIG, hidden_BLD, jnp.zeros(shape))
        np.testing.assert_allclose(
            found.feed_forward[index], np.abs(middle_BLD).max(axis=(0, 1)), rtol=1e-4
        )
        inner_BLF = jax.nn.gelu(nn.linear(layer["ffn_in"], middle_BLD), approximate=False)
        size_M = np.max(inner_BLF, axis=-1).ravel()
        ratio = size_M.max() / np.median(size_M)
        np.testing.assert_allclose(found.token_ratio[index], ratio, rtol=1e-4)
        hidden_BLD = bert.feed_forward(layer, CONFIG, middle_BLD)
    assert np.argmax(found.feed_forward[1]) == 5
    assert found.attention.shape == (CONFIG.num_layers, CONFIG.hidden_dim)


def test_a_large_end_of_a_text_is_seen():
    config = dataclasses.replace(CONFIG, vocab_size=5000)
    params = bert.init_encoder(jax.random.key(0), config)
    drawn = np.random.default_rng(SEED).integers(config.vocab_size, size=(NUM_TEXTS, LENGTH))
    rare = next(token for token in range(config.vocab_size) if token not in drawn)
    params["embeddings"]["token"] = params["embeddings"]["token"].at[rare, 3].set(1e4)
    without, with_it = (
        state_ranges(linear_inputs, params, config, ends) for ends in ((), (rare, rare))
    )
    assert with_it.attention[0, 3] > 1.5 * without.attention[0, 3]


def test_the_ends_are_the_tokenizer_s(tmp_path):
    directory = save_tiny(tmp_path / "model", "adapler")
    first, last = end_tokens(directory)
    vocabulary = json.loads((directory / "tokenizer.json").read_text())["model"]["vocab"]
    assert (first, last) == (vocabulary["[CLS]"], vocabulary["[SEP]"])
    (directory / "tokenizer.json").unlink()
    assert end_tokens(directory) == []
    words = sorted(vocabulary, key=vocabulary.get)
    (directory / "vocab.txt").write_text("\n".join(words))
    assert end_tokens(directory) == [first, last]
