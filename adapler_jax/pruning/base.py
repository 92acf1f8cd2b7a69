"""The pruner: a record of pure functions that every length-reduction method fills.

Drivers call `score`, then `soft` (training) or `hard` (inference), at each of `sites`. Drivers and
pruners share only the records in `types.py`. Leaves of a pruner's parameters have a leading axis of
one entry a site; a driver passes the slice of its site.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.flops import SiteFlops
from adapler_jax.types import (
    ATTENTION_NEEDS,
    BEFORE_ATTENTION,
    BEFORE_FEED_FORWARD,
    MASK_BIAS,
    NEEDS,
    POSITION,
    STATE,
    TOKEN,
    Array,
    Batch,
    EncoderConfig,
    Params,
    Rule,
    Selection,
    Site,
    SiteInput,
    SoftSelection,
    TokenFeatures,
    Trace,
)


class InitFn(Protocol):
    """Return fresh parameters, a leading axis of one entry a site on every leaf."""

    def __call__(self, key: Array, config: EncoderConfig, /) -> Params:
        """Return the tree."""


class ScoreFn(Protocol):
    """Return one number a token, float32 [...], of padded [B, L] or packed [T] features.

    A method stops gradients here where its paper does; drivers stop none.
    """

    def __call__(self, site_params: Params, features: TokenFeatures, /) -> Array:
        """Return the numbers, which become `SiteInput.token_logit_BL`."""


class SoftFn(Protocol):
    """Return the differentiable selection of a site; `layer` may be traced."""

    def __call__(
        self, site_params: Params, layer: Array, site: SiteInput, slope: Array, /
    ) -> SoftSelection:
        """Return the selection; a large slope gives the hard rule."""


class HardFn(Protocol):
    """Return the hard selection of a site; [CLS] is always kept, padding never."""

    def __call__(self, site_params: Params, layer: Array, site: SiteInput, /) -> Selection:
        """Return the selection."""


class LossTermsFn(Protocol):
    """Return the loss terms of a pass by name, unweighted float32 scalars."""

    def __call__(self, params: Params, trace: Trace, batch: Batch, /) -> Mapping[str, Array]:
        """Return the terms."""


class ConstrainFn(Protocol):
    """Return the parameters moved into their allowed ranges; applied after every optimizer step."""

    def __call__(self, params: Params, /) -> Params:
        """Return the tree."""


class SiteFlopsFn(Protocol):
    """Return the operations of a site for one token, without the attention received."""

    def __call__(self, params: Params, config: EncoderConfig, /) -> SiteFlops:
        """Return the operations."""


def no_site_flops(params: Params, config: EncoderConfig) -> SiteFlops:
    """Return no operations, for methods whose scores cost next to nothing."""
    del params, config
    return SiteFlops()


class Pruner(NamedTuple):
    """A length-reduction method. All functions are pure."""

    name: str
    sites: tuple[Site, ...]  # at most one a layer, in order, all at the same point
    init: InitFn
    score: ScoreFn
    soft: SoftFn
    hard: HardFn
    loss_terms: LossTermsFn
    constrain: ConstrainFn
    needs: frozenset[str] = frozenset({STATE})  # features that `score` uses, of types.NEEDS
    tensor_rules: tuple[Rule, ...] = ()  # names of the leaves in a saved model
    site_flops: SiteFlopsFn = no_site_flops
    length_loss_params: frozenset[str] = frozenset()  # leaves that the speed-up loss trains
    takes_budgets: bool = False  # its hard rule reads `SiteInput.budget_B`
    # Padding counts as tokens to which no token attends, as in programs of one fixed length.
    counts_padding: bool = False
    reference_only_reason: str = ""  # why fast drivers cannot run it: parity with authors' programs
    factory_kwargs: tuple[tuple[str, Any], ...] = ()  # keywords that a saved model needs

    @property
    def point(self) -> str | None:
        """The point of the sites in their layers; None without sites."""
        return self.sites[0].point if self.sites else None

    @property
    def attention_needs(self) -> frozenset[str]:
        """The needs that attention computes; empty without sites."""
        return self.needs & ATTENTION_NEEDS if self.sites else frozenset()


def check_sites(pruner: Pruner, config: EncoderConfig) -> None:
    """Raise ValueError where no driver serves the pruner's sites or needs."""
    layers = [site.layer for site in pruner.sites]
    if layers != sorted(set(layers)) or len({site.point for site in pruner.sites}) > 1:
        raise ValueError(
            f"pruner {pruner.name}: a driver serves at most one site a layer, in order, "
            "all at one point"
        )
    if layers and not 0 <= layers[0] <= layers[-1] < config.num_layers:
        raise ValueError(
            f"pruner {pruner.name} has sites at layers {layers}, the encoder "
            f"{config.num_layers} layers"
        )
    if pruner.sites and pruner.point not in (BEFORE_ATTENTION, BEFORE_FEED_FORWARD):
        raise ValueError(
            f"pruner {pruner.name} has sites at {pruner.point!r}; expected {BEFORE_ATTENTION!r} or "
            f"{BEFORE_FEED_FORWARD!r}"
        )
    if TOKEN in pruner.needs and pruner.sites != (Site(0, BEFORE_ATTENTION),):
        raise ValueError(
            f"pruner {pruner.name} needs {TOKEN!r}, so its one site is before the attention of "
            "layer 0"
        )
    if unknown := pruner.needs - NEEDS:
        raise ValueError(
            f"pruner {pruner.name} needs {', '.join(sorted(unknown))}; "
            f"there are {', '.join(sorted(NEEDS))}"
        )
    if pruner.attention_needs and pruner.point != BEFORE_FEED_FORWARD:
        raise ValueError(
            f"pruner {pruner.name} needs {', '.join(sorted(pruner.attention_needs))}, which exist "
            "before the feed-forward half only; its sites are before the attention"
        )


