"""A model's program saved beside the model: another process answers without tracing it again.

    export_model("runs/mine/adapt-2x/model")        # once
    Classifier.load("runs/mine/adapt-2x/model", programs=True)

The file holds no weights, so it is small, and a model that is saved anew keeps it. The batch's size is symbolic: one
program for all of them, for CPUs, CUDA and TPUs. Putting a size and a platform in costs a process as much as reading
the compiled program back, so a single text, where every start counts, has a program of its own on each platform. Where
the driver comes in `StagedProgram`, one program serves all its layers: of MiniLM-L6's six layers with ten buckets each, the
compilation cache then hands out a sixth of the code, which takes a process longer than tracing. Batches run faster in
one piece. Each fast driver has a file, and the engine picks as ever; but the bucketed program has all of the library's
buckets, since it may run on any device. A program that was made for anything else than what is loaded is left alone,
with a warning.

It is code, and a model directory is data: a load runs a program only where it is asked to, and only one that the same
user exported, as `signing` checks before it reads anything of the file.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import json
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from adapler_jax.data.batching.lengths import default_lengths
from adapler_jax.encoders.base import check_length
from adapler_jax.export.signing import (
    NO_TAG,
    check_custom_calls,
    custom_calls,
    make_key,
    read_signed,
    sign,
)
from adapler_jax.flops import leaf_predictor_dim
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.drivers import bucketed, packed
from adapler_jax.inference.drivers.buckets import DEFAULT_BUCKETS, check_buckets
from adapler_jax.inference.drivers.stages import StagedProgram, without_layers
from adapler_jax.inference.engine import (
    AUTO,
    DRIVERS,
    Engine,
    prepare_inference_params,
    run_program,
)
from adapler_jax.inference.ids import check_ids
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.types import Batch, EncoderConfig, Params, Trace, compute_dtype
from adapler_jax.weights.save import DEFAULT_MAX_LENGTH, Saved, load_model

STAGED_DRIVERS = {"bucketed": bucketed.make_stages, "packed": packed.make_stages}
PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM_FILES = "program-*.zip"  # in a model directory
ANY = "any"  # batch size, on any platform
VARIANTS = {ANY: PLATFORMS} | {
    platform: (platform,) for platform in PLATFORMS
}  # the latter for batches of one text
HEADER, FORMAT = "header.json", 2
CALLS = "custom_calls"  # of the header: what the programs call, found in them as they were exported
# Sources that decide what a program computes, from the package's folder.
SOURCES = (
    "types.py",
    "encoders/*.py",
    "heads/*.py",
    "forward.py",
    "pruning/*.py",
    "inference/**/*.py",
    "export/*.py",
)


@dataclasses.dataclass(frozen=True)
class ProgramSpec:
    """What a classifier runs: all that decides its programs, but for the code."""

    config: EncoderConfig
    pruner: Pruner
    driver: str
    dtype: np.dtype
    buckets: tuple[int, ...]
    max_length: int  # token slots
    num_classes: int
    predictor_dim: int

    @property
    def lengths(self) -> tuple[int, ...]:
        """To which batches are padded: one where the program leaves padding out by itself."""
        return (self.max_length,) if self.pruner.sites else default_lengths(self.max_length)

    @property
    def file_name(self) -> str:
        """Of the exported program in the model directory."""
        return f"program-{self.driver}-{self.dtype.name}.zip"

    def stages(self, shape) -> StagedProgram | None:
        """The driver in pieces for a batch of one text; None where it is one, and for others."""
        if shape[0] != 1:
            return None
        return STAGED_DRIVERS[self.driver](
            self.config, self.pruner, shape, buckets=self.buckets, dtype=self.dtype
        )

    def header(self) -> dict:
        """What a program must have been made for, as JSON gives it back."""
        header = {
            "format": FORMAT,
            "jax": jax.__version__,
            "code": digest_of_code(),
            "platforms": PLATFORMS,
            "encoder": dataclasses.asdict(self.config),
            "pruner": self.pruner.name,
            "sites": self.pruner.sites,
            "driver": self.driver,
            "dtype": self.dtype.name,
            "buckets": self.buckets,
            "lengths": self.lengths,
            "num_classes": self.num_classes,
            "predictor_dim": self.predictor_dim,
            "matmul_precision": jax.config.jax_default_matmul_precision,
            "x64": jax.config.jax_enable_x64,
        }
        return json.loads(json.dumps(header))


def max_length_of(saved: Saved) -> int:
    """Token slots of a model's batches: those that it was trained with, where it tells them.

    Raises ValueError where it has fewer positions.
    """
    check_length(saved.config, saved.max_length or 0)
    return saved.max_length or min(saved.config.num_positions, DEFAULT_MAX_LENGTH)


def is_per_option(saved: Saved) -> bool:
    """Whether a model classifies the options of questions, each alone."""
    return saved.head is CLASSIFICATION and saved.extra.get("qa", {}).get(
        "score_options_independently", False
    )


def loader_hint(saved: Saved) -> str:
    """What to do with a model, in words, for those who took it for something else."""
    if saved.head.name == "span":
        return "load it with Reader (adapler_jax.inference.question_answerer)"
    if saved.head.name == "choice" or is_per_option(saved):
        return "load it with MultipleChoice (adapler_jax.inference.multiple_choice)"
    if saved.head is CLASSIFICATION:
        return "load it with Classifier (adapler_jax.inference.classifier)"
    return "score it with evaluate.py, or run it by make_engine with its head"


def check_classifies(saved: Saved) -> None:
    """Raises ValueError where a model is for something else than classes."""
    if saved.head is not CLASSIFICATION:
        answers = saved.head.name in ("span", "choice")  # predict takes these
        others = "neither Classifier, nor" if answers else "neither Classifier, predict nor"
        raise ValueError(
            f"{saved.directory} holds a model with the head {saved.head.name!r}, for which {others} exported programs "
            f"are made; {loader_hint(saved)}"
        )


def serving_of(saved: Saved, *, buckets: Sequence[int] | None, dtype, driver: str) -> ProgramSpec:
    """What is run of a saved model; arguments as in `make_engine`. Raises ValueError where it does not classify."""
    check_classifies(saved)
    return ProgramSpec(
        config=saved.config,
        pruner=pruner_of_saved(saved),
        driver=driver,
        dtype=np.dtype(compute_dtype(dtype)),
        buckets=DEFAULT_BUCKETS if buckets is None else check_buckets(buckets),
        max_length=max_length_of(saved),
        num_classes=len(saved.class_names),
        predictor_dim=leaf_predictor_dim(saved.params),
    )


def digest_of_code() -> str:
    """A hash of the sources that make the programs."""
    folder, digest = pathlib.Path(__file__).parents[1], hashlib.sha256()
    for pattern in SOURCES:
        for path in sorted(folder.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def export_model(
    directory, *, buckets: Sequence[int] | None = None, dtype=jnp.float32, driver: str = AUTO
) -> list[pathlib.Path]:
    """Writes the programs of a saved model beside it and returns the files; arguments as `Classifier.load` will get
    them. "auto" writes those of every fast driver.

    Takes seconds, of which none go into compiling. Raises ValueError where the directory is damaged, the driver cannot
    be exported, or others may read the key that signs programs; OSError where something cannot be written.
    """
    if driver not in (AUTO, *STAGED_DRIVERS):
        raise ValueError(
            f"driver {driver!r} cannot be exported; expected {AUTO} or {' or '.join(STAGED_DRIVERS)}"
        )
    saved = load_model(directory)
    params = prepare_inference_params(saved.params, saved.config, dtype)
    servings = [
        serving_of(saved, buckets=buckets, dtype=dtype, driver=name) for name in STAGED_DRIVERS
    ]
    return [
        write_program(one, saved.directory, params)
        for one in servings
        if driver in (AUTO, one.driver)
    ]


def write_program(serving: ProgramSpec, directory: pathlib.Path, params: Params) -> pathlib.Path:
    """Writes one driver's file, signed, whole or not at all."""
    path, key = directory / serving.file_name, make_key()
    programs, called = {}, set()
    for length, (variant, platforms) in itertools.product(serving.lengths, VARIANTS.items()):
        size = jax.export.symbolic_shape("b")[0] if variant == ANY else 1
        pieces = export_pieces(serving, params, shape=(size, length), platforms=platforms)
        for name, exported in pieces.items():
            programs[f"{length}/{variant}/{name}"] = bytes(exported.serialize())
            called |= custom_calls(exported.mlir_module())
    check_custom_calls(called)
    with replacing_file(path) as partial:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(
                HEADER, json.dumps(serving.header() | {CALLS: sorted(called)}, indent=1)
            )
            for name, content in programs.items():
                archive.writestr(name, content)
            archive.comment = NO_TAG
        sign(partial, key)
    return path


