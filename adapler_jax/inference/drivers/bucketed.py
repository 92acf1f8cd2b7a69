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

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import bert as encoder
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes, entry_buckets
from adapler_jax.inference.drivers.stages import StagedProgram, run_stages
from adapler_jax.pruning.base import (
    Pruner,
    check_supported,
    hard_step,
    params_of_layers,
)
from adapler_jax.types import BEFORE_ATTENTION, Batch, EncoderConfig, Params, SiteInput, Trace


@flax.struct.dataclass
class _State:
    """The tokens that the next layer runs on; slots past the count of an example hold leftovers that nobody reads."""

    hidden_BLD: jax.Array  # the buffer: rows of the last layer in its first slots
    slot_BL: jax.Array  # int32: where in the buffer the k-th token lies
    source_BL: jax.Array  # int32: its place in the text; L past the count
    count_B: jax.Array  # int32
    exit_hidden_BLD: (
        jax.Array | None
    )  # the last state so far of the token at each place of the text; None if not asked for
    protected_BL: jax.Array | None  # bool, places of the text that stay; None for none


@flax.struct.dataclass
class _Record:
    """What one site saw and said, at the slots of its bucket."""

    source_BL: jax.Array  # int32, places of the tokens that entered; L past their count
    score_BL: jax.Array
    keep_BL: jax.Array
    count_B: jax.Array


def bucket_index(num_tokens, rungs):
    """Index of the first rung that holds so many tokens, int32 scalar."""
    return jnp.sum(jnp.asarray(rungs, jnp.int32) < num_tokens, dtype=jnp.int32)


def gather_tokens(x_BLD, index_BR):
    """x[b, index[b, r]] as [B, R, D]; indices are in bounds."""
    return jnp.take_along_axis(x_BLD, index_BR[..., None], axis=1, mode="promise_in_bounds")


def pad_to(x_BR, length, value):
    """x followed by `value` up to [B, length]."""
    return jnp.pad(x_BR, ((0, 0), (0, length - x_BR.shape[1])), constant_values=value)


def kept_slots(keep_BR):
    """Slots of the kept tokens in their order, int32 [B, R]; R past their count."""
    R = keep_BR.shape[1]
    return jnp.sort(jnp.where(keep_BR, jnp.arange(R, dtype=jnp.int32)[None], R), axis=-1)


def apply_pruner(
    pruner: Pruner,
    site_params,
    index,
    *,
    token_logit_BR,
    token_index_BR,
    valid_BR,
    length,
    protected_BL,
):
    """Asks the pruner who stays: (slots, places, counts) of those, padded to `length`, and the _Record of the site."""
    view = SiteInput(token_logit_BR, valid_BR, valid_BR.astype(jnp.float32))
    if protected_BL is not None:
        token_index_BR = jnp.minimum(token_index_BR, length)
        protected_BL = jnp.pad(protected_BL, ((0, 0), (0, 1)))
        view = view.replace(protected_BL=jnp.take_along_axis(protected_BL, token_index_BR, axis=1))
    selection = hard_step(pruner, site_params, index, view)
    kept_BR = kept_slots(selection.keep_BL)
    stays_BR = kept_BR < kept_BR.shape[1]
    slot_BR = jnp.where(stays_BR, kept_BR, 0)
    place_BR = jnp.where(stays_BR, jnp.take_along_axis(token_index_BR, slot_BR, axis=1), length)
    count_B = jnp.sum(stays_BR, axis=-1, dtype=jnp.int32)
    record = _Record(
        source_BL=pad_to(jnp.where(valid_BR, token_index_BR, length), length, length),
        score_BL=pad_to(selection.score_BL, length, 0.0),
        keep_BL=pad_to(selection.keep_BL, length, False),
        count_B=count_B,
    )
    return (pad_to(slot_BR, length, 0), pad_to(place_BR, length, length), count_B), record


