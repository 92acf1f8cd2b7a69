"""The names in an ONNX file, and the calibration that it was made with. Imports nothing of ours."""

import hashlib
from pathlib import Path

TOKENS, MASK, SEGMENTS = "input_ids", "attention_mask", "token_type_ids"
BUDGET = "budget"  # an optional input
LOGITS, START_LOGITS, END_LOGITS, KEPT = "logits", "start_logits", "end_logits", "kept"
SETTINGS = "adapler_jax"  # fact: JSON of what is needed to classify texts
MODEL_FILE = "model.onnx"
STANDARD_FILE = "model_standard.onnx"  # without operators that only ONNX Runtime has
CALIBRATION_FILE = "calibration.json"
EXPORT_COMMAND = "adapler export --model=DIR --format=onnx"


def calibration_digest(directory: Path) -> str:
    """Return a hash of a model's calibration; empty without one."""
    path = directory / CALIBRATION_FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ""
