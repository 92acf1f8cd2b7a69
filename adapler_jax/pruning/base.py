"""The pruner: a record of pure functions that every length-reduction method fills in, and the one that does nothing.

Drivers call `soft` (training) or `hard` (inference) at each of `sites`; neither side knows more of the other than
the records in `types.py`. Leaves of a pruner's parameter subtree have a leading axis of one entry a site; a driver
passes the slice of the site that it stands at.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.types import (
    MASK_BIAS,
    EncoderConfig,
    Params,
    Selection,
    Site,
    SiteInput,
    SoftSelection,
)


class Pruner(NamedTuple):
    """A length-reduction method. All functions are pure; `params` is the method's own subtree."""

    name: str
    sites: tuple[Site, ...]  # at most one a layer, in order, all at the same point
    # (key, EncoderConfig) -> params
    init: Callable[..., Params]
    # (site's params, states [..., D]) -> float32 [...]: all that is read off a token alone, padded or packed; None for
    # sites before the feed-forward half, which are shown the attention that tokens received
    score: Callable | None
    # (site's params, layer, View, slope) -> SoftSelection
    soft: Callable
    # (site's params, layer, View) -> Selection; [CLS] always kept, padding never
    hard: Callable
    # (params, Trace, Batch) -> {name: float32 scalar}, unweighted
    loss_terms: Callable[..., Mapping]
    # params -> params, applied after every optimizer step
    constrain: Callable[[Params], Params]
    # names of the leaves that the speed-up loss trains; the main loss trains the others
    length_loss_params: frozenset[str] = frozenset()
    # whether padding is treated as tokens that no one attends to, as in a program of one fixed length
    counts_padding: bool = False
    reference_only_reason: str = ""  # why only the masked driver can run it: for parity with programs that do what we would not
    factory_kwargs: tuple[
        tuple[str, Any], ...
    ] = ()  # keywords of the factory that make this pruner again from a saved model

    @property
    def point(self) -> str | None:
        """Where in its layers the sites are; None without any."""
        return self.sites[0].point if self.sites else None


def check_sites(pruner: Pruner, config: EncoderConfig) -> None:
    """Raises ValueError where no driver serves the pruner's sites: several in a layer, out of order, at several
    points, or behind the last layer."""
    layers = [site.layer for site in pruner.sites]
    if layers != sorted(set(layers)) or len({site.point for site in pruner.sites}) > 1:
        raise ValueError(
            f"pruner {pruner.name}: a driver serves at most one site a layer, in order, all at one point"
        )
    if layers and not 0 <= layers[0] <= layers[-1] < config.num_layers:
        raise ValueError(
            f"pruner {pruner.name} has sites at layers {layers}, the encoder {config.num_layers} layers"
        )


def check_supported(pruner: Pruner, config: EncoderConfig) -> None:
    """`check_sites`; raises ValueError too for a method that only the masked driver can run."""
    check_sites(pruner, config)
    if pruner.reference_only_reason:
        raise ValueError(
            f"pruner {pruner.name} {pruner.reference_only_reason}; only the masked driver can"
        )


def params_of_layers(pruner: Pruner, params: Params, num_layers: int) -> Params:
    """The pruner's leaves with one entry a layer; a layer without a site has those of another, and `hard_step` and
    `soft_step` do not look at what comes of it."""
    layers = [site.layer for site in pruner.sites]
    if len(layers) in (0, num_layers):
        return params
    index_N = np.minimum(np.searchsorted(layers, np.arange(num_layers)), len(layers) - 1)
    return jax.tree.map(lambda leaf: leaf[index_N], params)


def has_site(pruner: Pruner, layer):
    """Whether the layer, an int32 scalar, has a site: a bool scalar."""
    return jnp.any(layer == jnp.array([site.layer for site in pruner.sites], jnp.int32))


def is_lost(view: SiteInput):
    """Texts with a token whose reading is NaN or infinite, bool [B, 1]. No rule can judge them; with all their tokens
    kept their answers become NaN, as plain BERT's do."""
    return jnp.any(view.remaining_BL & ~jnp.isfinite(view.token_logit_BL), axis=-1, keepdims=True)


def hard_step(pruner: Pruner, site_params, layer, view: SiteInput) -> Selection:
    """`pruner.hard`; what is protected stays, and all that entered where the layer has no site, or the text is lost."""
    found = pruner.hard(site_params, layer, view)
    is_site = has_site(pruner, layer)
    keep_BL = found.keep_BL | (view.remaining_BL & is_lost(view))
    keep_BL = (
        keep_BL if view.protected_BL is None else keep_BL | (view.protected_BL & view.remaining_BL)
    )
    return Selection(
        score_BL=jnp.where(is_site, found.score_BL, 0.0),
        keep_BL=jnp.where(is_site, keep_BL, view.remaining_BL),
    )


def soft_step(pruner: Pruner, site_params, layer, view: SiteInput, slope) -> SoftSelection:
    """`pruner.soft`; nothing changes for what is protected, nor where the layer has no site."""
    found = pruner.soft(site_params, layer, view, slope)
    acts = is_site = has_site(pruner, layer)
    if view.protected_BL is not None:
        acts = is_site & ~view.protected_BL
    return SoftSelection(
        score_BL=jnp.where(is_site, found.score_BL, 0.0),
        bias_BL=jnp.where(acts, found.bias_BL, 0.0),
        survival_BL=jnp.where(acts, found.survival_BL, view.survival_BL),
        scale_BL=None if found.scale_BL is None else jnp.where(acts, found.scale_BL, 1.0),
    )


def all_integers(numbers) -> bool:
    """Whether all are whole numbers, of Python or NumPy; True and False are none."""
    return all(
        isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers
    )


def is_layer_subset(layers: tuple, *, lowest: int, num_layers: int) -> bool:
    """Whether they are increasing whole numbers from `lowest` to the last layer, one at least."""
    is_rising = bool(layers) and all_integers(layers) and list(layers) == sorted(set(layers))
    return is_rising and lowest <= layers[0] <= layers[-1] < num_layers


def rank_descending(score_BL, candidate_BL):
    """Place of each candidate by falling score, int32 [B, L], 0 the first; of equal ones the earlier; then the rest."""
    by_score_BL = jnp.argsort(-jnp.where(candidate_BL, score_BL, -jnp.inf), axis=-1, stable=True)
    return jnp.argsort(by_score_BL, axis=-1).astype(jnp.int32)


def hard_to_soft(selection: Selection) -> SoftSelection:
    """A hard selection as weights 0 or 1 and a key bias of 0 or MASK_BIAS."""
    keep_BL = selection.keep_BL
    return SoftSelection(
        score_BL=selection.score_BL,
        bias_BL=jnp.where(keep_BL, 0.0, MASK_BIAS),
        survival_BL=keep_BL.astype(jnp.float32),
    )


@functools.cache  # one object, so that programs compiled for it are found again
def keep_all() -> Pruner:
    """Plain BERT: no sites, no parameters, no loss terms."""

    def refuse(*_):
        raise AssertionError("keep_all has no sites at which it could be called")

    return Pruner(
        name="keep_all",
        sites=(),
        init=lambda key, config: {},
        score=refuse,
        soft=refuse,
        hard=refuse,
        loss_terms=lambda params, trace, batch: {},
        constrain=lambda params: params,
    )