def run_bucket(
    state: _State,
    layer,
    site_params,
    index,
    *,
    bucket,
    config: EncoderConfig,
    pruner: Pruner,
    dtype,
):
    """One layer on the first `bucket` tokens of every example, then the site behind it."""
    length = state.hidden_BLD.shape[1]
    valid_BR = jnp.arange(bucket, dtype=jnp.int32)[None] < state.count_B[:, None]

    def run(hidden_BRD, bias_BR):
        return encoder.feed_forward(
            layer,
            config,
            encoder.attend(layer, config, hidden_BRD, bias_BR, dtype=dtype),
            dtype=dtype,
        )

    hidden_BRD = gather_tokens(state.hidden_BLD, state.slot_BL[:, :bucket])
    hidden_BRD = dense.in_chunks_on_cpu(run, hidden_BRD, encoder.attention_bias(valid_BR))
    token_index_BR = state.source_BL[:, :bucket]
    kept, record = apply_pruner(
        pruner,
        site_params,
        index,
        token_logit_BR=pruner.score(site_params, hidden_BRD),
        token_index_BR=token_index_BR,
        valid_BR=valid_BR,
        length=length,
        protected_BL=state.protected_BL,
    )
    hidden_BLD = jax.lax.dynamic_update_slice(state.hidden_BLD, hidden_BRD, (0, 0, 0))
    exit_hidden_BLD = put_at_places(
        state.exit_hidden_BLD, jnp.where(valid_BR, token_index_BR, length), hidden_BRD
    )
    return _State(hidden_BLD, *kept, exit_hidden_BLD, state.protected_BL), record


def attend_bucket(
    state: _State,
    layer,
    site_params,
    index,
    *,
    bucket,
    config: EncoderConfig,
    pruner: Pruner,
    dtype,
):
    """The first half of one layer on the first `bucket` tokens of every example, then the site in the layer."""
    length = state.hidden_BLD.shape[1]
    valid_BR = jnp.arange(bucket, dtype=jnp.int32)[None] < state.count_B[:, None]

    def run(hidden_BRD, valid_BR):
        return encoder.attention_with_significance(
            layer,
            config,
            hidden_BRD,
            encoder.attention_bias(valid_BR),
            query_mask_BL=valid_BR,
            dtype=dtype,
        )

    hidden_BRD, received_BR = dense.in_chunks_on_cpu(run, state.hidden_BLD[:, :bucket], valid_BR)
    token_index_BR = state.source_BL[:, :bucket]
    kept, record = apply_pruner(
        pruner,
        site_params,
        index,
        token_logit_BR=received_BR,
        token_index_BR=token_index_BR,
        valid_BR=valid_BR,
        length=length,
        protected_BL=state.protected_BL,
    )
    hidden_BLD = jax.lax.dynamic_update_slice(state.hidden_BLD, hidden_BRD, (0, 0, 0))
    exit_hidden_BLD = put_at_places(
        state.exit_hidden_BLD, jnp.where(valid_BR, token_index_BR, length), hidden_BRD
    )
    return _State(hidden_BLD, *kept, exit_hidden_BLD, state.protected_BL), record


def feed_bucket(state: _State, layer, *, bucket, config: EncoderConfig, dtype) -> _State:
    """The second half of one layer on the first `bucket` tokens that its site kept; they move to the first slots."""
    length = state.hidden_BLD.shape[1]
    hidden_BRD = dense.in_chunks_on_cpu(
        lambda hidden_BRD: encoder.feed_forward(layer, config, hidden_BRD, dtype=dtype),
        gather_tokens(state.hidden_BLD, state.slot_BL[:, :bucket]),
    )
    valid_BR = jnp.arange(bucket, dtype=jnp.int32)[None] < state.count_B[:, None]
    return state.replace(
        hidden_BLD=jax.lax.dynamic_update_slice(state.hidden_BLD, hidden_BRD, (0, 0, 0)),
        exit_hidden_BLD=put_at_places(
            state.exit_hidden_BLD,
            jnp.where(valid_BR, state.source_BL[:, :bucket], length),
            hidden_BRD,
        ),
    )


