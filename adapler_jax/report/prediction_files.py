"""Labels or answers by row, written as they come: CSV, TSV, JSON lines, Parquet."""

import contextlib
import csv
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from adapler_jax.data.streams import kind_of
from adapler_jax.inference.prediction import Prediction
from adapler_jax.inference.reader import Reading
from adapler_jax.report.marked_text import one_line

OUTPUT_KINDS = ("csv", "tsv", "jsonl", "parquet")
LABEL, PROBABILITY = "label", "probability_"  # the latter in front of a class name
IS_CUT = "is_cut"
WORD_COLUMNS = KEPT_WORDS, NUM_TOKENS = ("kept_words", "tokens_per_layer")
ANSWER_COLUMNS = ("answer", "start", "end", "score", "probability")
DECIMALS = 7  # as many as float32 has near 1

Columns = dict[str, list]
Write = Callable[[Columns], None]  # columns that the output does not have are left out


def column_names(class_names: Sequence[str], *, with_words: bool) -> tuple[str, ...]:
    """The columns of every output, in their order."""
    return (LABEL, *(PROBABILITY + name for name in class_names), IS_CUT, *(WORD_COLUMNS if with_words else ()))


def columns_of_probs(class_names: Sequence[str], probs_NC: np.ndarray, is_cut: Sequence[bool]) -> Columns:
    """Labels, probabilities, rounded to DECIMALS, and which texts were longer than the model reads."""
    rounded_CN = np.round(np.asarray(probs_NC, np.float64), DECIMALS).T.tolist()
    labels = [class_names[best] for best in probs_NC.argmax(axis=-1)]
    return dict(zip(column_names(class_names, with_words=False), [labels, *rounded_CN, list(is_cut)], strict=True))


def columns_of_predictions(class_names: Sequence[str], predictions: Sequence[Prediction]) -> Columns:
    """The same, and the words that the last layer ran on and the number of tokens in every layer."""
    probs_NC = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    words = {
        KEPT_WORDS: [prediction.kept_words[-1] for prediction in predictions],
        NUM_TOKENS: [list(prediction.num_tokens) for prediction in predictions],
    }
    return columns_of_probs(class_names, probs_NC, [prediction.is_cut for prediction in predictions]) | words


def answer_column_names(*, with_words: bool) -> tuple[str, ...]:
    """The columns of every output of a model that answers questions, in their order."""
    return (*ANSWER_COLUMNS, *([KEPT_WORDS] if with_words else []))


def columns_of_readings(readings: Sequence[Reading]) -> Columns:
    """Answers, their characters in the text, scores, probabilities, and the words that the last layer ran on."""
    rows = [
        (reading.text, reading.start, reading.end, round(float(reading.score), DECIMALS),
         round(float(reading.probability), DECIMALS), list(reading.kept_words[-1]))
        for reading in readings
    ]  # fmt: skip
    return dict(zip(answer_column_names(with_words=True), map(list, zip(*rows)), strict=True))


def check_output(path: str, *, overwrite: bool, source: str) -> tuple[pathlib.Path, str]:
    """The place and the kind of an output file.

    Raises ValueError where its ending is unknown, its folder is missing, it is there without `overwrite`, or it is no
    regular file or the input itself.
    """
    place = pathlib.Path(path).expanduser().resolve()
    kind = kind_of(path, OUTPUT_KINDS, advice="give --output such an ending, or leave it out for TSV on stdout")
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
def open_writer(path: pathlib.Path, kind: str, names: Sequence[str]) -> Iterator[Write]:
    """Yields a function that appends rows to a new file of one of OUTPUT_KINDS with these columns."""
    if kind == "parquet":
        with _parquet_writer(path, names) as write:
            yield write
    else:
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield text_writer(stream, kind, names)


def text_writer(stream, kind: str, names: Sequence[str]) -> Write:
    """A function that writes rows of CSV, TSV or JSON lines; CSV and TSV start with a header line.

    Lists are lists in JSON, elsewhere words with blanks between them, whose control characters become blanks too.
    """
    if kind == "jsonl":
        return lambda columns: stream.writelines(
            json.dumps(dict(zip(names, row)), ensure_ascii=False) + "\n" for row in _rows(columns, names)
        )
    table = csv.writer(stream, delimiter="," if kind == "csv" else "\t", lineterminator="\n")
    table.writerow(names)
    return lambda columns: table.writerows(map(_cell, row) for row in _rows(columns, names))


def _rows(columns: Columns, names: Sequence[str]) -> Iterator[tuple]:
    """The rows of the named columns."""
    return zip(*(columns[name] for name in names))


def _cell(value):
    """A value as CSV and TSV hold it."""
    if isinstance(value, bool):
        return str(value).lower()
    return one_line(" ".join(map(str, value))) if isinstance(value, list) else value


@contextlib.contextmanager
def _parquet_writer(path: pathlib.Path, names: Sequence[str]) -> Iterator[Write]:
    """Yields a function that writes rows to a Parquet file."""
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
    }
    schema = pyarrow.schema([(name, types.get(name, pyarrow.float64())) for name in names])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        yield lambda columns: writer.write_table(pyarrow.table({name: columns[name] for name in names}, schema))
