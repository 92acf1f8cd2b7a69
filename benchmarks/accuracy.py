"""AdapLeR beside dense BERT over several seeds: score, FLOPs speedup and seconds on the test split.

    python -m benchmarks.accuracy --config=configs/adapler.py:rotten_tomatoes --config.model=DIR --runs=runs/rt \\
        --seeds=0,1,2 --json=benchmarks/results/accuracy-rotten_tomatoes.json

Trains what is missing under --runs and evaluates it. The dense control is plain BERT trained for as many epochs as all
phases of the AdapLeR run together take at most. A row a seed and model, then the means; nothing is chosen here. The
JSON is written after every run, and runs that it holds already are not trained again, so that they can be measured one
at a time.
"""

import copy
import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from adapler_jax.cli.console import run_command
from adapler_jax.io.records import print_table
from adapler_jax.training.evaluation import evaluate_workdir
from adapler_jax.training.phases import read_done
from adapler_jax.training.run import run_all
from adapler_jax.training.workdir import flatten
from benchmarks.records import Record, means_over_seeds, training_commits

CONTROL = "control"
SUMMARY = (
    "test_score",
    "dense_score",
    "validation_score",
    "flops_speedup",
    "wall_speedup_1",
    "wall_speedup_32",
)


def control_config(config):
    """Fine-tuning alone, for as many epochs as all phases of the AdapLeR run."""
    control = copy.deepcopy(config)
    control.method = "finetune"
    adapt_epochs = config.adapt.num_epochs * len(config.adapt.target_speedups)
    control.finetune.num_epochs = (
        config.finetune.num_epochs + config.adapler.num_epochs + adapt_epochs
    )
    return control


def with_training(row: dict, workdir: pathlib.Path, phase: str) -> dict:
    """The row with the closing validation scores of its phase and the commits that trained it."""
    found = read_done(workdir / phase)["validation"]
    scores = {f"validation_{name}": value for name, value in found.items() if name != "kept_tokens"}
    return row | scores | {"training_commits": training_commits(workdir, phase)}


def run_seed(config, seed: int, runs: pathlib.Path, *, log) -> list[dict]:
    """Trains and evaluates one seed; a row a pruned model, with its scores on validation beside those on test."""
    config = copy.deepcopy(config)
    config.seed = seed
    workdir = runs / f"seed{seed}"
    run_all(config, workdir, log=log)
    rows = [row for row in evaluate_workdir(workdir, log=log) if row["method"] != "dense"]
    return [with_training(row, workdir, row["method"]) for row in rows]


def run_control(config, seed: int, runs: pathlib.Path, *, log) -> list[dict]:
    """The same of the dense control, in one row a split."""
    control = control_config(config)
    control.seed = seed
    workdir = runs / f"{CONTROL}{seed}"
    run_all(control, workdir, log=log)
    rows = evaluate_workdir(workdir, log=log, with_times=False)
    return [with_training(row, workdir, "finetune") | {"method": CONTROL} for row in rows]


def summarize(rows: list[dict]) -> list[dict]:
    """Mean and sample standard deviation over the seeds, a row a split and method."""
    return means_over_seeds(rows, by=("split", "method"), names=SUMMARY)


def main(options):
    """Runs all seeds."""

    def log(line):
        print(line, file=sys.stderr)

    fields = flatten(options.config.to_dict())
    del fields["seed"]
    record = Record(options.json, fields, module="benchmarks.accuracy")
    runs = pathlib.Path(options.runs)
    for seed in map(int, options.seeds):
        there = {row["method"] for row in record.rows if row["seed"] == seed}
        if not there - {CONTROL}:
            record.add(run_seed(options.config, seed, runs, log=log), summary=summarize)
        if options.control and CONTROL not in there:
            record.add(run_control(options.config, seed, runs, log=log), summary=summarize)
    print_table(record.rows, columns=["seed", "method", *SUMMARY])
    print_table(summarize(record.rows))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "config of the AdapLeR run", lock_config=True)
    flags.DEFINE_string("runs", None, "folder of the workdirs")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "training seeds; the splits stay the same")
    flags.DEFINE_string(
        "json", None, "where the rows are written, and where those of an earlier call are"
    )
    flags.DEFINE_bool("control", True, "train and evaluate the dense control")
    flags.mark_flags_as_required(["config", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
