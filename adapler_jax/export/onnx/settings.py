"""The names in an ONNX file, and the files that it was made from. Imports nothing of ours."""

import hashlib
from pathlib import Path

TOKENS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
BUDGET = "budget"  # an optional input
LOGITS, START_LOGITS, END_LOGITS, KEPT = "logits", "start_logits", "end_logits", "kept"
SETTINGS = "adapler_jax"  # fact: JSON of what is needed to classify texts
READING = "reading"  # in it: limits of windows and answers, of a model that answers questions
MODEL_FILE = "model.onnx"
STANDARD_FILE = "model_standard.onnx"  # without operators that only ONNX Runtime has
OPENVINO_FILE = "openvino_model.xml"
WEIGHTS_SUFFIX = ".bin"  # of the file next to it
ONNX, OPENVINO = "onnx", "openvino"  # folders of a model's directory, and formats of the command
CONFIG_FILE, CALIBRATION_FILE = "config.json", "calibration.json"
EXPORT_COMMAND = "adapler export --model=DIR --format="  # and ONNX or OPENVINO


def file_digests(directory: Path) -> dict[str, str]:
    """Return a hash of each file of a model that an export takes settings from, by its name."""
    paths = (directory / name for name in (CONFIG_FILE, CALIBRATION_FILE))
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.exists()
    }
