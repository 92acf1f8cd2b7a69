"""Dropped tokens become seconds: kept tokens are gathered into the next padded bucket in front of every layer.

The whole ladder of bucket lengths is one XLA program: a loop over the layers, in it one `lax.switch` over the buckets,
the states in a buffer of full width. Lengths are data, so no mix of texts compiles anew and the host is never asked. A
branch runs one layer *and* the site behind it, so that the scores too cost what the bucket costs:

    [bucket of the longest text: embed, site 0] - [r_0: gather, layer 0, site 1] - [r_1: gather, layer 1, ...] ...

Since the entry is switched too, a batch may be padded far beyond its texts: it costs the buffer's memory, no time.
The site behind the last layer does not exist; its scores are computed with the parameters of site 0 and thrown away,
0.4% of a layer, cheaper than a second copy of every branch.
"""

import functools
import numbers

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax import encoder, heads
from adapler_jax.inference import dense
from adapler_jax.pruning.base import Pruner, check_sites
from adapler_jax.types import Batch, EncoderConfig, Params, Trace, View

DEFAULT_BUCKETS = (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@flax.struct.dataclass
class _State:
    """The tokens that the next layer runs on; slots past the count of an example hold leftovers that nobody reads."""

    hidden_BLD: jax.Array  # the buffer: rows of the last layer in its first slots
    slot_BL: jax.Array  # int32: where in the buffer the k-th token lies
    source_BL: jax.Array  # int32: its place in the text; L past the count
    count_B: jax.Array  # int32


@flax.struct.dataclass
class _Record:
    """What one site saw and said, at the slots of its bucket."""

    source_BL: jax.Array  # int32, places of the tokens that entered; L past their count
    score_BL: jax.Array
    keep_BL: jax.Array
    count_B: jax.Array


def check_buckets(buckets) -> tuple[int, ...]:
    """The buckets as a tuple. Raises ValueError where they are no positive numbers, or none."""
    buckets = tuple(buckets)
    if not buckets or not all(isinstance(bucket, numbers.Integral) and bucket > 0 for bucket in buckets):
        raise ValueError(f"config.inference.buckets is {buckets}; expected positive numbers")
    return tuple(int(bucket) for bucket in buckets)


def ladder(buckets, length) -> tuple[int, ...]:
    """Bucket lengths for a batch of `length` slots: the buckets below it and itself.

    Raises ValueError where the largest bucket is shorter, since a method may keep every token.
    """
    if max(buckets) < length:
        raise ValueError(
            f"bucket {max(buckets)} cannot hold {length} kept tokens; add a larger size to config.inference.buckets"
        )
    return (*sorted(bucket for bucket in set(buckets) if bucket < length), length)


def entry_rungs(rungs) -> tuple[int, ...]:
    """Every other rung, the last one included: embedding and first scores are cheap, compiling a branch is not."""
    return tuple(rungs[::-1][::2][::-1])


def executed_lengths(length_B, count_NB, buckets, *, num_slots):
    """Padded lengths at which one batch really ran: of embedding and site 0, int; and of each layer, int64 [N].

    Args: length_B: live tokens. count_NB: tokens that each layer ran on. num_slots: token slots of the batch.
    """
    rungs = np.asarray(ladder(buckets, num_slots))
    entries = np.asarray(entry_rungs(rungs))
    entry = int(entries[np.searchsorted(entries, np.max(length_B))])
    return entry, rungs[np.searchsorted(rungs, np.max(count_NB, axis=-1))]


def rung_of(num_tokens, rungs):
    """Index of the first rung that holds so many tokens, int32 scalar."""
    return jnp.sum(jnp.asarray(rungs, jnp.int32) < num_tokens, dtype=jnp.int32)


def take_rows(x_BLD, index_BR):
    """x[b, index[b, r]] as [B, R, D]; indices are in bounds."""
    return jnp.take_along_axis(x_BLD, index_BR[..., None], axis=1, mode="promise_in_bounds")


def fill_to(x_BR, length, value):
    """x followed by `value` up to [B, length]."""
    return jnp.pad(x_BR, ((0, 0), (0, length - x_BR.shape[1])), constant_values=value)


def kept_slots(keep_BR):
    """Slots of the kept tokens in their order, int32 [B, R]; R past their count."""
    R = keep_BR.shape[1]
    return jnp.sort(jnp.where(keep_BR, jnp.arange(R, dtype=jnp.int32)[None], R), axis=-1)


def visit_site(pruner: Pruner, site_params, index, *, hidden_BRD, source_BR, live_BR, length):
    """Asks the pruner who stays: (slots, places, counts) of those, padded to `length`, and the _Record of the site."""
    reading_BR = pruner.read(site_params, hidden_BRD)
    view = View(reading_BL=reading_BR, live_BL=live_BR, weight_BL=live_BR.astype(jnp.float32))
    selection = pruner.select(site_params, index, view)
    kept_BR = kept_slots(selection.keep_BL)
    stays_BR = kept_BR < kept_BR.shape[1]
    slot_BR = jnp.where(stays_BR, kept_BR, 0)
    place_BR = jnp.where(stays_BR, jnp.take_along_axis(source_BR, slot_BR, axis=1), length)
    count_B = jnp.sum(stays_BR, axis=-1, dtype=jnp.int32)
    record = _Record(
        source_BL=fill_to(jnp.where(live_BR, source_BR, length), length, length),
        score_BL=fill_to(selection.score_BL, length, 0.0),
        keep_BL=fill_to(selection.keep_BL, length, False),
        count_B=count_B,
    )
    return (fill_to(slot_BR, length, 0), fill_to(place_BR, length, length), count_B), record


def run_bucket(state: _State, layer, site_params, index, *, bucket, config: EncoderConfig, pruner: Pruner, dtype):
    """One layer on the first `bucket` tokens of every example, then the site behind it."""
    length = state.hidden_BLD.shape[1]
    live_BR = jnp.arange(bucket, dtype=jnp.int32)[None] < state.count_B[:, None]

    def run(hidden_BRD, bias_BR):
        return encoder.feed_forward(
            layer, config, encoder.attend(layer, config, hidden_BRD, bias_BR, dtype=dtype), dtype=dtype
        )

    hidden_BRD = take_rows(state.hidden_BLD, state.slot_BL[:, :bucket])
    hidden_BRD = dense.in_chunks_on_cpu(run, hidden_BRD, encoder.key_bias(live_BR))
    source_BR = state.source_BL[:, :bucket]
    kept, record = visit_site(
        pruner, site_params, index, hidden_BRD=hidden_BRD, source_BR=source_BR, live_BR=live_BR, length=length
    )
    hidden_BLD = jax.lax.dynamic_update_slice(state.hidden_BLD, hidden_BRD, (0, 0, 0))
    return _State(hidden_BLD, *kept), record


def at_places(record_N: _Record) -> Trace:
    """The records of all sites as a Trace at the tokens' places in the text, 0 for those that did not enter."""
    N, B, L = record_N.source_BL.shape
    site_N11 = jnp.arange(N)[:, None, None]
    example_1B1 = jnp.arange(B)[None, :, None]

    def scatter(x_NBL):
        empty = jnp.zeros((N, B, L + 1), jnp.float32)
        return empty.at[site_N11, example_1B1, record_N.source_BL].set(x_NBL.astype(jnp.float32))[..., :L]

    return Trace(score_NBL=scatter(record_N.score_BL), weight_NBL=scatter(record_N.keep_BL), count_NB=record_N.count_B)


def enter(params: Params, batch: Batch, *, bucket, config: EncoderConfig, pruner: Pruner):
    """Embeds the first `bucket` tokens of every example and visits site 0."""
    B, L = batch.token_BL.shape
    token_BR, segment_BR, live_BR = (x[:, :bucket] for x in (batch.token_BL, batch.segment_BL, batch.live_BL))
    hidden_BRD = encoder.embed(params["encoder"]["embeddings"], config, token_BR, segment_BR)
    place_BR = jnp.broadcast_to(jnp.arange(bucket, dtype=jnp.int32), (B, bucket))
    site_params = jax.tree.map(lambda leaf: leaf[0], params["pruner"])
    kept, record = visit_site(
        pruner, site_params, jnp.int32(0), hidden_BRD=hidden_BRD, source_BR=place_BR, live_BR=live_BR, length=L
    )
    hidden_BLD = jnp.pad(hidden_BRD, ((0, 0), (0, L - bucket), (0, 0)))
    return _State(hidden_BLD, *kept), record


def run_layers(params: Params, config: EncoderConfig, pruner: Pruner, state: _State, *, rungs, dtype):
    """All layers on what the pruner keeps: the last buffer ([CLS] in slot 0) and the _Records of sites 1 to N."""
    branches = [
        functools.partial(run_bucket, bucket=bucket, config=config, pruner=pruner, dtype=dtype) for bucket in rungs
    ]

    def run_layer(state, scanned):
        return jax.lax.switch(rung_of(jnp.max(state.count_B), rungs), branches, state, *scanned)

    behind_N = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), params["pruner"])
    index_N = jnp.arange(1, config.num_layers + 1, dtype=jnp.int32)
    state, record_N = encoder.over_layers(run_layer, state, params["encoder"]["layers"], behind_N, index_N)
    return state.hidden_BLD, record_N


