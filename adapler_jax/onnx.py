"""Classify texts with an exported ONNX file, without JAX.

    adapler export --model=runs/fast/model --format=onnx

    from adapler_jax.onnx import Classifier
    classifier = Classifier.load("runs/fast/model")

Needs numpy, tokenizers and onnxruntime: `pip install 'adapler_jax[onnx]'`. With
`adapler export --format=openvino` and `engine="openvino"` it needs openvino in place of the last.

Shape letters:

    M texts of a call
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.tokenization.tokenizers import check_embedding_rows, load_core_and_side
from adapler_jax.export.onnx.settings import (
    BUDGET,
    EXPORT_COMMAND,
    KEPT,
    LOGITS,
    MASK,
    MODEL_FILE,
    ONNX,
    OPENVINO,
    OPENVINO_FILE,
    SEGMENTS,
    SETTINGS,
    TOKENS,
    file_digests,
)
from adapler_jax.inference.prediction import Prediction, make_prediction
from adapler_jax.inference.speedups import budget_of_speedup
from adapler_jax.inference.texts import check_batch_size, split_pairs
from adapler_jax.inference.words import Encoded, Tokens, encode_tokens, encode_words
from adapler_jax.io.extras import import_engine
from adapler_jax.metrics.classification import check_threshold, decide, softmax

ONNXRUNTIME = "onnxruntime"
FLOAT32 = "float32"
HINTS = {FLOAT32: "f32", "bfloat16": "bf16"}  # OpenVINO's, for the operands of products
ERRORS = 3  # level of ONNX Runtime's log; it warns of every optional input
PADDING = 0  # token id where the attention mask is 0
Row = Encoded | Tokens
Budget = float | Sequence[float] | np.ndarray | None


class _Engine(Protocol):
    """A loaded file in one engine."""

    inputs: set[str]
    takes_budgets: bool
    facts: dict[str, str]

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and layers of each token."""


class _OnnxRuntime:
    """A session of ONNX Runtime."""

    def __init__(self, path: Path, num_threads: int | None, dtype: str) -> None:
        """Load a file; None takes a thread for each core."""
        if dtype != FLOAT32:
            raise ValueError(
                f"dtype is {dtype!r}; expected {FLOAT32} with {ONNXRUNTIME}, whose files have a "
                f"dtype of their own; {' and '.join(HINTS)} are for engine={OPENVINO!r}"
            )
        onnxruntime = import_engine(ONNXRUNTIME)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or 0
        options.log_severity_level = ERRORS
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {found.name for found in self._session.get_inputs()}
        optional = {found.name for found in self._session.get_overridable_initializers()}
        self.takes_budgets = BUDGET in optional
        self.facts = self._session.get_modelmeta().custom_metadata_map

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and layers of each token."""
        logits_BC, kept_BL = self._session.run([LOGITS, KEPT], feeds)
        return logits_BC, kept_BL


class _OpenVino:
    """A compiled model of OpenVINO; it makes optional inputs constant, so there are no budgets."""

    def __init__(self, path: Path, num_threads: int | None, dtype: str) -> None:
        """Load a file; None takes a thread for each core."""
        if dtype not in HINTS:
            raise ValueError(f"dtype is {dtype!r}; expected {' or '.join(HINTS)}")
        openvino = import_engine(OPENVINO)
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": HINTS[dtype]}
        threads = {} if num_threads is None else {"INFERENCE_NUM_THREADS": num_threads}
        core = openvino.Core()
        model = core.read_model(path)
        self._model = core.compile_model(model, "CPU", options | threads)
        self.inputs = {found.any_name for found in model.inputs}
        self.takes_budgets = False
        self.facts = {SETTINGS: str(model.get_rt_info(["framework", SETTINGS]).value)}

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and layers of each token."""
        found = self._model.infer_new_request(feeds)  # one request serves one thread
        return found[LOGITS], found[KEPT]


class _Kind(NamedTuple):
    """An engine, and where its files are."""

    load: Callable[[Path, int | None, str], _Engine]
    folder: str
    file_name: str


def _load_engine(kind: _Kind, path: Path, num_threads: int | None, dtype: str) -> _Engine:
    """Load a file in an engine.

    Raises:
      ValueError: the file is damaged, or the dtype is wrong.
      ImportError: the engine is not installed.
    """
    try:
        return kind.load(path, num_threads, dtype)
    except (ImportError, ValueError):
        raise
    except Exception as error:  # the engines share no class of errors
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged; export it again ({reason:.200})") from error


