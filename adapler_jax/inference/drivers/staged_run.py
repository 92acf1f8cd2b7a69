"""A driver as several jitted stages: one program runs all layers but the last.

Compilation takes the time of two layers in place of all of them. A layer overwrites the state that
it gets, so that the stages copy as little as one program does.
"""

import functools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from adapler_jax.encoders.base import slice_of_layer, stack_layers
from adapler_jax.inference.drivers.stages import StagedProgram, without_layers
from adapler_jax.types import Batch, Params, Trace

MIN_LAYERS = 4  # fewer compile as fast in one program


class Stages(NamedTuple):
    """The jitted stages for one shape of batches."""

    # (parameters without layers, Batch) -> state, what the readout needs, inputs of each layer
    start: jax.stages.Wrapped
    layer: jax.stages.Wrapped  # (state, parameters, *inputs) -> state, record; state is lost
    last: jax.stages.Wrapped
    # (parameters without layers, state, what it needs, records) -> result
    readout: jax.stages.Wrapped


class StagedRun:
    """A function (params, Batch) -> (logits float32 of the head, Trace) that runs the stages.

    Stages need layers that are apart, as `prepare_inference_params` returns them. A scan over
    stacked layers is one program.
    """

    def __init__(
        self,
        make_stages: Callable[[tuple[int, ...]], StagedProgram],
        whole: jax.stages.Wrapped,
        *,
        compiler_options: dict[str, str | bool] | None,
    ):
        """Take the driver.

        Args:
          make_stages: shape [B, L] of batches -> its stages.
          whole: the driver in one program.
          compiler_options: of every stage.
        """
        self._make_stages, self._whole = make_stages, whole
        self._jit = functools.partial(jax.jit, compiler_options=compiler_options)
        self._stages: dict[tuple[int, ...], Stages] = {}
        self._lock = threading.Lock()

    def __call__(self, params: Params, batch: Batch) -> tuple[Any, Trace]:
        """Run a batch, without waiting for any stage."""
        outer, layers = without_layers(params), params["encoder"]["layers"]
        # A budget may be NaN, which JAX's debug mode would report between two stages.
        if not isinstance(layers, tuple) or jax.config.values["jax_debug_nans"]:
            return self._whole(params, batch)
        stages = self._stages_for(batch.token_BL.shape)
        state, first, inputs_of_layers = stages.start(outer, batch)
        records = []
        runs = _runs(stages, len(layers))
        for run, layer, inputs in zip(runs, layers, inputs_of_layers, strict=True):
            state, record = run(state, layer, *inputs)
            records.append(record)
        return stages.readout(outer, state, first, records)

    def compile(self, params: Params, batch: Batch) -> list[jax.stages.Compiled]:
        """Return the compiled stages for a batch's shape, each once."""
        stages = self._stages_for(batch.token_BL.shape)
        outer, layers = without_layers(params), params["encoder"]["layers"]
        state, first, inputs_of_layers = jax.eval_shape(stages.start, outer, batch)
        inputs = state, layers[0], *inputs_of_layers[0]
        record = jax.eval_shape(stages.layer, *inputs)[1]
        lowered = [
            stages.start.lower(outer, batch),
            stages.layer.lower(*inputs),
            stages.readout.lower(outer, state, first, [record] * len(layers)),
        ]
        if stages.last is not stages.layer:
            lowered.append(stages.last.lower(state, layers[-1], *inputs_of_layers[-1]))
        return [stage.compile() for stage in lowered]

    def _stages_for(self, shape: tuple[int, ...]) -> Stages:
        """Return the stages for batches of a shape."""
        with self._lock:
            if shape not in self._stages:
                self._stages[shape] = self._jit_stages(self._make_stages(shape))
            return self._stages[shape]

    def _jit_stages(self, driver: StagedProgram) -> Stages:
        """Return the stages of a driver, jitted."""

        def start(outer: Params, batch: Batch):
            state, first = driver.embed(outer, batch)
            inputs = driver.layer_inputs(outer)
            num_layers = len(jax.tree.leaves(inputs)[0])
            return state, first, [slice_of_layer(inputs, index) for index in range(num_layers)]

        def jit_layer(stage):
            def run(state, layer: Params, *inputs):
                return stage(state, (layer, *inputs))

            return self._jit(run, donate_argnums=0)

        def readout(outer: Params, state, first, records: list):
            return driver.readout(outer, state, first, stack_layers(records))

        layer = jit_layer(driver.layer)
        last = layer if driver.last is None else jit_layer(driver.last)
        return Stages(self._jit(start), layer, last, self._jit(readout))


def _runs(stages: Stages, num_layers: int) -> list[jax.stages.Wrapped]:
    """Return the stage of each layer."""
    return [stages.layer] * (num_layers - 1) + [stages.last]
