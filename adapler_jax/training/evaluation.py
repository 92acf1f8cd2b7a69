"""Evaluate every finished model of a run on held-out data: scores, operations, seconds."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import ml_collections

from adapler_jax.data.batching.batches import eval_batches
from adapler_jax.data.batching.lengths import batch_lengths
from adapler_jax.evaluation.models import Evaluation, evaluate_model
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.evaluation.timing import own_lengths, time_model
from adapler_jax.heads import Head
from adapler_jax.inference.compute_dtype import (
    MIN_ROWS,
    Agreement,
    compare_dtypes,
    describe_agreement,
    has_units,
)
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.io.messages import explain_unknown
from adapler_jax.metrics.classification import (
    METRICS,
    THRESHOLD,
    THRESHOLD_METRICS,
    choose_threshold,
)
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.training.finished import (
    DENSE,
    check_finished,
    finished_phases,
    read_run,
    recorded_speedup,
    unfinished_phases,
    unreached_speedups,
)
from adapler_jax.training.phases import load_phase_model
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_data import TaskData, load_task_data
from adapler_jax.weights.save import Saved

MIN_OPERAND_BATCHES = 8  # on which bfloat16 operands are compared with float32
BATCH_ROWS = 32
EVAL_SPLITS = ("validation", "test")  # training texts are not needed again

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """The finished models of a run, and the data that they are compared on."""

    config: ml_collections.ConfigDict
    task: TaskData
    models: dict[str, Saved]
    pruners: dict[str, Pruner]
    engines: dict[str, dict[str, Any]]  # keywords of `make_engine`
    lengths: tuple[int, ...]  # that batches are padded to

    @property
    def validation(self) -> str | None:
        """The split that models are chosen on; None if it is not loaded."""
        return next((name for name in self.task.splits if name.startswith("validation")), None)

    def batches(self, name: str, split: str):
        """Return the batches of a split, padded to the lengths of a model."""
        lengths = own_lengths(self.pruners[name], self.lengths)
        num_rows = batch_size_of(self.task.group)
        return eval_batches(self.task.splits[split], batch_size=num_rows, lengths=lengths)

    def score(self, name: str, split: str) -> tuple[Evaluation, Scorer]:
        """Run a model over a split; return its evaluation, and the scorer of the split."""
        saved = self.models[name]
        threshold = saved.extra.get(THRESHOLD, saved.extra.get("no_answer_threshold"))
        scorer = self.task.make_scorer(split, threshold)
        evaluation = evaluate_model(
            saved.params,
            saved.config,
            self.pruners[name],
            self.batches(name, split),
            scorer=scorer,
            head=saved.head,
            dense_config=self.models[DENSE].config,
            **self.engines[name],
        )
        return evaluation, scorer

    def times(self, name: str, split: str) -> dict[str, Any]:
        """Return the columns of `time_model` for a model on a split."""
        return time_model(
            self.models[name],
            self.models[DENSE],
            self.pruners[name],
            self.task.splits[split],
            self.lengths,
            engine=self.engines[name],
        )


def load_finished_run(
    workdir, *, log: Log, only: str = "", splits: Sequence[str] = ()
) -> FinishedRun:
    """Load the finished models of a run and its held-out data.

    Args:
      workdir: of the run.
      log: receives a sentence for each phase that is unfinished or left out.
      only: the one model to load next to the dense model; empty: all.
      splits: that the data must have.

    Raises:
      ValueError: the workdir has no finished model, not this model, or not these splits.
    """
    workdir = pathlib.Path(workdir).expanduser()
    config = read_run(workdir)
    use_compilation_cache(config.inference.get("compilation_cache", ""), log=log)
    phases = _chosen_phases(workdir, only)
    models = {name: load_phase_model(phase) for name, phase in phases.items()}
    for name in unfinished_phases(workdir):
        log(f"{name}: not finished; give the training command again to continue")
    dense = models[DENSE]
    checkpoint = workdir / "finetune" / "model"
    task = load_task_data(config, checkpoint, only=EVAL_SPLITS, saved_names=dense.class_names)
    _check_task(workdir, dense, task)
    for split in splits:
        if split not in task.splits:
            raise ValueError(f"{workdir}: {explain_unknown('split', split, task.splits)}")
    for note in () if only else unreached_speedups(workdir):
        log(note)
    max_length = dense.max_length
    assert max_length is not None  # a run always saves it
    options = engine_options(config)
    speedups = {name: recorded_speedup(phase) for name, phase in phases.items()}
    return FinishedRun(
        config=config,
        task=task,
        models=models,
        pruners={name: pruner_of_saved(saved) for name, saved in models.items()},
        engines={name: options | {"expected_speedup": speedups[name]} for name in models},
        lengths=batch_lengths(config.data.bucket_lengths, max_length),
    )


def _chosen_phases(workdir: pathlib.Path, only: str) -> dict[str, pathlib.Path]:
    """Return the finished phases, or the dense one and one other."""
    phases = finished_phases(workdir)
    if not only:
        return phases
    check_finished(workdir, only, phases)
    return {name: phase for name, phase in phases.items() if name in (DENSE, only)}


def _check_task(workdir: pathlib.Path, dense: Saved, task: TaskData) -> None:
    """Raise ValueError if the data has another head or other classes than the models."""
    if dense.head is not task.head or dense.class_names != task.class_names:
        raise ValueError(
            f"{workdir}: its models are for {describe_head(dense.head, dense.class_names)}, the "
            f"data now has {describe_head(task.head, task.class_names)}; restore the data"
        )


def describe_head(head: Head, class_names: tuple[str, ...]) -> str:
    """Return a phrase for the outputs of a head."""
    if class_names:
        return f"the classes {', '.join(class_names)}"
    return f"{head.name} answers" + "".join(
        f", {name} {value}" for name, value in head.factory_kwargs
    )


def batch_size_of(group: int) -> int:
    """Return about 32 rows, a multiple of the rows that belong together."""
    return group * max(1, BATCH_ROWS // group)


def check_threshold_metric(task: TaskData, metric: str) -> None:
    """Raise ValueError if the metric cannot choose a threshold, or there are not two classes."""
    if not metric:
        return
    if metric not in THRESHOLD_METRICS:
        raise ValueError(explain_unknown("metric of a threshold", metric, THRESHOLD_METRICS))
    has_classes = task.num_classes > 0 and task.group == 1
    if task.num_classes != 2 or not has_classes:
        found = f"{task.num_classes} classes" if has_classes else "no classes of texts"
        raise ValueError(
            f"a threshold is chosen between two classes; the task {task.name} has {found}: "
            "leave it out"
        )


class RowOptions(TypedDict, total=False):
    """Keywords of `evaluate_run` that add columns to its rows or leave rows out."""

    with_times: bool
    with_classes: bool
    threshold_metric: str
    dense_scores: Mapping[str, float] | None


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
    threshold_metric: str = "",
    dense_scores: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Score every model of a run on its test splits, and measure seconds on the first split.

    Args:
      run: its finished models and data.
      log: receives a sentence for each step.
      splits: to score; empty: the test splits, or the validation splits if there is no test.
      with_times: add the columns of `time_model` on the first split.
      with_classes: add `ClassScorer.details`.
      threshold_metric: one of THRESHOLD_METRICS, for two classes; adds the decision threshold that
        is best on validation, and its score.
      dense_scores: known scores of the dense model by split; it has no row there.

    Returns:
      A row for each model and split: method, test_score, dense_score, flops_speedup (true tokens),
      kept_tokens of each layer; for classes majority_share and ece.

    Raises:
      ValueError: no threshold can be chosen.
    """
    check_threshold_metric(run.task, threshold_metric)
    chosen = tuple(splits) or run.task.eval_splits
    rows = []
    for split in chosen:
        if split.startswith("validation"):
            log(f"{split}: models were chosen by these very {run.task.unit}")
        rows += _score_split(
            run,
            split,
            log=log,
            dense_score=(dense_scores or {}).get(split),
            with_times=with_times and split == chosen[0],
            with_classes=with_classes,
            threshold_metric=threshold_metric,
        )
    return rows


