"""Evaluate a finished run: python evaluate.py --workdir=W

Prints score, speedup and milliseconds of every model of the run next to its dense model, the scores of few classes, and
three test texts with what the fastest model kept marked; writes W/evaluation.json. --details shows how operations
became seconds, and every class. --choose_threshold=f1 finds the decision threshold of two classes on validation.
"""

import pathlib
import sys

from adapler_jax.io import process

if __name__ == "__main__":
    process.begin()  # before imports that take seconds

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.evaluation.score_tables import print_rows
from adapler_jax.io.provenance import command_line
from adapler_jax.io.records import results_record, write_json
from adapler_jax.io.terminal import print_note
from adapler_jax.metrics.classification import THRESHOLD_METRICS
from adapler_jax.serving.marked_text import print_marked, print_readings
from adapler_jax.serving.run_examples import example_answers, example_texts, is_qa_run
from adapler_jax.training.evaluation import compare_operands, evaluate_run, load_finished_run
from adapler_jax.training.finished import check_saving, load_fastest, save_threshold

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
_TIMES = flags.DEFINE_bool("times", True, "measure seconds too")
_SPLITS = flags.DEFINE_list(
    "splits", [], "splits to score, seconds of the first; default: the test splits"
)
_NUM_TEXTS = flags.DEFINE_integer(
    "texts", 3, "test texts to show with the kept words marked", lower_bound=0
)
_DETAILS = flags.DEFINE_bool(
    "details", False, "show executed FLOPs, efficiency, tokens of each layer, and all classes"
)
_CHOOSE = flags.DEFINE_enum(
    "choose_threshold",
    None,
    THRESHOLD_METRICS,
    "of two classes: find the decision threshold that is best for this metric on validation",
)
_SAVE = flags.DEFINE_string(
    "save_threshold", None, "model, as adapt-2x, that the chosen threshold is saved in"
)
flags.mark_flag_as_required("workdir")


def main():
    """Evaluates, prints and writes."""
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    check_saving(workdir, _SAVE.value, _CHOOSE.value)
    run = load_finished_run(workdir, log=print_note, splits=_SPLITS.value)
    rows = evaluate_run(
        run,
        log=print_note,
        splits=_SPLITS.value,
        with_times=_TIMES.value,
        with_classes=True,
        threshold_metric=_CHOOSE.value or "",
    )
    if _TIMES.value:
        compare_operands(run, log=print_note)
    print_rows(rows, details=_DETAILS.value)
    record = results_record(rows, command=command_line(["python", *sys.argv]))
    write_json(workdir / "evaluation.json", record, checksum=True)
    if _SAVE.value:
        threshold = next(row["threshold"] for row in rows if row["method"] == _SAVE.value)
        print_note(
            f"threshold {threshold:.3f} saved in {save_threshold(workdir, _SAVE.value, threshold)}"
        )
    show_examples(workdir)


def show_examples(workdir: pathlib.Path):
    """Prints what the fastest model kept of some test texts; of options nothing."""
    if not is_qa_run(workdir):
        texts, labels = example_texts(workdir, num_texts=_NUM_TEXTS.value)
        name, classifier = load_fastest(workdir)
        print_marked(classifier.predict(texts), labels, model=name)
    elif example := example_answers(workdir, num_questions=_NUM_TEXTS.value):
        name, pairs = example
        print_readings(pairs, model=name)


if __name__ == "__main__":
    run_command(main)
