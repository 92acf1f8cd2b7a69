"""What a finished workdir is worth: every model of it on the test split, in score, operations and seconds."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import ml_collections
import numpy as np

from adapler_jax.caches import use_compilation_cache
from adapler_jax.data.batches import eval_batches
from adapler_jax.data.examples import take_examples
from adapler_jax.data.lengths import batch_lengths, bucket_for
from adapler_jax.data.padding import pad_batch
from adapler_jax.data.questions import Question
from adapler_jax.data.tables import explain_unknown
from adapler_jax.data.tokens import Tokenized
from adapler_jax.heads import Head
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.evaluation import compare_speed, evaluate_model
from adapler_jax.inference.reader import Reader, Reading
from adapler_jax.pruning import Pruner, pruner_of_saved
from adapler_jax.training.phases import is_done, load_phase_model, read_done
from adapler_jax.training.setup import engine_options
from adapler_jax.training.task_data import is_reading, load_data, load_questions, load_task_data
from adapler_jax.training.workdir import CONFIG_FILE, read_object
from adapler_jax.weights.save import Saved, load_model

NUM_TIMED_TEXTS = {1: 32, 32: 128}  # batch size -> texts of one round
NUM_ROUNDS = 5
BESIDE = ("exact", "best_span_f1", "joint_em", "sp_f1")  # scores shown beside the main one, where a task has them
HELD_OUT = ("validation", "test")  # training texts are not needed again
RESTORE_CONFIG = "restore it or train in another --workdir"
ADAPTED = re.compile(r"adapt-(\d+(?:\.\d+)?(?:e[+-]?\d+)?)x")


def read_run(workdir: pathlib.Path) -> ml_collections.ConfigDict:
    """The config that a workdir was trained with. Raises ValueError where it holds no run, or a damaged one."""
    path = workdir / CONFIG_FILE
    if not path.exists():
        raise ValueError(
            f"{workdir} holds no run: there is no {CONFIG_FILE}; train one with train.py --workdir={workdir}"
        )
    return ml_collections.ConfigDict(read_object(path, RESTORE_CONFIG))


def adapted_phases(workdir: pathlib.Path) -> list[str]:
    """Names of the adaptations that were begun, in the order of their speedups."""
    found = [ADAPTED.fullmatch(path.name) for path in workdir.glob("adapt-*x")]
    return [match[0] for match in sorted(filter(None, found), key=lambda match: float(match[1]))]


def finished_phases(workdir: pathlib.Path) -> dict[str, pathlib.Path]:
    """Directories of the finished phases that end in a model, by the model's name: `dense`, the method's, then the
    adapted ones in the order of their speedups. Raises ValueError where there is none."""
    names = ["finetune", "adapler", "powerbert", "trbert", "distil", *adapted_phases(workdir)]
    phases = {
        "dense" if name == "finetune" else name: workdir / name
        for name in names
        if is_done(workdir / name) and (workdir / name / "model").exists()  # a speedup out of reach leaves none
    }
    if "dense" not in phases:
        raise ValueError(f"{workdir}: no phase is finished; call train.py with the same config and workdir again")
    return phases


def check_finished(workdir: pathlib.Path, name: str, phases: dict[str, pathlib.Path]) -> None:
    """Raises ValueError where a name is of none of a run's finished models."""
    if name not in phases:
        raise ValueError(f"{workdir} has no finished model {name!r}; there are {', '.join(phases)}")


def unfinished_phases(workdir: pathlib.Path) -> list[str]:
    """Names of the phases that were begun and are not finished."""
    names = ["finetune", "saliency", "adapler", "teacher", "search", "powerbert", "scores", "init", "policy", "trbert",
             "distil"]  # fmt: skip
    names += adapted_phases(workdir)
    return [name for name in names if (workdir / name).exists() and not is_done(workdir / name)]


def told_speedup(phase: pathlib.Path) -> float | None:
    """FLOPs speedup on validation of a finished phase's model; None for the dense one."""
    return read_done(phase)["validation"].get("flops_speedup")


