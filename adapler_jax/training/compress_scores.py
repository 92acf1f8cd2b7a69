"""Compress a reranker with pairs of its task, by its own scores.

The pairs of one first text are a query and its documents. They stay together: a query's documents
are trained on, or compare models.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.evaluation.task_texts import MIN_TEXTS
from adapler_jax.inference.pair_scores import split_given_pairs
from adapler_jax.inference.reranker import Reranker
from adapler_jax.training.compress_steps import (
    SEED,
    VALIDATION_FRACTION,
    CompressOptions,
    begin,
    check_texts,
    make_rungs,
    other_texts,
    put_model,
    write_labelled,
)
from adapler_jax.training.rungs import best_rung

MIN_JUDGED = 20  # pairs that compare models


def compress_scores(
    model, pairs: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a reranker; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, the texts are no pairs, or a promise or a latency is asked.
    """
    _check_options(options)
    pairs, more = _as_pairs(pairs), _as_pairs(options.more_texts)
    parts = divide_pairs(pairs)
    judged = {query for query, _ in parts["validation"]}
    parts["train"] += [pair for pair in other_texts(more, pairs) if pair[0] not in judged]
    full = begin(model, pairs, out, options, log)
    write_labelled(parts, out / "texts", functools.partial(_predict_scores, full), log)
    check_texts(parts, out)
    metric = "kendall_tau" if _has_queries(parts["validation"]) else "spearman"
    changes = {"data.metric": metric} | (options.changes or {})
    rungs = make_rungs(full, parts, out, options._replace(changes=changes), log)
    best = best_rung(rungs, options.speedup)
    log(f"kept: {best.name}")
    put_model(best.directory, out / "model")


def _check_options(options: CompressOptions) -> None:
    """Raise ValueError for options of classifiers."""
    for name in ("promise", "latency", "labels"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"{name} is for classifiers, and the model is a reranker; leave it out"
            )


def _as_pairs(texts) -> list[tuple[str, str]]:
    """Return pairs as tuples.

    Raises:
      ValueError: a text is no pair.
    """
    try:
        return list(zip(*split_given_pairs(list(texts))))
    except TypeError as error:
        raise ValueError(
            f"{error}, since the model is a reranker; of a file name two columns, as "
            "--column=query,document"
        ) from error


def _predict_scores(full: pathlib.Path, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the scores that the full model gives pairs.

    Raises:
      ValueError: it does not rank them.
    """
    score_M = Reranker.load(full).predict(pairs)
    if np.ptp(score_M) == 0 or not np.all(np.isfinite(score_M)):
        raise ValueError(
            f"the given model gives all of {len(pairs)} pairs the score {score_M[0]:g}, so no "
            "order can be kept; give a trained reranker, and pairs of its task"
        )
    return score_M.tolist()


def divide_pairs(pairs: Sequence) -> dict[str, list]:
    """Return the pairs that are trained on, and those that compare models, by whole queries.

    Raises:
      ValueError: there are too few pairs or queries.
    """
    different = list(dict.fromkeys(pairs))
    if len(different) < MIN_TEXTS:
        raise ValueError(
            f"there are {len(different)} different pairs; a compression needs at least {MIN_TEXTS}"
        )
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
