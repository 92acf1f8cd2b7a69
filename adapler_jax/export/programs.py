"""Load the exported programs of a model, and run them in place of the engine.

A program is code and a model directory is data. So a load runs a program only on request, and only
if the same user exported it. `signing` checks this before it reads the file. A program that was
made for anything else than the loaded model is ignored, with a warning.
"""

import functools
import io
import json
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.export
from jax.typing import DTypeLike

from adapler_jax.export.program_spec import (
    ANY,
    CUSTOM_CALLS_KEY,
    HEADER,
    PLATFORMS,
    ProgramSpec,
    program_spec,
    split_layers,
)
from adapler_jax.export.signing import check_custom_calls, read_signed
from adapler_jax.inference.engine import AUTO, STAGED_DRIVERS, Engine, run_program
from adapler_jax.inference.ids import check_ids
from adapler_jax.types import Batch, Params, Trace
from adapler_jax.weights.save import Saved

Pieces = Mapping[str, Callable]  # `whole`, or `embed`, `layer`, `last` and `readout`


class LoadedProgram(NamedTuple):
    """The exported program of one driver."""

    single: dict[int, Pieces]  # for one text, by padded length
    several: dict[int, Pieces]  # for larger batches, by padded length
    single_params: Params  # in the layout of the pieces for one text


def use_programs(
    engine: Engine,
    saved: Saved,
    params: Params,
    *,
    buckets: Sequence[int] | None,
    dtype: DTypeLike,
    driver: str,
) -> tuple[Callable, Params]:
    """Return a function as `make_engine` gives it, and its parameters.

    It runs the programs in the model's directory, and the engine where a driver has none.

    Args:
      engine: that selects the driver of each batch.
      saved: the model.
      params: from `prepare_inference_params`.
      buckets: as in `make_engine`.
      dtype: as in `make_engine`.
      driver: as in `make_engine`.
    """
    programs: dict[str, LoadedProgram] = {}
    for name in STAGED_DRIVERS:
        if driver in (AUTO, name):
            spec = program_spec(saved, buckets=buckets, dtype=dtype, driver=name)
            program = load_program(spec, saved.directory, params)
            if program is not None:
                programs[name] = program
    if not programs:
        return engine, params

    def run(params: Params, batch: Batch) -> tuple[Any, Trace]:
        check_ids(batch, saved.config)
        B, L = batch.token_BL.shape
        selected = engine.select_driver(B, L).driver
        if selected not in programs or L not in programs[selected].several:
            return engine(params["whole"], batch)
        program = programs[selected]

        def pieces_for(B: int, L: int) -> Callable:
            return functools.partial(run_pieces, (program.single if B == 1 else program.several)[L])

        run_params = params[selected] if B == 1 else params["whole"]
        return run_program(selected, pieces_for, run_params, batch)

    single_params = {name: program.single_params for name, program in programs.items()}
    return run, {"whole": params} | single_params


def load_program(
    spec: ProgramSpec, directory: pathlib.Path, params: Params
) -> LoadedProgram | None:
    """Load the exported program of a driver.

    Args:
      spec: that the program must be made for.
      directory: of the model.
      params: from `prepare_inference_params`.

    Returns:
      The program. None if there is none, or, with a warning, if it does not fit.
    """
    path = directory / spec.file_name
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(read_signed(path))) as archive:
            header = json.loads(archive.read(HEADER))
            check_custom_calls(header.pop(CUSTOM_CALLS_KEY, ()))
            check_compatible(header, spec)
            platform = jax.export.default_export_platform()
            single = {length: read_pieces(archive, length, platform) for length in spec.lengths}
            several = {length: read_pieces(archive, length, ANY) for length in spec.lengths}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(
            f"{path} is not used ({error}); export it again with export_model, or remove it",
            stacklevel=5,
        )
        return None
    stages = spec.stages((1, spec.lengths[0]))
    return LoadedProgram(
        single, several, params if stages is None else split_layers(stages, params)
    )


def check_compatible(header: dict, spec: ProgramSpec) -> None:
    """Check that a program was made for this model, code and platform.

    Raises:
      ValueError: it was not; the message names all differences.
    """
    expected = spec.header()
    names = expected.keys() | header.keys()
    differing = sorted(name for name in names if expected.get(name) != header.get(name))
    if differing:
        raise ValueError(f"it was made for another {', another '.join(differing)}")
    platform = jax.export.default_export_platform()
    if platform not in PLATFORMS:
        raise ValueError(f"it was made for {', '.join(PLATFORMS)}, not for {platform}")


def read_pieces(archive: zipfile.ZipFile, length: int, variant: str) -> Pieces:
    """Return the programs of a padded length and variant; each compiles once a batch size."""
    folder = f"{length}/{variant}/"
    pieces = {}
    for path in archive.namelist():
        if path.startswith(folder):
            name = path.removeprefix(folder)
            exported = jax.export.deserialize(bytearray(archive.read(path)))
            # A layer overwrites the state that it gets.
            donated = (0,) if name in ("layer", "last") else ()
            pieces[name] = jax.jit(exported.call, donate_argnums=donated)
    return pieces


def run_pieces(pieces: Pieces, params: Params, batch: Batch) -> tuple[Any, Trace]:
    """Run the programs in order, without waiting for any of them; return logits and trace."""
    tokens = [batch.token_BL, batch.segment_BL, batch.valid_BL]
    if "whole" in pieces:
        logits_BC, *fields = pieces["whole"](params, tokens)
        return logits_BC, Trace(*fields)
    state, for_readout = pieces["embed"](params["outer"], tokens)
    records = []
    names = ["layer"] * (len(params["layers"]) - 1) + ["last"]
    for name, layer_params in zip(names, params["layers"]):
        state, record = pieces[name](state, layer_params)
        records.append(record)
    logits_BC, *fields = pieces["readout"](params["outer"], state, for_readout, records)
    return logits_BC, Trace(*fields)
