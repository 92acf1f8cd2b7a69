"""Write a saved model in OpenVINO's format into its directory.

    export_openvino("runs/fast/model")  # openvino/openvino_model.xml and .bin

The model takes batches of every size and length, and drops tokens inside. Names of files, inputs
and outputs are the ones that optimum-intel uses.
"""

import shutil
import tempfile
from pathlib import Path

from adapler_jax.export.onnx.build import build_model
from adapler_jax.export.onnx.export import write_model
from adapler_jax.export.onnx.measurements import record
from adapler_jax.export.onnx.settings import (
    OPENVINO,
    OPENVINO_FILE,
    STANDARD_FILE,
    WEIGHTS_SUFFIX,
)
from adapler_jax.io.atomic_directories import recover
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.io.extras import import_engine
from adapler_jax.weights.folders import load_folder


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
    directory = recover(Path(directory).expanduser())
    model = build_model(load_folder(directory), uses_contrib=False)
    folder = directory / OPENVINO
    folder.mkdir(exist_ok=True)
    path = folder / OPENVINO_FILE
    record(path, None)
    with tempfile.TemporaryDirectory() as scratch:
        source, written = Path(scratch, STANDARD_FILE), Path(scratch, OPENVINO_FILE)
        write_model(model, source)
        try:
            openvino.save_model(openvino.Core().read_model(source), written, compress_to_fp16=False)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise OSError(f"{path} was not written: {reason}") from error
        weights = path.with_suffix(WEIGHTS_SUFFIX)
        path.unlink(missing_ok=True)  # it does not fit the weights that come first
        with replacing_file(path) as partial, replacing_file(weights) as partial_weights:
            shutil.copyfile(written, partial)
            shutil.copyfile(written.with_suffix(WEIGHTS_SUFFIX), partial_weights)
    return path
