"""The dense model in torch, ONNX Runtime and OpenVINO, each as its users make it fast.

Every function imports its baseline itself, so none of them has to be installed. Warnings of these
packages during conversion are not shown.
"""

import contextlib
import functools
import importlib.util
import inspect
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

import numpy as np

from benchmarks.systems import Bench, System, Texts, pad_to_longest

REQUIREMENTS = "requirements-baselines.txt"
PACKAGES = {
    "torch": ("torch", "transformers"),
    "onnxruntime": ("torch", "onnx", "onnxruntime"),
    "openvino": ("torch", "openvino", "nncf"),
}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
INT8 = "int8"
EXAMPLE_SHAPE = (2, 9)  # of what is traced; both axes stay free
LAST_TORCHSCRIPT_OPSET = 17


def missing_packages(peer: str) -> list[str]:
    """Return the packages that a baseline needs and that are not installed."""
    return [name for name in PACKAGES[peer] if importlib.util.find_spec(name) is None]


def peer_versions() -> dict[str, str]:
    """Return the installed versions of all packages that the baselines need."""
    names = dict.fromkeys(name for packages in PACKAGES.values() for name in packages)
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):  # or installed under another name
            found[name] = metadata.version(name)
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log lines and progress bars of the baselines."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def load_classifier(directory: pathlib.Path, **options):
    """Load a saved model as transformers' classifier, ready for inference."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with quiet():
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            directory, trust_remote_code=False, **options
        )
    return model.eval()


def input_names(model) -> list[str]:
    """Return the inputs that a model takes; segments are not of every family."""
    return [name for name in INPUTS if name in inspect.signature(model.forward).parameters]


def example_inputs(model) -> dict:
    """Return tensors to trace a model with."""
    import torch

    return {name: torch.ones(EXAMPLE_SHAPE, dtype=torch.long) for name in input_names(model)}


def peer(
    package: str, engine: str, dtype: str, run: Callable, prepare: Callable = pad_to_longest
) -> System:
    """Return a system of the dense model on arrays."""
    return System(package, "dense", engine, dtype, prepare, run)


def torch_systems(directory: pathlib.Path, *, num_threads: int) -> list[System]:
    """Return transformers' model with float32 weights, and with bfloat16 weights."""
    import torch

    torch.set_num_threads(num_threads)

    def prepare(texts: Texts, batch_size: int):
        return {
            name: torch.from_numpy(array)
            for name, array in pad_to_longest(texts, batch_size).items()
        }

    def run(model, inputs):
        taken = {name: inputs[name] for name in input_names(model)}
        with torch.inference_mode():
            return model(**taken).logits.float().numpy()

    dtypes = ("float32", "bfloat16")
    models = {dtype: load_classifier(directory, dtype=getattr(torch, dtype)) for dtype in dtypes}
    return [
        peer("torch", "", dtype, functools.partial(run, model), prepare)
        for dtype, model in models.items()
    ]


def export_onnx(model, path: pathlib.Path) -> None:
    """Write a loaded model as an ONNX graph with free batch and length.

    Its attention is written out and torch's older exporter is used: ONNX Runtime's optimizer fuses
    the attention of those graphs only (seen with torch 2.13 and onnxruntime 1.32).
    """
    import torch

    inputs = example_inputs(model)
    with quiet():
        torch.onnx.export(
            model,
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=LAST_TORCHSCRIPT_OPSET,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in inputs},
        )


def fuse_onnx(config, source: pathlib.Path, target: pathlib.Path) -> None:
    """Apply ONNX Runtime's optimizer for transformers.

    Raises:
      RuntimeError: it finds no attention to fuse.
    """
    from onnxruntime.transformers import optimizer

    with quiet():
        fused = optimizer.optimize_model(
            str(source),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
            opt_level=0,
        )
    found = fused.get_fused_operator_statistics()["Attention"]
    if found != config.num_hidden_layers:
        raise RuntimeError(
            f"{found} of {config.num_hidden_layers} attentions were fused; install {REQUIREMENTS}"
        )
    fused.save_model_to_file(str(target))


