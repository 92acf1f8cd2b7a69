"""The types of an encoder's slots: pure functions that the drivers call layer by layer."""

from typing import Any, Protocol

import jax.numpy as jnp

from adapler_jax.encoders.local_attention import LocalLayers
from adapler_jax.types import Array, EncoderConfig, Params


class InitFn(Protocol):
    """Return fresh parameters of an encoder, float32: {"embeddings", "layers", ...}."""

    def __call__(self, key: Array, config: EncoderConfig, /) -> Params:
        """Return the tree."""


class EmbedFn(Protocol):
    """Return the states that enter layer 0, float32 [..., D], of tokens in any layout.

    `params` is the subtree "embeddings". token_X, segment_X, position_X: int32; the axes of the
    positions may be 1.
    """

    def __call__(
        self,
        params: Params,
        config: EncoderConfig,
        token_X: Array,
        segment_X: Array,
        position_X: Array,
        /,
        *,
        key: Array | None = None,
    ) -> Array:
        """Return the states."""


class LocalLayersFn(Protocol):
    """Return the layers in which tokens attend to near tokens alone; None: all are global."""

    def __call__(self, config: EncoderConfig, /) -> LocalLayers | None:
        """Return the layers and their window of original positions."""


class PairBiasFn(Protocol):
    """Return what each head adds to the attention logits of pairs, float32 [B, H, L, S].

    `layer` is one slice of "layers", with the encoder's shared subtrees. Positions are int32 and
    original; their first axis may be 1, and then the result's is.
    """

    def __call__(
        self,
        layer: Params,
        config: EncoderConfig,
        query_position_BL: Array,
        key_position_BS: Array,
        /,
    ) -> Array:
        """Return the bias."""


class OptionsOfLayersFn(Protocol):
    """Return the constants of a family, `family_options`, for some of an encoder's layers."""

    def __call__(self, config: EncoderConfig, layers: tuple[int, ...], /) -> Any:
        """Return the record; `layers` are the kept ones."""


class QkvFn(Protocol):
    """Return queries, scaled, keys and values, joined: float32 [..., 3 D] of states [..., D].

    A family with pre-norm normalises here; rotary positions are applied here. `layer` is one slice
    of "layers".
    """

    def __call__(
        self,
        layer: Params,
        config: EncoderConfig,
        hidden_XD: Array,
        /,
        *,
        index: Array | None = None,
        position_X: Array | None = None,
        dtype=jnp.float32,
    ) -> Array:
        """Return the joined vectors."""


class QkvPartFn(Protocol):
    """Return a part of what `QkvFn` returns, float32.

    `part` is "query" [..., D], or "key_value" [..., 2 D].
    """

    def __call__(
        self,
        layer: Params,
        config: EncoderConfig,
        hidden_XD: Array,
        part: str,
        /,
        *,
        index: Array | None = None,
        position_X: Array | None = None,
        dtype=jnp.float32,
    ) -> Array:
        """Return the vectors."""


class AttentionOutputFn(Protocol):
    """Return the states after the attention half of a layer, float32 [..., D].

    The residual and the norms of the half are included.
    """

    def __call__(
        self,
        layer: Params,
        config: EncoderConfig,
        hidden_XD: Array,
        attended_XD: Array,
        /,
        *,
        key: Array | None = None,
        dtype=jnp.float32,
    ) -> Array:
        """Return the states."""


class FeedForwardFn(Protocol):
    """Return the states after the feed-forward half of a layer, float32 [..., D].

    The residual and the norms of the half are included.
    """

    def __call__(
        self,
        layer: Params,
        config: EncoderConfig,
        hidden_XD: Array,
        /,
        *,
        key: Array | None = None,
        dtype=jnp.float32,
    ) -> Array:
        """Return the states."""


class FinalFn(Protocol):
    """Return the states that a head sees, float32 [..., D].

    A state of zeros, on padding, stays zero. `params` is the encoder's tree without the layers.
    """

    def __call__(self, params: Params, config: EncoderConfig, hidden_XD: Array, /) -> Array:
        """Return the states."""


class PrepareFn(Protocol):
    """Return an encoder's parameters as inference runs them fastest, layers as a tuple of trees."""

    def __call__(self, params: Params, config: EncoderConfig, dtype=jnp.float32, /) -> Params:
        """Return the tree; the slots above take its layers too."""
