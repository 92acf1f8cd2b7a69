"""Random models and batches on which a driver's latency is measured.

A survival schedule keeps a fraction of the tokens that falls by one factor at every site, down to
a target FLOPs speedup. AdapLeR's thresholds are set to it. Which tokens are dropped, and how many
of each text, depends on the scores of random networks.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from adapler_jax import flops, forward, heads, model_flops
from adapler_jax.encoders import encoder_of
from adapler_jax.inference.engine import prepare_inference_params
from adapler_jax.pruning import Pruner, adapler
from adapler_jax.types import Batch, EncoderConfig, Params, Selection, SiteInput

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
PREDICTOR_DIM = 32
KERNEL_SCALE = 5.0  # of the random networks, so that scores of tokens differ
NUM_CLASSES = 2
NUM_BISECTIONS = 40

# (site's parameters, layer, input) -> float32 score_BL that is compared with a level
ScoreFn = Callable[[Params, Any, SiteInput], jax.Array]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A method that can keep given fractions of the tokens of a batch."""

    pruner: Pruner
    # (params, config, batch, fraction_N) -> params with which the pruner keeps these fractions
    follow: Callable[[Params, EncoderConfig, Batch, np.ndarray], Params]


def check_names(given: Sequence[str], known: Collection[str], what: str) -> None:
    """Check names from a command line.

    Args:
      given: the names.
      known: allowed names.
      what: kind of the names, for the message.

    Raises:
      ValueError: a name is not allowed.
    """
    if unknown := [name for name in given if name not in known]:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; there are {', '.join(known)}")


def parse_case(text: str) -> tuple[int, int]:
    """Convert 32x128 to (batch size, length).

    Raises:
      ValueError: the text has another form.
    """
    parts = text.split("x")
    is_case = len(parts) == 2 and all(part.isdecimal() and int(part) > 0 for part in parts)
    if not is_case or int(parts[1]) < 2:
        raise ValueError(f"case {text!r}; expected batch x length, as 32x128")
    return int(parts[0]), int(parts[1])


def random_params(config: EncoderConfig, pruner: Pruner | None = None) -> Params:
    """Return random weights of a model; pruner: None for the schedule's AdapLeR."""
    pruner = adapler_schedule(config).pruner if pruner is None else pruner
    encoder_key, head_key, pruner_key = jax.random.split(jax.random.key(0), 3)
    pruner_params = pruner.init(pruner_key, config)
    for name in {"hidden", "score"} & pruner_params.keys():
        pruner_params[name]["kernel"] = pruner_params[name]["kernel"] * KERNEL_SCALE
    return {
        "encoder": encoder_of(config).init(encoder_key, config),
        "head": heads.init_classifier(head_key, config, NUM_CLASSES),
        "pruner": pruner_params,
    }


def random_batch(config: EncoderConfig, batch_size: int, length: int, *, shortest: int) -> Batch:
    """Return random tokens in texts of `shortest` to `length` tokens; the first has `length`."""
    rng = np.random.default_rng(0)
    length_B = rng.integers(shortest, length + 1, batch_size)
    length_B[0] = length
    token_BL = rng.integers(1, config.vocab_size, (batch_size, length))
    valid_BL = np.arange(length) < length_B[:, None]
    arrays: dict[str, Any] = {  # NumPy arrays, which the data side puts into a Batch too
        "token_BL": np.where(valid_BL, token_BL, 0).astype(np.int32),
        "segment_BL": np.zeros((batch_size, length), np.int32),
        "valid_BL": valid_BL,
        "label_B": np.zeros(batch_size, np.int32),
        "example_id_B": np.arange(batch_size, dtype=np.int32),
    }
    return Batch(**arrays)


