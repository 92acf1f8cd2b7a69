"""Write predictions in rows of CSV, TSV, JSON lines or Parquet."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from adapler_jax.inference.multiple_choice import ChoicePrediction
from adapler_jax.inference.prediction import MultiLabelPrediction, Prediction
from adapler_jax.inference.text_reader import QAPrediction
from adapler_jax.inference.words import last_kept_words
from adapler_jax.io.messages import one_line
from adapler_jax.metrics.classification import decide
from adapler_jax.serving.copied_columns import as_json
from adapler_jax.serving.streams import kind_of

OUTPUT_KINDS = ("csv", "tsv", "jsonl", "parquet")
LABEL, PROBABILITY = "label", "probability_"  # a class name follows the latter
LABELS = "labels"
IS_CUT = "is_cut"
IS_ESCALATED = "is_escalated"  # with a certified margin only
WORD_COLUMNS = KEPT_WORDS, NUM_TOKENS = ("kept_words", "tokens_per_layer")
EMBEDDING = "embedding"
VECTOR_COLUMNS = (EMBEDDING, IS_CUT)
ENTITIES = "entities"
ENTITY_COLUMNS = (ENTITIES, IS_CUT)
ANSWER_COLUMNS = ("answer", "start", "end", "score", "probability")
CHOICE_COLUMNS = ("answer", "option", "probability", "probabilities", IS_CUT)
# First characters of a formula in spreadsheets.
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
DECIMALS = 7  # the precision of float32 near 1

Columns = dict[str, list]
Write = Callable[[Columns], None]  # columns that the output does not have are left out


class Objects(list):
    """A list of objects, which is JSON in a cell of CSV and TSV."""


class Target(NamedTuple):
    """An output file."""

    path: pathlib.Path
    kind: str  # one of OUTPUT_KINDS


def column_names(
    class_names: Sequence[str], *, with_words: bool, label: str = LABEL
) -> tuple[str, ...]:
    """Return the columns of classes, in their order; the first is `label`."""
    return (
        label,
        *(PROBABILITY + name for name in class_names),
        IS_CUT,
        *(WORD_COLUMNS if with_words else ()),
    )


def columns_of_probs(
    class_names: Sequence[str],
    probs_NC: np.ndarray,
    is_cut: Sequence[bool],
    *,
    threshold: float | None = None,
) -> Columns:
    """Return labels, rounded probabilities, and whether each text was truncated.

    Args:
      class_names: in the order of the probabilities.
      probs_NC: float [N, C].
      is_cut: by text.
      threshold: as in `Classifier.load`.
    """
    rounded_CN = np.round(np.asarray(probs_NC, np.float64), DECIMALS).T.tolist()
    labels = [class_names[number] for number in decide(probs_NC, threshold)]
    names = column_names(class_names, with_words=False)
    return dict(zip(names, [labels, *rounded_CN, list(is_cut)], strict=True))


def columns_of_predictions(
    class_names: Sequence[str], predictions: Sequence[Prediction]
) -> Columns:
    """Return the columns of `columns_of_probs`, the kept words and the tokens of each layer."""
    probs_NC = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    is_cut = [prediction.is_cut for prediction in predictions]
    words: Columns = {
        LABEL: [prediction.label for prediction in predictions],
        KEPT_WORDS: [last_kept_words(prediction) for prediction in predictions],
        NUM_TOKENS: [list(prediction.num_tokens) for prediction in predictions],
        IS_ESCALATED: [prediction.is_escalated for prediction in predictions],
    }
    return columns_of_probs(class_names, probs_NC, is_cut) | words


def columns_of_label_sets(
    class_names: Sequence[str],
    labels: Sequence[tuple[str, ...]],
    probs_NC: np.ndarray,
    is_cut: Sequence[bool],
) -> Columns:
    """Return the columns of a model that gives a text several labels.

    Args:
      class_names: in the order of the probabilities.
      labels: of each text.
      probs_NC: float [N, C].
      is_cut: by text.
    """
    rounded_CN = np.round(np.asarray(probs_NC, np.float64), DECIMALS).T.tolist()
    names = column_names(class_names, with_words=False, label=LABELS)
    return dict(zip(names, [list(labels), *rounded_CN, list(is_cut)], strict=True))


def columns_of_label_predictions(
    class_names: Sequence[str], predictions: Sequence[MultiLabelPrediction]
) -> Columns:
    """Return the columns of `columns_of_label_sets`, kept words and the tokens of each layer."""
    labels = [prediction.labels for prediction in predictions]
    probs_NC = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    is_cut = [prediction.is_cut for prediction in predictions]
    return columns_of_label_sets(class_names, labels, probs_NC, is_cut) | {
        KEPT_WORDS: [last_kept_words(prediction) for prediction in predictions],
        NUM_TOKENS: [list(prediction.num_tokens) for prediction in predictions],
    }


def answer_column_names(*, with_words: bool) -> tuple[str, ...]:
    """Return the columns of a model that answers questions, in their order."""
    return (*ANSWER_COLUMNS, *([KEPT_WORDS] if with_words else []))


def columns_of_answers(predictions: Sequence[QAPrediction]) -> Columns:
    """Return answers, their characters in the context, scores, probabilities and kept words."""
    rows = [
        (
            prediction.text,
            prediction.start,
            prediction.end,
            round(float(prediction.score), DECIMALS),
            round(float(prediction.probability), DECIMALS),
            last_kept_words(prediction),
        )
        for prediction in predictions
    ]
    names = answer_column_names(with_words=True)
    return dict(zip(names, map(list, zip(*rows)), strict=True))


def choice_column_names(*, with_words: bool) -> tuple[str, ...]:
    """Return the columns of a model that chooses among options, in their order."""
    return (*CHOICE_COLUMNS, *([KEPT_WORDS] if with_words else []))


def columns_of_choices(predictions: Sequence[ChoicePrediction]) -> Columns:
    """Return options, their indices and probabilities, all probabilities, and kept words."""
    rows = [
        (
            prediction.text,
            prediction.label,
            round(prediction.probabilities[prediction.label], DECIMALS),
            [round(probability, DECIMALS) for probability in prediction.probabilities],
            prediction.is_cut,
            last_kept_words(prediction),
        )
        for prediction in predictions
    ]
    names = choice_column_names(with_words=True)
    return dict(zip(names, map(list, zip(*rows)), strict=True))


def check_output(path: str, *, overwrite: bool, source: str) -> Target:
    """Return the path and the kind of an output file.

    Args:
      path: by the user.
      overwrite: whether the file may exist.
      source: the input, which must be another file.

    Raises:
      ValueError: the ending is unknown, the folder is missing, the file exists without `overwrite`,
        is no regular file, or is the input itself.
    """
    resolved = pathlib.Path(path).expanduser().resolve()
    kind = kind_of(
        path, OUTPUT_KINDS, advice="give --output such an ending, or leave it out for TSV on stdout"
    )
    if not resolved.parent.is_dir():
        raise ValueError(f"there is no folder {resolved.parent}; make it, or give another --output")
    if resolved.exists() and not resolved.is_file():
        raise ValueError(f"{resolved} is no regular file; give another --output")
    if resolved == pathlib.Path(source).expanduser().resolve():
        raise ValueError(f"{resolved} is the input too; give another --output")
    if resolved.exists() and not overwrite:
        raise ValueError(f"{resolved} exists; give another --output, or --overwrite to replace it")
    return Target(resolved, kind)


@contextlib.contextmanager
def open_writer(
    path: pathlib.Path,
    kind: str,
    names: Sequence[str],
    *,
    types: dict | None = None,
    escape: bool = False,
) -> Iterator[Write]:
    """Yield a function that appends rows to a new file.

    Args:
      path: of the file.
      kind: one of OUTPUT_KINDS.
      names: of the columns.
      types: Parquet types of copied columns by name; None for text.
      escape: as in `text_writer`.
    """
    if kind == "parquet":
        with _parquet_writer(path, names, types or {}) as write:
            yield write
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield text_writer(stream, kind, names, escape=escape)


def text_writer(
    stream, kind: str, names: Sequence[str], *, clean: bool = False, escape: bool = False
) -> Write:
    """Return a function that writes rows of CSV, TSV or JSON lines.

    CSV and TSV start with a header line; lists are words with blanks between them, and labels have
    commas between them, or are a list in JSON where a name has one. Entities are JSON. In JSON
    lines, NaN and infinity become null.

    Args:
      stream: text stream that takes the lines.
      kind: csv, tsv or jsonl.
      names: of the columns.
      clean: whether control characters become blanks, for a terminal.
      escape: whether cells that start a formula in spreadsheets get an apostrophe.
    """
    if kind == "jsonl":
        return lambda columns: stream.writelines(
            json.dumps(as_json(dict(zip(names, row))), ensure_ascii=False, allow_nan=False) + "\n"
            for row in _rows(columns, names)
        )
    table = csv.writer(stream, delimiter="," if kind == "csv" else "\t", lineterminator="\n")

    def cell(value):
        value = _cell(value)
        if isinstance(value, str):
            value = one_line(value) if clean else value
            value = escape_formula(value) if escape else value
        return value

    table.writerow(map(cell, names))
    return lambda columns: table.writerows(map(cell, row) for row in _rows(columns, names))


def escape_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet takes for a formula; numbers stay."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _rows(columns: Columns, names: Sequence[str]) -> Iterator[tuple]:
    """Return the rows of the named columns."""
    return zip(*(columns[name] for name in names))


def _cell(value):
    """Return a value as a cell of CSV and TSV."""
    value = _objects_as_text(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        has_commas = any("," in name for name in value)
        return json.dumps(value, ensure_ascii=False) if has_commas else one_line(",".join(value))
    return one_line(" ".join(map(str, value))) if isinstance(value, list) else value


def _objects_as_text(value):
    """Return a list of objects as JSON, and other values as they are."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Objects) else value


