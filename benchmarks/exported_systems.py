"""Our models without JAX: ONNX files in ONNX Runtime and OpenVINO, and the program for torch."""

import functools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.export import WEIGHT_BITS, this_processor, write_model
from adapler_jax.export.onnx.settings import LOGITS
from adapler_jax.weights.save import Saved
from adapler_jax.weights.torch_model import AUTO_CLASS, MODELING_FILE
from benchmarks.peer_systems import onnx_session
from benchmarks.systems import OURS, Bench, System, pad_to_longest

OPENVINO_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class Exported(NamedTuple):
    """A file or folder and how it is run."""

    engine: str  # onnxruntime, openvino or torch
    method: str  # name of the model
    dtype: str  # of the products' operands
    path: pathlib.Path


def export_models(
    models: dict[str, Saved], folder: pathlib.Path, *, dtypes: Sequence[str]
) -> list[Exported]:
    """Write the models for the engines; int8 is for this machine's processor.

    torch takes the folders of the models that drop tokens.

    Args:
      models: by name.
      folder: for the files.
      dtypes: of OpenVINO's operands, of OPENVINO_HINTS.
    """
    bits = WEIGHT_BITS[this_processor()]
    files = []
    for number, (method, saved) in enumerate(models.items()):
        kinds: dict[str, dict] = {
            "float32": {},
            "int8": {"weight_bits": bits},
            "standard": {"uses_contrib": False},
        }
        for kind, options in kinds.items():
            path = folder / f"{number}-{kind}.onnx"
            write_model(build_model(saved, **options), path)
            if kind == "standard":
                files += [Exported("openvino", method, dtype, path) for dtype in dtypes]
            else:
                files.append(Exported("onnxruntime", method, kind, path))
        if (saved.directory / MODELING_FILE).is_file():
            files.append(Exported("torch", method, "float32", saved.directory))
    return files


def exported_bench(engine: str, files: list[Exported], num_threads: int) -> Bench:
    """Return the systems of one engine; for a process of its own."""
    runs = {"onnxruntime": onnx_session, "openvino": openvino_session, "torch": torch_session}
    systems = []
    for file in files:
        if file.engine != engine:
            continue
        options = {"dtype": file.dtype} if engine == "openvino" else {}
        run = runs[engine](file.path, num_threads=num_threads, **options)
        systems.append(System(OURS, file.method, engine, file.dtype, pad_to_longest, run))
    return Bench(systems)


def openvino_session(path: pathlib.Path, *, num_threads: int, dtype: str):
    """Return a function of the inputs, in the precision of a dtype."""
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": num_threads,
        "INFERENCE_PRECISION_HINT": OPENVINO_HINTS[dtype],
    }
    program = openvino.Core().compile_model(path, "CPU", options)

    def run(request, inputs):
        """Return the logits."""
        return request.infer(inputs, share_inputs=True)[LOGITS]

    return functools.partial(run, program.create_infer_request())


def torch_session(path: pathlib.Path, *, num_threads: int):
    """Return a function of the inputs, by the program in a model's folder."""
    import torch
    import transformers

    torch.set_num_threads(num_threads)
    model = getattr(transformers, AUTO_CLASS).from_pretrained(path, trust_remote_code=True).eval()

    def run(inputs):
        """Return the logits."""
        with torch.inference_mode():
            found = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return found.logits.numpy()

    return run
