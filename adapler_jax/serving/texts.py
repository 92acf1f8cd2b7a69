"""Read all texts of a file, in every form that prediction reads."""

import itertools
from collections.abc import Callable, Sequence

from adapler_jax.serving.prediction_inputs import CLASSES, input_kind, open_input, usual_of
from adapler_jax.serving.streams import read_windows, usual_columns


def read_texts(
    model, source: str, *, columns: Sequence[str] = (), log: Callable[[str], None]
) -> list[str | tuple[str, str]]:
    """Return the texts, or pairs of texts, of a file.

    Args:
      model: directory of a saved classifier, whose task names the columns to look for; None for
        columns that are called text or sentence.
      source: a file, or "-" for standard input.
      columns: one column of texts, two of pairs; empty for the usual ones.
      log: receives notes on the input.

    Raises:
      ValueError: the file is not as expected.
      OSError: the file cannot be read.
    """
    kind = input_kind(source, None, columns)
    usual = usual_columns(None) if model is None else usual_of(model, CLASSES)
    where = "standard input" if source == "-" else source
    with open_input(source, log) as file:
        windows = read_windows(file, kind, where, columns=columns, usual=usual, log=log)
        found: list = list(itertools.chain.from_iterable(window.texts for window in windows))
        return found
