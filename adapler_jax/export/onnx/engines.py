"""Load exported files in ONNX Runtime or OpenVINO, and run rows of tokens in them. Without JAX."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tokenizers import Tokenizer

from adapler_jax.data.tokenization.tokenizers import check_embedding_rows, read_tokenizer
from adapler_jax.export.onnx.settings import (
    BUDGET,
    END_LOGITS,
    EXPORT_COMMAND,
    KEPT,
    LOGITS,
    MASK,
    MODEL_FILE,
    ONNX,
    OPENVINO,
    OPENVINO_FILE,
    READING,
    SEGMENTS,
    SETTINGS,
    START_LOGITS,
    TOKENS,
    file_digests,
)
from adapler_jax.inference.words import TokenRow
from adapler_jax.io.extras import import_engine

ONNXRUNTIME = "onnxruntime"
FLOAT32 = "float32"
HINTS = {FLOAT32: "f32", "bfloat16": "bf16"}  # OpenVINO's, for the operands of products
ERRORS = 3  # level of ONNX Runtime's log; it warns of every optional input
PADDING = 0  # token id where the attention mask is 0
Row = TokenRow


class Engine(Protocol):
    """A loaded file in one engine."""

    inputs: set[str]
    takes_budgets: bool
    facts: dict[str, str]

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and layers of each token; [B, L, 2] are logits of answers' ends."""


def _outputs(found: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and layers of each token, of a file's outputs by their names."""
    if LOGITS in found:
        return found[LOGITS], found[KEPT]
    return np.stack([found[START_LOGITS], found[END_LOGITS]], axis=-1), found[KEPT]


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
        self._outputs = [found.name for found in self._session.get_outputs()]
        optional = {found.name for found in self._session.get_overridable_initializers()}
        self.takes_budgets = BUDGET in optional
        self.facts = self._session.get_modelmeta().custom_metadata_map

    def run(self, feeds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and layers of each token."""
        return _outputs(dict(zip(self._outputs, self._session.run(self._outputs, feeds))))


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
        names = {name: value for key, value in found.items() for name in key.names}
        return _outputs(names)


class _Kind(NamedTuple):
    """An engine, and where its files are."""

    load: Callable[[Path, int | None, str], Engine]
    folder: str
    file_name: str


def _load_engine(kind: _Kind, path: Path, num_threads: int | None, dtype: str) -> Engine:
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


def read_settings(facts: dict[str, str], path: Path) -> dict[str, Any]:
    """Return the settings in a file.

    Raises:
      ValueError: another program wrote it.
    """
    if SETTINGS not in facts:
        raise ValueError(f"{path} was not written by `{EXPORT_COMMAND}{path.parent.name}`")
    return json.loads(facts[SETTINGS])


def check_digests(settings: dict[str, Any], directory: Path, path: Path) -> None:
    """Raise ValueError if labels, threshold or calibration changed after the export."""
    for name, digest in file_digests(directory).items():
        if settings["digests"].get(name) != digest:
            raise ValueError(f"{directory / name} is not of {path}; export the model again")


class LoadedFile(NamedTuple):
    """An exported file in an engine, with its model's tokenizer."""

    engine: Engine
    settings: dict[str, Any]
    tokenizer: Tokenizer
    truncation_side: str  # that loses the tokens of long texts
    path: Path
    unknown_token: str | None  # of the tokenizer


def load_file(
    directory, engine: str, file_name: str | None, *, num_threads: int | None, dtype: str
) -> LoadedFile:
    """Load an exported file; arguments as in `adapler_jax.onnx.Classifier.load`.

    Raises:
      ValueError: there is no such file or dtype, or the file is of an earlier calibration.
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
    settings = read_settings(loaded.facts, path)
    check_digests(settings, directory, path)
    found = read_tokenizer(directory)
    check_embedding_rows(found.core, settings["vocab_size"], directory)
    return LoadedFile(
        engine=loaded,
        settings=settings,
        tokenizer=found.core,
        truncation_side=settings["truncation_side"] or found.truncation_side,
        path=path,
        unknown_token=found.special.get("unk_token"),
    )


def other_class(settings: Mapping[str, Any]) -> str:
    """Return the part of a message that names the class for a file.

    Args:
      settings: of the file.
    """
    gives_numbers = settings.get("activation") is not None
    classes = {
        "TokenClassifier": settings.get("gives_tags"),
        "QuestionAnswerer": settings.get(READING) is not None,
        "MultiLabelClassifier": settings.get("thresholds") is not None,
        "Regressor": gives_numbers and settings["class_names"],
        "Reranker": gives_numbers,
        "Classifier": settings["class_names"],
        "Embedder": settings.get("dim"),
    }
    for name, is_of_class in classes.items():
        if is_of_class:
            return f"load it with {name}"
    return (
        "if it finds answers in texts, export the model again for QuestionAnswerer; else run the "
        "file by the engine itself"
    )


def run_rows(
    engine: Engine, rows: Sequence[Row], batch_size: int, budget_M: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the numbers of the rows of each batch, their logits and the layers of tokens.

    Args:
      engine: with the file.
      rows: in any order; rows of similar length share a batch.
      batch_size: rows of a batch.
      budget_M: float32, of each row; None for the trained thresholds.
    """
    order_M = np.argsort([len(row.token_L) for row in rows], kind="stable")
    for start in range(0, len(rows), batch_size):
        row_B = order_M[start : start + batch_size]
        feeds = pad([rows[row] for row in row_B.tolist()])
        feeds = {name: array for name, array in feeds.items() if name in engine.inputs}
        if budget_M is not None:
            feeds[BUDGET] = budget_M[row_B]
        yield row_B, *engine.run(feeds)