def mixed_batches(tokenized: Tokenized, batch_size: int, lengths) -> list:
    """Full batches of a seeded sample in arrival order, texts again where there are too few, each padded to the first
    length that holds its longest text."""
    rows = np.resize(np.random.default_rng(0).permutation(len(tokenized.labels)), NUM_TIMED_TEXTS[batch_size])
    batches = []
    for start in range(0, len(rows), batch_size):
        chosen = rows[start : start + batch_size]
        texts = [tokenized.tokens[row] for row in chosen]
        batches.append(
            pad_batch(
                texts,
                [tokenized.segments[row] for row in chosen],
                length=bucket_for(max(len(text) for text in texts), lengths),
                batch_size=batch_size,
                marks={name: marks[chosen] for name, marks in tokenized.marks.items()},
            )
        )
    return batches


def own_lengths(pruner: Pruner, lengths) -> tuple[int, ...]:
    """The lengths that a model's batches are padded to: one where tokens are dropped, since those drivers leave padding
    out by themselves and one length saves compilations; all of them for plain encoders."""
    return tuple(lengths[-1:] if pruner.sites else lengths)


def time_model(pruned: Saved, dense: Saved, pruner: Pruner, tokenized: Tokenized, lengths, *, engine: dict) -> dict:
    """Milliseconds a row and speedups over dense BERT at batch 1 and 32, as columns of a row.

    Both models take turns on the same texts in arrival order in one run; medians, compilation apart.
    `executed_speedup_32` is the ratio of the operations that really ran (`executed_flops`), padding counted on both
    sides. engine: keywords of `make_engine`.
    """
    columns = {}
    for batch_size in NUM_TIMED_TEXTS:
        dense_batches = mixed_batches(tokenized, batch_size, lengths)
        batches = mixed_batches(tokenized, batch_size, own_lengths(pruner, lengths))
        found = compare_speed(
            pruned.params, dense.params, pruned.config, pruner, batches,
            head=pruned.head, dense_batches=dense_batches, dense_config=dense.config, repeats=NUM_ROUNDS, **engine,
        )  # fmt: skip
        columns |= {
            f"wall_ms_{batch_size}": 1e3 * found.pruned.median_s / NUM_TIMED_TEXTS[batch_size],
            f"dense_wall_ms_{batch_size}": 1e3 * found.dense.median_s / NUM_TIMED_TEXTS[batch_size],
            f"wall_speedup_{batch_size}": found.wall_speedup,
            f"executed_speedup_{batch_size}": found.executed_flops_speedup,
            f"driver_{batch_size}": found.driver,
        }
    return columns


def evaluate_workdir(
    workdir, *, tell: Callable[[str], None], with_times: bool = True, only: str = "",
    dense_scores: Mapping[str, float] | None = None, splits: Sequence[str] = (),
) -> list[dict]:  # fmt: skip
    """Scores every finished model of a run on its test splits and measures seconds on the first of them.

    Returns a row a model and split: method, test_score, dense_score, flops_speedup (true tokens), kept_tokens a layer,
    and for the first split the columns of `time_model`. only: the one model beside the dense one; empty: all of them.
    dense_scores: of splits where the dense model was scored before; there it has no row. splits: those to score; none
    for all test splits, or the validation splits where there is no test.

    Raises ValueError where the workdir holds no finished model, or not that one, or there is no such split.
    """
    workdir = pathlib.Path(workdir).expanduser()
    config = read_run(workdir)
    use_compilation_cache(config.inference.get("compilation_cache", ""), tell=tell)
    phases = finished_phases(workdir)
    if only:
        check_finished(workdir, only, phases)
        phases = {name: phase for name, phase in phases.items() if name in ("dense", only)}
    models = {name: load_phase_model(phase) for name, phase in phases.items()}
    for name in unfinished_phases(workdir):
        tell(f"{name}: not finished; give the training command again to go on")
    pruners = {name: pruner_of_saved(saved) for name, saved in models.items()}
    engines = {name: engine_options(config) | {"expected_speedup": told_speedup(phases[name])} for name in models}
    dense, task = models["dense"], load_task_data(config, workdir / "finetune" / "model", only=HELD_OUT)
    lengths = batch_lengths(config.data.lengths, dense.max_length)
    if dense.head is not task.head or dense.class_names != task.class_names:
        raise ValueError(
            f"{workdir}: its models are for {told_answers(dense.head, dense.class_names)}, the data now has "
            f"{told_answers(task.head, task.class_names)}; restore the data"
        )
    rows = []
    chosen = tuple(splits) or task.eval_splits
    for split in chosen:
        if split not in task.splits:
            raise ValueError(f"{workdir}: {explain_unknown('split', split, task.splits)}")
    for split in chosen:
        if split.startswith("validation"):
            tell(f"{split}: models were chosen by these very {task.unit}")
        tokenized = task.splits[split]
        dense_score = (dense_scores or {}).get(split)
        for name, saved in models.items():
            if name == "dense" and dense_score is not None:
                continue
            tell(f"{name}: {len(tokenized)} {task.unit} of {split}, compiling ...")
            batches = eval_batches(
                tokenized, batch_size=rows_of_batch(task.group), lengths=own_lengths(pruners[name], lengths)
            )
            found = evaluate_model(
                saved.params, saved.config, pruners[name], batches, head=saved.head, dense_config=dense.config,
                scorer=task.make_scorer(split, saved.extra.get("no_answer_threshold")), **engines[name],
            )  # fmt: skip
            dense_score = found.score if name == "dense" else dense_score
            row = {
                "task": task.name, "split": split, "num_texts": len(tokenized), "unit": task.unit, "method": name,
                "seed": config.seed, "dtype": config.compute_dtype, "metric": task.metric,
                "test_score": found.score, "dense_score": dense_score,
                "flops_speedup": found.flops_speedup, "kept_tokens": [round(tokens, 2) for tokens in found.kept_tokens],
            }  # fmt: skip
            row |= {name: score for name, score in found.scores.items() if name not in ("score", task.metric)}
            if with_times and name != "dense" and split == chosen[0]:
                tell(f"{name}: seconds beside the dense model, compiling ...")
                row |= time_model(saved, dense, pruners[name], tokenized, lengths, engine=engines[name])
            rows.append(row)
    return rows


