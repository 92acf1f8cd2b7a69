"""What a finished workdir is worth: every model of it on the test split, in score, operations and seconds."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np

from adapler_jax.data.batching.batches import eval_batches
from adapler_jax.data.batching.lengths import batch_lengths
from adapler_jax.data.classification.examples import take_examples
from adapler_jax.data.qa.questions import Question
from adapler_jax.evaluation.models import Evaluation, evaluate_model
from adapler_jax.evaluation.scoring import ClassScorer, Scorer
from adapler_jax.evaluation.timing import own_lengths, time_model
from adapler_jax.heads import Head
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.compute_dtype import (
    MIN_ROWS,
    Agreement,
    compare_dtypes,
    describe_agreement,
    has_units,
)
from adapler_jax.inference.question_answerer import QAPrediction, QuestionAnswerer
from adapler_jax.io.atomic_files import checksum_path, write_checksums
from adapler_jax.io.caches import use_compilation_cache
from adapler_jax.io.messages import explain_unknown
from adapler_jax.metrics.classification import (
    METRICS,
    THRESHOLD,
    THRESHOLD_METRICS,
    check_threshold,
    choose_threshold,
)
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.training.phases import MAY_CHANGE, is_complete, load_phase_model, read_done
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_data import (
    TaskData,
    is_qa_task,
    load_data,
    load_questions,
    load_task_data,
)
from adapler_jax.training.workdir import CONFIG_FILE, only_process, read_fields
from adapler_jax.weights.labels import names_in_run
from adapler_jax.weights.save import Saved, class_names_of, load_model, save_model

NUM_OPERAND_BATCHES = 8  # at least, on which bfloat16 operands are compared with float32
EVAL_SPLITS = ("validation", "test")  # training texts are not needed again
RESTORE_CONFIG = "restore it or train in another --workdir, which trains all phases again"
ADAPTED = re.compile(r"adapt-(\d+(?:\.\d+)?(?:e[+-]?\d+)?)x")


def read_run(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a workdir was trained with. Raises ValueError where it holds no run, or a damaged one."""
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(
            f"{workdir} holds no run: there is no {CONFIG_FILE}; train one with train.py --workdir={workdir}"
        )
    return ml_collections.ConfigDict(read_fields(workdir, RESTORE_CONFIG))


def adapted_phases(workdir: pathlib.Path) -> list[str]:
    """Names of the adaptations that were begun, in the order of their speedups."""
    found = [ADAPTED.fullmatch(path.name) for path in workdir.glob("adapt-*x")]
    return [match[0] for match in sorted(filter(None, found), key=lambda match: float(match[1]))]


