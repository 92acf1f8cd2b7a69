"""Survival schedules on random weights: what a driver's seconds are measured on where there is no trained model.

The share of kept tokens falls by one factor at every site to a wanted FLOPs speedup. Of AdapLeR the thresholds are set
so, of TR-BERT the selectors' biases: which tokens go, and how many of each text, is left to the scores of random
networks. PoWER-BERT retains that share of the mean length in every text.
"""

import functools
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import flops, heads, model_flops
from adapler_jax import forward as full_width
from adapler_jax.encoders import encoder_of
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.pruning import Pruner, adapler, powerbert, trbert
from adapler_jax.types import Batch, EncoderConfig, Params, Selection

SHAPES = {
    "minilm": EncoderConfig(
        num_layers=6,
        num_heads=12,
        hidden_dim=384,
        ffn_dim=1536,
        vocab_size=30522,
        num_positions=512,
    ),
    "base": EncoderConfig(
        num_layers=12,
        num_heads=12,
        hidden_dim=768,
        ffn_dim=3072,
        vocab_size=30522,
        num_positions=512,
    ),
}
SPEEDUPS = (1.0, 2.0, 3.3, 9.0)
METHODS = ("adapler", "powerbert", "trbert")
SCORER_DIM = 32
SCORER_SCALE = 5.0  # of the random networks' kernels: tokens get scores that differ
NUM_CLASSES = 2
NUM_BISECTIONS = 40


def check_names(given: Sequence[str], known: Collection[str], what: str) -> None:
    """Raises ValueError on a name that is not known."""
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")


def parse_case(text: str) -> tuple[int, int]:
    """32x128 as (batch size, length). Raises ValueError on anything else."""
    parts = text.split("x")
    if (
        len(parts) != 2
        or not all(part.isdecimal() and int(part) > 0 for part in parts)
        or int(parts[1]) < 2
    ):
        raise ValueError(f"case {text!r}; expected batch x length, as 32x128")
    return int(parts[0]), int(parts[1])


def schedule_pruner(config: EncoderConfig, method: str = "adapler") -> Pruner:
    """The pruner that follows the schedules."""
    makers = {
        "adapler": functools.partial(adapler, predictor_dim=SCORER_DIM),
        "powerbert": powerbert,
        "trbert": functools.partial(trbert, selector_dim=SCORER_DIM),
    }
    return makers[method](config)


def random_params(config: EncoderConfig, method: str = "adapler") -> Params:
    """Random weights, the pruner's among them."""
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(0), 3)
    pruner = schedule_pruner(config, method).init(pruner_key, config)
    for name in {"hidden", "score"} & pruner.keys():
        pruner[name]["kernel"] = pruner[name]["kernel"] * SCORER_SCALE
    return {
        "encoder": encoder_of(config).init(encoder_key, config),
        "head": heads.init_classifier(head_key, config, NUM_CLASSES),
        "pruner": pruner,
    }


def random_batch(config: EncoderConfig, batch_size: int, length: int, *, shortest: int) -> Batch:
    """Random tokens in texts of `shortest` to `length` tokens, the first as long as the batch."""
    rng = np.random.default_rng(0)
    length_B = rng.integers(shortest, length + 1, batch_size)
    length_B[0] = length
    valid_BL = np.arange(length) < length_B[:, None]
    return Batch(
        token_BL=np.where(
            valid_BL, rng.integers(1, config.vocab_size, (batch_size, length)), 0
        ).astype(np.int32),
        segment_BL=np.zeros((batch_size, length), np.int32),
        valid_BL=valid_BL,
        label_B=np.zeros(batch_size, np.int32),
        example_id_B=np.arange(batch_size, dtype=np.int32),
    )


def mixed_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Random tokens in texts of length / 2 to length, the first as long as the batch."""
    return random_batch(config, batch_size, length, shortest=length // 2)


def full_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Random tokens without padding."""
    return random_batch(config, batch_size, length, shortest=length)


