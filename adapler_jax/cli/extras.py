"""Name the extra of this package that brings a missing module."""

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
    extra = EXTRAS[package]
    return f"{package} is not installed; install it with `pip install 'adapler_jax[{extra}]'`"
