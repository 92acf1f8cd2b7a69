"""Export a model's program into its directory, so that another process runs it without tracing.

    export_model("runs/mine/adapt-2x/model")        # once
    Classifier.load("runs/mine/adapt-2x/model", programs=True)

The file holds no weights: it is small, and stays valid when the model is saved again. The batch
size is symbolic: one program serves all sizes on CPUs, CUDA and TPUs. Specialising batch size and
platform costs as much as loading a compiled program. Single texts need a fast start, so they have
a program for each platform. It is staged: one program serves all layers but the last, and the
compilation cache returns a fraction of the code. Batches run faster in one program.

Each fast driver has a file, and the engine selects the driver as usual. The bucketed program has
all of the library's buckets, since it may run on any device.
"""

import itertools
import json
import pathlib
import zipfile
from collections.abc import Callable, Sequence

import jax
import jax.export
import jax.numpy as jnp
from jax.typing import DTypeLike

from adapler_jax.encoders.base import stack_layers
from adapler_jax.export.program_spec import (
    ANY,
    CUSTOM_CALLS_KEY,
    HEADER,
    VARIANTS,
    ProgramSpec,
    program_spec,
    split_layers,
)
from adapler_jax.export.signing import NO_TAG, check_custom_calls, custom_calls, make_key, sign
from adapler_jax.inference.drivers.stages import StagedProgram
from adapler_jax.inference.engine import AUTO, DRIVERS, STAGED_DRIVERS, prepare_inference_params
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.types import Batch, Params, Trace
from adapler_jax.weights.folders import load_folder

Export = Callable[..., jax.export.Exported]  # (function, *example arguments) -> program


def export_model(
    directory,
    *,
    buckets: Sequence[int] | None = None,
    dtype: DTypeLike = jnp.float32,
    driver: str = AUTO,
) -> list[pathlib.Path]:
    """Write the programs of a saved model into its directory; takes seconds, and compiles nothing.

    Args:
      directory: of the model.
      buckets: as in `Classifier.load`.
      dtype: as in `Classifier.load`.
      driver: one that can be exported; "auto" for all of them.

    Returns:
      The paths of the files.

    Raises:
      ValueError: the model is damaged or no classifier, the driver cannot be exported, or others
        can read the key that signs programs.
      OSError: a file cannot be written.
    """
    if driver not in (AUTO, *STAGED_DRIVERS):
        raise ValueError(
            f"driver {driver!r} cannot be exported; expected {AUTO} or "
            f"{' or '.join(STAGED_DRIVERS)}"
        )
    saved = load_folder(directory)
    params = prepare_inference_params(saved.params, saved.config, dtype)
    return [
        write_program(
            program_spec(saved, buckets=buckets, dtype=dtype, driver=name), saved.directory, params
        )
        for name in STAGED_DRIVERS
        if driver in (AUTO, name)
    ]


def write_program(spec: ProgramSpec, directory: pathlib.Path, params: Params) -> pathlib.Path:
    """Write the signed file of one driver atomically, and return its path."""
    path, key = directory / spec.file_name, make_key()
    programs: dict[str, bytes] = {}
    called: set[str] = set()
    for length, (variant, platforms) in itertools.product(spec.lengths, VARIANTS.items()):
        size = jax.export.symbolic_shape("b")[0] if variant == ANY else 1
        pieces = export_pieces(spec, params, shape=(size, length), platforms=platforms)
        for name, exported in pieces.items():
            programs[f"{length}/{variant}/{name}"] = bytes(exported.serialize())
            called |= custom_calls(exported.mlir_module())
    check_custom_calls(called)
    header = spec.header() | {CUSTOM_CALLS_KEY: sorted(called)}
    with replacing_file(path) as partial:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(HEADER, json.dumps(header, indent=1))
            for name, content in programs.items():
                archive.writestr(name, content)
            archive.comment = NO_TAG
        sign(partial, key)
    return path