def export_pieces(
    serving: ProgramSpec, params: Params, *, shape, platforms
) -> dict[str, jax.export.Exported]:
    """The programs for batches [B, L], of arguments in dicts and lists: `whole`, or `begin`, `step` and `finish`."""
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for dtype in (jnp.int32, jnp.int32, jnp.bool)]

    def export(function, *args):
        return jax.export.export(jax.jit(function), platforms=platforms)(
            *jax.tree.map(shape_of, args)
        )

    stages = serving.stages(shape)
    if stages is None:
        options = {"dtype": serving.dtype, "buckets": serving.buckets}

        def whole(params, tokens):
            forward = DRIVERS[serving.driver]
            return flat_answer(
                *forward(params, serving.config, serving.pruner, as_batch(tokens), **options)
            )

        return {"whole": export(whole, params, shapes)}

    split = split_layers(stages, params)
    outer, layer = split["outer"], split["layers"][0]
    state, first = jax.eval_shape(
        lambda outer, tokens: stages.embed(outer, as_batch(tokens)), outer, shapes
    )
    _, record = jax.eval_shape(stages.layer, state, layer)
    (states, state_tree), (firsts, first_tree), (records, record_tree) = map(
        jax.tree.flatten, (state, first, record)
    )

    def begin(outer, tokens):
        return tuple(map(jax.tree.leaves, stages.embed(outer, as_batch(tokens))))

    def step(states, layer):
        return tuple(
            map(jax.tree.leaves, stages.layer(jax.tree.unflatten(state_tree, states), layer))
        )

    def finish(outer, states, firsts, records_N):
        record_N = jax.tree.map(lambda *leaves: jnp.stack(leaves), *records_N)
        trees = (state_tree, states), (first_tree, firsts), (record_tree, record_N)
        return flat_answer(*stages.readout(outer, *(jax.tree.unflatten(*pair) for pair in trees)))

    return {
        "begin": export(begin, outer, shapes),
        "step": export(step, states, layer),
        "finish": export(finish, outer, states, firsts, [records] * len(split["layers"])),
    }