def kept_fractions(
    config: EncoderConfig, length: int, speedup: float, method: str = "adapler"
) -> np.ndarray:
    """Shares of the tokens behind each layer's site, falling by one factor at every site: float64 [N].

    Raises ValueError where the first site comes too late for the speedup.
    """
    head = flops.pooled_flops(config, NUM_CLASSES)
    dense = model_flops.dense_flops(config, [length], head=head)
    pruner = schedule_pruner(config, method)
    shapes = jax.eval_shape(lambda key: pruner.init(key, config), jax.random.key(0))
    num_sites_N = np.searchsorted(
        [site.layer for site in pruner.sites], np.arange(config.num_layers), side="right"
    )

    def shares(factor):
        return factor**num_sites_N

    def found(factor):
        count_N1 = np.maximum(1, np.round(shares(factor) * length))[:, None]
        pruned = model_flops.pruned_flops(
            config, pruner, {"pruner": shapes}, [length], count_N1, head=head
        )
        return flops.speedup(dense, pruned)

    if found(0.0) < speedup:
        raise ValueError(
            f"{method} on {config.num_layers} layers is at most {found(0.0):.2f}x, not {speedup:g}x"
        )
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) < speedup else (middle, high)
    return shares(high)


@functools.lru_cache(maxsize=4)
def _level_program(config: EncoderConfig, method: str):
    """A jitted function (params, batch, share_N) -> float32 [N]: what a token's score must reach at each layer's site
    for these shares of all tokens to be kept; a score is AdapLeR's times the text's length, or TR-BERT's logit."""
    pruner = schedule_pruner(config, method)

    def find(params, batch, share_N):
        num_tokens = jnp.sum(batch.valid_BL, dtype=jnp.int32)

        def select(site_params, index, view):
            if method == "adapler":
                open_ = pruner.hard(site_params | {"threshold_N": jnp.float32(0.0)}, index, view)
                score_BL = open_.score_BL * jnp.sum(view.remaining_BL, -1, keepdims=True)
            else:
                score_BL = view.token_logit_BL
            score_BL = jnp.where(view.remaining_BL & (view.survival_BL > 0), score_BL, -jnp.inf)
            num_kept = jnp.clip(
                jnp.round(share_N[index] * num_tokens).astype(jnp.int32), 1, num_tokens
            )
            level = jnp.sort(score_BL.reshape(-1))[score_BL.size - num_kept]
            keep_BL = (score_BL >= level).at[:, 0].set(view.remaining_BL[:, 0])
            return Selection(score_BL=jnp.broadcast_to(level, score_BL.shape), keep_BL=keep_BL)

        fixed = pruner._replace(hard=select)
        _, trace = full_width.forward(params, config, fixed, batch, slope=None)
        return trace.score_NBL[:, 0, 0]

    return jax.jit(find)


def follow_shares(
    params: Params, config: EncoderConfig, batch: Batch, share_N, method: str = "adapler"
) -> Params:
    """The parameters with which the pruner keeps these shares of all tokens of the batch."""
    changed = dict(params["pruner"])
    if method == "powerbert":
        mean_length = np.asarray(batch.valid_BL).sum(-1).mean()
        changed["retention_N"] = jnp.asarray(
            np.maximum(1.0, np.round(share_N * mean_length)), jnp.float32
        )
        return params | {"pruner": changed}
    level_N = _level_program(config, method)(params, batch, jnp.asarray(share_N, jnp.float32))
    if method == "adapler":
        changed["threshold_N"] = level_N
    else:
        layers = jnp.array([site.layer for site in schedule_pruner(config, method).sites])
        bias = changed["score"]["bias"]
        changed["score"] = changed["score"] | {"bias": bias - level_N[layers].reshape(bias.shape)}
    return params | {"pruner": changed}


def scheduled_params(
    config: EncoderConfig, batch: Batch, speedups: Sequence[float], dtype, method: str = "adapler"
) -> dict:
    """Random weights, laid out for the fast drivers, by the FLOPs speedup at which they drop tokens of the batch; under
    None those of plain BERT."""
    params, mean_length = random_params(config, method), int(batch.valid_BL.sum(-1).mean())
    laid_out = prepare_inference_params(params, config, dtype)
    found = {None: laid_out | {"pruner": {}}}
    for speedup in speedups:
        pruned = follow_shares(
            params, config, batch, kept_fractions(config, mean_length, speedup, method), method
        )
        found[speedup] = laid_out | {"pruner": pruned["pruner"]}
    return found