def export_pieces(
    spec: ProgramSpec, params: Params, *, shape: tuple, platforms: Sequence[str]
) -> dict[str, jax.export.Exported]:
    """Return the programs for batches [B, L]: `whole`, or `embed`, `layer`, `last` and `readout`.

    Their arguments and results are dicts and lists of arrays.
    """
    tokens = [jax.ShapeDtypeStruct(shape, dtype) for dtype in (jnp.int32, jnp.int32, jnp.bool)]

    def export(function: Callable, *args) -> jax.export.Exported:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        return jax.export.export(jax.jit(function), platforms=platforms)(*shapes)

    stages = spec.stages(shape)
    if stages is None:
        return {"whole": export(_whole_program(spec), params, tokens)}
    return _export_stages(stages, params, tokens, export=export)


def _whole_program(spec: ProgramSpec) -> Callable:
    """Return the function (params, tokens) that runs a driver in one program."""

    def whole(params, tokens):
        logits_BC, trace = DRIVERS[spec.driver](
            params,
            spec.config,
            spec.pruner,
            as_batch(tokens),
            dtype=spec.dtype,
            buckets=spec.buckets,
        )
        return flatten_results(logits_BC, trace)

    return whole


def _export_stages(
    stages: StagedProgram, params: Params, tokens: list, *, export: Export
) -> dict[str, jax.export.Exported]:
    """Return the programs of the stages, which take leaves of records in place of records."""
    split = split_layers(stages, params)
    outer, first_layer = split["outer"], split["layers"][0]
    state, for_readout = jax.eval_shape(
        lambda outer, tokens: stages.embed(outer, as_batch(tokens)), outer, tokens
    )
    _, record = jax.eval_shape(stages.layer, state, first_layer)
    state_leaves, state_tree = jax.tree.flatten(state)
    readout_leaves, readout_tree = jax.tree.flatten(for_readout)
    record_leaves, record_tree = jax.tree.flatten(record)

    def embed(outer, tokens):
        state, for_readout = stages.embed(outer, as_batch(tokens))
        return jax.tree.leaves(state), jax.tree.leaves(for_readout)

    def layer_of(stage):
        """Return a stage of a layer on leaves of the state."""

        def layer(state_leaves, layer_params):
            state, record = stage(jax.tree.unflatten(state_tree, state_leaves), layer_params)
            return jax.tree.leaves(state), jax.tree.leaves(record)

        return layer

    def readout(outer, state_leaves, readout_leaves, records):
        stacked = stack_layers(records)
        logits_BC, trace = stages.readout(
            outer,
            jax.tree.unflatten(state_tree, state_leaves),
            jax.tree.unflatten(readout_tree, readout_leaves),
            jax.tree.unflatten(record_tree, stacked),
        )
        return flatten_results(logits_BC, trace)

    records = [record_leaves] * len(split["layers"])
    return {
        "embed": export(embed, outer, tokens),
        "layer": export(layer_of(stages.layer), state_leaves, first_layer),
        "last": export(layer_of(stages.last or stages.layer), state_leaves, split["layers"][-1]),
        "readout": export(readout, outer, state_leaves, readout_leaves, records),
    }


def as_batch(tokens: Sequence[jax.Array]) -> Batch:
    """Return token ids, segments and mask as a Batch; no program uses labels or ids."""
    token_BL, segment_BL, valid_BL = tokens
    zero_B = jnp.zeros(token_BL.shape[:1], jnp.int32)
    return Batch(
        token_BL=token_BL,
        segment_BL=segment_BL,
        valid_BL=valid_BL,
        label_B=zero_B,
        example_id_B=zero_B,
    )


def flatten_results(logits_BC: jax.Array, trace: Trace) -> list:
    """Return the logits and the fields of the trace in a list."""
    return [logits_BC, trace.score_NBL, trace.survival_NBL, trace.count_NB]
