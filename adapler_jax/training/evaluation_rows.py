"""Build the rows of an evaluation: scores, their difference to the dense model, operations."""

from typing import Any, NamedTuple

import numpy as np

from adapler_jax.evaluation.models import Evaluation
from adapler_jax.evaluation.number_scoring import NumberScorer
from adapler_jax.evaluation.scoring import ClassScorer, Scorer, difference_se
from adapler_jax.metrics.classification import METRICS, choose_threshold
from adapler_jax.training.loaded_run import FinishedRun

TEXT_PERCENTILES = (5, 95)  # of the speedups of single texts


class Scored(NamedTuple):
    """A model on a split."""

    run: FinishedRun
    split: str
    found: Evaluation
    scorer: Scorer


def model_columns(name: str, scored: Scored) -> dict[str, Any]:
    """Return the columns that every model has, but for its difference to the dense model."""
    run, split, found, scorer = scored
    task = run.task
    row = {
        "task": task.name,
        "split": split,
        "num_texts": len(task.splits[split]),
        "unit": task.unit,
        "method": name,
        "seed": run.config.seed,
        "dtype": run.config.compute_dtype,
        "metric": task.metric,
        "test_score": found.score,
        "flops_speedup": found.flops_speedup,
        **text_speedups(found.text_speedup_E),
        "kept_tokens": [round(tokens, 2) for tokens in found.kept_tokens],
    }
    main = ("score", task.metric)
    more = {name: score for name, score in found.scores.items() if name not in main}
    row |= {name: score for name, score in more.items() if not isinstance(score, list)}
    if isinstance(scorer, ClassScorer):
        details = scorer.details()
        row |= {name: details[name] for name in ("majority_share", "macro_f1")}
        row["num_classes"] = task.num_classes
    return row


def text_speedups(speedup_E: np.ndarray) -> dict[str, float]:
    """Return percentiles of the FLOPs speedups of single texts, as columns."""
    values = np.percentile(speedup_E, TEXT_PERCENTILES).tolist()
    return {f"text_speedup_{rank}": value for rank, value in zip(TEXT_PERCENTILES, values)}


def difference_columns(scored: Scored, dense: Scored) -> dict[str, Any]:
    """Return the score's difference to the dense model on the same texts, and its standard error.

    Both are fractions. The error is paired, see `difference_se`. Models of numbers also have
    `kendall_tau` and `top10_overlap`.
    """
    columns = {
        "dense_score": dense.found.score,
        "difference": scored.found.score - dense.found.score,
        "difference_se": difference_se(scored.scorer, dense.scorer),
    }
    if isinstance(scored.scorer, NumberScorer) and isinstance(dense.scorer, NumberScorer):
        columns |= scored.scorer.agreement(dense.scorer)
    return columns


def threshold_columns(name: str, scored: Scored, *, metric: str) -> dict[str, Any]:
    """Return the threshold that is best on validation, and its scores.

    Args:
      name: of the model.
      scored: on the reported split.
      metric: that the threshold is chosen for.
    """
    run, scorer = scored.run, scored.scorer
    if run.validation is None:
        raise ValueError("a threshold is chosen on validation, which the data lacks")
    _, chosen_on = run.score(name, run.validation)
    assert isinstance(scorer, ClassScorer) and isinstance(chosen_on, ClassScorer)
    threshold, best = choose_threshold(chosen_on.second_prob_E, chosen_on.label_E, metric)
    score_of = METRICS[metric]
    return {
        "threshold": threshold,
        "threshold_metric": metric,
        "threshold_validation_score": best,
        "threshold_score": score_of(scorer.second_prob_E >= threshold, scorer.label_E),
        "likeliest_score": score_of(scorer.likeliest_E, scorer.label_E),
    }