def quantize_onnx(source: pathlib.Path, target: pathlib.Path) -> None:
    """Quantize weights to int8; activations by their range at run time."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(
            source,
            target,
            weight_type=QuantType.QInt8,
            extra_options={
                "DefaultTensorType": onnx.TensorProto.FLOAT
            },  # results of fused operators have none
        )


def onnx_session(path: pathlib.Path, names: Sequence[str], *, num_threads: int) -> Callable:
    """Return a function of the named inputs, with all optimizations of the graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, {name: inputs[name] for name in names})[0]


def onnxruntime_systems(
    directory: pathlib.Path, scratch: pathlib.Path, *, num_threads: int
) -> list[System]:
    """Return the exported graph and the optimized graph, in float32 and int8 each.

    Of other families than BERT there is the exported graph alone.
    """
    model = load_classifier(directory, attn_implementation="eager")
    is_bert = model.config.model_type == "bert"
    engines = ("exported", "fused") if is_bert else ("exported",)
    paths = {
        (engine, dtype): scratch / f"{engine}-{dtype}.onnx"
        for engine in engines
        for dtype in ("float32", "int8")
    }
    export_onnx(model, paths["exported", "float32"])
    if is_bert:
        fuse_onnx(model.config, paths["exported", "float32"], paths["fused", "float32"])
    names = input_names(model)
    for engine in engines:
        quantize_onnx(paths[engine, "float32"], paths[engine, "int8"])
    return [
        peer("onnxruntime", engine, dtype, onnx_session(path, names, num_threads=num_threads))
        for (engine, dtype), path in paths.items()
    ]


def quantize_openvino(model, calibration: Sequence[dict[str, np.ndarray]]):
    """Quantize weights and activations to int8 by NNCF, with calibration inputs."""
    import nncf

    with quiet():
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(calibration),
        )


def openvino_systems(
    directory: pathlib.Path, calibration: Sequence[dict[str, np.ndarray]], *, num_threads: int
) -> list[System]:
    """Return torch's model converted, in float32, bfloat16 and int8.

    Operations that int8 does not cover run in the precision that the plug-in picks: bfloat16 on
    processors with units for it.
    """
    import openvino

    dense = load_classifier(directory)
    with quiet():
        model = openvino.convert_model(dense, example_input=example_inputs(dense))
    names = input_names(dense)
    core = openvino.Core()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_threads}
    hints = {
        "float32": {"INFERENCE_PRECISION_HINT": "f32"},
        "bfloat16": {"INFERENCE_PRECISION_HINT": "bf16"},
    }
    compiled = {
        dtype: core.compile_model(model, "CPU", options | hint) for dtype, hint in hints.items()
    }
    known = [{name: inputs[name] for name in names} for inputs in calibration]
    compiled["int8"] = core.compile_model(quantize_openvino(model, known), "CPU", options)

    def run(request, inputs):
        return request.infer({name: inputs[name] for name in names}, share_inputs=True)[0]

    return [
        peer("openvino", "", dtype, functools.partial(run, program.create_infer_request()))
        for dtype, program in compiled.items()
    ]


def make_bench(
    name: str,
    directory: pathlib.Path,
    scratch: pathlib.Path,
    calibration: Sequence[dict],
    num_threads: int,
    *,
    dtypes: Sequence[str],
) -> Bench:
    """Return a baseline's systems by its name in PACKAGES; for a process of its own.

    Args:
      directory: of the saved model.
      scratch: a folder for converted models.
      calibration: inputs that OpenVINO's activation ranges come from.
      num_threads: of the engine.
      dtypes: of the operands of floating point; int8 is always there.
    """
    makers = {
        "torch": lambda: torch_systems(directory, num_threads=num_threads),
        "onnxruntime": lambda: onnxruntime_systems(directory, scratch, num_threads=num_threads),
        "openvino": lambda: openvino_systems(directory, calibration, num_threads=num_threads),
    }
    return Bench([system for system in makers[name]() if system.dtype in (*dtypes, INT8)])
