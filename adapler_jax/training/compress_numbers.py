"""Compress a model of numbers that ranks no documents, by its own numbers.

It gives single texts a number, or texts or pairs several. Its result takes no budgets.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.inference.reranker import Regressor
from adapler_jax.training.compress_steps import (
    OF_OTHERS,
    CompressOptions,
    check_unused,
    compress_without_budgets,
)


def compress_numbers(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a model of numbers; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, or a promise, a latency, labels or a protected query are asked.
    """
    reason = "for classes and scores of pairs, and the model gives single texts or several numbers"
    check_unused(options, OF_OTHERS, reason)
    if isinstance(texts[0], str):
        log("single texts have numbers without an order of documents, so there will be no budgets")
        log("of a reranker, name the columns of query and document")
    compress_without_budgets(model, texts, out, options, log, predict=predict_numbers)


def predict_numbers(full: pathlib.Path, texts: Sequence) -> list:
    """Return the number that the full model gives each text or pair, or a list of several.

    Raises:
      ValueError: all are equal, or one is not finite.
    """
    model = Regressor.load(full)
    found = model.predict(texts)
    number_MC = found.reshape(len(texts), -1)
    unit = "texts" if isinstance(texts[0], str) else "pairs"
    for name, number_M in zip(model.output_names, number_MC.T, strict=True):
        if not np.isfinite(number_M).all():
            raise ValueError(
                f"the given model gives {unit[:-1]} {int(np.argmin(np.isfinite(number_M))) + 1} a "
                f"{name} that is no number; give a trained model"
            )
        if np.ptp(number_M) == 0:
            raise ValueError(
                f"the given model gives all of {len(texts)} {unit} the {name} {number_M[0]:g}, so "
                f"no order can be kept; give a trained model, and {unit} of its task"
            )
    return found.tolist()
