"""Tiny saved models of every method, whose tokens are dropped at every site."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime

from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.calibration import THRESHOLDS, Calibration
from adapler_jax.inference.engine import make_engine
from adapler_jax.pruning import make_pruner, pruner_of_saved
from adapler_jax.types import Batch
from adapler_jax.weights.save import load_model, save_model
from tests.data.conftest import build_tokenizer
from tests.tiny import CONFIG, make_params

METHODS = ("keep_all", "adapler", "trbert", "powerbert", "attention", "vocabulary", "ltp")
# Leaves with which a random model drops tokens in every layer.
LEAVES = {
    "attention": {"share_J": [0.8, 0.6, 0.5, 0.3]},
    "ltp": {"score_threshold_N": [0.02, 0.05, 0.08, 0.1]},
    "powerbert": {"retention_N": [7.0, 5.0, 3.0, 2.0]},
    "vocabulary": {"share_J": [0.6]},
}
BUDGETS = (0.3, 0.6, 1.0)
WORDS = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *(f"w{number}" for number in range(45))]


def save_tiny(directory, method, *, head=CLASSIFICATION, threshold=0.9, **options):
    """Save a random model of a method, and return its directory.

    Args:
      directory: to write.
      method: name of the pruner.
      head: of the model.
      threshold: of AdapLeR.
      **options: of `save_model`.
    """
    params = make_params(make_pruner(method, CONFIG), threshold=threshold)
    leaves = {
        name: jnp.asarray(values, jnp.float32) for name, values in LEAVES.get(method, {}).items()
    }
    if method == "vocabulary":
        leaves["saliency_JV"] = jax.random.uniform(jax.random.key(3), (1, CONFIG.vocab_size))
    params["pruner"] = params["pruner"] | leaves
    if head is not CLASSIFICATION:
        num_classes = len(options.get("class_names", ()))
        params["head"] = head.init(jax.random.key(5), CONFIG, num_classes)
    tokenizer = build_tokenizer(WORDS)
    return save_model(
        directory,
        params,
        CONFIG,
        pruner_name=method,
        head=head,
        tokenizer=tokenizer,
        **options,
    )


def calibrate(directory, values, *, mode=THRESHOLDS):
    """Write a calibration for BUDGETS.

    Args:
      directory: of a model.
      values: of one site at each budget; for each site they are a little smaller.
      mode: of the calibration.
    """
    num_sites = 1 if load_model(directory).pruner_name == "vocabulary" else CONFIG.num_layers
    values = tuple(tuple(value * 0.9**site for value in values) for site in range(num_sites))
    rows = tuple(
        {"budget": budget, "flops_speedup": 1.0 / budget, "kept_share": budget, "agreement": 1.0}
        for budget in BUDGETS
    )
    found = Calibration(BUDGETS, values, rows, num_texts=9, num_held_out=9, mode=mode)
    found.write(directory)
    return found


def feeds_of(batch: Batch) -> dict[str, np.ndarray]:
    """Return a batch as inputs of an ONNX file."""
    arrays = {
        "input_ids": batch.token_BL,
        "attention_mask": batch.valid_BL,
        "token_type_ids": batch.segment_BL,
    }
    return {name: np.asarray(array).astype(np.int64) for name, array in arrays.items()}


def open_session(model) -> onnxruntime.InferenceSession:
    """Return a session of a model, of its bytes or of its path."""
    source = model if isinstance(model, str | bytes) else str(model)
    return onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])


def run_engine(directory, batch: Batch, *, calibration: Calibration | None = None):
    """Return the logits of the library's engine and the layers that ran on each token."""
    saved = load_model(directory)
    pruner = pruner_of_saved(saved)
    params = saved.params if calibration is None else calibration.apply(saved.params)
    # The reference of all drivers, which compiles fastest.
    logits, trace = make_engine(saved.config, pruner, driver="masked", head=saved.head)(
        params, batch
    )
    if trace.survival_NBL is None:
        return np.asarray(logits), np.asarray(batch.valid_BL) * saved.config.num_layers
    return np.asarray(logits), (np.asarray(trace.survival_NBL) > 0).sum(axis=0)
