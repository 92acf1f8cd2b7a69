"""Compress a reranker with pairs of its task, by its own scores.

The pairs of one first text are a query and its documents. They stay together: a query's documents
are trained on, or compare models.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

from adapler_jax.evaluation.task_texts import MIN_TEXTS
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


def compress_scores(
    model, pairs: Sequence, out: pathlib.Path, options: CompressOptions, log
) -> None:
    """Make a faster copy of a reranker; arguments as in `compress.compress`.

    Raises:
      ValueError: as `compress`, the texts are no pairs, or a promise or a latency is asked.
    """
    _check_options(options)
    parts = divide_pairs(pairs)
    full = begin(model, pairs, out, options, log)
    parts["train"] += other_texts(options.more_texts, pairs)
    reranker = Reranker.load(full)
    write_labelled(parts, out / "texts", lambda texts: reranker.predict(texts).tolist(), log)
    check_texts(parts, out)
    metric = "kendall_tau" if _has_queries(parts["validation"]) else "spearman"
    changes = {"data.metric": metric} | (options.changes or {})
    rungs = make_rungs(full, parts, out, options._replace(changes=changes), log)
    best = best_rung(rungs, options.speedup)
    log(f"kept: {best.name}")
    put_model(best.directory, out / "model")


def _check_options(options: CompressOptions) -> None:
    """Raise ValueError for options of classifiers."""
    for name in ("promise", "latency"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"a {name} is for classifiers, and the model is a reranker; leave it out"
            )


def divide_pairs(pairs: Sequence) -> dict[str, list]:
    """Return the pairs that are trained on, and those that compare models, by whole queries.

    Raises:
      ValueError: a text is no pair, there are too few pairs, or all have one query.
    """
    for index, pair in enumerate(pairs):
        if isinstance(pair, str):
            raise ValueError(
                f"text {index} is {pair!r:.60}, a single text, and a reranker scores pairs of a "
                "query and a document: give pairs; of a file name two columns, as "
                "--column=query,document"
            )
    different = list(dict.fromkeys(pairs))
    if len(different) < MIN_TEXTS:
        raise ValueError(
            f"there are {len(different)} different pairs; a compression needs at least {MIN_TEXTS}"
        )
    queries = list(dict.fromkeys(query for query, _ in different))
    num_judged = round(VALIDATION_FRACTION * len(queries))
    if not num_judged:
        raise ValueError(
            f"the pairs have {len(queries)} queries; a compression needs at least 3, some of which "
            "compare models"
        )
    order = np.random.default_rng(SEED).permutation(len(queries)).tolist()
    judged = {queries[index] for index in order[:num_judged]}
    return {
        "train": [pair for pair in different if pair[0] not in judged],
        "validation": [pair for pair in different if pair[0] in judged],
    }


def _has_queries(pairs: Sequence[tuple[str, str]]) -> bool:
    """Return whether a query has several documents."""
    return len({query for query, _ in pairs}) < len(pairs)
