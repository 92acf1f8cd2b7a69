"""Open the input of predictions, and find the form of its rows by the model."""

import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from adapler_jax.data.sources.parquet import parquet_errors
from adapler_jax.heads import CLASSIFICATION, MULTI_LABEL, SPAN, TOKEN_CLASSIFICATION
from adapler_jax.inference.model_kind import check_classifies
from adapler_jax.serving.streams import KINDS, WORD_COLUMNS, kind_of, usual_columns
from adapler_jax.weights.folders import describe_folder, load_folder
from adapler_jax.weights.section import SINGLE_TEXTS

STANDARD = "-"  # input or output
# Uses of a model.
CLASSES, ANSWERS, OPTIONS, SCORES = "classes", "answers", "options", "scores"
LABELS, VECTORS = "labels", "vectors"  # several labels of a text; its vector
ENTITIES = "entities"  # tags of tokens
QUESTION_COLUMNS = ("question", "context")  # of a model that answers questions
TEXT_COLUMNS = usual_columns(None)
USES = {
    SPAN.name: ANSWERS,
    MULTI_LABEL.name: LABELS,
    "regression": SCORES,
    "embedding": VECTORS,
    TOKEN_CLASSIFICATION.name: ENTITIES,
}
# Of a model that scores pairs, best first.
PAIR_COLUMNS = (("query", "document"), ("text", "text_pair"), ("sentence1", "sentence2"))


def use_of(model) -> str:
    """Return the use of a model, one of the constants of this file.

    Raises:
      ValueError: its head has another use, or the folder has no trained head.
    """
    found = describe_folder(model)
    head, qa = found.head.name, found.extra.get("qa")
    if head in USES:
        return USES[head]
    scores_options = isinstance(qa, dict) and qa.get("score_options_independently")
    if head == "choice" or scores_options:
        return OPTIONS
    if head != CLASSIFICATION.name:
        check_classifies(load_folder(model))
    return CLASSES


def input_kind(
    source: str,
    kind: str | None,
    columns: Sequence[str] = (),
    *,
    use: str = CLASSES,
    has_format: bool = True,
) -> str:
    """Return the kind of the input, one of KINDS.

    Args:
      source: a file, or STANDARD.
      kind: that the user names; None to read it off the file's name.
      columns: that the user names.
      use: of the model.
      has_format: whether the command has a flag --format for the kind, which messages then name.

    Raises:
      ValueError: the kind is unknown, or does not fit the columns.
    """
    if kind is None and source == STANDARD:
        kind = "txt"
    advice = "name it with --format" if has_format else "give the file an ending of these"
    kind = kind or kind_of(source, KINDS, advice=advice)
    if columns and kind == "txt":
        other = ", or name the kind of table with --format" if has_format else ""
        raise ValueError(f"text lines have no columns; leave out --column{other}")
    _check_columns(columns, use)
    return kind


def _check_columns(columns: Sequence[str], use: str) -> None:
    """Raise ValueError if the number of columns does not fit the use of the model."""
    if use == OPTIONS and columns and len(columns) < 3:
        raise ValueError(
            f"--column names {', '.join(columns)}; expected question, article, and a column of "
            "lists of options or one per option"
        )
    if use in (VECTORS, ENTITIES) and len(columns) > 1:
        raise ValueError(
            f"--column names {', '.join(columns)}; expected one column, since each text has its "
            f"own {'vector' if use == VECTORS else 'entities'}"
        )
    if use != OPTIONS and len(columns) > 2:
        raise ValueError(
            f"--column names {', '.join(columns)}; expected one column of texts, or two of pairs"
        )


@contextlib.contextmanager
def open_input(source: str, log: Callable[[str], None]) -> Iterator[BinaryIO]:
    """Yield a file or standard input as bytes.

    Raises:
      ValueError: the file does not exist or is a folder, or standard input is closed.
    """
    if source == STANDARD:
        if sys.stdin is None:
            raise ValueError("standard input is closed; give a file")
        if sys.stdin.isatty():
            log("reading from the terminal; Ctrl-D on a line of its own ends the input")
        yield sys.stdin.buffer
    else:
        path = pathlib.Path(source).expanduser()
        if not path.exists():
            raise ValueError(f"{source} does not exist; give a file, or - for standard input")
        if path.is_dir():
            raise ValueError(f"{source} is a folder; give one file of it")
        with path.open("rb") as file:
            yield file


def parquet_schema(file: BinaryIO, where: str):
    """Return the schema of a Parquet file and go back to its start; None for a pipe."""
    import pyarrow.parquet  # slow to import, and needed for this kind of file only

    if not file.seekable():
        return None
    with parquet_errors(where):
        schema = pyarrow.parquet.read_schema(file)
    file.seek(0)
    return schema


def usual_of(model, use: str) -> list[tuple[str, ...]]:
    """Return the column names to look for, best first."""
    if use == SCORES:
        found = describe_folder(model)
        pairs = () if found.extra.get(SINGLE_TEXTS) else PAIR_COLUMNS
        return [*pairs] if found.is_for_pairs else [*pairs, *TEXT_COLUMNS]
    if use == VECTORS:
        return usual_columns(None)
    if use == ENTITIES:
        return [*usual_columns(None), *WORD_COLUMNS]
    if use in (CLASSES, LABELS):
        return usual_columns(describe_folder(model).task)
    return [QUESTION_COLUMNS]