def put_at_places(exit_hidden_BLD, token_index_BR, hidden_BRD):
    """The states written over those at their places; a place beyond the text is none. None stays None."""
    if exit_hidden_BLD is None:
        return None
    example_B1 = jnp.arange(exit_hidden_BLD.shape[0])[:, None]
    return exit_hidden_BLD.at[example_B1, token_index_BR].set(hidden_BRD, mode="drop")


def at_places(record_N: _Record) -> Trace:
    """The records of all sites as a Trace at the tokens' places in the text, 0 for those that did not enter."""
    N, B, L = record_N.source_BL.shape
    site_N11 = jnp.arange(N)[:, None, None]
    example_1B1 = jnp.arange(B)[None, :, None]

    def scatter(x_NBL):
        empty = jnp.zeros((N, B, L + 1), jnp.float32)
        return empty.at[site_N11, example_1B1, record_N.source_BL].set(x_NBL.astype(jnp.float32))[
            ..., :L
        ]

    return Trace(
        score_NBL=scatter(record_N.score_BL),
        survival_NBL=scatter(record_N.keep_BL),
        count_NB=record_N.count_B,
    )


def enter(
    params: Params,
    batch: Batch,
    *,
    bucket,
    config: EncoderConfig,
    pruner: Pruner,
    head: Head,
    return_exit_hidden,
):
    """Embeds the first `bucket` tokens of every example and visits the site in front of layer 0: (state, _Record); the
    _Record is () where sites are inside the layers."""
    B, L = batch.token_BL.shape
    token_BR, segment_BR, valid_BR = (
        x[:, :bucket] for x in (batch.token_BL, batch.segment_BL, batch.valid_BL)
    )
    hidden_BRD = encoder.embed(params["encoder"]["embeddings"], config, token_BR, segment_BR)
    has_gap_B11 = jnp.any(batch.valid_BL[:, 1:] & ~batch.valid_BL[:, :-1], axis=1)[:, None, None]
    hidden_BRD = jnp.where(
        has_gap_B11, jnp.nan, hidden_BRD
    )  # tokens after a gap would be left out without a word
    place_BR = jnp.broadcast_to(jnp.arange(bucket, dtype=jnp.int32), (B, bucket))
    if pruner.point == BEFORE_ATTENTION:
        site_params = jax.tree.map(lambda leaf: leaf[0], params["pruner"])
        kept, record = apply_pruner(
            pruner,
            site_params,
            jnp.int32(0),
            token_logit_BR=pruner.score(site_params, hidden_BRD),
            token_index_BR=place_BR,
            valid_BR=valid_BR,
            length=L,
            protected_BL=head.protected_tokens(batch),
        )
    else:
        slot_BL = jnp.zeros((B, L), jnp.int32)
        kept = slot_BL, pad_to(place_BR, L, L), jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.int32)
        record = ()
    hidden_BLD = jnp.pad(hidden_BRD, ((0, 0), (0, L - bucket), (0, 0)))
    exit_hidden_BLD = (
        jnp.where(batch.valid_BL[..., None], hidden_BLD, 0.0) if return_exit_hidden else None
    )
    return _State(hidden_BLD, *kept, exit_hidden_BLD, head.protected_tokens(batch)), record


def layer_inputs(outer: Params, *, pruner: Pruner, num_layers):
    """What a layer reads beside its own parameters: those of the site that it visits, and that site's layer: the next
    one for sites in front of layers."""
    layer_N = np.arange(num_layers, dtype=np.int32) + (pruner.point == BEFORE_ATTENTION)
    site_params = params_of_layers(pruner, outer["pruner"], num_layers)
    return jax.tree.map(lambda leaf: leaf[layer_N % num_layers], site_params), layer_N


