"""Write a saved model as an ONNX file into its directory.

    export_onnx("runs/fast/model")                          # onnx/model.onnx
    export_onnx("runs/fast/model", quantize="avx512_vnni")  # onnx/model_qint8_avx512_vnni.onnx

The file takes batches of every size and length, and drops tokens inside. Names of files, inputs and
outputs are the ones that optimum, sentence-transformers and text-embeddings-inference use.
"""

import platform
from pathlib import Path

import onnx

from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.graph import OPSETS
from adapler_jax.export.onnx.measurements import record
from adapler_jax.export.onnx.settings import MODEL_FILE, ONNX, STANDARD_FILE
from adapler_jax.io.atomic_directories import recover
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.weights.folders import load_folder

# Bits of the encoder's weights by the instructions of a processor. The older ones add pairs of
# products in 16 bits, which overflow with 8-bit weights.
WEIGHT_BITS = {"avx2": 7, "avx512": 7, "avx512_vnni": 8, "arm64": 8}
INT8 = "int8"  # for this machine's processor
ONNXRUNTIME, STANDARD = OPERATORS = ("onnxruntime", "standard")
MAX_BYTES = 2**31 - 2**24  # of the weights in a file without external data
CPU_FLAGS = Path("/proc/cpuinfo")


def export_onnx(
    directory,
    *,
    quantize: str = "",
    operators: str = ONNXRUNTIME,
    opset: int = OPSETS[0],
) -> Path:
    """Write a saved model as an ONNX file that drops tokens, and return its path.

    Inputs are `input_ids`, `attention_mask` and, for a model with segments, `token_type_ids`, int64
    [batch, sequence]; texts begin in the first slot. A calibrated model has an optional input
    `budget`, float32 [1] or [batch]: the share of tokens to keep, NaN for the trained thresholds.
    Outputs are `logits`, float32 [batch, classes] or [batch, sequence, tags], or `start_logits` and
    `end_logits`, float32 [batch, sequence]. Then there is `kept`, int64 [batch, sequence]: layers
    that ran on each token.

    Args:
      directory: of the model, which may be a folder that `weights.folders` opens.
      quantize: "int8" for this machine's processor, or a processor of WEIGHT_BITS. The encoder's
        matrix products then take integers; embeddings, scores of tokens and the head stay float32.
      operators: "onnxruntime" takes operators that only ONNX Runtime has where they are faster;
        "standard" runs in every engine.
      opset: version of the standard operators.

    Raises:
      ValueError: an argument has another value, or the model's head or pruner cannot be exported.
      OSError: the file cannot be written.
    """
    if operators not in OPERATORS:
        raise ValueError(f"operators is {operators!r}; expected {' or '.join(OPERATORS)}")
    processor = this_processor() if quantize == INT8 else quantize
    if processor and processor not in WEIGHT_BITS:
        raise ValueError(f"quantize is {quantize!r}; expected {INT8}, {', '.join(WEIGHT_BITS)}")
    if processor and operators == STANDARD:
        raise ValueError("quantize needs operators of ONNX Runtime; leave operators out")
    directory = recover(Path(directory).expanduser())
    # No name keeps the loaded model: its memory is free before the file is written.
    model = build_model(
        load_folder(directory),
        opset=opset,
        uses_contrib=operators == ONNXRUNTIME,
        weight_bits=WEIGHT_BITS[processor] if processor else None,
    )
    folder = directory / ONNX
    folder.mkdir(exist_ok=True)
    path = folder / file_name(processor, operators)
    record(path, None)
    write_model(model, path)
    return path


def file_name(processor: str, operators: str) -> str:
    """Return the name of a file by its processor, empty for float32, and its operators."""
    if processor:
        return f"model_qint8_{processor}.onnx"
    return MODEL_FILE if operators == ONNXRUNTIME else STANDARD_FILE


def this_processor() -> str:
    """Return the entry of WEIGHT_BITS for the processor of this machine."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return "arm64"
    flags = CPU_FLAGS.read_text().split() if CPU_FLAGS.exists() else []
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        return "avx512_vnni"
    return "avx512" if "avx512bw" in flags else "avx2"


def write_model(model: onnx.ModelProto, path: Path) -> None:
    """Write a model in one step; weights above the format's limit go into a file next to it."""
    data = path.with_name(f"{path.name}_data")
    # Not ByteSize, which encodes the whole model.
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < MAX_BYTES:
        with replacing_file(path) as partial:
            onnx.save(model, partial)
        data.unlink(missing_ok=True)
        return
    path.unlink(missing_ok=True)  # no reader may take it together with the weights of the new one
    with replacing_file(path) as partial, replacing_file(data) as partial_data:
        onnx.save(
            model,
            partial,
            save_as_external_data=True,
            location=partial_data.name,
        )
        rename_data(partial, data.name)


def rename_data(path: Path, name: str) -> None:
    """Set the name of the file that holds the weights of a model."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = name
    path.write_bytes(model.SerializeToString())
