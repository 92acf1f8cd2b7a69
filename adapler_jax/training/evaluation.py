"""Evaluate every finished model of a run on held-out data: scores, operations, seconds."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

from adapler_jax.evaluation.label_scoring import LabelScorer
from adapler_jax.evaluation.number_scoring import NumberScorer
from adapler_jax.evaluation.scoring import ClassScorer
from adapler_jax.evaluation.tag_scoring import TagScorer
from adapler_jax.heads import CLASSIFICATION
from adapler_jax.inference.compute_dtype import (
    MIN_ROWS,
    Agreement,
    compare_dtypes,
    describe_agreement,
    has_units,
)
from adapler_jax.io.heartbeat import Heartbeat
from adapler_jax.io.messages import explain_unknown
from adapler_jax.metrics.classification import THRESHOLD_METRICS
from adapler_jax.training.baselines import Baseline, baseline_rows, check_baselines
from adapler_jax.training.budget_rows import budget_rows, calibrated_models
from adapler_jax.training.evaluation_rows import (
    Scored,
    difference_columns,
    model_columns,
    threshold_columns,
)
from adapler_jax.training.finished import DENSE
from adapler_jax.training.loaded_run import FinishedRun, Log, batch_size_of, load_finished_run
from adapler_jax.training.task_record import TaskData

# Heads without one likeliest answer a text.
UNCOMPARED = ("embedding", "multi_label", "regression", "token_classification")
DETAILED = (ClassScorer, LabelScorer, NumberScorer, TagScorer)  # scorers with `details`
MIN_OPERAND_BATCHES = 8  # on which bfloat16 operands are compared with float32


def check_threshold_metric(task: TaskData, metric: str) -> None:
    """Raise ValueError if the metric cannot choose a threshold, or there are not two classes."""
    if not metric:
        return
    if metric not in THRESHOLD_METRICS:
        raise ValueError(explain_unknown("metric of a threshold", metric, THRESHOLD_METRICS))
    has_classes = task.head.name == CLASSIFICATION.name and task.group == 1
    if task.num_classes != 2 or not has_classes:
        found = f"{task.num_classes} classes" if has_classes else "no classes of texts"
        raise ValueError(
            f"a threshold is chosen between two classes; the task {task.name} has {found}: "
            "leave it out"
        )


class RowOptions(TypedDict, total=False):
    """Keywords of `evaluate_run` that add rows, or columns to its rows."""

    with_times: bool
    with_classes: bool
    baselines: Sequence[Baseline]
    speedups: Mapping[str, float]
    threshold_metric: str
    budgets: Sequence[float]


def evaluate_workdir(
    workdir,
    *,
    log: Log,
    only: str = "",
    splits: Sequence[str] = (),
    **options: Unpack[RowOptions],
) -> list[dict[str, Any]]:
    """Score every finished model of a run by `load_finished_run` and `evaluate_run`.

    Args:
      workdir: of the run.
      log: receives a sentence for each step.
      only: the one model to score next to the dense model; empty: all.
      splits: to score; empty: the test splits, or the validation splits if there is no test.
      options: keywords of `evaluate_run`.

    Returns:
      A row for each model and split, as `evaluate_run` returns them.

    Raises:
      ValueError: the workdir has no finished model, not this model, or not these splits.
    """
    run = load_finished_run(workdir, log=log, only=only, splits=splits)
    return evaluate_run(run, log=log, splits=splits, **options)


def evaluate_run(
    run: FinishedRun,
    *,
    log: Log,
    splits: Sequence[str] = (),
    with_times: bool = True,
    with_classes: bool = False,
    baselines: Sequence[Baseline] = (),
    speedups: Mapping[str, float] | None = None,
    threshold_metric: str = "",
    budgets: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """Score every model of a run on its test splits, and measure seconds on the first split.

    Args:
      run: its finished models and data.
      log: receives a sentence for each step.
      splits: to score; empty: the test splits, or the validation splits if there is no test.
      with_times: add the columns of `time_model` on the first split.
      with_classes: add `details` of classes, labels, tags or several numbers.
      baselines: whose rows to add, of `baselines.BASELINES`.
      speedups: FLOPs speedups of baselines by name, next to the models' own.
      threshold_metric: one of THRESHOLD_METRICS, for two classes; adds the decision threshold that
        is best on validation, and its score.
      budgets: of calibrated models, each with a row of its own.

    Returns:
      A row for each model and split: method, test_score, dense_score, flops_speedup (true tokens),
      its percentiles text_speedup_5 and text_speedup_95 over texts, kept_tokens of each layer; for
      classes majority_share, macro_f1 and ece. Pruned models have difference and difference_se.

    Raises:
      ValueError: no threshold can be chosen, texts cannot be shortened, or a budget is missing.
    """
    check_threshold_metric(run.task, threshold_metric)
    if baselines:
        check_baselines(run.task)
    calibrated = calibrated_models(run, budgets, log=log)
    chosen = tuple(splits) or run.task.eval_splits
    row_of = functools.partial(
        _model_row, with_classes=with_classes, threshold_metric=threshold_metric
    )
    rows = []
    for split in chosen:
        if split.startswith("validation"):
            log(f"{split}: models were chosen by these very {run.task.unit}")
        dense = _score(run, DENSE, split, log=log)
        has_times = with_times and split == chosen[0]
        found = [row_of(name, dense, log=log, with_times=has_times) for name in run.models]
        rows += found + budget_rows(dense, calibrated, budgets, log=log)
        if baselines:
            others = [row for row in found if row["method"] != DENSE]
            targets = {row["method"]: row["flops_speedup"] for row in others}
            rows += baseline_rows(baselines, dense, targets | dict(speedups or {}), log=log)
    return rows


def _score(run: FinishedRun, name: str, split: str, *, log: Log) -> Scored:
    """Run a model over a split."""
    log(f"{name}: {len(run.task.splits[split])} {run.task.unit} of {split}, compiling ...")
    return Scored(run, split, *run.score(name, split))


def _model_row(
    name: str,
    dense: Scored,
    *,
    log: Log,
    with_times: bool,
    with_classes: bool,
    threshold_metric: str,
) -> dict[str, Any]:
    """Return the row of a model on the dense model's split."""
    run, split = dense.run, dense.split
    scored = dense if name == DENSE else _score(run, name, split, log=log)
    row = model_columns(name, scored) | {"dense_score": dense.found.score}
    if name != DENSE:
        row |= difference_columns(scored, dense)
    if with_classes and isinstance(scored.scorer, DETAILED):
        row |= scored.scorer.details()
    if threshold_metric:
        row |= threshold_columns(name, scored, metric=threshold_metric)
    if with_times and name != DENSE:
        log(f"{name}: seconds compared with the dense model, compiling ...")
        row |= run.times(name, split)
    return row


def compare_operands(run: FinishedRun, *, log: Log) -> None:
    """Compare bfloat16 with float32 operands of every model on validation rows.

    The result is saved in each model's directory, for loads with dtype="auto". Devices without
    bfloat16 units and models without one right answer are left out.
    """
    if run.validation is None or not has_units() or run.task.head.name in UNCOMPARED:
        return
    found = {}
    for name in run.models:
        agreement = _compare_model_operands(run, name, run.validation, log=log)
        if agreement is not None:
            found[name] = agreement
    for line in describe_agreement(found, run.validation):
        log(line)


def _compare_model_operands(
    run: FinishedRun, name: str, split: str, *, log: Log
) -> Agreement | None:
    """Compare the operands of one model; return None if the result cannot be saved."""
    batches = run.batches(name, run.task.splits[split])
    needed = 1 + -(-MIN_ROWS // batch_size_of(run.task.group))
    step = max(1, len(batches) // max(MIN_OPERAND_BATCHES, needed))
    try:
        with Heartbeat(lambda: f"{name}: comparing operands", log=log):
            return compare_dtypes(run.models[name], batches[::step], **run.engines[name])
    except OSError as error:
        log(f"{name}: the comparison of bfloat16 with float32 operands is not kept: {error}")
        return None