def begin(outer: Params, batch: Batch, *, entries, **options):
    """The state that layer 0 runs on, and what only `readout` reads: what `enter` records, and the batch where the head
    reads tokens; options as of `enter`."""
    branches = [functools.partial(enter, bucket=bucket, **options) for bucket in entries]
    longest = jnp.max(jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.int32))
    state, record = jax.lax.switch(bucket_index(longest, entries), branches, outer, batch)
    return state, (record, batch if options["head"].needs_all_states else None)


def run_layer(state: _State, scanned, *, rungs, config: EncoderConfig, pruner: Pruner, dtype):
    """One layer on what the pruner kept, and the _Record of the site behind it, or of the one in it."""

    def switch(function, state, *operands, **options):
        branches = [
            functools.partial(function, bucket=bucket, config=config, dtype=dtype, **options)
            for bucket in rungs
        ]
        return jax.lax.switch(
            bucket_index(jnp.max(state.count_B), rungs), branches, state, *operands
        )

    if pruner.point == BEFORE_ATTENTION:
        return switch(run_bucket, state, *scanned, pruner=pruner)
    state, record = switch(attend_bucket, state, *scanned, pruner=pruner)
    return switch(feed_bucket, state, scanned[0]), record


def finish(
    outer: Params,
    state: _State,
    begun,
    record_N: _Record,
    *,
    config: EncoderConfig,
    head: Head,
    return_exit_hidden,
):
    """Logits from the last buffer, [CLS] in slot 0, or from the tokens' last states; the Trace of all sites."""
    first, batch = begun
    if isinstance(first, _Record):
        record_N = jax.tree.map(
            lambda head, tail: jnp.concatenate([head[None], tail[:-1]]), first, record_N
        )
    states = state.exit_hidden_BLD if head.needs_all_states else state.hidden_BLD[:, 0]
    trace = at_places(record_N).replace(
        exit_hidden_BLD=state.exit_hidden_BLD if return_exit_hidden else None
    )
    return zero_empty_rows(
        head.apply(outer["head"], config, states, batch), state.count_B > 0
    ), trace


def make_stages(
    config: EncoderConfig,
    pruner: Pruner,
    shape,
    *,
    buckets=DEFAULT_BUCKETS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
) -> StagedProgram | None:
    """The driver for batches of `shape` [B, L], arguments as in `forward`; None for a method without sites, which runs
    as plain BERT in one piece."""
    if not pruner.sites:
        return None
    rungs = bucket_sizes(buckets, shape[1])
    shared = {"config": config, "pruner": pruner}
    return StagedProgram(
        layer_inputs=functools.partial(layer_inputs, pruner=pruner, num_layers=config.num_layers),
        embed=functools.partial(
            begin,
            entries=entry_buckets(pruner, rungs),
            head=head,
            return_exit_hidden=return_exit_hidden or head.needs_all_states,
            **shared,
        ),
        layer=functools.partial(run_layer, rungs=rungs, dtype=dtype, **shared),
        readout=functools.partial(
            finish, config=config, head=head, return_exit_hidden=return_exit_hidden
        ),
    )


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    buckets=DEFAULT_BUCKETS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden=False,
):
    """Logits float32 of the head and the Trace of one batch, equal to the oracle's.

    Args: params: layers stacked, or as `encoder.prepare_inference_params` gives them. buckets: lengths to which a batch's kept tokens
    are padded; the largest holds every token slot of the batch. dtype: of the operands of the encoder's products.
    return_exit_hidden: whether the Trace has the last state of every token. A method without sites runs as plain BERT, without
    gathers.
    Tokens are in the first slots of their rows; a row with a gap between them has logits NaN, one without tokens
    logits 0.
    """
    check_supported(pruner, config)
    options = {"dtype": dtype, "head": head, "return_exit_hidden": return_exit_hidden}
    stages = make_stages(config, pruner, batch.token_BL.shape, buckets=buckets, **options)
    if stages is None:
        return dense.forward(params, config, batch, **options)
    return run_stages(stages, params, batch)
