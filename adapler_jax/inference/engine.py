"""Picks a driver and compiles it."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from adapler_jax import encoder
from adapler_jax.inference import bucketed, masked, packed
from adapler_jax.inference.bucketed import DEFAULT_BUCKETS
from adapler_jax.pruning.base import Pruner
from adapler_jax.types import EncoderConfig, Params

DRIVERS = {"bucketed": bucketed.forward, "masked": masked.forward, "packed": packed.forward}


def make_engine(
    config: EncoderConfig,
    pruner: Pruner,
    *,
    buckets: Sequence[int] = DEFAULT_BUCKETS,
    dtype=jnp.float32,
    driver: str = "bucketed",
    tiles: Sequence[int] = packed.TILES,
) -> Callable:
    """A jitted function (params, Batch) -> (logits float32 [B, C], Trace); it compiles once a batch shape.

    Args: buckets: lengths to which kept tokens are padded ("packed": for their attention); the largest holds every
    token slot of a batch. dtype: of the operands of the encoder's products. driver: "bucketed" and "packed" are fast,
    "masked" is the oracle, at full width. tiles: rows of a product of "packed".
    Raises ValueError on an unknown driver or buckets that are no positive numbers.
    """
    buckets = bucketed.check_buckets(buckets)
    if driver not in DRIVERS:
        raise ValueError(f"unknown driver {driver!r}; there are {', '.join(DRIVERS)}")
    options = {"masked": {}, "bucketed": {"buckets": buckets}, "packed": {"buckets": buckets, "tiles": tuple(tiles)}}
    return _jitted(config, pruner, driver, dtype, **options[driver])


def lay_out(params: Params, config: EncoderConfig, dtype=jnp.float32) -> Params:
    """The whole model's parameters as the fast drivers read them fastest; see `encoder.lay_out`."""
    return params | {"encoder": encoder.lay_out(params["encoder"], config, dtype)}


@functools.lru_cache(maxsize=32)
def _jitted(config: EncoderConfig, pruner: Pruner, driver: str, dtype, **options) -> Callable:
    """One function object for equal arguments, so that asking twice does not compile twice."""

    def run(params, batch):
        return DRIVERS[driver](params, config, pruner, batch, dtype=dtype, **options)

    return jax.jit(run)
