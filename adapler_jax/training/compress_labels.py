"""Compress a model that gives a text several labels, by its own labels."""

import pathlib
from collections.abc import Sequence

from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.training.compress_steps import (
    OF_OTHERS,
    CompressOptions,
    check_unused,
    compress_without_budgets,
)


def compress_label_sets(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a model of several labels a text; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, or a promise, a latency, labels or a protected query are asked.
    """
    check_unused(options, OF_OTHERS, "for classes and scores, and the model gives several labels")
    changes = {"data.metric": "exact_match"} | (options.changes or {})  # the judge's own measure
    options = options._replace(changes=changes)
    compress_without_budgets(model, texts, out, options, log, predict=_predict_labels)


def _predict_labels(full: pathlib.Path, texts: Sequence) -> list[list[str]]:
    """Return the labels of each text by the full model."""
    classifier = MultiLabelClassifier.load(full)
    return [list(classifier.labels_of(prob_C)) for prob_C in classifier.predict_probs(texts)]
