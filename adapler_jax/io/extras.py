"""Import optional packages, and name the extra of this package that brings a missing one."""

import importlib
import sys
from typing import Any

from adapler_jax.io.messages import one_line

TELEMETRY = "openvino_telemetry"  # a package that OpenVINO does without

# Module that is imported -> extra; pyproject.toml lists the packages of each.
EXTRAS = {
    "grain": "train",
    "ml_collections": "train",
    "optax": "train",
    "orbax": "train",
    "pyarrow": "train",
    "scipy": "train",
    "tensorboardX": "train",
    "transformers": "train",
    "jinja2": "report",
    "markupsafe": "report",
    "matplotlib": "report",
    "tensorflow_datasets": "tfds",
    "datasets": "hf",
    "openpyxl": "excel",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
}


class MissingExtraError(ImportError):
    """Report in one line that a package of an extra is missing."""


def explain_missing_module(error: ImportError) -> str | None:
    """Return one line that names the extra to install.

    Args:
      error: from the import of a module.

    Returns:
      The line; None if no extra has the module.
    """
    package = (error.name or "").partition(".")[0]
    if package not in EXTRAS:
        return None
    if isinstance(error, MissingExtraError):
        return str(error)
    found = f"cannot be imported ({one_line(str(error))})"
    if isinstance(error, ModuleNotFoundError):
        found = "is not installed"
    return f'{package} {found}; install it with `pip install ".[{EXTRAS[package]}]"` in the clone'


def import_engine(name: str) -> Any:
    """Import a package that runs exported files.

    OpenVINO reports its import over the network from a forked process. A fork can hang where JAX
    runs threads, so there is no report in a process with JAX.

    Raises:
      MissingExtraError: it is not installed; says how to install it.
    """
    hides_report = name == "openvino" and "jax" in sys.modules and TELEMETRY not in sys.modules
    try:
        if hides_report:
            sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # its import fails
        return importlib.import_module(name)
    except ImportError as error:
        line = explain_missing_module(error)
        if line is None:
            raise
        raise MissingExtraError(line, name=error.name) from error
    finally:
        if hides_report:
            del sys.modules[TELEMETRY]
