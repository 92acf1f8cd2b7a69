"""Compare an exported file with its model on texts, and write the numbers into the card."""

import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from adapler_jax import onnx
from adapler_jax.evaluation.task_texts import checked_labels
from adapler_jax.export.onnx.engines import ENGINES, FLOAT32
from adapler_jax.export.onnx.export import (
    ONNXRUNTIME,
    WEIGHT_BITS,
    file_name,
    this_processor,
)
from adapler_jax.export.onnx.measurements import BATCH_SIZE, TAU, Measurement, record
from adapler_jax.export.onnx.settings import OPENVINO, file_digests
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.inference.reranker import Regressor
from adapler_jax.io.provenance import cpu_name
from adapler_jax.metrics.classification import decide
from adapler_jax.metrics.label_sets import decide_labels
from adapler_jax.metrics.ranking import compare_orders, mean_tau, query_numbers
from adapler_jax.weights.folders import describe_folder

NUM_SINGLE, NUM_BATCHED = 64, 256  # texts that are timed, one at a time and in batches
NUM_ROUNDS = 3  # whose median counts
# By the head, classes of models whose answers are not compared with given labels.
OTHERS = {"multi_label": onnx.MultiLabelClassifier, "regression": onnx.Regressor}


def measure_export(
    path,
    texts: Sequence[str | tuple[str, str]],
    *,
    labels: Sequence[str | int] | None = None,
    dtype: str = FLOAT32,
    log: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Run a file of `export_onnx` or `export_openvino`, and write what it does into the card.

    The numbers also go into `exports.json` of the model's directory. The machine should run nothing
    else.

    Args:
      path: of the file.
      texts: of the task, or pairs.
      labels: of the texts, names or numbers of classes, for the accuracy of a classifier.
      dtype: of the products' operands in OpenVINO, as in `onnx.Classifier.load`.
      log: receives notes.

    Raises:
      ValueError: as `checked_labels`, or the file's integers overflow on this processor.
      ImportError: the engine is not installed.
    """
    path = Path(path).expanduser().absolute()
    engine = engine_of(path)
    directory = path.parent.parent
    head = describe_folder(directory).head.name
    label_M = None if head in OTHERS else checked_labels(directory, texts, labels)
    _check_processor(path)
    exported_class: Any = OTHERS.get(head, onnx.Classifier)
    exported = exported_class.load(directory, engine=engine, file_name=path.name, dtype=dtype)
    log(f"comparing {path.name} with the library on {len(texts):,} texts")
    predict: Callable
    if isinstance(exported, onnx.Regressor):
        compared, predict = _compare_orders(exported, directory, texts), exported.predict
    elif isinstance(exported, onnx.MultiLabelClassifier):
        compared, predict = _compare_sets(exported, directory, texts), exported.predict_probs
    else:
        compared = _compare_labels(exported, directory, texts, label_M)
        predict = exported.predict_probs
    milliseconds, sentences_per_s = _speed(predict, texts)
    found = Measurement(
        num_texts=len(texts),
        **compared,
        milliseconds=milliseconds,
        sentences_per_s=sentences_per_s,
        device=cpu_name(),
        digests=file_digests(directory),
        engine=f"{engine} {metadata.version(engine)}",
    )
    record(path, found, dtype=dtype if engine == OPENVINO else "", log=log)
    return found


def _compare_labels(
    exported: onnx.Classifier, directory: Path, texts: Sequence, label_M: np.ndarray | None
) -> dict[str, Any]:
    """Return agreement and accuracies of an exported classifier, fields of `Measurement`."""
    found_M, expected_M = (
        decide(model.predict_probs(texts), exported.threshold)
        for model in (exported, Classifier.load(directory))
    )
    accuracies: list[float | None] = [None, None]
    if label_M is not None:
        accuracies = [float(np.mean(number_M == label_M)) for number_M in (found_M, expected_M)]
    return {
        "agreement": float(np.mean(found_M == expected_M)),
        "accuracy": accuracies[0],
        "library_accuracy": accuracies[1],
    }


def _compare_sets(
    exported: onnx.MultiLabelClassifier, directory: Path, texts: Sequence
) -> dict[str, Any]:
    """Return the fraction of texts with equal labels, fields of `Measurement`."""
    found_MC, expected_MC = (
        decide_labels(model.predict_probs(texts), np.array(exported.thresholds))
        for model in (exported, MultiLabelClassifier.load(directory))
    )
    agreement = float(np.mean(np.all(found_MC == expected_MC, axis=-1)))
    return {"agreement": agreement, "accuracy": None, "library_accuracy": None}


def _compare_orders(
    exported: onnx.Regressor, directory: Path, texts: Sequence[Any]
) -> dict[str, Any]:
    """Return the agreement of an exported model of numbers, fields of `Measurement`.

    Pairs of one number are compared by the documents of each query, other texts all together.

    Raises:
      ValueError: there are fewer than two texts, or single texts for a model of pairs.
    """
    model = Regressor.load(directory)
    has_pairs = not any(isinstance(text, str) for text in texts)
    ranks = describe_folder(directory).is_for_pairs
    if ranks and (len(texts) < 2 or not has_pairs):
        raise ValueError(
            "orders are compared on two pairs of a query and a document or more; of a file name "
            "two columns, as --column=query,document"
        )
    if len(texts) < 2:
        raise ValueError("numbers are compared on two texts or more; give more texts")
    found, expected = (loaded.predict(texts, activation="identity") for loaded in (exported, model))
    if ranks:
        tau = float(np.mean(compare_orders(found, expected, query_numbers(texts)).tau_G))
    else:
        tau = mean_tau(found.reshape(len(texts), -1), expected.reshape(len(texts), -1))
    return {
        "agreement": tau,
        "accuracy": None,
        "library_accuracy": None,
        "measure": TAU,
    }


def engine_of(path: Path) -> str:
    """Return the engine that runs a file, by its folder.

    Raises:
      ValueError: no export writes into this folder.
    """
    for name, kind in ENGINES.items():
        if kind.folder == path.parent.name and Path(kind.file_name).suffix == path.suffix:
            return name
    files = " or ".join(f"{kind.folder}/{kind.file_name}" for kind in ENGINES.values())
    raise ValueError(f"{path} is no exported file; expected a path as {files}")


def _check_processor(path: Path) -> None:
    """Raise ValueError if the integers of a file overflow on this processor."""
    for processor, bits in WEIGHT_BITS.items():
        is_its_file = path.name == file_name(processor, ONNXRUNTIME)
        if is_its_file and bits > WEIGHT_BITS[this_processor()]:
            raise ValueError(
                f"{path.name} is for another processor than this one, which is "
                f"{this_processor()}; measure it where it serves"
            )


def _speed(predict: Callable, texts: Sequence) -> tuple[float, float]:
    """Return the milliseconds of one text and the texts a second in batches."""
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    singles = [[texts[row]] for row in order[:NUM_SINGLE]]
    many = [texts[row] for row in order[:NUM_BATCHED]]
    predict(singles[0])

    def seconds(call: Sequence) -> float:
        """Return the seconds of a call."""
        start = time.perf_counter()
        predict(call, batch_size=BATCH_SIZE)
        return time.perf_counter() - start

    single_s = np.median([[seconds(call) for call in singles] for _ in range(NUM_ROUNDS)])
    many_s = np.median([seconds(many) for _ in range(NUM_ROUNDS)])
    return 1e3 * float(single_s), len(many) / float(many_s)
