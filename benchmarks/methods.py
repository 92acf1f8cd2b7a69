r"""Compare pruning methods and a shallower student with dense BERT: score, speedups, training cost.

    python -m benchmarks.methods --task=rotten_tomatoes --model=DIR --set=reinit_head=True \
        --runs=runs/methods --json=benchmarks/results/methods-rotten_tomatoes.json \
        --png=benchmarks/results/methods-rotten_tomatoes.png

Every method starts from its seed's fine-tuned model and learns from that model's soft labels, by
its default recipe. It is trained at the values of --dials: layers of the student, target speedups
of the others. `adapler_student` is AdapLeR on a student of the layers in --set=distill.layers,
every second one unless set. The speedups of a method share a workdir of each seed. Runs missing
under --runs are trained, so a call can be repeated after a kill. Runs that the JSON contains
already are not measured again. The baselines `stop words`, `random` and `cut` need no training:
they are the fine-tuned model on shortened texts, and their parameter is the FLOPs speedup.

Nothing is chosen here. The record has a row for each seed and value, then means over the seeds, and
the curve of scores over speedups. `training_s` are the seconds of all phases that a model needs,
fine-tuning included. --notimes leaves all seconds out, for a machine that does other work too.
"""

import ast
import pathlib
import sys
import types
from collections.abc import Callable, Sequence

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.atomic_directories import atomic_directory, copy_entries
from adapler_jax.io.records import print_table
from adapler_jax.training.baselines import CUT, RANDOM, SHORTENING, STOP_WORDS
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.phases import is_complete
from adapler_jax.training.run import check_config, phase_list, run_all
from adapler_jax.training.workdir import ADAPT, claim_workdir, read_seconds, target_name
from adapler_jax.weights.config import read_config
from adapler_jax.weights.hub import resolve_model
from benchmarks.plot_methods import plot_curves
from benchmarks.records import Record, means_over_seeds
from configs import adapler, attention, distill, finetune, powerbert, trbert, vocabulary

CONFIGS = {
    "student": distill,
    "powerbert": powerbert,
    "trbert": trbert,
    "adapler": adapler,
    # AdapLeR on a student of `distill.layers`
    "adapler_student": types.SimpleNamespace(
        get_config=lambda task: adapler.get_config(f"{task},student")
    ),
    "attention": attention,
    "vocabulary": vocabulary,
}
STUDENT = "student"
# Sections of the target speedups; they begin the names of the phases.
SECTIONS = {method: method for method in CONFIGS} | dict.fromkeys(
    ("adapler", "adapler_student"), ADAPT
)
DENSE = "dense"
BASELINES = (RANDOM, CUT)  # that have values in --dials
SHARED_PHASE = "finetune"
SUMMARY = (
    "test_score",
    "difference",
    "difference_se",
    "macro_f1",
    "flops_speedup",
    "wall_speedup_1",
    "wall_speedup_32",
    "training_s",
)


def parse_dials(text: str) -> dict[str, tuple[float, ...]]:
    """Parse adapler=2,3;trbert=0.5 into {"adapler": (2.0, 3.0), "trbert": (0.5,)}.

    Raises:
      ValueError: the text has another form.
    """
    dials = {}
    for part in filter(None, text.split(";")):
        method, _, values = part.partition("=")
        try:
            dials[method] = tuple(float(value) for value in values.split(","))
        except ValueError:
            raise ValueError(f"--dials={text}: {part!r}; expected METHOD=NUMBER,NUMBER") from None
        if method not in (*CONFIGS, *BASELINES):
            raise ValueError(
                f"--dials={text}: unknown method {method!r}; there are "
                f"{', '.join((*CONFIGS, *BASELINES))}"
            )
    return dials


def parse_changes(texts: Sequence[str]) -> dict:
    """Parse FIELD=VALUE into {field: value}; values in Python's notation, else texts.

    Raises:
      ValueError: a text has another form.
    """
    changes = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set={text}; expected FIELD=VALUE")
        try:
            changes[field] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            changes[field] = value
    return changes


