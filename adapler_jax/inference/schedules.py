"""Survival schedules on random weights: what a driver's seconds are measured on where there is no trained model.

AdapLeR's thresholds are set layer by layer so that the share of kept tokens falls evenly to a wanted FLOPs speedup;
which tokens go, and how many of each text, is left to the scores of random predictors.
"""

import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import encoder, flops, full_width, heads
from adapler_jax.inference.engine import lay_out
from adapler_jax.pruning import Pruner, adapler
from adapler_jax.types import Batch, EncoderConfig, Params

SHAPES = {
    "minilm": EncoderConfig(
        num_layers=6, num_heads=12, hidden_dim=384, ffn_dim=1536, vocab_size=30522, num_positions=512
    ),
    "base": EncoderConfig(
        num_layers=12, num_heads=12, hidden_dim=768, ffn_dim=3072, vocab_size=30522, num_positions=512
    ),
}  # fmt: skip
SPEEDUPS = (1.0, 2.0, 3.3, 9.0)
PREDICTOR_DIM = 32
PREDICTOR_SCALE = 5.0  # of the random predictors' kernels: tokens get scores that differ
NUM_CLASSES = 2
NUM_BISECTIONS = 40


def check_names(given: Sequence[str], known: Collection[str], what: str) -> None:
    """Raises ValueError on a name that is not known."""
    if not set(given) <= set(known):
        raise ValueError(f"unknown {what} among {', '.join(given)}; there are {', '.join(known)}")


def parse_case(text: str) -> tuple[int, int]:
    """32x128 as (batch size, length). Raises ValueError on anything else."""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) > 0 for part in parts) or int(parts[1]) < 2:
        raise ValueError(f"case {text!r}; expected batch x length, as 32x128")
    return int(parts[0]), int(parts[1])


def schedule_pruner(config: EncoderConfig) -> Pruner:
    """The pruner whose thresholds follow the schedules."""
    return adapler(config, predictor_dim=PREDICTOR_DIM)


def random_params(config: EncoderConfig) -> Params:
    """Random weights with predictors."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(0), 3)
    pruner = schedule_pruner(config).init(pruner_key, config)
    for name in ("hidden", "score"):
        pruner[name]["kernel"] = pruner[name]["kernel"] * PREDICTOR_SCALE
    return {
        "encoder": encoder.init_encoder(encoder_key, config),
        "head": heads.init_classifier(head_key, config, NUM_CLASSES),
        "pruner": pruner,
    }


def random_batch(config: EncoderConfig, batch_size: int, length: int, *, shortest: int) -> Batch:
    """Random tokens in texts of `shortest` to `length` tokens, the first as long as the batch."""
    rng = np.random.default_rng(0)
    length_B = rng.integers(shortest, length + 1, batch_size)
    length_B[0] = length
    live_BL = np.arange(length) < length_B[:, None]
    return Batch(
        token_BL=np.where(live_BL, rng.integers(1, config.vocab_size, (batch_size, length)), 0).astype(np.int32),
        segment_BL=np.zeros((batch_size, length), np.int32),
        live_BL=live_BL,
        label_B=np.zeros(batch_size, np.int32),
        example_id_B=np.arange(batch_size, dtype=np.int32),
    )


def mixed_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Random tokens in texts of length / 2 to length, the first as long as the batch."""
    return random_batch(config, batch_size, length, shortest=length // 2)


def full_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Random tokens without padding."""
    return random_batch(config, batch_size, length, shortest=length)


def kept_shares(config: EncoderConfig, length: int, speedup: float) -> np.ndarray:
    """Shares of the tokens that the layers run on, falling by one factor a layer: float64 [N]."""
    dense = flops.dense_flops(config, [length], num_classes=NUM_CLASSES)

    def shares(factor):
        return factor ** np.arange(1, config.num_layers + 1)

    def found(factor):
        count_N1 = np.maximum(1, np.round(shares(factor) * length))[:, None]
        pruned = flops.pruned_flops(
            config, [length], count_N1, sites=schedule_pruner(config).sites, predictor_dim=PREDICTOR_DIM,
            num_classes=NUM_CLASSES,
        )  # fmt: skip
        return flops.speedup(dense, pruned)

    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) < speedup else (middle, high)
    return shares(high)


@functools.lru_cache(maxsize=4)
def _threshold_program(config: EncoderConfig):
    """A jitted function (params, batch, share_N) -> thresholds float32 [N] that keep these shares of all tokens."""
    pruner = schedule_pruner(config)

    def find(params, batch, share_N):
        num_tokens = jnp.sum(batch.live_BL, dtype=jnp.int32)

        def select(site_params, index, view):
            open_ = pruner.select(site_params | {"threshold_N": jnp.float32(0.0)}, index, view)
            ratio_BL = jnp.where(view.live_BL, open_.score_BL * jnp.sum(view.live_BL, -1, keepdims=True), -1.0)
            num_kept = jnp.clip(jnp.round(share_N[index] * num_tokens).astype(jnp.int32), 1, num_tokens)
            level = jnp.sort(ratio_BL.reshape(-1))[ratio_BL.size - num_kept]
            keep_BL = (ratio_BL >= level).at[:, 0].set(view.live_BL[:, 0])
            return open_.replace(keep_BL=keep_BL, score_BL=jnp.broadcast_to(level, ratio_BL.shape))

        fixed = pruner._replace(select=select)
        _, trace = full_width.forward(params, config, fixed, batch, slope=None)
        return trace.score_NBL[:, 0, 0]

    return jax.jit(find)


def set_thresholds(params: Params, config: EncoderConfig, batch: Batch, share_N) -> Params:
    """The parameters with thresholds that keep these shares of all tokens of the batch."""
    threshold_N = _threshold_program(config)(params, batch, jnp.asarray(share_N, jnp.float32))
    return params | {"pruner": params["pruner"] | {"threshold_N": threshold_N}}


def scheduled_params(config: EncoderConfig, batch: Batch, speedups: Sequence[float], dtype) -> dict:
    """Random weights, laid out for the fast drivers, by the FLOPs speedup at which they drop tokens of the batch; under
    None those of plain BERT."""
    params, mean_length = random_params(config), int(batch.live_BL.sum(-1).mean())
    laid_out = lay_out(params, config, dtype)
    found = {None: laid_out | {"pruner": {}}}
    for speedup in speedups:
        pruned = set_thresholds(params, config, batch, kept_shares(config, mean_length, speedup))
        found[speedup] = laid_out | {"pruner": pruned["pruner"]}
    return found
