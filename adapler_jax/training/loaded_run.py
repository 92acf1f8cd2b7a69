"""Load the finished models of a run and its held-out data, and run them over a split."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
import numpy as np

from adapler_jax.data.batching.batches import eval_batches
from adapler_jax.data.batching.lengths import batch_lengths
from adapler_jax.data.batching.tokenized import Tokenized
from adapler_jax.evaluation.models import Evaluation, evaluate_model
from adapler_jax.evaluation.scoring import Scorer, saved_threshold
from adapler_jax.evaluation.timing import own_lengths, time_model
from adapler_jax.heads import Head
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.io.heartbeat import Heartbeat, watch
from adapler_jax.io.messages import explain_unknown
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.training.finished import (
    DENSE,
    check_finished,
    expected_speedup,
    finished_phases,
    read_run,
    unfinished_phases,
    unreached_speedups,
)
from adapler_jax.training.phases import load_phase_model
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_data import load_task_data
from adapler_jax.training.task_record import TaskData
from adapler_jax.weights.save import Saved

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
    checkpoint: pathlib.Path  # of the dense model, which has the tokenizer
    log: Log  # receives a line a minute where a model runs for long
    budgets: dict[str, float] = dataclasses.field(default_factory=dict)  # of models that take them

    @property
    def validation(self) -> str | None:
        """The split that models are chosen on; None if it is not loaded."""
        return next((name for name in self.task.splits if name.startswith("validation")), None)

    def batches(self, name: str, tokenized: Tokenized):
        """Return the batches of some texts, padded to the lengths of a model."""
        lengths = own_lengths(self.pruners[name], self.lengths)
        num_rows = batch_size_of(self.task.group)
        found = eval_batches(tokenized, batch_size=num_rows, lengths=lengths)
        if name not in self.budgets:
            return found
        budget_B = np.full(num_rows, self.budgets[name], np.float32)
        return [batch.replace(budget_B=budget_B) for batch in found]

    def with_model(
        self,
        name: str,
        saved: Saved,
        pruner: Pruner,
        *,
        expected_speedup: float,
        budget: float | None = None,
    ) -> "FinishedRun":
        """Return the run with one more model.

        Args:
          name: of the model.
          saved: its parameters and head.
          pruner: of the model.
          expected_speedup: FLOPs speedup, which chooses the driver.
          budget: of all texts; None for the model's own speed.
        """
        return dataclasses.replace(
            self,
            models=self.models | {name: saved},
            pruners=self.pruners | {name: pruner},
            engines=self.engines
            | {name: self.engines[DENSE] | {"expected_speedup": expected_speedup}},
            budgets=self.budgets if budget is None else self.budgets | {name: budget},
        )

    def score(
        self, name: str, split: str, *, tokenized: Tokenized | None = None
    ) -> tuple[Evaluation, Scorer]:
        """Run a model over a split; return its evaluation, and the scorer of the split.

        Args:
          name: of the model.
          split: that has the labels.
          tokenized: other tokens of the split's texts, with their ids; None for the split's own.
        """
        saved = self.models[name]
        scorer = self.task.make_scorer(split, saved_threshold(saved.extra))
        batches = self.batches(name, self.task.splits[split] if tokenized is None else tokenized)
        label = f"{name} on {split}: batches done"
        evaluation = evaluate_model(
            saved.params,
            saved.config,
            self.pruners[name],
            watch(batches, label, total=len(batches), log=self.log),
            scorer=scorer,
            head=saved.head,
            dense_config=self.models[DENSE].config,
            **self.engines[name],
        )
        return evaluation, scorer

    def times(self, name: str, split: str) -> dict[str, Any]:
        """Return the columns of `time_model` for a model on a split."""
        with Heartbeat(lambda: f"{name}: measuring seconds", log=self.log):
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
    speedups = {name: expected_speedup(phase) for name, phase in phases.items()}
    return FinishedRun(
        config=config,
        task=task,
        models=models,
        pruners={name: pruner_of_saved(saved) for name, saved in models.items()},
        engines={name: options | {"expected_speedup": speedups[name]} for name in models},
        lengths=batch_lengths(config.data.bucket_lengths, max_length),
        checkpoint=checkpoint,
        log=log,
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
    saved, now = (
        (head.name, head.factory_kwargs, names)
        for head, names in ((dense.head, dense.class_names), (task.head, task.class_names))
    )
    if saved != now:
        raise ValueError(
            f"{workdir}: its models are for {describe_head(dense.head, dense.class_names)}, the "
            f"data now has {describe_head(task.head, task.class_names)}; restore the data"
        )


def describe_head(head: Head, class_names: tuple[str, ...]) -> str:
    """Return a phrase for the outputs of a head."""
    if class_names and head.name == "regression":
        return f"the numbers {', '.join(class_names)}"
    if class_names:
        return f"the classes {', '.join(class_names)}"
    return f"{head.name} answers" + "".join(
        f", {name} {value}" for name, value in head.factory_kwargs
    )


def batch_size_of(group: int) -> int:
    """Return about 32 rows, a multiple of the rows that belong together."""
    return group * max(1, BATCH_ROWS // group)
