"""Compress a model that gives a text several labels, by its own labels."""

import functools
import pathlib
from collections.abc import Sequence

from adapler_jax.evaluation.task_texts import split_texts
from adapler_jax.inference.multi_label import MultiLabelClassifier
from adapler_jax.training.compress_steps import (
    OF_OTHERS,
    SEED,
    VALIDATION_FRACTION,
    CompressOptions,
    begin,
    check_texts,
    check_unused,
    keep_best,
    other_texts,
    write_labelled,
)


def compress_label_sets(
    model, texts: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a model of several labels a text; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, or a promise, a latency, labels or a protected query are asked.
    """
    check_unused(options, OF_OTHERS, "for classes and scores, and the model gives several labels")
    train, validation = split_texts(texts, seed=SEED, fraction=1.0 - VALIDATION_FRACTION)
    parts = {"train": train + other_texts(options.more_texts, texts), "validation": validation}
    full = begin(model, texts, out, options, log)
    write_labelled(parts, out / "texts", functools.partial(_predict_labels, full), log)
    check_texts(parts, out)
    changes = {"data.metric": "exact_match"} | (options.changes or {})  # the judge's own measure
    keep_best(full, parts, out, options._replace(changes=changes), log)


def _predict_labels(full: pathlib.Path, texts: Sequence) -> list[list[str]]:
    """Return the labels of each text by the full model."""
    classifier = MultiLabelClassifier.load(full)
    return [list(classifier.labels_of(prob_C)) for prob_C in classifier.predict_probs(texts)]