def finished_phases(workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Directories of the finished phases that end in a model, by the model's name: `dense`, the method's, then the
    adapted ones in the order of their speedups. Raises ValueError where there is none."""
    names = ["finetune", "adapler", "powerbert", "trbert", "distill", *adapted_phases(workdir)]
    phases = {
        "dense" if name == "finetune" else name: workdir / name
        for name in names
        if is_complete(workdir / name)
        and (workdir / name / "model").exists()  # a speedup out of reach leaves none
    }
    if "dense" not in phases:
        raise ValueError(
            f"{workdir}: no phase is finished; call train.py with the same config and workdir again"
        )
    return phases


def left_out(workdir: pathlib.Path) -> list[str]:
    """Return a sentence on every requested speedup that was out of reach, so that there is no model of it."""
    records = [
        (name, read_done(workdir / name))
        for name in adapted_phases(workdir)
        if is_complete(workdir / name)
    ]
    return [
        f"{name} is left out: training reached {done['validation']['flops_speedup']:.2f}x and saved no model"
        for name, done in records
        if not done.get("is_reached", True)
    ]


def check_finished(workdir: pathlib.Path, name: str, phases: dict[str, pathlib.Path]) -> None:
    """Raises ValueError where a name is of none of a run's finished models."""
    if name not in phases:
        raise ValueError(f"{workdir} has no finished model {name!r}; there are {', '.join(phases)}")


def unfinished_phases(workdir: pathlib.Path) -> list[str]:
    """Names of the phases that were begun and are not finished."""
    names = [
        "finetune",
        "saliency",
        "adapler",
        "teacher",
        "search",
        "powerbert",
        "scores",
        "init",
        "policy",
        "trbert",
        "distill",
    ]
    names += adapted_phases(workdir)
    return [name for name in names if (workdir / name).exists() and not is_complete(workdir / name)]


def recorded_speedup(phase: pathlib.Path) -> float | None:
    """FLOPs speedup on validation of a finished phase's model; None for the dense one."""
    return read_done(phase)["validation"].get("flops_speedup")


@dataclasses.dataclass(frozen=True)
class Contest:
    """The finished models of a run, and the data that they are compared on."""

    config: ml_collections.ConfigDict
    task: TaskData
    models: dict[str, Saved]
    pruners: dict[str, Pruner]
    engines: dict[str, dict]  # keywords of `make_engine`
    lengths: tuple[int, ...]

    def score(self, name: str, split: str) -> tuple[Evaluation, Scorer]:
        """Run a model over a split; the scorer has seen all of it."""
        saved, task = self.models[name], self.task
        batches = eval_batches(
            task.splits[split],
            batch_size=rows_of_batch(task.group),
            lengths=own_lengths(self.pruners[name], self.lengths),
        )
        threshold = saved.extra.get(THRESHOLD, saved.extra.get("no_answer_threshold"))
        scorer = task.make_scorer(split, threshold)
        options = {
            "head": saved.head,
            "dense_config": self.models["dense"].config,
            **self.engines[name],
        }
        parts = saved.params, saved.config, self.pruners[name], batches
        return evaluate_model(*parts, scorer=scorer, **options), scorer

    def times(self, name: str, split: str) -> dict:
        """Return the columns of `time_model` of a model on a split."""
        models, tokenized = (self.models[name], self.models["dense"]), self.task.splits[split]
        return time_model(
            *models, self.pruners[name], tokenized, self.lengths, engine=self.engines[name]
        )

    def row(self, name: str, split: str, found: Evaluation) -> dict:
        """Return what is known of a model on a split, but for the dense score."""
        task = self.task
        row = {
            "task": task.name,
            "split": split,
            "num_texts": len(task.splits[split]),
            "unit": task.unit,
            "method": name,
            "seed": self.config.seed,
            "dtype": self.config.compute_dtype,
            "metric": task.metric,
            "test_score": found.score,
            "flops_speedup": found.flops_speedup,
            "kept_tokens": [round(tokens, 2) for tokens in found.kept_tokens],
        }
        return row | {
            name: score
            for name, score in found.scores.items()
            if name not in ("score", task.metric)
        }

    def threshold_row(self, name: str, scorer: ClassScorer, metric: str) -> dict:
        """Return the threshold that is best on validation, its score there and on the split of a scorer.

        Args:
          name: of the model.
          scorer: has seen the split that is reported.
          metric: that the threshold is chosen for.
        """
        split = next(split for split in self.task.splits if split.startswith("validation"))
        _, chosen_on = self.score(name, split)
        threshold, best = choose_threshold(chosen_on.second_prob_E, chosen_on.label_E, metric)
        score_of, label_E = METRICS[metric], scorer.label_E
        return {
            "threshold": threshold,
            "threshold_metric": metric,
            "threshold_validation_score": best,
            "threshold_score": score_of(scorer.second_prob_E >= threshold, label_E),
            "likeliest_score": score_of(scorer.likeliest_E, label_E),
        }

    @property
    def validation(self) -> str | None:
        """The split that models are chosen on; None where it is not loaded."""
        return next((name for name in self.task.splits if name.startswith("validation")), None)

    def compare_operands(self, name: str, *, log: Callable[[str], None]) -> dict[str, Agreement]:
        """Record next to a model whether it answers alike with bfloat16 operands on validation rows, and return it."""
        task, lengths, split = (
            self.task,
            own_lengths(self.pruners[name], self.lengths),
            self.validation,
        )
        if split is None:
            return {}
        num_rows = rows_of_batch(task.group)
        batches = eval_batches(task.splits[split], batch_size=num_rows, lengths=lengths)
        step = max(1, len(batches) // max(NUM_OPERAND_BATCHES, 1 + -(-MIN_ROWS // num_rows)))
        try:
            return {name: compare_dtypes(self.models[name], batches[::step], **self.engines[name])}
        except OSError as error:
            log(f"{name}: the comparison of bfloat16 with float32 operands is not kept: {error}")
            return {}


def open_contest(
    workdir: pathlib.Path,
    *,
    log: Callable[[str], None],
    only: str = "",
    splits: Sequence[str] = (),
) -> Contest:
    """Load the finished models of a run and its held-out data; arguments and errors as of `evaluate_workdir`."""
    config = read_run(workdir)
    use_compilation_cache(config.inference.get("compilation_cache", ""), log=log)
    phases = finished_phases(workdir)
    if only:
        check_finished(workdir, only, phases)
        phases = {name: phase for name, phase in phases.items() if name in ("dense", only)}
    models = {name: load_phase_model(phase) for name, phase in phases.items()}
    for name in unfinished_phases(workdir):
        log(f"{name}: not finished; give the training command again to go on")
    dense, start = models["dense"], workdir / "finetune" / "model"
    task = load_task_data(config, start, only=EVAL_SPLITS, saved_names=dense.class_names)
    if dense.head is not task.head or dense.class_names != task.class_names:
        raise ValueError(
            f"{workdir}: its models are for {describe_head(dense.head, dense.class_names)}, the data now has "
            f"{describe_head(task.head, task.class_names)}; restore the data"
        )
    for split in splits:
        if split not in task.splits:
            raise ValueError(f"{workdir}: {explain_unknown('split', split, task.splits)}")
    return Contest(
        config=config,
        task=task,
        models=models,
        pruners={name: pruner_of_saved(saved) for name, saved in models.items()},
        engines={
            name: engine_options(config) | {"expected_speedup": recorded_speedup(phases[name])}
            for name in models
        },
        lengths=batch_lengths(config.data.bucket_lengths, dense.max_length),
    )


def check_threshold_metric(task: TaskData, metric: str) -> None:
    """Raise ValueError where no threshold can be chosen: another metric, or other than two classes."""
    if metric and metric not in THRESHOLD_METRICS:
        raise ValueError(explain_unknown("metric of a threshold", metric, THRESHOLD_METRICS))
    if metric and (task.num_classes != 2 or task.group != 1):
        found = (
            f"{task.num_classes} classes"
            if task.num_classes and task.group == 1
            else "no classes of texts"
        )
        raise ValueError(
            f"a threshold is chosen between two classes; the task {task.name} has {found}: leave it out"
        )


def evaluate_workdir(
    workdir,
    *,
    log: Callable[[str], None],
    with_times: bool = True,
    only: str = "",
    dense_scores: Mapping[str, float] | None = None,
    splits: Sequence[str] = (),
    with_classes: bool = False,
    threshold_metric: str = "",
    with_operands: bool = False,
) -> list[dict]:
    """Scores every finished model of a run on its test splits and measures seconds on the first of them.

    Returns a row a model and split: method, test_score, dense_score, flops_speedup (true tokens),
    kept_tokens a layer, of classes majority_share and ece, and for the first split the columns of
    `time_model`. only: the one model beside the dense one; empty: all of them. dense_scores: of
    splits where the dense model was scored before; there it has no row. splits: those to score;
    none for all test splits, or the validation splits where there is no test.
    with_classes: adds what `ClassScorer.details` gives. threshold_metric: of two classes, one of
      THRESHOLD_METRICS: adds the decision threshold that is best for it on validation, and its
      score. with_operands: record next to each model whether bfloat16 operands answer alike, for
      loads with dtype="auto", on devices that have units for it.

    Raises ValueError where the workdir holds no finished model, or not that one, or there is no
    such split.
    """
    workdir = pathlib.Path(workdir).expanduser()
    contest = open_contest(workdir, log=log, only=only, splits=splits)
    check_threshold_metric(contest.task, threshold_metric)
    for note in () if only else left_out(workdir):
        log(note)
    rows, operands, chosen = [], {}, tuple(splits) or contest.task.eval_splits
    for split in chosen:
        if split.startswith("validation"):
            log(f"{split}: models were chosen by these very {contest.task.unit}")
        dense_score = (dense_scores or {}).get(split)
        for name in contest.models:
            if name == "dense" and dense_score is not None:
                continue
            log(
                f"{name}: {len(contest.task.splits[split])} {contest.task.unit} of {split}, compiling ..."
            )
            found, scorer = contest.score(name, split)
            dense_score = found.score if name == "dense" else dense_score
            row = contest.row(name, split, found) | {"dense_score": dense_score}
            if isinstance(scorer, ClassScorer):
                details = scorer.details()
                row |= details if with_classes else {"majority_share": details["majority_share"]}
            if threshold_metric:
                row |= contest.threshold_row(name, scorer, threshold_metric)
            if with_times and name != "dense" and split == chosen[0]:
                log(f"{name}: seconds compared with the dense model, compiling ...")
                row |= contest.times(name, split)
            if with_operands and split == chosen[0] and has_units():
                operands |= contest.compare_operands(name, log=log)
            rows.append(row)
    for line in describe_agreement(operands, contest.validation):
        log(line)
    return rows


def check_saving(workdir: pathlib.Path, model: str | None, metric: str | None) -> None:
    """Raise ValueError where a threshold is to be saved and none is chosen, or there is no such model."""
    if model and not metric:
        raise ValueError(
            f"--save_threshold={model} has no threshold to save; add --choose_threshold=f1"
        )
    if model:
        check_finished(workdir, model, finished_phases(workdir))


def save_threshold(workdir, name: str, threshold: float) -> pathlib.Path:
    """Write a decision threshold into a finished model of a run; every later load takes it. Return the model's folder.

    Args:
      workdir: of the run.
      name: of the model, as `finished_phases` has it.
      threshold: probability from which the second class is the label.

    Raises:
      ValueError: there is no such model, it is damaged, or it has other than two classes.
    """
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    check_finished(workdir, name, phases)
    saved = load_phase_model(phases[name])
    check_threshold(threshold, len(saved.class_names))
    names = ("pruner_name", "pruner_options", "head", "class_names", "max_length", "task")
    kept = {name: getattr(saved, name) for name in names}
    extra = saved.extra | {THRESHOLD: threshold}
    with only_process(workdir):
        checksum_path(saved.directory).unlink(
            missing_ok=True
        )  # a kill leaves a model without checksums, which passes
        directory = save_model(saved.directory, saved.params, saved.config, extra=extra, **kept)
        write_checksums(directory, skip=MAY_CHANGE)
    return directory


def describe_head(head: Head, class_names: tuple[str, ...]) -> str:
    """What a head answers, in words."""
    if class_names:
        return f"the classes {', '.join(class_names)}"
    return f"{head.name} answers" + "".join(
        f", {name} {value}" for name, value in head.factory_kwargs
    )


def rows_of_batch(group: int) -> int:
    """About 32 rows, in whole groups of those that belong together."""
    return group * max(1, 32 // group)


def load_fastest(workdir) -> tuple[str, Classifier]:
    """Name and classifier of the pruned model with the largest FLOPs speedup on validation, else of the dense one.

    It has the run's engine and operands.
    """
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    name = fastest(phases)
    return name, load_named(workdir, name)


def load_named(workdir, name: str) -> Classifier:
    """The classifier of a finished model with the run's engine and operands. Raises ValueError on another name."""
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    check_finished(workdir, name, phases)
    return Classifier.load(phases[name] / "model", **load_options(workdir, name))


def reads_texts(workdir) -> bool:
    """Whether a run's task reads texts to answer questions."""
    return is_qa_task(read_run(pathlib.Path(workdir).expanduser()))


def example_answers(
    workdir, *, num_questions: int = 3
) -> tuple[str, list[tuple[Question, QAPrediction]]] | None:
    """Name of the fastest model of a run on questions about texts, and questions of its test split with its answers;
    None where answers are no parts of the text."""
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    name = fastest(phases)
    if load_model(phases[name] / "model").head.name != "span":
        return None
    reader = QuestionAnswerer.load(phases[name] / "model", **load_options(workdir, name))
    data = load_questions(read_run(workdir), phases[name] / "model", only=EVAL_SPLITS)
    split = next(
        split
        for part in EVAL_SPLITS[::-1]
        for name, split in data.splits.items()
        if name.startswith(part)
    )
    chosen = [split.questions[number] for number in range(min(num_questions, len(split.questions)))]
    answers = reader.answer_all([(question.question, question.context) for question in chosen])
    return name, list(zip(chosen, answers))


def fastest(phases: dict[str, pathlib.Path]) -> str:
    """Name of the pruned model with the largest FLOPs speedup on validation, else of the dense one."""
    return max(phases, key=lambda name: recorded_speedup(phases[name]) or 0.0)


def load_options(workdir: pathlib.Path, name: str) -> dict:
    """A run's engine and operands for one of its models, as keywords of `Classifier.load` and `QuestionAnswerer.load`."""
    config = read_run(workdir)
    speedup = recorded_speedup(finished_phases(workdir)[name])
    cache = config.inference.get("compilation_cache", "")
    return engine_options(config) | {"expected_speedup": speedup, "compilation_cache": cache}


def example_texts(workdir, *, num_texts: int = 3) -> tuple[list, list[str]]:
    """Texts, or pairs, of a run's test split, those nearest to its median length; and the names of their classes."""
    workdir = pathlib.Path(workdir).expanduser()
    dataset = load_data(read_run(workdir))
    examples = dataset.split(dataset.eval_splits[0])
    length_E = np.array([len(text) for text in examples.texts])
    chosen = take_examples(
        examples, np.argsort(np.abs(length_E - np.median(length_E)), kind="stable")[:num_texts]
    )
    texts = (
        chosen.texts if chosen.text_pairs is None else list(zip(chosen.texts, chosen.text_pairs))
    )
    saved_names = class_names_of(workdir / "finetune" / "model")
    names = names_in_run(saved_names, dataset.task.class_names)
    return texts, [names[label] for label in chosen.labels]