def _score_split(
    run: FinishedRun,
    split: str,
    *,
    log: Log,
    dense_score: float | None,
    with_times: bool,
    with_classes: bool,
    threshold_metric: str,
) -> list[dict[str, Any]]:
    """Return a row for each model; the dense model has none if its score is known."""
    rows = []
    for name in run.models:
        if name == DENSE and dense_score is not None:
            continue
        log(f"{name}: {len(run.task.splits[split])} {run.task.unit} of {split}, compiling ...")
        found, scorer = run.score(name, split)
        if name == DENSE:
            dense_score = found.score
        row = _model_columns(run, name, split, found) | {"dense_score": dense_score}
        row |= _class_columns(scorer, with_classes=with_classes)
        if threshold_metric:
            row |= _threshold_columns(run, name, scorer, metric=threshold_metric)
        if with_times and name != DENSE:
            log(f"{name}: seconds compared with the dense model, compiling ...")
            row |= run.times(name, split)
        rows.append(row)
    return rows


def _model_columns(run: FinishedRun, name: str, split: str, found: Evaluation) -> dict[str, Any]:
    """Return the columns that every model has, but for the dense score."""
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
        "kept_tokens": [round(tokens, 2) for tokens in found.kept_tokens],
    }
    main = ("score", task.metric)
    return row | {name: score for name, score in found.scores.items() if name not in main}


def _class_columns(scorer: Scorer, *, with_classes: bool) -> dict[str, Any]:
    """Return the share of the most frequent class, or all details of classes."""
    if not isinstance(scorer, ClassScorer):
        return {}
    details = scorer.details()
    return details if with_classes else {"majority_share": details["majority_share"]}


def _threshold_columns(
    run: FinishedRun, name: str, scorer: Scorer, *, metric: str
) -> dict[str, Any]:
    """Return the threshold that is best on validation, and its scores.

    Args:
      run: its finished models and data.
      name: of the model.
      scorer: of the reported split.
      metric: that the threshold is chosen for.
    """
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


def compare_operands(run: FinishedRun, *, log: Log) -> None:
    """Compare bfloat16 with float32 operands of every model on validation rows.

    The result is saved in each model's directory, for loads with dtype="auto". Devices without
    bfloat16 units are left out.
    """
    if run.validation is None or not has_units():
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
    batches = run.batches(name, split)
    needed = 1 + -(-MIN_ROWS // batch_size_of(run.task.group))
    step = max(1, len(batches) // max(MIN_OPERAND_BATCHES, needed))
    try:
        return compare_dtypes(run.models[name], batches[::step], **run.engines[name])
    except OSError as error:
        log(f"{name}: the comparison of bfloat16 with float32 operands is not kept: {error}")
        return None