def told_answers(head: Head, class_names: tuple[str, ...]) -> str:
    """What a head answers, in words."""
    if class_names:
        return f"the classes {', '.join(class_names)}"
    return f"{head.name} answers" + "".join(f", {name} {value}" for name, value in head.options)


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
    return is_reading(read_run(pathlib.Path(workdir).expanduser()))


def example_answers(workdir, *, num_questions: int = 3) -> tuple[str, list[tuple[Question, Reading]]] | None:
    """Name of the fastest model of a run on questions about texts, and questions of its test split with its answers;
    None where answers are no parts of the text."""
    workdir = pathlib.Path(workdir).expanduser()
    phases = finished_phases(workdir)
    name = fastest(phases)
    if load_model(phases[name] / "model").head.name != "span":
        return None
    reader = Reader.load(phases[name] / "model", **load_options(workdir, name))
    data = load_questions(read_run(workdir), phases[name] / "model", only=HELD_OUT)
    split = next(split for part in HELD_OUT[::-1] for name, split in data.splits.items() if name.startswith(part))
    chosen = [split.questions[number] for number in range(min(num_questions, len(split.questions)))]
    answers = reader.answer_all([(question.question, question.context) for question in chosen])
    return name, list(zip(chosen, answers))


def fastest(phases: dict[str, pathlib.Path]) -> str:
    """Name of the pruned model with the largest FLOPs speedup on validation, else of the dense one."""
    return max(phases, key=lambda name: told_speedup(phases[name]) or 0.0)


def load_options(workdir: pathlib.Path, name: str) -> dict:
    """A run's engine and operands for one of its models, as keywords of `Classifier.load` and `Reader.load`."""
    config = read_run(workdir)
    speedup = told_speedup(finished_phases(workdir)[name])
    cache = config.inference.get("compilation_cache", "")
    return engine_options(config) | {"expected_speedup": speedup, "compilation_cache": cache}


def example_texts(workdir, *, num_texts: int = 3) -> tuple[list, list[str]]:
    """Texts, or pairs, of a run's test split, those nearest to its median length; and the names of their classes."""
    dataset = load_data(read_run(pathlib.Path(workdir).expanduser()))
    examples = dataset.split(dataset.eval_splits[0])
    length_E = np.array([len(text) for text in examples.texts])
    chosen = take_examples(examples, np.argsort(np.abs(length_E - np.median(length_E)), kind="stable")[:num_texts])
    texts = chosen.texts if chosen.text_pairs is None else list(zip(chosen.texts, chosen.text_pairs))
    return texts, [dataset.task.class_names[label] for label in chosen.labels]
