r"""Compare AdapLeR with dense BERT over several seeds: test scores, FLOPs speedups, seconds.

    python -m benchmarks.accuracy --config=configs/adapler.py:rotten_tomatoes --config.model=DIR \
        --runs=runs/rt --seeds=0,1,2 --json=benchmarks/results/accuracy-rotten_tomatoes.json

Trains what is missing under --runs and evaluates it. The dense control is plain BERT, trained for
at most as many epochs as all phases of the AdapLeR run together. The table has a row for each seed
and model, then the means; nothing is chosen here. The JSON is written after every run. Runs that
it contains already are not trained again, so one call can measure one run.
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
    """Return the config of plain fine-tuning for as many epochs as all AdapLeR phases."""
    control = copy.deepcopy(config)
    control.method = "finetune"
    adapt_epochs = config.adapt.num_epochs * len(config.adapt.target_speedups)
    control.finetune.num_epochs = (
        config.finetune.num_epochs + config.adapler.num_epochs + adapt_epochs
    )
    return control


def with_training(row: dict, workdir: pathlib.Path, phase: str) -> dict:
    """Return the row with its phase's closing validation scores and training commits."""
    found = read_done(workdir / phase)["validation"]
    scores = {f"validation_{name}": value for name, value in found.items() if name != "kept_tokens"}
    return row | scores | {"training_commits": training_commits(workdir, phase)}


def run_seed(config, seed: int, runs: pathlib.Path, *, log) -> list[dict]:
    """Train and evaluate one seed; return a row for each pruned model and split."""
    config = copy.deepcopy(config)
    config.seed = seed
    workdir = runs / f"seed{seed}"
    run_all(config, workdir, log=log)
    rows = [row for row in evaluate_workdir(workdir, log=log) if row["method"] != "dense"]
    return [with_training(row, workdir, row["method"]) for row in rows]


def run_control(config, seed: int, runs: pathlib.Path, *, log) -> list[dict]:
    """Train and evaluate the dense control; return a row for each split."""
    control = control_config(config)
    control.seed = seed
    workdir = runs / f"{CONTROL}{seed}"
    run_all(control, workdir, log=log)
    rows = evaluate_workdir(workdir, log=log, with_times=False)
    return [with_training(row, workdir, "finetune") | {"method": CONTROL} for row in rows]


def summarize(rows: list[dict]) -> list[dict]:
    """Return mean and sample standard deviation over the seeds, a row for each split and method."""
    return means_over_seeds(rows, by=("split", "method"), names=SUMMARY)


def main(options):
    """Run all seeds."""

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
    flags.DEFINE_string("json", None, "file of the rows, which may contain rows of an earlier call")
    flags.DEFINE_bool("control", True, "train and evaluate the dense control")
    flags.mark_flags_as_required(["config", "runs", "json"])
    run_command(lambda: main(flags.FLAGS))
