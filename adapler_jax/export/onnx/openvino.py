"""Write a saved model in OpenVINO's format into its directory.

    export_openvino("runs/fast/model")  # openvino/openvino_model.xml and .bin

The model takes batches of every size and length, and drops tokens inside. Names of files, inputs
and outputs are the ones that optimum-intel uses.
"""

import os
import tempfile
from pathlib import Path

from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.export import write_model
from adapler_jax.export.onnx.measurements import record
from adapler_jax.export.onnx.settings import OPENVINO, OPENVINO_FILE, STANDARD_FILE
from adapler_jax.io.extras import import_engine
from adapler_jax.weights.save import load_model

WEIGHTS_SUFFIX = ".bin"


def export_openvino(directory) -> Path:
    """Write a saved model in OpenVINO's format, and return the path of its graph.

    Inputs and outputs have the names and types that `export_onnx` lists. There are no budgets: the
    model has its trained speed. Weights are float32; a hint at load time chooses the precision of
    the products.

    Args:
      directory: of the model.

    Raises:
      ValueError: the model's head or pruner cannot be exported.
      ImportError: openvino is not installed.
      OSError: the files cannot be written.
    """
    openvino = import_engine(OPENVINO)
    folder = Path(directory).expanduser() / OPENVINO
    model = build_model(load_model(directory), uses_contrib=False)
    folder.mkdir(exist_ok=True)
    path = folder / OPENVINO_FILE
    record(path, None)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as scratch:
        source, written = Path(scratch, STANDARD_FILE), Path(scratch, OPENVINO_FILE)
        write_model(model, source)
        openvino.save_model(openvino.Core().read_model(source), written, compress_to_fp16=False)
        path.unlink(
            missing_ok=True
        )  # no reader may take it together with the weights of the new one
        for suffix in (WEIGHTS_SUFFIX, path.suffix):
            os.replace(written.with_suffix(suffix), path.with_suffix(suffix))
    return path
