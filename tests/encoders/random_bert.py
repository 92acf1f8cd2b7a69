"""Share an encoder with random weights."""

import jax
import numpy as np

from tests import plain_bert as encoder
from tests.tiny import CONFIG

KEY = jax.random.key(0)
PARAMS = encoder.init_encoder(KEY, CONFIG)
EMBEDDINGS = PARAMS["embeddings"]
LAYER = jax.tree.map(lambda leaf: leaf[1], PARAMS["layers"])


@jax.jit
def encode(params, token_BL, segment_BL, valid_BL, key=None):
    return encoder.encode(params, CONFIG, token_BL, segment_BL, valid_BL, key=key)


def encode_batch(batch):
    return np.asarray(encode(PARAMS, batch.token_BL, batch.segment_BL, batch.valid_BL))