def check_supported(pruner: Pruner, config: EncoderConfig) -> None:
    """Raise ValueError where a fast driver cannot run the pruner."""
    check_sites(pruner, config)
    if pruner.reference_only_reason:
        raise ValueError(
            f"pruner {pruner.name} {pruner.reference_only_reason}; only the masked driver can"
        )


def params_of_layers(pruner: Pruner, params: Params, num_layers: int) -> Params:
    """Return the pruner's leaves with one entry a layer.

    A layer without a site has the entry of another; `hard_step` and `soft_step` ignore its result.
    """
    layers = [site.layer for site in pruner.sites]
    if len(layers) in (0, num_layers):
        return params
    index_N = np.minimum(np.searchsorted(layers, np.arange(num_layers)), len(layers) - 1)
    return jax.tree.map(lambda leaf: leaf[index_N], params)


def for_first_token(pruner: Pruner, config: EncoderConfig) -> Pruner:
    """Return the pruner as drivers run it where the head reads [CLS] alone.

    A site inside the last layer would choose tokens for a feed-forward half that only [CLS] needs,
    so there is none: the layer keeps all tokens as keys. A method without another site keeps it.
    """
    if len(pruner.sites) < 2 or not has_inner_last_site(pruner, config):
        return pruner
    return pruner._replace(sites=pruner.sites[:-1])


def has_inner_last_site(pruner: Pruner, config: EncoderConfig) -> bool:
    """Return whether a site is between the two halves of the last layer."""
    return Site(config.num_layers - 1, BEFORE_FEED_FORWARD) in pruner.sites


def has_site(pruner: Pruner, layer: Array) -> Array:
    """Return whether the layer, an int32 scalar, has a site: a bool scalar."""
    return jnp.any(layer == jnp.array([site.layer for site in pruner.sites], jnp.int32))


