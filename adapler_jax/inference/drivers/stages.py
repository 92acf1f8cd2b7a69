"""A driver in stages, so that one compiled layer can serve all layers but the last."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from adapler_jax.encoders import encoder_of
from adapler_jax.encoders.base import finalize_states, scan_layers
from adapler_jax.forward import with_survival
from adapler_jax.heads import Head
from adapler_jax.pruning.base import Pruner, for_first_token, has_inner_last_site
from adapler_jax.types import Array, Batch, EncoderConfig, OptionalArray, Params, Trace


class LayerInputsFn(Protocol):
    """Return trees with a leading layer axis: inputs of a layer besides its parameters.

    `outer` are the parameters of the whole model without the encoder's layers.
    """

    def __call__(self, outer: Params, /) -> tuple:
        """Return the trees."""


class EmbedStage(Protocol):
    """Return the state that enters layer 0, and anything that only `readout` needs."""

    def __call__(self, outer: Params, batch: Batch, /) -> tuple[Any, Any]:
        """Return both."""


class LayerStage(Protocol):
    """Return the state after a layer, of constant shapes, and a record of its site.

    `inputs` is (layer, *slices of the trees of `layer_inputs`).
    """

    def __call__(self, state: Any, inputs: tuple, /) -> tuple[Any, Any]:
        """Return both."""


class ReadoutStage(Protocol):
    """Return the head's logits, float32, and the Trace.

    `first` is the second result of `embed`; records are stacked along a layer axis.
    """

    def __call__(
        self, outer: Params, state: Any, first: Any, record_N: Any, /
    ) -> tuple[Any, Trace]:
        """Return both."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DriverProgram:
    """Static values of one program of any driver."""

    config: EncoderConfig
    pruner: Pruner  # of `running_pruner`
    head: Head
    dtype: Any
    return_exit_hidden: bool  # in the Trace

    @property
    def keeps_exits(self) -> bool:
        """True if the state holds the last state of every token."""
        return keeps_exits(self.head, self.return_exit_hidden)

    @property
    def has_last_stage(self) -> bool:
        """True if the last layer computes [CLS] alone."""
        return not self.keeps_exits and computes_first_alone(self.pruner, self.config, self.head)


def keeps_exits(head: Head, return_exit_hidden: bool) -> bool:
    """Return whether a pass needs the last state of every token."""
    return return_exit_hidden or head.needs_all_states


def computes_first_alone(pruner: Pruner, config: EncoderConfig, head: Head) -> bool:
    """Return whether the last layer computes [CLS] alone; the pruner is the one that runs."""
    return not (head.needs_all_states or has_inner_last_site(pruner, config))


def running_pruner(
    pruner: Pruner, config: EncoderConfig, head: Head, return_exit_hidden: bool
) -> Pruner:
    """Return the pruner without a site that only states of other tokens than [CLS] would need."""
    if keeps_exits(head, return_exit_hidden):
        return pruner
    return for_first_token(pruner, config)


class StagedProgram(NamedTuple):
    """The stages of a driver for one shape of batches. All functions are pure."""

    layer_inputs: LayerInputsFn
    embed: EmbedStage
    layer: LayerStage
    readout: ReadoutStage
    # In place of `layer` in the last layer, where the head reads [CLS] alone; None where it reads
    # all tokens. State and record have the shapes of `layer`.
    last: LayerStage | None = None


def without_layers(params: Params) -> Params:
    """Return the parameters without the encoder's layers."""
    encoder = {name: tree for name, tree in params["encoder"].items() if name != "layers"}
    return params | {"encoder": encoder}


def without_others(valid_BL: Array) -> Array:
    """Return the mask of tokens with [CLS] alone, which is in slot 0."""
    return valid_BL & (jnp.arange(valid_BL.shape[1]) == 0)[None]


def run_stages(stages: StagedProgram, params: Params, batch: Batch):
    """Run all stages in one program and return (logits, Trace).

    Encoder layers are stacked, or apart as `Encoder.prepare_inference_params` returns them. Only
    layers that are apart have a stage of their own for the last one.
    """
    outer, layers = without_layers(params), params["encoder"]["layers"]
    state, first = stages.embed(outer, batch)
    inputs = stages.layer_inputs(outer)
    state, record_N = scan_layers(stages.layer, state, layers, *inputs, last=stages.last)
    return stages.readout(outer, state, first, record_N)


def finalize_exits(
    outer: Params, config: EncoderConfig, cls_BD: Array, exit_hidden_BLD: OptionalArray
) -> tuple[Array, OptionalArray]:
    """Return [CLS] states and exit states after the encoder's final norm, if it has one."""
    encoder = encoder_of(config)
    cls_BD = finalize_states(encoder, outer["encoder"], config, cls_BD)
    if exit_hidden_BLD is not None:
        exit_hidden_BLD = finalize_states(encoder, outer["encoder"], config, exit_hidden_BLD)
    return cls_BD, exit_hidden_BLD


def read_out(
    outer: Params,
    config: EncoderConfig,
    head: Head,
    batch: Batch | None,
    *,
    cls_BD: Array,
    exit_hidden_BLD: OptionalArray,
    trace: Trace,
) -> tuple[Any, OptionalArray]:
    """Return the head's logits and the final exit states.

    Args:
      outer: parameters without the layers.
      config: of the encoder.
      head: of the model.
      batch: the examples, where the head needs all states.
      cls_BD: last states of [CLS].
      exit_hidden_BLD: last states of all tokens; None where not requested.
      trace: of all sites.
    """
    batch = None if batch is None else with_survival(batch, trace)
    cls_BD, exit_hidden_BLD = finalize_exits(outer, config, cls_BD, exit_hidden_BLD)
    states = exit_hidden_BLD if head.needs_all_states else cls_BD
    return head.apply(outer["head"], config, states, batch), exit_hidden_BLD
