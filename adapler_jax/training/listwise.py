"""Training on lists of documents of one query: the checks, and the rows that stay together."""

import dataclasses

import numpy as np

from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.data.classification.examples import Dataset
from adapler_jax.heads.regression import LISTS
from adapler_jax.metrics.ranking import QUERY_METRICS

DEFAULT_METRIC = "ndcg@10"  # where scores compare within a query alone


def list_size_of(config) -> int:
    """Return config.data.list_size, 0 for pairs alone; older configs lack it.

    Raises:
      ValueError: it is no such number, or batches would cut lists.
    """
    size = config.data.get("list_size", 0)
    if type(size) is not int or size < 0 or size == 1:
        raise ValueError(
            f"config.data.list_size is {size!r:.60}; expected 2 documents or more, or 0"
        )
    for section, fields in config.items():
        rows = fields.get("batch_size") if hasattr(fields, "get") else None
        if size and rows and rows % size:
            raise ValueError(
                f"config.{section}.batch_size is {rows}, which cuts lists of "
                f"config.data.list_size={size} documents; set it to {max(1, rows // size) * size}"
            )
    return size


def list_metric(config, dataset: Dataset, size: int) -> str:
    """Return the metric of a task that is trained on lists: one of orders within a query.

    Raises:
      ValueError: the config has another one, or there are no documents of a query to compare.
    """
    if len(dataset.task.text_fields) != 2 or dataset.task.class_names:
        raise ValueError(
            f"config.data.list_size is {size}, but task {config.task!r} has no pairs of a query "
            "and a document with one number each; leave it out"
        )
    metric = config.data.get("metric", "") or DEFAULT_METRIC
    if metric not in QUERY_METRICS:
        raise ValueError(
            f"config.data.metric is {metric!r}, but scores that are trained on lists compare "
            f"within a query alone; choose one of {', '.join(QUERY_METRICS)}"
        )
    return metric


def keep_lists(tokenized: Tokenized, size: int) -> Tokenized:
    """Return examples whose lists stay together in a batch, and say so to the loss."""
    number_E = np.arange(len(tokenized), dtype=np.int32) // size
    slots = {**tokenized.head_slots, LISTS: number_E}
    return dataclasses.replace(tokenized, group=size, head_slots=slots)
