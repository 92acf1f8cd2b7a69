"""Survival schedules of the three methods, for benchmarks of the drivers.

TR-BERT's selectors get the biases that keep the fractions. PoWER-BERT retains the fraction of the
mean length in every text.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from adapler_jax.inference.autotune.workloads import (
    PREDICTOR_DIM,
    Schedule,
    adapler_schedule,
    score_levels,
)
from adapler_jax.pruning import powerbert, trbert
from adapler_jax.types import Batch, EncoderConfig, Params


@functools.cache
def powerbert_schedule(config: EncoderConfig) -> Schedule:
    """Return PoWER-BERT, whose retention counts follow the fractions."""

    def follow(params: Params, config: EncoderConfig, batch: Batch, fraction_N) -> Params:
        mean_length = np.asarray(batch.valid_BL).sum(-1).mean()
        count_N = np.maximum(1.0, np.round(fraction_N * mean_length))
        retention_N = jnp.asarray(count_N, jnp.float32)
        return params | {"pruner": params["pruner"] | {"retention_N": retention_N}}

    return Schedule(powerbert(config), follow)


@functools.cache
def trbert_schedule(config: EncoderConfig) -> Schedule:
    """Return TR-BERT, whose selectors' biases follow the fractions."""
    pruner = trbert(config, selector_dim=PREDICTOR_DIM)
    layers = np.array([site.layer for site in pruner.sites])

    def score(site_params, layer, site_input):
        return site_input.token_logit_BL

    def follow(params: Params, config: EncoderConfig, batch: Batch, fraction_N) -> Params:
        level_N = score_levels(params, config, batch, fraction_N, pruner=pruner, score=score)
        selectors = params["pruner"]["score"]
        bias = selectors["bias"] - level_N[layers].reshape(selectors["bias"].shape)
        return params | {"pruner": params["pruner"] | {"score": selectors | {"bias": bias}}}

    return Schedule(pruner, follow)


SCHEDULES: dict[str, Callable[[EncoderConfig], Schedule]] = {
    "adapler": adapler_schedule,
    "powerbert": powerbert_schedule,
    "trbert": trbert_schedule,
}
