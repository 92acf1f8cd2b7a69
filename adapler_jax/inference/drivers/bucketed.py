"""Dropped tokens save time: kept tokens move into the smallest bucket before every layer.

All bucket lengths are in one XLA program: a loop over the layers, in it one `lax.switch` over the
buckets, and the states in a buffer of full width. Lengths are data, so no mix of texts compiles
again and nothing returns to the host. For sites before the attention a branch runs one layer *and
the site of the next layer*, so that a score costs as much as its bucket:

    embed, site 0 - [gather, layer 0, site 1] - [gather, layer 1, site 2] - ...

The site after the last layer does not exist. Where a head reads [CLS] alone, the last layer has
branches of its own without it. Elsewhere its scores use the parameters of site 0 and are dropped:
0.4% of a layer, cheaper than a second copy of every branch. For sites inside the layers a layer has
two switches:

    embed - [attention 0, site 0] [gather, feed-forward 0] - [attention 1, site 1] [gather,
    feed-forward 1] - ...

The entry has a switch too, so padding of a batch far beyond its texts costs the buffer's memory and
no time.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.attention import key_bias
from adapler_jax.encoders.base import attend, embed_batch, plain_layer, with_shared
from adapler_jax.encoders.plain import first_token_layer
from adapler_jax.heads import CLASSIFICATION, Head, zero_empty_rows
from adapler_jax.inference.drivers import dense
from adapler_jax.inference.drivers.bucket_tokens import (
    BucketState,
    SiteRecord,
    apply_pruner,
    bucket_index,
    gather_tokens,
    is_filled,
    pad_to,
    record_of_all,
    trace_of,
    write_states,
)
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, bucket_sizes, entry_buckets
from adapler_jax.inference.drivers.stages import (
    DriverProgram,
    StagedProgram,
    read_out,
    run_stages,
    running_pruner,
)
from adapler_jax.pruning.base import (
    Pruner,
    check_supported,
    params_of_layers,
    score_tokens,
)
from adapler_jax.types import (
    BEFORE_ATTENTION,
    Array,
    Batch,
    EncoderConfig,
    Params,
    TokenFeatures,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Program(DriverProgram):
    """Static values of one program."""

    buckets: tuple[int, ...]


def _prune(
    program: _Program,
    state: BucketState,
    hidden_BRD: Array,
    received: TokenFeatures | None,
    site: tuple[Params, Array],
) -> tuple[BucketState, SiteRecord]:
    """Return the state after a site, and the site's record; hidden_BRD are new states."""
    bucket, length = hidden_BRD.shape[1], state.hidden_BLD.shape[1]
    site_params, site_layer = site
    is_filled_BR = is_filled(state, bucket)
    token_index_BR = state.token_index_BL[:, :bucket]
    token_logit_BR = score_tokens(
        program.pruner, site_params, hidden_BRD, received, position_X=token_index_BR
    )
    kept, record = apply_pruner(
        program.pruner,
        site_params,
        site_layer,
        token_logit_BR=token_logit_BR,
        token_index_BR=token_index_BR,
        is_filled_BR=is_filled_BR,
        length=length,
        protected_BL=state.protected_BL,
        budget_B=state.budget_B,
    )
    state = write_states(state, hidden_BRD, is_filled_BR)
    buffer_slot_BL, token_index_BL, count_B = kept
    state = state.replace(
        buffer_slot_BL=buffer_slot_BL, token_index_BL=token_index_BL, count_B=count_B
    )
    return state, record


def _positions(program: _Program, state: BucketState, bucket: int) -> Array | None:
    """Return original positions, int32 [B, R], where the encoder needs them."""
    if not encoder_of(program.config).needs_positions:
        return None
    length = state.hidden_BLD.shape[1]
    return jnp.minimum(state.token_index_BL[:, :bucket], length - 1)


def _in_bucket(
    function: Callable, program: _Program, bucket: int, state: BucketState, inputs: tuple
) -> Array:
    """Return a function of a layer, as `plain_layer`, of the first `bucket` tokens."""
    layer, index, *_ = inputs
    config, encoder = program.config, encoder_of(program.config)

    def run(hidden_BRD, bias_BR, position_BR):
        """Return the new states."""
        return function(
            encoder,
            layer,
            config,
            hidden_BRD,
            bias_BR,
            index=index,
            position_BL=position_BR,
            dtype=program.dtype,
        )

    hidden_BRD = state.hidden_BLD[:, :bucket]
    if program.pruner.point == BEFORE_ATTENTION:
        hidden_BRD = gather_tokens(state.hidden_BLD, state.buffer_slot_BL[:, :bucket])
    bias_BR = key_bias(is_filled(state, bucket))
    return dense.in_chunks_on_cpu(run, hidden_BRD, bias_BR, _positions(program, state, bucket))


def layer_in_bucket(
    program: _Program, bucket: int, state: BucketState, inputs: tuple
) -> tuple[BucketState, SiteRecord]:
    """Run one layer on the first `bucket` tokens, then the site of the next layer."""
    hidden_BRD = _in_bucket(plain_layer, program, bucket, state, inputs)
    return _prune(program, state, hidden_BRD, None, inputs[2:])


