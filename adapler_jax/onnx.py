"""Classify, tag, score or read texts, rank documents, or make vectors by ONNX files, without JAX.

    adapler export --model=runs/fast/model --format=onnx

    from adapler_jax.onnx import Classifier
    classifier = Classifier.load("runs/fast/model")

Needs numpy, tokenizers and onnxruntime: `pip install ".[onnx]"` in the clone. With
`adapler export --format=openvino` and `engine="openvino"` it needs openvino in place of the last.

Shape letters:

    I entries of a vector
    M texts of a call
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.export.onnx.embedder import Embedder
from adapler_jax.export.onnx.engines import (
    FLOAT32,
    ONNXRUNTIME,
    Engine,
    Row,
    load_file,
    other_class,
    run_rows,
)
from adapler_jax.export.onnx.readers import QuestionAnswerer
from adapler_jax.export.onnx.scorers import Regressor, Reranker
from adapler_jax.export.onnx.taggers import TokenClassifier
from adapler_jax.inference.label_sets import Threshold, make_label_prediction, with_thresholds
from adapler_jax.inference.prediction import MultiLabelPrediction, Prediction, make_prediction
from adapler_jax.inference.speedups import Budget, resolve_exported, spread_budget
from adapler_jax.inference.texts import check_batch_size
from adapler_jax.inference.words import Encoded, encode_tokens, encode_words, read_texts
from adapler_jax.metrics.classification import check_threshold, decide, sigmoid, softmax

__all__ = [
    "Classifier",
    "Embedder",
    "MultiLabelClassifier",
    "QuestionAnswerer",
    "Regressor",
    "Reranker",
    "TokenClassifier",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """An exported model that classifies texts. Make one with `Classifier.load`."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    num_layers: int
    max_length: int  # token slots
    truncation_side: str  # that loses the tokens of long texts
    # Of two classes, the label is the second if its probability is at least this.
    threshold: float | None
    budgets: tuple[float, ...]  # calibrated, increasing; empty for one speed
    speedups: tuple[float, ...]  # measured at these budgets

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
        threshold: float | None = None,
    ) -> "Classifier":
        """Load a model directory with an exported file.

        Args:
          directory: with the tokenizer and the folder `onnx` or `openvino`.
          engine: "onnxruntime", or "openvino", which runs at the trained thresholds.
          file_name: in the engine's folder, as model_qint8_avx512_vnni.onnx; None for model.onnx or
            openvino_model.xml.
          num_threads: of the engine; None for all cores.
          dtype: of the products' operands in OpenVINO: "float32", or "bfloat16", which is fast on
            processors with units for it. Its scores are rounded, so a text can keep other tokens.
          threshold: of two classes, the label is the second if its probability is at least this.
            None for the saved threshold, or without one for the likeliest class.

        Raises:
          ValueError: there is no such file or dtype, or the file is of another task or of an
            earlier calibration.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        loaded, settings = found.engine, found.settings
        is_other = settings.get("gives_tags") or settings.get("activation") is not None
        if is_other or not settings["class_names"]:
            raise ValueError(f"{found.path} does not classify texts; {other_class(settings)}")
        if settings.get("thresholds") is not None:
            raise ValueError(f"{found.path} gives a text several labels; {other_class(settings)}")
        class_names = tuple(settings["class_names"])
        threshold = settings["threshold"] if threshold is None else threshold
        check_threshold(threshold, len(class_names))
        return cls(
            engine=loaded,
            tokenizer=found.tokenizer,
            class_names=class_names,
            num_layers=settings["num_layers"],
            max_length=settings["max_length"],
            truncation_side=found.truncation_side,
            threshold=threshold,
            budgets=tuple(settings["budgets"]) if loaded.takes_budgets else (),
            speedups=tuple(settings["speedups"]) if loaded.takes_budgets else (),
        )

    def predict(
        self,
        texts,
        *,
        batch_size: int = 32,
        budget: Budget = None,
        speedup: float | None = None,
    ) -> list[Prediction]:
        """Classify texts, or pairs of texts, as `adapler_jax.Classifier.predict` does.

        Long texts are cut, and no text runs twice: `long_texts` and `certified` are not here.

        Args:
          texts: strings, or pairs of strings.
          batch_size: texts in a batch; texts of similar length share one.
          budget: share of the tokens that a calibrated model keeps, a number in (0, 1] or one for
            each text. None for the trained thresholds.
          speedup: FLOPs speedup on texts like the calibration's, in place of a budget.

        Returns:
          A prediction for each text, in their order.

        Raises:
          TypeError: texts or batch_size has another type.
          ValueError: an argument has another value, or the model is not calibrated.
        """
        check_batch_size(batch_size)
        encoded = read_texts(self, encode_words, texts)
        found: dict[int, Prediction] = {}
        for row_B, logits_BC, kept_BL in self._run(encoded, batch_size, budget, speedup):
            prob_BC = softmax(logits_BC)
            number_B = decide(prob_BC, self.threshold)
            for index, row in enumerate(row_B.tolist()):
                keep_NL = entered_layers(kept_BL[index], encoded[row], self.num_layers)
                found[row] = make_prediction(
                    [encoded[row]],
                    prob_BC[index],
                    [keep_NL],
                    self.class_names,
                    number=int(number_B[index]),
                )
        return [found[row] for row in range(len(encoded))]

    def predict_probs(
        self,
        texts,
        *,
        batch_size: int = 32,
        budget: Budget = None,
        speedup: float | None = None,
    ) -> np.ndarray:
        """Return the probabilities of `predict`, float32 [texts, classes], with less overhead."""
        check_batch_size(batch_size)
        tokens = read_texts(self, encode_tokens, texts)
        prob_MC = np.zeros((len(tokens), len(self.class_names)), np.float32)
        for row_B, logits_BC, _ in self._run(tokens, batch_size, budget, speedup):
            prob_MC[row_B] = softmax(logits_BC)
        return prob_MC

    def _run(
        self,
        rows: Sequence[Row],
        batch_size: int,
        budget: Budget,
        speedup: float | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return the batches of `run_rows`."""
        speeds = {"budgets": self.budgets, "speedups": self.speedups}
        budget_M = spread_budget(resolve_exported(budget, speedup, **speeds), len(rows))
        return run_rows(self.engine, rows, batch_size, budget_M)