ENGINES = {
    ONNXRUNTIME: _Kind(_OnnxRuntime, ONNX, MODEL_FILE),
    OPENVINO: _Kind(_OpenVino, OPENVINO, OPENVINO_FILE),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Classifier:
    """An exported model that classifies texts. Make one with `Classifier.load`."""

    engine: _Engine = dataclasses.field(repr=False)
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
        if engine not in ENGINES:
            raise ValueError(f"engine is {engine!r}; expected {' or '.join(ENGINES)}")
        kind = ENGINES[engine]
        directory = Path(directory).expanduser()
        path = directory / kind.folder / (file_name or kind.file_name)
        if not path.is_file():
            raise ValueError(f"{path} is missing; write it with `{EXPORT_COMMAND}{kind.folder}`")
        loaded = _load_engine(kind, path, num_threads, dtype)
        settings = _read_settings(loaded.facts, path)
        _check_digests(settings, directory, path)
        tokenizer, side = load_core_and_side(directory)
        check_embedding_rows(tokenizer, settings["vocab_size"], directory)
        class_names = tuple(settings["class_names"])
        threshold = settings["threshold"] if threshold is None else threshold
        check_threshold(threshold, len(class_names))
        return cls(
            engine=loaded,
            tokenizer=tokenizer,
            class_names=class_names,
            num_layers=settings["num_layers"],
            max_length=settings["max_length"],
            truncation_side=settings["truncation_side"] or side,
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
        encoded = self._tokenize(encode_words, texts)
        found: dict[int, Prediction] = {}
        for row_B, logits_BC, kept_BL in self._run(encoded, batch_size, budget, speedup):
            prob_BC = softmax(logits_BC)
            number_B = decide(prob_BC, self.threshold)
            for index, row in enumerate(row_B.tolist()):
                kept_L = kept_BL[index, : len(encoded[row].token_L)]
                keep_NL = kept_L > np.arange(self.num_layers)[:, None]
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
        tokens = self._tokenize(encode_tokens, texts)
        prob_MC = np.zeros((len(tokens), len(self.class_names)), np.float32)
        for row_B, logits_BC, _ in self._run(tokens, batch_size, budget, speedup):
            prob_MC[row_B] = softmax(logits_BC)
        return prob_MC

    def _tokenize(self, encode, texts) -> list:
        """Tokenize texts or pairs by a function of `inference.words`."""
        firsts, seconds = split_pairs(texts)
        return encode(
            self.tokenizer,
            firsts,
            seconds,
            max_length=self.max_length,
            truncation_side=self.truncation_side,
        )

    def _run(
        self,
        rows: Sequence[Row],
        batch_size: int,
        budget: Budget,
        speedup: float | None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the numbers of the texts of each batch, their logits and the layers of tokens."""
        budget_M = self._budgets(budget, speedup, len(rows))
        order_M = np.argsort([len(row.token_L) for row in rows], kind="stable")
        for start in range(0, len(rows), batch_size):
            row_B = order_M[start : start + batch_size]
            feeds = pad([rows[row] for row in row_B.tolist()])
            feeds = {name: array for name, array in feeds.items() if name in self.engine.inputs}
            if budget_M is not None:
                feeds[BUDGET] = budget_M[row_B]
            yield row_B, *self.engine.run(feeds)

    def _budgets(self, budget: Budget, speedup: float | None, num_texts: int) -> np.ndarray | None:
        """Return the budget of every text, float32 [M]; None for the trained thresholds."""
        if budget is None and speedup is None:
            return None
        if budget is not None and speedup is not None:
            raise ValueError("budget and speedup are both given; give one")
        if not self.budgets:
            raise ValueError(
                "the exported file has one speed; calibrate the model, export it again, and run it "
                "by onnxruntime"
            )
        if speedup is not None:
            budget = budget_of_speedup(speedup, self.budgets, self.speedups)
        budget_M = np.asarray(budget, np.float32)
        if budget_M.ndim and budget_M.shape != (num_texts,):
            raise ValueError(f"{budget_M.size} budgets for {num_texts} texts; give one for each")
        lowest = np.float32(self.budgets[0])
        wrong = np.ravel(budget_M)[np.ravel(~((budget_M >= lowest) & (budget_M <= 1.0)))]
        if wrong.size:
            raise ValueError(
                f"budget is {wrong[0]:g}; expected {lowest:g} to 1, the share of tokens to keep"
            )
        return np.broadcast_to(budget_M, (num_texts,))


def pad(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return the inputs of a batch, int64 [B, L], padded to the longest text."""
    length_B = np.array([len(row.token_L) for row in rows])
    shape = (len(rows), int(length_B.max()))
    feeds = {name: np.full(shape, PADDING, np.int64) for name in (TOKENS, SEGMENTS)}
    feeds[MASK] = (np.arange(shape[1]) < length_B[:, None]).astype(np.int64)
    for index, row in enumerate(rows):
        feeds[TOKENS][index, : length_B[index]] = row.token_L
        feeds[SEGMENTS][index, : length_B[index]] = row.segment_L
    return feeds


def _read_settings(facts: dict[str, str], path: Path) -> dict[str, Any]:
    """Return the settings in a file.

    Raises:
      ValueError: another program wrote it, or it has another task.
    """
    if SETTINGS not in facts:
        raise ValueError(f"{path} was not written by `{EXPORT_COMMAND}{path.parent.name}`")
    settings = json.loads(facts[SETTINGS])
    if not settings["class_names"]:
        raise ValueError(f"{path} does not classify texts; run it by the engine itself")
    return settings


def _check_digests(settings: dict[str, Any], directory: Path, path: Path) -> None:
    """Raise ValueError if labels, threshold or calibration changed after the export."""
    for name, digest in file_digests(directory).items():
        if settings["digests"].get(name) != digest:
            raise ValueError(f"{directory / name} is not of {path}; export the model again")
