"""Read all texts of a file, in every form that prediction reads."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from adapler_jax.io.messages import listed
from adapler_jax.serving.prediction_inputs import (
    CLASSES,
    SCORES,
    input_kind,
    open_input,
    use_of,
    usual_of,
)
from adapler_jax.serving.streams import read_windows, usual_columns


class Texts(NamedTuple):
    """Texts, or pairs of texts, of a file."""

    texts: list[str | tuple[str, str]]
    labels: list[str] | None  # of the texts; None where no column of labels is named


def read_texts(
    model,
    source: str,
    *,
    columns: Sequence[str] = (),
    label_column: str = "",
    log: Callable[[str], None],
) -> Texts:
    """Return the texts, or pairs of texts, of a file.

    Args:
      model: directory of a saved classifier or reranker, whose task names the columns to look
        for; None for columns that are called text or sentence.
      source: a file, or "-" for standard input.
      columns: one column of texts, two of pairs; empty for the usual ones.
      label_column: column of labels; empty for texts without labels.
      log: receives notes on the input.

    Raises:
      ValueError: the file is not as expected.
      OSError: the file cannot be read.
    """
    kind = input_kind(source, None, columns, has_format=False)
    usual = usual_columns(None)
    if model is not None:
        usual = usual_of(model, SCORES if use_of(model) == SCORES else CLASSES)
    where = "standard input" if source == "-" else source
    if label_column and kind == "txt":
        raise ValueError(f"text lines have no columns, so no column {label_column} of labels")

    def keep(found: Sequence[str]) -> Sequence[str]:
        """Return the column of labels."""
        if label_column not in found:
            raise ValueError(f"{where} has no column {label_column}; it has {listed(found)}")
        return [label_column]

    texts: list[Any] = []
    labels: list[str] = []
    with open_input(source, log) as file:
        for window in read_windows(
            file,
            kind,
            where,
            columns=columns,
            usual=usual,
            keep=keep if label_column else None,
            log=log,
        ):
            texts += window.texts
            labels += [str(row.get(label_column)) for row in window.rows or ()]
    return Texts(texts, labels if label_column else None)