@dataclasses.dataclass(frozen=True, eq=False)
class MultiLabelClassifier:
    """An exported model with a yes or no for each label. Make one with its `load`."""

    engine: Engine = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    class_names: tuple[str, ...]  # the labels, in the order of the logits
    thresholds: tuple[float, ...]  # of the probability of each label
    num_layers: int
    max_length: int  # token slots
    truncation_side: str  # that loses the tokens of long texts

    @classmethod
    def load(
        cls,
        directory,
        *,
        engine: str = ONNXRUNTIME,
        file_name: str | None = None,
        num_threads: int | None = None,
        dtype: str = FLOAT32,
        threshold: Threshold = None,
    ) -> "MultiLabelClassifier":
        """Load a model directory with an exported file.

        Args:
          directory: as in `Classifier.load`.
          engine: as in `Classifier.load`.
          file_name: as in `Classifier.load`.
          num_threads: as in `Classifier.load`.
          dtype: as in `Classifier.load`.
          threshold: as in `adapler_jax.MultiLabelClassifier.load`.

        Raises:
          ValueError: there is no such file or dtype, the file is of another task, or a threshold is
            wrong.
          ImportError: the engine is not installed.
        """
        found = load_file(directory, engine, file_name, num_threads=num_threads, dtype=dtype)
        own = found.settings.get("thresholds")
        if own is None:
            raise ValueError(
                f"{found.path} does not give a text several labels; {other_class(found.settings)}"
            )
        class_names = tuple(found.settings["class_names"])
        return cls(
            engine=found.engine,
            tokenizer=found.tokenizer,
            class_names=class_names,
            thresholds=with_thresholds(tuple(own), threshold, class_names),
            num_layers=found.settings["num_layers"],
            max_length=found.settings["max_length"],
            truncation_side=found.truncation_side,
        )

    def predict(
        self, texts, *, batch_size: int = 32, threshold: Threshold = None
    ) -> list[MultiLabelPrediction]:
        """Return the labels of texts as `adapler_jax.MultiLabelClassifier.predict` does.

        Args:
          texts: strings, or pairs of strings.
          batch_size: texts in a batch; texts of similar length share one.
          threshold: as in `load`; None for the classifier's own.

        Raises:
          TypeError: texts or batch_size has another type.
          ValueError: an argument has another value.
        """
        check_batch_size(batch_size)
        thresholds = with_thresholds(self.thresholds, threshold, self.class_names)
        encoded = read_texts(self, encode_words, texts)
        found: dict[int, MultiLabelPrediction] = {}
        for row_B, logits_BC, kept_BL in run_rows(self.engine, encoded, batch_size):
            prob_BC = sigmoid(logits_BC)
            for index, row in enumerate(row_B.tolist()):
                keep_NL = entered_layers(kept_BL[index], encoded[row], self.num_layers)
                found[row] = make_label_prediction(
                    encoded[row], prob_BC[index], keep_NL, self.class_names, thresholds
                )
        return [found[row] for row in range(len(encoded))]

    def predict_probs(self, texts, *, batch_size: int = 32) -> np.ndarray:
        """Return the probability of each label, float32 [texts, labels]."""
        check_batch_size(batch_size)
        tokens = read_texts(self, encode_tokens, texts)
        prob_MC = np.zeros((len(tokens), len(self.class_names)), np.float32)
        for row_B, logits_BC, _ in run_rows(self.engine, tokens, batch_size):
            prob_MC[row_B] = sigmoid(logits_BC)
        return prob_MC


def entered_layers(kept_L: np.ndarray, encoded: Encoded, num_layers: int) -> np.ndarray:
    """Return whether each token of a text enters each layer, bool [N, L].

    Args:
      kept_L: int, layers that each token slot of the batch went through.
      encoded: the text.
      num_layers: N.
    """
    return kept_L[: len(encoded.token_L)] > np.arange(num_layers)[:, None]