def score_tokens(
    pruner: Pruner,
    site_params: Params,
    hidden_XD: Array,
    received: TokenFeatures | None = None,
    *,
    position_X: Array | None = None,
    token_X: Array | None = None,
) -> Array:
    """Return the pruner's number for each token, float32 [...].

    Args:
      pruner: the method.
      site_params: its parameters at the site.
      hidden_XD: states at the site.
      received: the attention that tokens receive in the layer; None before the attention.
      position_X: int32 original positions; needed where the pruner needs them.
      token_X: int32 entries of the vocabulary, before layer 0. A pruner that needs them has no
        later site, and the numbers are 0 where they are not given.
    """
    features = TokenFeatures() if received is None else received
    if STATE in pruner.needs:
        features = features.replace(state_XD=hidden_XD)
    if POSITION in pruner.needs:
        features = features.replace(position_X=position_X)
    if TOKEN in pruner.needs:
        if token_X is None:
            return jnp.zeros(hidden_XD.shape[:-1], jnp.float32)
        features = features.replace(token_X=token_X)
    return pruner.score(site_params, features)


def is_lost(site: SiteInput) -> Array:
    """Return the texts with a token whose score is NaN or infinite, bool [B, 1].

    No rule can judge them. With all their tokens kept their logits become NaN, as the plain
    encoder's do.
    """
    is_bad_BL = site.remaining_BL & ~jnp.isfinite(site.token_logit_BL)
    return jnp.any(is_bad_BL, axis=-1, keepdims=True)


def hard_step(pruner: Pruner, site_params: Params, layer: Array, site: SiteInput) -> Selection:
    """Return `pruner.hard` with exceptions.

    Protected tokens stay. All tokens stay in a layer without a site, and in a text that is lost.
    """
    found = pruner.hard(site_params, layer, site)
    is_site = has_site(pruner, layer)
    keep_BL = found.keep_BL | (site.remaining_BL & is_lost(site))
    if site.protected_BL is not None:
        keep_BL = keep_BL | (site.protected_BL & site.remaining_BL)
    return Selection(
        score_BL=jnp.where(is_site, found.score_BL, 0.0),
        keep_BL=jnp.where(is_site, keep_BL, site.remaining_BL),
    )


def soft_step(
    pruner: Pruner, site_params: Params, layer: Array, site: SiteInput, slope: Array
) -> SoftSelection:
    """Return `pruner.soft`; nothing changes for protected tokens and in a layer without a site."""
    found = pruner.soft(site_params, layer, site, slope)
    acts = is_site = has_site(pruner, layer)
    if site.protected_BL is not None:
        acts = is_site & ~site.protected_BL
    return SoftSelection(
        score_BL=jnp.where(is_site, found.score_BL, 0.0),
        bias_BL=jnp.where(acts, found.bias_BL, 0.0),
        survival_BL=jnp.where(acts, found.survival_BL, site.survival_BL),
        scale_BL=None if found.scale_BL is None else jnp.where(acts, found.scale_BL, 1.0),
    )


def all_integers(numbers) -> bool:
    """Return whether all are whole numbers, of Python or NumPy, and no truth values."""
    return all(
        isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers
    )


def is_layer_subset(layers: tuple, *, lowest: int, num_layers: int) -> bool:
    """Return whether they are increasing whole numbers from `lowest` to the last layer."""
    is_rising = bool(layers) and all_integers(layers) and list(layers) == sorted(set(layers))
    return is_rising and lowest <= layers[0] <= layers[-1] < num_layers


def rank_descending(score_BL: Array, candidate_BL: Array) -> Array:
    """Return the rank of each candidate by falling score, int32 [B, L], 0 the first.

    The earlier of equal candidates is first; tokens that are no candidates are last.
    """
    candidate_score_BL = jnp.where(candidate_BL, score_BL, -jnp.inf)
    by_score_BL = jnp.argsort(-candidate_score_BL, axis=-1, stable=True)
    return jnp.argsort(by_score_BL, axis=-1).astype(jnp.int32)


def hard_to_soft(selection: Selection) -> SoftSelection:
    """Return a hard selection as survival 0 or 1 and a key bias of 0 or MASK_BIAS."""
    keep_BL = selection.keep_BL
    return SoftSelection(
        score_BL=selection.score_BL,
        bias_BL=jnp.where(keep_BL, 0.0, MASK_BIAS),
        survival_BL=keep_BL.astype(jnp.float32),
    )
