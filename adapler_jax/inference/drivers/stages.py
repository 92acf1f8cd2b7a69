"""A driver in pieces, so that one compiled layer can serve all layers of a model."""

from collections.abc import Callable
from typing import NamedTuple

from adapler_jax.encoders import bert as encoder
from adapler_jax.types import Batch, Params


class StagedProgram(NamedTuple):
    """What a driver computes. All functions are pure; `outer` are the parameters without the encoder's layers."""

    # outer -> tuple of trees with a leading layer axis: what a layer reads beside its own parameters
    layer_inputs: Callable[[Params], tuple]
    # (outer, Batch) -> (state, anything that only `readout` reads)
    embed: Callable
    # (state, (layer, *its slices of per_layer)) -> (state, record); the state keeps its shapes
    layer: Callable
    # (outer, state, what `embed` gave it, records stacked along a layer axis) -> (logits float32 of the head, Trace)
    readout: Callable


def without_layers(params: Params) -> Params:
    """The parameters but for the encoder's layers."""
    return params | {
        "encoder": {name: tree for name, tree in params["encoder"].items() if name != "layers"}
    }


def run_stages(stages: StagedProgram, params: Params, batch: Batch):
    """All of them in one program: (logits, Trace). Params: layers stacked, or apart as `encoder.prepare_inference_params` gives them."""
    outer = without_layers(params)
    state, first = stages.embed(outer, batch)
    state, record_N = encoder.scan_layers(
        stages.layer, state, params["encoder"]["layers"], *stages.layer_inputs(outer)
    )
    return stages.readout(outer, state, first, record_N)
