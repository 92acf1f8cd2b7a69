"""Compress a reranker with pairs of its task, by its own scores.

The pairs of one first text are a query and its documents. They stay together: a query's documents
are trained on, or compare models, or calibrate and certify the result.
"""

import functools
import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.certificate import Promise, allowance
from adapler_jax.evaluation.order_calibration import (
    CALIBRATED,
    as_pairs,
    check_orders,
    num_evidence,
    split_queries,
)
from adapler_jax.evaluation.task_texts import MIN_TEXTS
from adapler_jax.inference.calibration import Calibration
from adapler_jax.training.compress_numbers import predict_numbers
from adapler_jax.training.compress_steps import (
    CALIBRATION_FRACTION,
    SEED,
    VALIDATION_FRACTION,
    CompressOptions,
    begin,
    check_unused,
    keep_best,
    other_texts,
    slower_promise,
)
from adapler_jax.training.compress_texts import check_texts, write_labelled

MIN_JUDGED = 20  # pairs that compare models


def compress_scores(
    model, pairs: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> Calibration:
    """Make a faster copy of a reranker; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, the texts are no pairs, or there are options of classifiers.
    """
    check_unused(options, ("latency", "labels"), "for classifiers, and the model is a reranker")
    pairs, more = as_pairs(pairs), as_pairs(options.more_texts)
    rest, held_back = hold_back(pairs, options.promise, log)
    parts = divide_pairs(rest)
    others = {query for query, _ in (*parts["validation"], *held_back)}
    parts["train"] += [pair for pair in other_texts(more, pairs) if pair[0] not in others]
    full = begin(model, pairs, out, options, log)
    write_labelled(parts, out / "texts", functools.partial(predict_numbers, full), log)
    check_texts(parts, out)
    metric = "kendall_tau" if _has_queries(parts["validation"]) else "spearman"
    changes = {"data.metric": metric} | (options.changes or {})
    best = keep_best(full, parts, out, options._replace(changes=changes), log)
    calibration = calibrate_model(
        out / "model", held_back, reference=full, promise=options.promise, log=log
    )
    for note in slower_promise(calibration, best.flops_speedup):
        log(note)
    return calibration


def hold_back(
    pairs: Sequence, promise: Promise | None, log: Callable[[str], None] = lambda line: None
) -> tuple[list, list]:
    """Return the pairs of the training, and the pairs of the calibration and certificate.

    Args:
      pairs: all of them.
      promise: that is looked for.
      log: receives how many queries test the promise.

    Raises:
      ValueError: there are too few pairs or queries, or they cannot prove the promise.
    """
    num_pairs, needed = len(set(pairs)), math.ceil(MIN_TEXTS / CALIBRATION_FRACTION)
    if num_pairs < needed:
        raise ValueError(
            f"there are {num_pairs} different pairs; a compression needs at least {needed}"
        )
    rest, held_back = split_queries(pairs, seed=SEED, fraction=1.0 - CALIBRATION_FRACTION)
    name = f"the pairs of {100 * CALIBRATION_FRACTION:.0f}% of the queries, which calibrate,"
    _, measuring = split_queries(held_back, seed=SEED, name=name)
    fraction = CALIBRATION_FRACTION * (1.0 - CALIBRATED)
    check_orders(measuring, promise, labels=None, fraction=fraction)
    if promise is not None:
        log(allowance(num_evidence(measuring, promise), promise, unit="queries"))
    return rest, held_back


def divide_pairs(pairs: Sequence) -> dict[str, list]:
    """Return the pairs that are trained on, and those that compare models, by whole queries.

    Raises:
      ValueError: there are too few pairs or queries.
    """
    different = list(dict.fromkeys(pairs))
    queries = list(dict.fromkeys(query for query, _ in different))
    num_judged = round(VALIDATION_FRACTION * len(queries))
    order = np.random.default_rng(SEED).permutation(len(queries)).tolist()
    judged = {queries[index] for index in order[:num_judged]}
    parts = {
        "train": [pair for pair in different if pair[0] not in judged],
        "validation": [pair for pair in different if pair[0] in judged],
    }
    if min(map(len, parts.values())) < MIN_JUDGED:
        raise ValueError(
            f"the pairs have {len(queries)} queries, {num_judged} of which compare models, with "
            f"{len(parts['validation'])} pairs; at least {MIN_JUDGED} pairs must compare models "
            f"and at least {MIN_JUDGED} train: give more queries"
        )
    return parts


def _has_queries(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether a query has several documents."""
    return len({query for query, _ in pairs}) < len(pairs)