def mixed_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Return random tokens in texts of length / 2 to length tokens; the first has `length`."""
    return random_batch(config, batch_size, length, shortest=length // 2)


def full_batch(config: EncoderConfig, batch_size: int, length: int) -> Batch:
    """Return random tokens without padding."""
    return random_batch(config, batch_size, length, shortest=length)


@functools.cache
def adapler_schedule(config: EncoderConfig) -> Schedule:
    """Return AdapLeR, whose thresholds follow the fractions."""
    pruner = adapler(config, predictor_dim=PREDICTOR_DIM)

    def score(site_params: Params, layer: Any, site_input: SiteInput) -> jax.Array:
        without_threshold = site_params | {"threshold_N": jnp.float32(0.0)}
        score_BL = pruner.hard(without_threshold, layer, site_input).score_BL
        num_remaining_B1 = jnp.sum(site_input.remaining_BL, axis=-1, keepdims=True)
        return score_BL * num_remaining_B1.astype(score_BL.dtype)

    def follow(params: Params, config: EncoderConfig, batch: Batch, fraction_N) -> Params:
        level_N = score_levels(params, config, batch, fraction_N, pruner=pruner, score=score)
        return params | {"pruner": params["pruner"] | {"threshold_N": level_N}}

    return Schedule(pruner, follow)


def kept_fractions(
    config: EncoderConfig, length: int, speedup: float, *, schedule: Schedule | None = None
) -> np.ndarray:
    """Return the fraction of the tokens that each layer keeps, float64 [N].

    Args:
      config: of the encoder.
      length: tokens of a text.
      speedup: target FLOPs speedup.
      schedule: None for AdapLeR's.

    Raises:
      ValueError: the first site is too late for the speedup.
    """
    schedule = schedule or adapler_schedule(config)
    pruner = schedule.pruner
    shapes = jax.eval_shape(lambda key: pruner.init(key, config), jax.random.key(0))
    head = flops.pooled_flops(config, NUM_CLASSES)
    options: dict[str, Any] = {"head": head, "reads_first": True}
    dense = model_flops.dense_flops(config, [length], **options)
    site_layers = [site.layer for site in pruner.sites]
    num_sites_N = np.searchsorted(site_layers, np.arange(config.num_layers), side="right")

    def speedup_of(factor: float) -> float:
        count_N = np.maximum(1, np.round(factor**num_sites_N * length))
        pruned = model_flops.pruned_flops(
            config, pruner, {"pruner": shapes}, [length], count_N[:, None], **options
        )
        return flops.speedup(dense, pruned)

    if speedup_of(0.0) < speedup:
        raise ValueError(
            f"{schedule.pruner.name} on {config.num_layers} layers is at most "
            f"{speedup_of(0.0):.2f}x, not {speedup:g}x"
        )
    low, high = 0.0, 1.0
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if speedup_of(middle) < speedup else (middle, high)
    return high**num_sites_N


def score_levels(
    params: Params,
    config: EncoderConfig,
    batch: Batch,
    fraction_N,
    *,
    pruner: Pruner,
    score: ScoreFn,
) -> jax.Array:
    """Return the score that a token must reach at each layer's site, float32 [N].

    Args:
      params: of the whole model, encoder layers stacked.
      config: of the encoder.
      batch: tokens.
      fraction_N: fraction of all tokens of the batch that each layer keeps.
      pruner: that is followed.
      score: of the tokens at a site.
    """
    program = _level_program(config, pruner, score)
    return program(params, batch, jnp.asarray(fraction_N, jnp.float32))


@functools.lru_cache(maxsize=4)
def _level_program(config: EncoderConfig, pruner: Pruner, score: ScoreFn) -> Callable:
    """Return the jitted function (params, batch, fraction_N) -> level_N."""

    def find_levels(params: Params, batch: Batch, fraction_N: jax.Array) -> jax.Array:
        num_tokens = jnp.sum(batch.valid_BL, dtype=jnp.int32)

        def keep_fraction(site_params: Params, layer: Any, site_input: SiteInput) -> Selection:
            is_candidate_BL = site_input.remaining_BL & (site_input.survival_BL > 0)
            score_BL = jnp.where(is_candidate_BL, score(site_params, layer, site_input), -jnp.inf)
            num_kept = jnp.round(fraction_N[layer] * num_tokens.astype(jnp.float32)).astype(
                jnp.int32
            )
            rank = score_BL.size - jnp.clip(num_kept, 1, num_tokens)
            level = jnp.sort(score_BL.reshape(-1))[rank]
            keep_BL = (score_BL >= level).at[:, 0].set(site_input.remaining_BL[:, 0])
            return Selection(score_BL=jnp.broadcast_to(level, score_BL.shape), keep_BL=keep_BL)

        by_fraction = pruner._replace(hard=keep_fraction)
        _, trace = forward.forward(params, config, by_fraction, batch, slope=None)
        return trace.score_NBL[:, 0, 0]

    return jax.jit(find_levels)


def follow_fractions(
    params: Params, config: EncoderConfig, batch: Batch, fraction_N: np.ndarray
) -> Params:
    """Return the parameters with which AdapLeR keeps these fractions of all tokens of a batch."""
    return adapler_schedule(config).follow(params, config, batch, fraction_N)


def scheduled_params(
    config: EncoderConfig,
    batch: Batch,
    speedups: Sequence[float],
    dtype: DTypeLike,
    *,
    schedule: Schedule | None = None,
) -> dict[float | None, Params]:
    """Return random weights for the fast drivers by FLOPs speedup; None is plain BERT.

    Args:
      config: of the encoder.
      batch: whose tokens are dropped.
      speedups: target FLOPs speedups.
      dtype: of the operands of the encoder's products.
      schedule: None for AdapLeR's.
    """
    schedule = schedule or adapler_schedule(config)
    params = random_params(config, schedule.pruner)
    mean_length = int(batch.valid_BL.sum(-1).mean())
    prepared = prepare_inference_params(params, config, dtype)
    found: dict[float | None, Params] = {None: prepared | {"pruner": {}}}
    for speedup in speedups:
        fraction_N = kept_fractions(config, mean_length, speedup, schedule=schedule)
        scheduled = schedule.follow(params, config, batch, fraction_N)
        found[speedup] = prepared | {"pruner": scheduled["pruner"]}
    return found
