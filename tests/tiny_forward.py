"""Share the tiny model's pass at full width, compiled once for each pruner."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adapler_jax import forward as full_width
from tests.tiny import CONFIG, PRUNER, make_params

PARAMS = make_params()


@functools.cache
def jitted(pruner=PRUNER):
    """Forward of this pruner: (params, batch, slope or None)."""
    return jax.jit(
        lambda params, batch, slope: full_width.forward(params, CONFIG, pruner, batch, slope=slope)
    )


def forward(params, batch, slope, pruner=PRUNER):
    """Logits and Trace as NumPy arrays; slope None is the hard rule."""
    result = jitted(pruner)(params, batch, None if slope is None else jnp.float32(slope))
    return jax.tree.map(np.asarray, result)


SLOPES = pytest.mark.parametrize("slope", [10.0, None])
