"""Evaluate a finished run: python evaluate.py --workdir=W

Prints scores, operations and seconds of every model of the run beside its dense model, marks what the fastest one kept of
three test texts, and writes W/evaluation.json.
"""

import pathlib
import sys

from absl import flags

from adapler_jax.inference.classifier import Classifier
from adapler_jax.report.console import run_command
from adapler_jax.report.evaluation import evaluate_workdir, example_texts
from adapler_jax.report.marked_text import print_marked
from adapler_jax.report.results import device_name, print_table, results_record, write_json

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
_TIMES = flags.DEFINE_bool("times", True, "measure seconds too")
_NUM_TEXTS = flags.DEFINE_integer("texts", 3, "test texts to show with the kept words marked", lower_bound=0)
flags.mark_flag_as_required("workdir")

SCORES = ("split", "method", "metric", "test_score", "dense_score", "flops_speedup", "kept_tokens")
TIMES = (
    *("method", "dense_wall_ms_1", "wall_ms_1", "wall_speedup_1", "dense_wall_ms_32", "wall_ms_32", "wall_speedup_32"),
    *("executed_speedup_32", "efficiency_32"),
)


def main():
    """Evaluates, prints and writes."""
    workdir = pathlib.Path(_WORKDIR.value)
    rows = evaluate_workdir(workdir, tell=lambda line: print(line, file=sys.stderr), with_times=_TIMES.value)
    print_table(rows, columns=SCORES, title="scores; FLOPs speedup by true tokens; mean tokens that each layer runs on")
    timed = [row for row in rows if "wall_ms_1" in row]
    if timed:
        print_table(timed, columns=TIMES, title=f"ms a text and speedup over dense at batch 1 and 32, {device_name()}")
    directory, texts = example_texts(workdir, num_texts=_NUM_TEXTS.value)
    print_marked(Classifier.load(directory).predict(texts))
    write_json(workdir / "evaluation.json", results_record(rows, command=f"python evaluate.py --workdir={workdir}"))


if __name__ == "__main__":
    run_command(main)
