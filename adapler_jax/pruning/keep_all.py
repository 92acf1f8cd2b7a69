"""The plain encoder: no sites, parameters and loss terms; the baseline of every driver."""

import functools

from adapler_jax.pruning.base import Pruner


@functools.cache  # one object, so that programs compiled for it are found again
def keep_all() -> Pruner:
    """Return the pruner that drops nothing."""

    def no_site(*_):
        """Raise: a driver that calls it is wrong."""
        raise AssertionError("keep_all has no sites at which it could be called")

    return Pruner(
        name="keep_all",
        sites=(),
        init=lambda key, config: {},
        score=no_site,
        soft=no_site,
        hard=no_site,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
        needs=frozenset(),
    )
