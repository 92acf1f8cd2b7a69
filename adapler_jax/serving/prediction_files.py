"""Labels or answers by row, written as they come: CSV, TSV, JSON lines, Parquet."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adapler_jax.inference.multiple_choice import ChoicePrediction
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.question_answerer import QAPrediction
from adapler_jax.io.messages import one_line
from adapler_jax.metrics.classification import decide
from adapler_jax.serving.copied_columns import as_json
from adapler_jax.serving.streams import kind_of

OUTPUT_KINDS = ("csv", "tsv", "jsonl", "parquet")
LABEL, PROBABILITY = "label", "probability_"  # the latter in front of a class name
IS_CUT = "is_cut"
WORD_COLUMNS = KEPT_WORDS, NUM_TOKENS = ("kept_words", "tokens_per_layer")
ANSWER_COLUMNS = ("answer", "start", "end", "score", "probability")
CHOICE_COLUMNS = ("answer", "option", "probability", "probabilities", IS_CUT)
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # what starts a formula in spreadsheets
DECIMALS = 7  # as many as float32 has near 1

Columns = dict[str, list]
Write = Callable[[Columns], None]  # columns that the output does not have are left out


def column_names(class_names: Sequence[str], *, with_words: bool) -> tuple[str, ...]:
    """The columns of every output, in their order."""
    return (
        LABEL,
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
    """Return labels, probabilities, rounded to DECIMALS, and which texts were longer than the
    model reads.

    Args:
      class_names: in the order of the probabilities.
      probs_NC: float [N, C].
      is_cut: by text.
      threshold: as in `Classifier.load`.
    """
    rounded_CN = np.round(np.asarray(probs_NC, np.float64), DECIMALS).T.tolist()
    labels = [class_names[number] for number in decide(probs_NC, threshold)]
    return dict(
        zip(
            column_names(class_names, with_words=False),
            [labels, *rounded_CN, list(is_cut)],
            strict=True,
        )
    )


def columns_of_predictions(
    class_names: Sequence[str], predictions: Sequence[Prediction]
) -> Columns:
    """The same, and the words that the last layer ran on and the number of tokens in every layer."""
    probs_NC = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    words = {
        LABEL: [prediction.label for prediction in predictions],
        KEPT_WORDS: [prediction.kept_words[-1] for prediction in predictions],
        NUM_TOKENS: [list(prediction.num_tokens) for prediction in predictions],
    }
    return (
        columns_of_probs(class_names, probs_NC, [prediction.is_cut for prediction in predictions])
        | words
    )


def answer_column_names(*, with_words: bool) -> tuple[str, ...]:
    """The columns of every output of a model that answers questions, in their order."""
    return (*ANSWER_COLUMNS, *([KEPT_WORDS] if with_words else []))


def columns_of_readings(readings: Sequence[QAPrediction]) -> Columns:
    """Answers, their characters in the text, scores, probabilities, and the words that the last layer ran on."""
    rows = [
        (
            reading.text,
            reading.start,
            reading.end,
            round(float(reading.score), DECIMALS),
            round(float(reading.probability), DECIMALS),
            list(reading.kept_words[-1]),
        )
        for reading in readings
    ]
    return dict(zip(answer_column_names(with_words=True), map(list, zip(*rows)), strict=True))


def choice_column_names(*, with_words: bool) -> tuple[str, ...]:
    """Return the columns of every output of a model that chooses among options, in their order."""
    return (*CHOICE_COLUMNS, *([KEPT_WORDS] if with_words else []))


def columns_of_choices(choices: Sequence[ChoicePrediction]) -> Columns:
    """Return chosen options, their numbers from 0 and probabilities, those of all options, and the
    kept words."""
    rows = [
        (
            chosen.text,
            chosen.label,
            round(chosen.probabilities[chosen.label], DECIMALS),
            [round(prob, DECIMALS) for prob in chosen.probabilities],
            chosen.is_cut,
            list(chosen.kept_words[-1]),
        )
        for chosen in choices
    ]
    return dict(zip(choice_column_names(with_words=True), map(list, zip(*rows)), strict=True))


def check_output(path: str, *, overwrite: bool, source: str) -> tuple[pathlib.Path, str]:
    """The place and the kind of an output file.

    Raises ValueError where its ending is unknown, its folder is missing, it is there without `overwrite`, or it is no
    regular file or the input itself.
    """
    place = pathlib.Path(path).expanduser().resolve()
    kind = kind_of(
        path, OUTPUT_KINDS, advice="give --output such an ending, or leave it out for TSV on stdout"
    )
    if not place.parent.is_dir():
        raise ValueError(f"there is no folder {place.parent}; make it, or give another --output")
    if place.exists() and not place.is_file():
        raise ValueError(f"{place} is no regular file; give another --output")
    if place == pathlib.Path(source).expanduser().resolve():
        raise ValueError(f"{place} is the input too; give another --output")
    if place.exists() and not overwrite:
        raise ValueError(f"{place} exists; give another --output, or --overwrite to replace it")
    return place, kind


@contextlib.contextmanager
def open_writer(
    path: pathlib.Path,
    kind: str,
    names: Sequence[str],
    *,
    types: dict | None = None,
    escape: bool = False,
) -> Iterator[Write]:
    """Yield a function that appends rows to a new file of one of OUTPUT_KINDS with these columns.

    Args:
      path: of the file.
      kind: one of OUTPUT_KINDS.
      names: of the columns.
      types: by name, Parquet types of copied columns; None for text.
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
    """Return a function that writes rows of CSV, TSV or JSON lines; CSV and TSV start with a
    header line.

    Lists are lists in JSON, elsewhere words with blanks between them, whose control characters
    become blanks too. JSON
    has null where a number is NaN or infinite.

    Args:
      stream: text that takes the lines.
      kind: csv, tsv or jsonl.
      names: of the columns.
      clean: whether control characters of all texts become blanks, for a terminal.
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
    """Return the text with an apostrophe before it where a spreadsheet would take it for a
    formula; numbers stay."""
    if not text.startswith(FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def _rows(columns: Columns, names: Sequence[str]) -> Iterator[tuple]:
    """The rows of the named columns."""
    return zip(*(columns[name] for name in names))


def _cell(value):
    """A value as CSV and TSV hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    return one_line(" ".join(map(str, value))) if isinstance(value, list) else value


@contextlib.contextmanager
def _parquet_writer(path: pathlib.Path, names: Sequence[str], copied: dict) -> Iterator[Write]:
    """Yields a function that writes rows to a Parquet file; copied: types by name of columns of
    the input."""
    import pyarrow
    import pyarrow.parquet  # heavy, and needed for this kind of file only

    types = {
        LABEL: pyarrow.string(),
        IS_CUT: pyarrow.bool_(),
        KEPT_WORDS: pyarrow.list_(pyarrow.string()),
        NUM_TOKENS: pyarrow.list_(pyarrow.int32()),
        "answer": pyarrow.string(),
        "start": pyarrow.int64(),
        "end": pyarrow.int64(),
        "option": pyarrow.int64(),
        "probabilities": pyarrow.list_(pyarrow.float64()),
    } | {name: kind or pyarrow.string() for name, kind in copied.items()}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(
            pyarrow.table({name: columns[name] for name in names}, schema)
        )