def forward(params: Params, config: EncoderConfig, pruner: Pruner, batch: Batch, *, buckets=DEFAULT_BUCKETS,
            dtype=jnp.float32):  # fmt: skip
    """Logits float32 [B, C] and the Trace of one batch, equal to the oracle's.

    Args: params: layers stacked, or as `encoder.lay_out` gives them. buckets: lengths to which a batch's kept tokens
    are padded; the largest holds every token slot of the batch. dtype: of the operands of the encoder's products. A
    method without sites runs as plain BERT, without gathers.
    """
    check_sites(pruner, config)
    if not pruner.sites:
        return dense.forward(params, config, batch, dtype=dtype), Trace()
    rungs = ladder(buckets, batch.token_BL.shape[1])
    entries = entry_rungs(rungs)
    branches = [functools.partial(enter, bucket=bucket, config=config, pruner=pruner) for bucket in entries]
    longest = jnp.max(jnp.sum(batch.live_BL, axis=-1, dtype=jnp.int32))
    state, first = jax.lax.switch(rung_of(longest, entries), branches, params, batch)
    hidden_BLD, record_N = run_layers(params, config, pruner, state, rungs=rungs, dtype=dtype)
    record_N = jax.tree.map(lambda head, tail: jnp.concatenate([head[None], tail[:-1]]), first, record_N)
    return heads.classify(params["head"], config, hidden_BLD[:, 0]), at_places(record_N)