def shape_of(leaf) -> jax.ShapeDtypeStruct:
    """An argument without its values."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def as_batch(tokens) -> Batch:
    """Tokens, segments and valid places as a Batch; no program reads labels or ids."""
    none_B = jnp.zeros(tokens[0].shape[:1], jnp.int32)
    return Batch(*tokens, label_B=none_B, example_id_B=none_B)


def flat_answer(logits_BC, trace: Trace) -> list:
    """Logits and the fields of the Trace."""
    return [logits_BC, trace.score_NBL, trace.survival_NBL, trace.count_NB]


def split_layers(stages: StagedProgram, params: Params) -> Params:
    """Parameters as the pieces read them: of `begin` and `finish`, and of each layer. Compiles nothing."""
    outer, layers = without_layers(params), params["encoder"]["layers"]
    per_layer = stages.layer_inputs(outer | {"pruner": jax.tree.map(np.asarray, outer["pruner"])})
    slices = [
        jax.tree.map(lambda leaf, index=index: leaf[index], per_layer)
        for index in range(len(layers))
    ]
    return {
        "outer": outer,
        "layers": [(layer, *found) for layer, found in zip(layers, jax.device_put(slices))],
    }


def use_programs(
    engine: Engine, saved: Saved, params: Params, *, buckets, dtype, driver: str
) -> tuple[Callable, Params]:
    """(function as `make_engine` gives it, its parameters): the exported programs in the model's directory for the
    batches whose driver has one, the engine for all others. Params: as `prepare_inference_params` gives them."""
    drivers = [name for name in STAGED_DRIVERS if driver in (AUTO, name)]
    servings = [serving_of(saved, buckets=buckets, dtype=dtype, driver=name) for name in drivers]
    found = {one.driver: load_program(one, saved.directory, params) for one in servings}
    calls = {driver: program[0] for driver, program in found.items() if program}
    if not calls:
        return engine, params

    def run(params, batch):
        check_ids(batch, saved.config)
        B, L = batch.token_BL.shape
        driver = engine.choice(B, L).driver
        if (L, "several") not in calls.get(driver, {}):
            return engine(params["whole"], batch)

        def program(B, L):
            return functools.partial(answer, calls[driver][L, "one" if B == 1 else "several"])

        return run_program(driver, program, params[driver] if B == 1 else params["whole"], batch)

    return run, {"whole": params} | {
        driver: program[1] for driver, program in found.items() if program
    }


def answer(pieces: dict[str, Callable], params: Params, batch: Batch):
    """Logits and Trace."""
    logits_BC, *fields = call_staged(pieces, params, batch)
    return logits_BC, Trace(*fields)


def load_program(
    serving: ProgramSpec, directory: pathlib.Path, params: Params
) -> tuple[dict, Params] | None:
    """(pieces by length and whether a batch is of one text or several, parameters as those of one text read them) of a
    driver.

    None where there is none, or, with a warning that says why, none that fits.
    """
    path = directory / serving.file_name
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(read_signed(path))) as archive:
            header = json.loads(archive.read(HEADER))
            check_custom_calls(header.pop(CALLS, ()))
            check_compatible(header, serving)
            variants = {"several": ANY, "one": jax.export.default_export_platform()}
            calls = {
                (length, size): read_pieces(archive, f"{length}/{variant}/")
                for length in serving.lengths
                for size, variant in variants.items()
            }
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        warnings.warn(
            f"{path} is not used ({error}); export it again with export_model, or remove it",
            stacklevel=5,
        )
        return None
    stages = serving.stages((1, serving.lengths[0]))
    return calls, params if stages is None else split_layers(stages, params)


def check_compatible(header: dict, serving: ProgramSpec) -> None:
    """Raises ValueError, with all names, where a program was made for something else than what is run here."""
    wanted = serving.header()
    others = sorted(
        name for name in wanted.keys() | header.keys() if wanted.get(name) != header.get(name)
    )
    if others:
        raise ValueError(f"it was made for another {', another '.join(others)}")
    platform = jax.export.default_export_platform()
    if platform not in PLATFORMS:
        raise ValueError(f"it was made for {', '.join(PLATFORMS)}, not for {platform}")


def read_pieces(archive: zipfile.ZipFile, folder: str) -> dict[str, Callable]:
    """The programs of one folder; each compiles once a batch size. A step's state is updated in its place."""
    calls = {}
    for path in archive.namelist():
        name = path.removeprefix(folder)
        if name != path:
            exported = jax.export.deserialize(bytearray(archive.read(path)))
            calls[name] = jax.jit(exported.call, donate_argnums=(0,) if name == "step" else ())
    return calls


def call_staged(calls: dict[str, Callable], params: Params, batch: Batch):
    """Runs the programs one after the other; the host waits for none of them."""
    tokens = [batch.token_BL, batch.segment_BL, batch.valid_BL]
    if "whole" in calls:
        return calls["whole"](params, tokens)
    states, firsts = calls["begin"](params["outer"], tokens)
    records = []
    for layer in params["layers"]:
        states, record = calls["step"](states, layer)
        records.append(record)
    return calls["finish"](params["outer"], states, firsts, records)
