"""Token pruning for BERT-type text models in JAX: dropped tokens become seconds.

The public names are imported on first use, so that `import adapler_jax` takes milliseconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapler_jax.evaluation.calibrate import calibrate_model
    from adapler_jax.evaluation.certificate import Promise
    from adapler_jax.evaluation.exported_files import measure_export
    from adapler_jax.export.jax_export import export_model
    from adapler_jax.export.onnx.export import export_onnx
    from adapler_jax.export.onnx.openvino import export_openvino
    from adapler_jax.inference.classifier import Classifier
    from adapler_jax.inference.embedder import Embedder
    from adapler_jax.inference.engine import make_engine
    from adapler_jax.inference.multi_label import MultiLabelClassifier
    from adapler_jax.inference.multiple_choice import MultipleChoice
    from adapler_jax.inference.question_answerer import QuestionAnswerer
    from adapler_jax.inference.reranker import Regressor, Reranker
    from adapler_jax.inference.token_classifier import TokenClassifier
    from adapler_jax.pruning import make_pruner
    from adapler_jax.training.compress import compress
    from adapler_jax.training.compress_steps import CompressOptions
    from adapler_jax.weights.save import load_model, save_model

__version__ = "0.2.0"

__all__ = [
    "Classifier",
    "CompressOptions",
    "Embedder",
    "MultiLabelClassifier",
    "MultipleChoice",
    "Promise",
    "QuestionAnswerer",
    "Regressor",
    "Reranker",
    "TokenClassifier",
    "__version__",
    "calibrate_model",
    "compress",
    "export_model",
    "export_onnx",
    "export_openvino",
    "load_model",
    "make_engine",
    "make_pruner",
    "measure_export",
    "save_model",
]

_MODULES = {
    "Classifier": "adapler_jax.inference.classifier",
    "CompressOptions": "adapler_jax.training.compress_steps",
    "Embedder": "adapler_jax.inference.embedder",
    "MultiLabelClassifier": "adapler_jax.inference.multi_label",
    "MultipleChoice": "adapler_jax.inference.multiple_choice",
    "Promise": "adapler_jax.evaluation.certificate",
    "QuestionAnswerer": "adapler_jax.inference.question_answerer",
    "Regressor": "adapler_jax.inference.reranker",
    "Reranker": "adapler_jax.inference.reranker",
    "TokenClassifier": "adapler_jax.inference.token_classifier",
    "calibrate_model": "adapler_jax.evaluation.calibrate",
    "compress": "adapler_jax.training.compress",
    "export_model": "adapler_jax.export.jax_export",
    "export_onnx": "adapler_jax.export.onnx.export",
    "export_openvino": "adapler_jax.export.onnx.openvino",
    "load_model": "adapler_jax.weights.save",
    "make_engine": "adapler_jax.inference.engine",
    "make_pruner": "adapler_jax.pruning",
    "measure_export": "adapler_jax.evaluation.exported_files",
    "save_model": "adapler_jax.weights.save",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module, and keep it.

    Raises:
      ImportError: an optional package is not installed; says how to install it.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULES[name])
    except ImportError as error:
        extras = importlib.import_module("adapler_jax.io.extras")
        line = extras.explain_missing_module(error)
        if line is None:
            raise
        raise extras.MissingExtraError(line, name=error.name) from error
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, and the rooms that are imported already."""
    return sorted({*globals(), *__all__})