def last_layer_in_bucket(
    program: _Program, bucket: int, state: BucketState, inputs: tuple
) -> BucketState:
    """Run the last layer on the first `bucket` tokens, for the new state of [CLS] alone."""
    hidden_B1D = _in_bucket(first_token_layer, program, bucket, state, inputs)
    return write_states(state, hidden_B1D, is_filled(state, 1))


def attention_in_bucket(
    program: _Program, bucket: int, state: BucketState, inputs: tuple
) -> tuple[BucketState, SiteRecord]:
    """Run the attention half on the first `bucket` tokens, then the site in the layer."""
    layer, index, *site = inputs
    config, encoder = program.config, encoder_of(program.config)

    def run(hidden_BRD, is_filled_BR, position_BR):
        """Return the states after the attention half, and the attention received."""
        return attend(
            encoder,
            layer,
            config,
            hidden_BRD,
            key_bias(is_filled_BR),
            index=index,
            position_BL=position_BR,
            query_mask_BL=is_filled_BR,
            needs=program.pruner.attention_needs,
            dtype=program.dtype,
        )

    is_filled_BR, position_BR = is_filled(state, bucket), _positions(program, state, bucket)
    hidden_BRD, received = dense.in_chunks_on_cpu(
        run, state.hidden_BLD[:, :bucket], is_filled_BR, position_BR
    )
    return _prune(program, state, hidden_BRD, received, tuple(site))


def feed_forward_in_bucket(
    program: _Program, bucket: int, state: BucketState, layer: Params
) -> BucketState:
    """Run the feed-forward half on the kept tokens, which move to the first slots."""
    encoder = encoder_of(program.config)
    run = functools.partial(encoder.feed_forward, layer, program.config, dtype=program.dtype)
    hidden_BRD = gather_tokens(state.hidden_BLD, state.buffer_slot_BL[:, :bucket])
    hidden_BRD = dense.in_chunks_on_cpu(run, hidden_BRD)
    return write_states(state, hidden_BRD, is_filled(state, bucket))


def switch_buckets(function: Callable, program: _Program, state: BucketState, *operands):
    """Return `function(program, bucket, state, *operands)` for the smallest bucket."""
    branches = [functools.partial(function, program, bucket) for bucket in program.buckets]
    index = bucket_index(jnp.max(state.count_B), program.buckets)
    return jax.lax.switch(index, branches, state, *operands)


def run_layer(
    program: _Program, state: BucketState, inputs: tuple
) -> tuple[BucketState, SiteRecord]:
    """Return the state after one layer and the site that follows or divides it, and its record."""
    if program.pruner.point == BEFORE_ATTENTION:
        return switch_buckets(layer_in_bucket, program, state, inputs)
    state, record = switch_buckets(attention_in_bucket, program, state, inputs)
    return switch_buckets(feed_forward_in_bucket, program, state, inputs[0]), record


def run_last_layer(
    program: _Program, state: BucketState, inputs: tuple
) -> tuple[BucketState, SiteRecord]:
    """Return the state after the last layer, with a new state of [CLS] alone, and its record."""
    state = switch_buckets(last_layer_in_bucket, program, state, inputs)
    return state, record_of_all(state)


def layer_inputs(program: _Program, outer: Params) -> tuple:
    """Return each layer's index, and parameters and layer of the site that its branch runs.

    For sites before the attention it is the site of the next layer. After the last layer it is site
    0 under the number of a layer that does not exist, so that nothing is dropped.
    """
    num_layers = program.config.num_layers
    index_N = np.arange(num_layers, dtype=np.int32)
    site_layer_N = index_N + (program.pruner.point == BEFORE_ATTENTION)
    site_params = params_of_layers(program.pruner, outer["pruner"], num_layers)
    site_params = jax.tree.map(lambda leaf: leaf[site_layer_N % num_layers], site_params)
    return index_N, site_params, site_layer_N


