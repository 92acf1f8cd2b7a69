"""The pruner: a record of pure functions that every length-reduction method fills in, and the one that does nothing.

Drivers call `soften` (training) or `select` (inference) at each of `sites`; neither side knows more of the other than
the records in `types.py`. Leaves of a pruner's parameter subtree have a leading axis of one entry a site; a driver
passes the slice of the site that it stands at.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

from adapler_jax.types import EncoderConfig, Params, Site


class Pruner(NamedTuple):
    """A length-reduction method. All functions are pure; `params` is the method's own subtree."""

    name: str
    sites: tuple[Site, ...]
    # (key, EncoderConfig) -> params
    init: Callable[..., Params]
    # (site's params, states [..., D]) -> float32 [...]: all that is read off a token alone, padded or packed
    read: Callable
    # (site's params, site index, View, slope) -> Softened
    soften: Callable
    # (site's params, site index, View) -> Selection; [CLS] always kept, padding never
    select: Callable
    # (params, Trace, Batch) -> {name: float32 scalar}, unweighted
    loss_terms: Callable[..., Mapping]
    # params -> params, applied after every optimizer step
    constrain: Callable[[Params], Params]
    # names of the leaves that the speed-up loss trains; the main loss trains the others
    threshold_names: frozenset[str] = frozenset()


def check_sites(pruner: Pruner, config: EncoderConfig) -> None:
    """Raises ValueError where a pruner has sites, but not one before every layer: no driver serves that."""
    if len(pruner.sites) not in (0, config.num_layers):
        raise ValueError(f"pruner {pruner.name}: the driver serves a site before every layer or none at all")


@functools.cache  # one object, so that programs compiled for it are found again
def keep_all() -> Pruner:
    """Plain BERT: no sites, no parameters, no loss terms."""

    def refuse(*_):
        raise AssertionError("keep_all has no sites at which it could be called")

    return Pruner(
        name="keep_all",
        sites=(),
        init=lambda key, config: {},
        read=refuse,
        soften=refuse,
        select=refuse,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
    )