def even_layers(num_kept: float, num_layers: int) -> tuple[int, ...]:
    """Return evenly spaced layers of a teacher for a shallower student, layer 0 among them.

    Raises:
      ValueError: the number of layers to keep is not possible.
    """
    if num_kept not in range(1, num_layers + 1):
        raise ValueError(f"a student of {num_kept:g} layers; expected 1 to {num_layers}")
    return tuple(place * num_layers // int(num_kept) for place in range(int(num_kept)))


def dial_fields(method: str, value: float, num_layers: int) -> dict:
    """Return the fields that a method's value sets: layers of a student, else a target speedup.

    Args:
      method: name in `CONFIGS`.
      value: of the method in --dials.
      num_layers: of the encoder.
    """
    if method == STUDENT:
        return {"distill.layers": even_layers(value, num_layers)}
    return {f"{SECTIONS[method]}.target_speedups": (value,)}


def config_of(module, task: str, seed: int, changes: dict):
    """Return the config of one run.

    Args:
      changes: {field: value}; fields in the sections of other methods are ignored.

    Raises:
      ValueError: a field does not exist.
    """
    config = module.get_config(task).lock()
    others = {name for other in CONFIGS.values() for name in other.get_config(task)} - set(config)
    try:
        config.update_from_flattened_dict(
            {
                field: value
                for field, value in changes.items()
                if field.partition(".")[0] not in others
            }
        )
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(
            f"--set does not fit the config: {' '.join(str(error.args[0]).split())}"
        ) from None
    config.seed = seed
    check_config(config)
    return config


def plan(dials: dict, task: str, seeds: Sequence[int], changes: dict) -> dict[tuple, tuple]:
    """Return {(seed, method, value): (config of plain BERT, config)} of all runs.

    Raises:
      ValueError: one of the configs is not valid. Nothing has been trained then.
    """
    num_layers = read_config(resolve_model(changes["model"]))[0].num_layers
    for module in CONFIGS.values():
        config_of(module, task, 0, changes)
    return {
        (seed, method, value): (
            config_of(finetune, task, seed, changes),
            config_of(
                CONFIGS[method], task, seed, changes | dial_fields(method, value, num_layers)
            ),
        )
        for seed in seeds
        for method, values in dials.items()
        if method not in BASELINES
        for value in values
    }


def lend_phase(source: pathlib.Path, workdir: pathlib.Path, config) -> None:
    """Copy another run's finished fine-tuning of this seed into a workdir without one."""
    claim_workdir(workdir, config.to_dict())
    target = workdir / SHARED_PHASE
    if source != workdir and is_complete(source / SHARED_PHASE) and not target.exists():
        with atomic_directory(target) as partial:
            copy_entries(source / SHARED_PHASE, partial)


def training_seconds(config, *workdirs: pathlib.Path) -> float | None:
    """Return the seconds of all phases that a model needs; None where one was not timed."""
    seconds: dict[str, float] = {}
    for workdir in workdirs:
        seconds |= read_seconds(workdir)
    names = [name for name, _ in phase_list(config)]
    return sum(seconds[name] for name in names) if seconds.keys() >= set(names) else None


def run_one(
    method: str, value: float, runs: pathlib.Path, dense_config, config, *, with_times=True, log
) -> list[dict]:
    """Train and evaluate one method at one value; return a row for each split."""
    first = runs / f"seed{config.seed}-dense"
    run_all(dense_config, first, log=log)
    # One workdir serves all speedups of a method: they share the phases before the target's.
    workdir, wanted = runs / f"seed{config.seed}-{method}", config.method
    if method == STUDENT:
        workdir = runs / f"{workdir.name}-{value:g}"
    else:
        wanted = target_name(SECTIONS[method], value)
    lend_phase(first, workdir, config)
    run_all(config, workdir, log=log)
    if not (workdir / wanted / "model").exists():
        log(f"seed {config.seed}: {method} does not reach {value:g}x and has no row")
        return []
    rows = evaluate_workdir(workdir, log=log, only=wanted, with_times=with_times)
    more = {
        "method": method,
        "dial": value,
        "training_s": training_seconds(config, workdir, first) if with_times else None,
        "dense_training_s": training_seconds(dense_config, first) if with_times else None,
    }
    return [row | more for row in rows if row["method"] == wanted]


def run_baselines(
    runs: pathlib.Path, dense_config, speedups: Sequence[float], *, with_times=True, log
) -> list[dict]:
    """Score a seed's fine-tuned model on shortened texts; return a row for each and split.

    Args:
      runs: folder of the workdirs.
      dense_config: of the seed.
      speedups: FLOPs speedups of the baselines that have a share of the tokens.
      with_times: whether rows have the seconds of training.
      log: receives a sentence for each step.
    """
    first = runs / f"seed{dense_config.seed}-dense"
    run_all(dense_config, first, log=log)
    found = evaluate_workdir(
        first,
        log=log,
        only=DENSE,
        with_times=False,
        baselines=SHORTENING,
        speedups={f"{value:g}x": value for value in speedups},
    )
    seconds = training_seconds(dense_config, first) if with_times else None
    return [
        row
        | {
            "dial": row.get("target_speedup", round(row["flops_speedup"], 2)),
            "training_s": seconds,
            "dense_training_s": seconds,
        }
        for row in found
        if row["method"] != DENSE
    ]


def summarize(rows: list[dict]) -> list[dict]:
    """Return means and deviations over the seeds by split, method and value; dense BERT first."""
    dense = {
        (row["split"], row["seed"]): {
            "split": row["split"],
            "method": DENSE,
            "dial": None,
            "test_score": row["dense_score"],
            "flops_speedup": 1.0,
            "training_s": row["dense_training_s"],
        }
        for row in rows
    }
    return means_over_seeds([*dense.values(), *rows], by=("split", "method", "dial"), names=SUMMARY)


def measure(options, changes: dict, *, log: Callable[[str], None]) -> list[dict]:
    """Run all runs of the call and return the rows of the record."""
    if not all(seed.isdecimal() for seed in options.seeds):
        raise ValueError(f"--seeds={','.join(options.seeds)}; expected whole numbers, as 0,1,2")
    seeds, runs = list(map(int, options.seeds)), pathlib.Path(options.runs)
    dials = parse_dials(options.dials)
    configs = plan(dials, options.task, seeds, changes)
    record = Record(options.json, {"task": options.task} | changes, module="benchmarks.methods")
    there = {(row["seed"], row["method"], row["dial"]) for row in record.rows}
    for (seed, method, value), both in configs.items():
        if (seed, method, value) not in there:
            log(f"seed {seed}: {method} at {value:g}")
            rows = run_one(method, value, runs, *both, with_times=options.times, log=log)
            record.add(rows, summary=summarize)
    for seed in seeds:
        wanted = {(name, value) for name in BASELINES for value in dials.get(name, ())}
        missing = {pair for pair in wanted if (seed, *pair) not in there}
        has_stop_words = any((seed, STOP_WORDS) == key[:2] for key in there)
        if missing or not has_stop_words:
            log(f"seed {seed}: baselines")
            found = run_baselines(
                runs,
                config_of(finetune, options.task, seed, changes),
                sorted({value for _, value in missing}),
                with_times=options.times,
                log=log,
            )
            new = [
                row
                for row in found
                if (row["method"], row["dial"]) in missing
                or (row["method"] == STOP_WORDS and not has_stop_words)
            ]
            record.add(new, summary=summarize)
    return record.rows


def main(options):
    """Train, measure, print and draw."""
    changes = {"model": options.model} | parse_changes(options.set)
    rows = measure(options, changes, log=lambda line: print(line, file=sys.stderr))
    summary = summarize(rows)
    print_table(
        summary,
        columns=[
            "split",
            "method",
            "dial",
            "num_seeds",
            "test_score",
            "test_score_sd",
            *SUMMARY[1:],
        ],
    )
    if options.png:
        plot_curves(rows, summary, options.png, title=options.task)


if __name__ == "__main__":
    flags.DEFINE_string("task", None, "a task of configs/adapler.py")
    flags.DEFINE_string("model", "bert-base-uncased", "local directory or hub name of a BERT")
    flags.DEFINE_multi_string(
        "set", [], "FIELD=VALUE of the configs that have the field; may be given again"
    )
    flags.DEFINE_string("runs", None, "folder of the workdirs")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "training seeds; the splits stay the same")
    flags.DEFINE_string(
        "dials",
        "student=3;powerbert=1.7,3;trbert=1.7,3;adapler=1.7,3;attention=1.7,3;vocabulary=1.7,3;"
        "random=1.7,3;cut=1.7,3",
        "values of every method: layers of the student, target speedups in FLOPs of the others",
    )
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.DEFINE_bool("times", True, "measure seconds; the machine must be idle")
    flags.DEFINE_string("png", "", "where the curves are drawn")
    flags.mark_flags_as_required(["task", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