def _enter(program: _Program, bucket: int, outer: Params, batch: Batch):
    """Embed the first `bucket` tokens of every example, and run the site of layer 0.

    Returns:
      The state that enters layer 0, and the site's record; None where sites are inside the layers.
    """
    B, L = batch.token_BL.shape
    token_BR, segment_BR, valid_BR = (
        x[:, :bucket] for x in (batch.token_BL, batch.segment_BL, batch.valid_BL)
    )
    encoder = encoder_of(program.config)
    hidden_BRD = embed_batch(encoder, outer["encoder"], program.config, token_BR, segment_BR)
    has_gap_B11 = jnp.any(batch.valid_BL[:, 1:] & ~batch.valid_BL[:, :-1], axis=1)[:, None, None]
    # Tokens after a gap would be left out silently.
    hidden_BRD = jnp.where(has_gap_B11, jnp.nan, hidden_BRD)
    token_index_BR = jnp.broadcast_to(jnp.arange(bucket, dtype=jnp.int32), (B, bucket))
    protected_BL = program.head.protected_tokens(batch)
    if program.pruner.point == BEFORE_ATTENTION:
        site_params = jax.tree.map(lambda leaf: leaf[0], outer["pruner"])
        kept, record = apply_pruner(
            program.pruner,
            site_params,
            jnp.int32(0),
            token_logit_BR=score_tokens(
                program.pruner,
                site_params,
                hidden_BRD,
                position_X=token_index_BR,
                token_X=token_BR,
            ),
            token_index_BR=token_index_BR,
            is_filled_BR=valid_BR,
            length=L,
            protected_BL=protected_BL,
            budget_B=batch.budget_B,
        )
    else:
        count_B = jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.int32)
        kept = jnp.zeros((B, L), jnp.int32), pad_to(token_index_BR, L, L), count_B
        record = None
    hidden_BLD = jnp.pad(hidden_BRD, ((0, 0), (0, L - bucket), (0, 0)))
    exit_hidden_BLD = None
    if program.keeps_exits:
        exit_hidden_BLD = jnp.where(batch.valid_BL[..., None], hidden_BLD, 0.0)
    return BucketState(hidden_BLD, *kept, exit_hidden_BLD, protected_BL, batch.budget_B), record


def enter(program: _Program, outer: Params, batch: Batch):
    """Return the state that enters layer 0, and the values that only `readout` needs.

    They are the record of site 0, and the batch where the head needs it.
    """
    entries = entry_buckets(program.pruner, program.buckets)
    branches = [functools.partial(_enter, program, bucket) for bucket in entries]
    longest = jnp.max(jnp.sum(batch.valid_BL, axis=-1, dtype=jnp.int32))
    state, record = jax.lax.switch(bucket_index(longest, entries), branches, outer, batch)
    return state, (record, batch if program.head.needs_all_states else None)


def readout(program: _Program, outer: Params, state: BucketState, first, record_N: SiteRecord):
    """Return the head's logits, with [CLS] in slot 0 of the buffer, and the Trace of all sites."""
    record_of_site_0, batch = first
    if record_of_site_0 is not None:
        # Layer l recorded the site of layer l + 1; the one after the last layer does not exist.
        record_N = jax.tree.map(
            lambda site_0, others: jnp.concatenate([site_0[None], others[:-1]]),
            record_of_site_0,
            record_N,
        )
    trace = trace_of(record_N)
    logits, exit_hidden_BLD = read_out(
        outer,
        program.config,
        program.head,
        batch,
        cls_BD=state.hidden_BLD[:, 0],
        exit_hidden_BLD=state.exit_hidden_BLD,
        trace=trace,
    )
    if program.return_exit_hidden:
        trace = trace.replace(exit_hidden_BLD=exit_hidden_BLD)
    return zero_empty_rows(logits, state.count_B > 0), trace


def make_stages(
    config: EncoderConfig,
    pruner: Pruner,
    shape: tuple[int, ...],
    *,
    buckets: Sequence[int] = DEFAULT_BUCKETS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
) -> StagedProgram | None:
    """Return the driver for batches of `shape` [B, L]; arguments as in `forward`.

    A method without sites has None: it runs as the plain encoder in one piece.
    """
    if not pruner.sites:
        return None
    program = _Program(
        config=config,
        pruner=running_pruner(pruner, config, head, return_exit_hidden),
        head=head,
        buckets=bucket_sizes(buckets, shape[1]),
        dtype=dtype,
        return_exit_hidden=return_exit_hidden,
    )
    return StagedProgram(
        layer_inputs=functools.partial(layer_inputs, program),
        embed=functools.partial(enter, program),
        layer=functools.partial(run_layer, program),
        readout=functools.partial(readout, program),
        last=functools.partial(run_last_layer, program) if program.has_last_stage else None,
    )


def forward(
    params: Params,
    config: EncoderConfig,
    pruner: Pruner,
    batch: Batch,
    *,
    buckets: Sequence[int] = DEFAULT_BUCKETS,
    dtype=jnp.float32,
    head: Head = CLASSIFICATION,
    return_exit_hidden: bool = False,
):
    """Return the head's logits, float32, and the Trace of one batch, equal to the reference's.

    Tokens are in the first slots of their rows. A row with a gap between them has logits NaN, a row
    without tokens logits 0. A method without sites runs as the plain encoder, without gathers.

    Args:
      params: layers stacked, or as `Encoder.prepare_inference_params` returns them.
      config: of the encoder.
      pruner: the method.
      batch: the examples.
      buckets: lengths to which a batch's kept tokens are padded; the largest holds every token slot
        of the batch.
      dtype: of the operands of the encoder's products.
      head: of the model.
      return_exit_hidden: put the last state of every token into the Trace.
    """
    check_supported(pruner, config)
    options = {"dtype": dtype, "head": head, "return_exit_hidden": return_exit_hidden}
    stages = make_stages(config, pruner, batch.token_BL.shape, buckets=buckets, **options)
    if stages is None:
        return dense.forward(params, config, batch, **options)
    return run_stages(stages, with_shared(encoder_of(config), params), batch)
