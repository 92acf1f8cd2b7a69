"""Share pruners whose tokens go at every layer, and engines of each driver."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import heads
from adapler_jax.inference.engine import make_engine, prepare_inference_params
from adapler_jax.pruning import adapler, attention, keep_all, vocabulary
from adapler_jax.pruning.powerbert import powerbert
from adapler_jax.types import Batch, EncoderConfig, Selection
from tests import plain_bert as encoder

CONFIG = EncoderConfig(
    num_layers=4, num_heads=4, hidden_dim=16, ffn_dim=32, vocab_size=50, num_positions=40
)
BUCKETS = (2, 8, 24)
TILES = (4, 16)
BLOCK = 40  # tokens: an example and a half of full length
FAST = ("bucketed", "packed")
NUM_SLOTS = 24
PRUNER = adapler(CONFIG, predictor_dim=8)


def make_params(pruner=PRUNER, *, threshold=0.8):
    """Random weights whose predictors drop some tokens at every layer."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(3), 3)
    pruner_params = pruner.init(pruner_key, CONFIG)
    if pruner.name == "powerbert":
        pruner_params["retention_N"] = jnp.array(RETENTION, jnp.float32)
    if pruner.name == "first layers":
        pruner_params["retention_N"] = jnp.array(RETENTION[:2], jnp.float32)
    if pruner.name == "attention":
        pruner_params["share_J"] = jnp.array((0.9, 0.6, 0.5, 0.0), jnp.float32)
    if pruner.name == "vocabulary":
        saliency_JV = jax.random.uniform(pruner_key, (1, CONFIG.vocab_size))
        pruner_params |= {"share_J": jnp.array([0.4], jnp.float32), "saliency_JV": saliency_JV}
    if pruner.name in ("adapler", "some layers"):
        for name in ("hidden", "score"):
            pruner_params[name]["kernel"] = pruner_params[name]["kernel"] * 14.0
        pruner_params["threshold_N"] = jnp.full((CONFIG.num_layers,), threshold, jnp.float32)
        pruner_params = jax.tree.map(lambda leaf: leaf[: len(pruner.sites)], pruner_params)
    return {
        "encoder": encoder.init_encoder(encoder_key, CONFIG),
        "head": heads.init_classifier(head_key, CONFIG, 3),
        "pruner": pruner_params,
    }


def make_batch(lengths, *, num_slots=NUM_SLOTS, seed=0, padding=0):
    """Examples of these lengths; row i is the same text whatever the others and the padding are."""
    texts_BL = np.random.default_rng(seed).integers(
        1, CONFIG.vocab_size, (257, CONFIG.num_positions)
    )
    valid_BL = np.arange(num_slots) < np.asarray(lengths)[:, None]
    return Batch(
        token_BL=np.where(valid_BL, texts_BL[: len(lengths), :num_slots], padding).astype(np.int32),
        segment_BL=(np.arange(num_slots) > 5).astype(np.int32) * valid_BL,
        valid_BL=valid_BL,
        label_B=np.zeros(len(lengths), np.int32),
        example_id_B=np.arange(len(lengths), dtype=np.int32),
    )


def marking_pruner():
    """Keep tokens whose first entry exceeds the site's level, without a predictor."""

    def select(params, index, view):
        score_BL = jnp.where(view.remaining_BL, view.token_logit_BL, 0.0)
        keep_BL = view.remaining_BL & (score_BL > params["level_N"] + 0.0 * jnp.float32(index))
        return Selection(score_BL=score_BL, keep_BL=keep_BL.at[:, 0].set(view.remaining_BL[:, 0]))

    def init(key, config):
        return {"level_N": jnp.linspace(-1.0, 0.5, config.num_layers, dtype=jnp.float32)}

    return PRUNER._replace(
        name="marking",
        score=lambda params, features: features.state_XD[..., 0],
        hard=select,
        init=init,
    )


FIRST_LAYERS = powerbert(CONFIG)._replace(name="first layers", sites=powerbert(CONFIG).sites[:2])
PRUNERS = {
    "adapler": PRUNER,
    "keep_all": keep_all(),
    "marking": marking_pruner(),
    "some layers": PRUNER._replace(name="some layers", sites=PRUNER.sites[1:3]),
    "powerbert": powerbert(CONFIG),
    "powerbert, some layers": FIRST_LAYERS,
    "attention": attention(CONFIG),
    "vocabulary": vocabulary(CONFIG),
}
RETENTION = (17, 9, 4, 2)


@functools.cache
def engine(name, driver, dtype="float32", **options):
    options |= {"tiles": TILES, "block_tokens": BLOCK} if driver == "packed" else {}
    return make_engine(
        CONFIG, PRUNERS[name], buckets=BUCKETS, driver=driver, dtype=dtype, **options
    )


@functools.cache
def params_of(name, threshold=0.8):
    return make_params(PRUNERS[name], threshold=threshold)


@functools.cache
def apart(name, threshold=0.8):
    """Parameters in the layout of inference: the layers are apart."""
    return prepare_inference_params(params_of(name, threshold), CONFIG)


def assert_same(found, expected, *, atol=1e-5):
    (logits_BC, trace), (expected_BC, expected_trace) = found, expected
    np.testing.assert_allclose(logits_BC, expected_BC, atol=atol, rtol=0)
    if expected_trace.count_NB is None:
        assert trace.count_NB is None
        return
    assert trace.count_NB.dtype == jnp.int32
    np.testing.assert_array_equal(trace.count_NB, expected_trace.count_NB)
    np.testing.assert_array_equal(trace.survival_NBL, expected_trace.survival_NBL)
    np.testing.assert_allclose(trace.score_NBL, expected_trace.score_NBL, atol=atol, rtol=0)
