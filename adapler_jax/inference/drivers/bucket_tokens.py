"""Tokens of texts in a padded bucket: their slots, the kept ones, and a record of each site."""

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp

from adapler_jax.pruning.base import Pruner, hard_step
from adapler_jax.types import Array, Params, SiteInput, Trace


class BucketState(flax.struct.PyTreeNode):
    """Tokens of the next layer; entries past the count of an example are not used."""

    hidden_BLD: Array  # the buffer: states of the last layer in its first slots
    buffer_slot_BL: Array  # int32, slot of the k-th kept token in the buffer
    token_index_BL: Array  # int32, slot of the k-th kept token in the text; L past the count
    count_B: Array  # int32
    exit_hidden_BLD: Array | None  # last state so far of each token of the text
    protected_BL: Array | None  # bool, tokens of the text that stay
    budget_B: Array | None = None  # float32, as in `Batch`


class SiteRecord(flax.struct.PyTreeNode):
    """Tokens that entered one site, and its selection, at the slots of their bucket."""

    token_index_BL: Array  # int32, slots in the text; L past their count
    score_BL: Array
    keep_BL: Array
    count_B: Array


def record_of_all(state: BucketState) -> SiteRecord:
    """Return the record of a layer without a site: all tokens stay, with scores 0."""
    index_BL = state.token_index_BL
    keep_BL = is_filled(state, index_BL.shape[1])
    return SiteRecord(index_BL, jnp.zeros(index_BL.shape), keep_BL, state.count_B)


def bucket_index(num_tokens: Array, buckets: Sequence[int]) -> Array:
    """Return the index of the first bucket that holds so many tokens, an int32 scalar."""
    return jnp.sum(jnp.asarray(buckets, jnp.int32) < num_tokens, dtype=jnp.int32)


def gather_tokens(x_BLD: Array, index_BR: Array) -> Array:
    """Return x[b, index[b, r]] as [B, R, D]; indices are in bounds."""
    return jnp.take_along_axis(x_BLD, index_BR[..., None], axis=1, mode="promise_in_bounds")


def pad_to(x_BR: Array, length: int, value) -> Array:
    """Return x followed by `value` up to [B, length]."""
    return jnp.pad(x_BR, ((0, 0), (0, length - x_BR.shape[1])), constant_values=value)


def kept_slots(keep_BR: Array) -> Array:
    """Return the slots of the kept tokens in their order, int32 [B, R]; R past their count."""
    R = keep_BR.shape[1]
    return jnp.sort(jnp.where(keep_BR, jnp.arange(R, dtype=jnp.int32)[None], R), axis=-1)


def is_filled(state: BucketState, bucket: int) -> Array:
    """Return which of the first `bucket` slots hold a token, bool [B, R]."""
    return jnp.arange(bucket, dtype=jnp.int32)[None] < state.count_B[:, None]


def _site_input(
    token_logit_BR, token_index_BR, is_filled_BR, *, protected_BL, budget_B
) -> SiteInput:
    """Return the pruner's view of the tokens in a bucket."""
    survival_BR = is_filled_BR.astype(jnp.float32)
    site = SiteInput(token_logit_BR, is_filled_BR, survival_BR, budget_B=budget_B)
    if protected_BL is None:
        return site
    length = protected_BL.shape[1]
    protected_BL = jnp.pad(protected_BL, ((0, 0), (0, 1)))  # index L is no token
    protected_BR = jnp.take_along_axis(protected_BL, jnp.minimum(token_index_BR, length), axis=1)
    return site.replace(protected_BL=protected_BR)


def apply_pruner(
    pruner: Pruner,
    site_params: Params,
    layer: Array,
    *,
    token_logit_BR: Array,
    token_index_BR: Array,
    is_filled_BR: Array,
    length: int,
    protected_BL: Array | None,
    budget_B: Array | None = None,
) -> tuple[tuple[Array, Array, Array], SiteRecord]:
    """Return the tokens that the site of `layer` keeps, and the record of the site.

    The tokens are (buffer slots, slots in the text, counts), the first two padded to `length`.
    """
    site = _site_input(
        token_logit_BR,
        token_index_BR,
        is_filled_BR,
        protected_BL=protected_BL,
        budget_B=budget_B,
    )
    selection = hard_step(pruner, site_params, layer, site)
    kept_BR = kept_slots(selection.keep_BL)
    is_kept_BR = kept_BR < kept_BR.shape[1]
    slot_BR = jnp.where(is_kept_BR, kept_BR, 0)
    index_of_kept_BR = jnp.take_along_axis(token_index_BR, slot_BR, axis=1)
    index_of_kept_BR = jnp.where(is_kept_BR, index_of_kept_BR, length)
    count_B = jnp.sum(is_kept_BR, axis=-1, dtype=jnp.int32)
    entering_BR = jnp.where(is_filled_BR, token_index_BR, length)
    record = SiteRecord(
        token_index_BL=pad_to(entering_BR, length, length),
        score_BL=pad_to(selection.score_BL, length, 0.0),
        keep_BL=pad_to(selection.keep_BL, length, False),
        count_B=count_B,
    )
    return (pad_to(slot_BR, length, 0), pad_to(index_of_kept_BR, length, length), count_B), record


def write_states(state: BucketState, hidden_BRD: Array, is_filled_BR: Array) -> BucketState:
    """Return the state with new states of the tokens in the first slots."""
    bucket, length = hidden_BRD.shape[1], state.hidden_BLD.shape[1]
    token_index_BR = jnp.where(is_filled_BR, state.token_index_BL[:, :bucket], length)
    return state.replace(
        hidden_BLD=jax.lax.dynamic_update_slice(state.hidden_BLD, hidden_BRD, (0, 0, 0)),
        exit_hidden_BLD=put_at_tokens(state.exit_hidden_BLD, token_index_BR, hidden_BRD),
    )


def put_at_tokens(exit_hidden_BLD: Array | None, token_index_BR: Array, hidden_BRD: Array):
    """Return the exit states with new ones at these tokens; index L is dropped, None stays None."""
    if exit_hidden_BLD is None:
        return None
    example_B1 = jnp.arange(exit_hidden_BLD.shape[0])[:, None]
    return exit_hidden_BLD.at[example_B1, token_index_BR].set(hidden_BRD, mode="drop")


def trace_of(record_N: SiteRecord) -> Trace:
    """Return the records of all sites at the slots of the text, 0 where no token entered."""
    N, B, L = record_N.token_index_BL.shape
    site_N11 = jnp.arange(N)[:, None, None]
    example_1B1 = jnp.arange(B)[None, :, None]

    def scatter(x_NBL):
        """Return the values at the tokens' slots."""
        empty = jnp.zeros((N, B, L + 1), jnp.float32)
        slots = empty.at[site_N11, example_1B1, record_N.token_index_BL]
        return slots.set(x_NBL.astype(jnp.float32))[..., :L]

    return Trace(
        score_NBL=scatter(record_N.score_BL),
        survival_NBL=scatter(record_N.keep_BL),
        count_NB=record_N.count_B,
    )