@contextlib.contextmanager
def _parquet_writer(path: pathlib.Path, names: Sequence[str], copied: dict) -> Iterator[Write]:
    """Yield a function that writes rows to a Parquet file.

    Args:
      path: of the file.
      names: of the columns.
      copied: Parquet types of copied columns by name.
    """
    import pyarrow
    import pyarrow.parquet  # slow to import, and needed for this kind of file only

    types = {
        LABEL: pyarrow.string(),
        LABELS: pyarrow.list_(pyarrow.string()),
        IS_CUT: pyarrow.bool_(),
        IS_ESCALATED: pyarrow.bool_(),
        KEPT_WORDS: pyarrow.list_(pyarrow.string()),
        NUM_TOKENS: pyarrow.list_(pyarrow.int32()),
        EMBEDDING: pyarrow.list_(pyarrow.float32()),
        ENTITIES: pyarrow.string(),
        "answer": pyarrow.string(),
        "start": pyarrow.int64(),
        "end": pyarrow.int64(),
        "option": pyarrow.int64(),
        "probabilities": pyarrow.list_(pyarrow.float64()),
    } | {name: kind or pyarrow.string() for name, kind in copied.items()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(
            pyarrow.table(
                {name: list(map(_objects_as_text, columns[name])) for name in names}, schema
            )
        )
