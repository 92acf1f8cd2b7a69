"""A 4-layer, 16-wide model and ragged batches, shared by the tests."""

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders.bert import init_encoder
from adapler_jax.heads import init_classifier
from adapler_jax.pruning import adapler
from adapler_jax.types import PADDING_EXAMPLE_ID, Batch, EncoderConfig

# Wide initial values, so that attention, activations and predictors leave their linear range.
CONFIG = EncoderConfig(
    num_layers=4,
    num_heads=2,
    hidden_dim=16,
    ffn_dim=24,
    vocab_size=50,
    num_positions=16,
    init_std=0.3,
)
NUM_CLASSES = 3
NUM_SLOTS = 12
PRUNER = adapler(CONFIG, predictor_dim=8)
LENGTHS = (12, 7, 3, 1)
HARD_SLOPE = 1e20  # so steep that the soft rule is the hard one


def make_params(pruner=PRUNER, *, threshold=0.8, seed=14):
    """Return random weights with which AdapLeR drops tokens before every layer."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(seed), 3)
    pruner_params = pruner.init(pruner_key, CONFIG)
    if "threshold_N" in pruner_params:
        pruner_params["threshold_N"] = jnp.full((CONFIG.num_layers,), threshold, jnp.float32)
    return {
        "encoder": init_encoder(encoder_key, CONFIG),
        "head": init_classifier(head_key, CONFIG, NUM_CLASSES),
        "pruner": pruner_params,
    }


def with_pruner_params(params, **leaves):
    """The parameters with some leaves of the pruner replaced."""
    return params | {"pruner": params["pruner"] | leaves}


def make_batch(
    lengths=LENGTHS, *, num_slots=NUM_SLOTS, num_fillers=0, seed=0, padding=0, filler=0
) -> Batch:
    """Return examples of these lengths, then padding examples of one token.

    Row i is one text at any number of slots.

    Args:
      padding: token id in the padding.
      filler: token id of the padding examples.
    """
    rng = np.random.default_rng(seed)
    num_real, num_rows = len(lengths), len(lengths) + num_fillers
    texts_BL = rng.integers(1, CONFIG.vocab_size, (32, CONFIG.num_positions))
    saliency_BL = rng.uniform(0.1, 3.0, (32, CONFIG.num_positions))
    label_B, teacher_BC = rng.integers(0, NUM_CLASSES, 32), rng.normal(size=(32, NUM_CLASSES))
    texts_BL[num_real:] = filler
    valid_BL = np.arange(num_slots) < np.array([*lengths, *[1] * num_fillers])[:, None]
    return Batch(
        token_BL=np.where(valid_BL, texts_BL[:num_rows, :num_slots], padding).astype(np.int32),
        segment_BL=((np.arange(num_slots) > 4) & valid_BL).astype(np.int32),
        valid_BL=valid_BL,
        label_B=label_B[:num_rows].astype(np.int32),
        example_id_B=np.where(
            np.arange(num_rows) < num_real, np.arange(num_rows), PADDING_EXAMPLE_ID
        ).astype(np.int32),
        saliency_BL=np.where(valid_BL, saliency_BL[:num_rows, :num_slots], 0.0).astype(np.float32),
        teacher_logits=teacher_BC[:num_rows].astype(np.float32),
    )


def take_rows(result, index):
    """Return the logits and the trace of some rows of the batch."""
    logits_BC, trace = result
    return logits_BC[index], jax.tree.map(lambda leaf: leaf[:, index], trace)


def assert_trees_equal(found, expected):
    """Structure, and every leaf bit by bit."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_trees_near(found, expected, *, atol=1e-5):
    """Every leaf within an absolute tolerance."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


def assert_all_finite(tree):
    """No NaN and no infinity in any leaf."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
