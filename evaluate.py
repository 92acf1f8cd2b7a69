"""Evaluate a finished run: python evaluate.py --workdir=W

Prints scores, operations and seconds of every model of the run beside its dense model, marks what the fastest one
kept of three test texts, and writes W/evaluation.json.
"""

import pathlib
import sys

from adapler_jax import process

if __name__ == "__main__":
    process.begin()  # before imports that take seconds

from absl import flags

from adapler_jax.provenance import command_line, device_name
from adapler_jax.report.console import run_command
from adapler_jax.report.evaluation import (
    BESIDE,
    NUM_TIMED_TEXTS,
    evaluate_workdir,
    example_answers,
    example_texts,
    load_fastest,
    reads_texts,
)
from adapler_jax.report.marked_text import print_marked, print_readings
from adapler_jax.report.results import print_table, results_record, write_json

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
_TIMES = flags.DEFINE_bool("times", True, "measure seconds too")
_SPLITS = flags.DEFINE_list("splits", [], "splits to score, seconds of the first; default: the test splits")
_NUM_TEXTS = flags.DEFINE_integer("texts", 3, "test texts to show with the kept words marked", lower_bound=0)
flags.mark_flag_as_required("workdir")


def score_rows(rows: list[dict]) -> list[dict]:
    """What the first table shows of each model."""
    return [
        {
            "split": row["split"], "model": row["method"], row["metric"]: f"{100 * row['test_score']:.1f}",
            **{name: f"{100 * row[name]:.1f}" for name in BESIDE if name in row},
            "FLOPs speedup": f"{row['flops_speedup']:.2f}x", "tokens in each layer": row["kept_tokens"],
        }
        for row in rows
    ]  # fmt: skip


def time_rows(rows: list[dict]) -> list[dict]:
    """What the second table shows: a row a model and batch size."""
    return [
        {
            "model": row["method"], "batch": batch_size, "driver": row[f"driver_{batch_size}"],
            "dense ms": f"{row[f'dense_wall_ms_{batch_size}']:.2f}", "ms": f"{row[f'wall_ms_{batch_size}']:.2f}",
            "speedup": f"{row[f'wall_speedup_{batch_size}']:.2f}x",
            "executed FLOPs": f"{row[f'executed_speedup_{batch_size}']:.2f}x",
            "efficiency": f"{row[f'wall_speedup_{batch_size}'] / row['flops_speedup']:.2f}",
        }
        for row in rows
        for batch_size in NUM_TIMED_TEXTS
        if f"wall_ms_{batch_size}" in row
    ]  # fmt: skip


def main():
    """Evaluates, prints and writes."""
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    rows = evaluate_workdir(
        workdir, tell=lambda line: print(line, file=sys.stderr), with_times=_TIMES.value, splits=_SPLITS.value
    )
    print_table(score_rows(rows), title="score in percent; FLOPs speedup by true tokens")
    timed = time_rows(rows)
    if timed:
        unit = rows[0]["unit"].removesuffix("s")
        print_table(timed, title=f"ms a {unit}, each model in turns with dense BERT\n{device_name()}")
    record = results_record(rows, command=command_line(["python", *sys.argv]))
    write_json(workdir / "evaluation.json", record, checksum=True)
    show_examples(workdir)


def show_examples(workdir: pathlib.Path):
    """Prints what the fastest model kept of some test texts; of options nothing."""
    if not reads_texts(workdir):
        texts, labels = example_texts(workdir, num_texts=_NUM_TEXTS.value)
        name, classifier = load_fastest(workdir)
        print_marked(classifier.predict(texts), labels, model=name)
    elif example := example_answers(workdir, num_questions=_NUM_TEXTS.value):
        name, pairs = example
        print_readings(pairs, model=name)


if __name__ == "__main__":
    run_command(main)
