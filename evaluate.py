"""Evaluate a finished run: python evaluate.py --workdir=W

Prints score, speedup and milliseconds of every model of the run next to its dense model, the scores of few classes, and
three test texts with what the fastest model kept marked; writes W/evaluation.json. --details shows how operations
became seconds, and every class. --choose_threshold=f1 finds the decision threshold of two classes on validation.
"""

import pathlib
import sys

from adapler_jax import process

if __name__ == "__main__":
    process.begin()  # before imports that take seconds

from absl import flags

from adapler_jax.metrics.classification import THRESHOLD_METRICS
from adapler_jax.provenance import command_line, device_name
from adapler_jax.report.console import run_command
from adapler_jax.report.evaluation import (
    BESIDE,
    check_finished,
    evaluate_workdir,
    example_answers,
    example_texts,
    finished_phases,
    load_fastest,
    reads_texts,
    save_threshold,
)
from adapler_jax.report.marked_text import print_marked, print_readings
from adapler_jax.report.results import print_table, results_record, write_json
from adapler_jax.report.score_tables import class_rows, shown_models, time_cells
from adapler_jax.report.terminal import print_note
from adapler_jax.report.timing import NUM_TIMED_TEXTS

_WORKDIR = flags.DEFINE_string("workdir", None, "directory of the run")
_TIMES = flags.DEFINE_bool("times", True, "measure seconds too")
_SPLITS = flags.DEFINE_list("splits", [], "splits to score, seconds of the first; default: the test splits")
_NUM_TEXTS = flags.DEFINE_integer("texts", 3, "test texts to show with the kept words marked", lower_bound=0)
_DETAILS = flags.DEFINE_bool("details", False, "show executed FLOPs, efficiency, tokens of each layer, and all classes")
_CHOOSE = flags.DEFINE_enum(
    "choose_threshold",
    None,
    THRESHOLD_METRICS,
    "of two classes: find the decision threshold that is best for this metric on validation",
)
_SAVE = flags.DEFINE_string("save_threshold", None, "model, as adapt-2x, that the chosen threshold is saved in")
flags.mark_flag_as_required("workdir")

DETAILS = (
    "FLOPs speedups count true tokens; executed FLOPs what ran, padding on both sides; efficiency is the\n"
    "speedup in seconds over the FLOPs speedup, above 1 where the dense model pays for padding"
)


def score_rows(rows: list[dict]) -> list[dict]:
    """Return what the first table shows of each model: score, seconds, operations."""
    several = len({row["split"] for row in rows}) > 1
    return [
        {"model": row["method"]}
        | ({"split": row["split"]} if several else {})
        | {row["metric"]: f"{100 * row['test_score']:.1f}"}
        | {name: f"{100 * row[name]:.1f}" for name in BESIDE if name in row}
        | ({"largest class": f"{100 * row['majority_share']:.1f}"} if "majority_share" in row else {})
        | seconds_of(row, rows)
        | {"FLOPs speedup": f"{row['flops_speedup']:.2f}x"}
        for row in rows
    ]


def seconds_of(row: dict, rows: list[dict]) -> dict[str, str]:
    """Return the cells of speedup and milliseconds at every batch size."""
    cells = {}
    for size in NUM_TIMED_TEXTS:
        if timed := time_cells(row, rows, size):
            cells |= {f"speedup, batch {size}": f"{timed[0]:.2f}x", f"ms, batch {size}": f"{timed[1]:.2f}"}
    return cells


def time_rows(rows: list[dict]) -> list[dict]:
    """Return what --details shows of seconds: a row a model and batch size."""
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


def token_rows(rows: list[dict]) -> list[dict]:
    """Return what --details shows of tokens and calibration."""
    return [
        {"model": row["method"], "split": row["split"], "tokens in each layer": row["kept_tokens"]}
        | ({"calibration error": f"{100 * row['ece']:.1f}"} if "ece" in row else {})
        for row in rows
    ]


def threshold_rows(rows: list[dict]) -> list[dict]:
    """Return what the chosen decision thresholds are worth."""
    return [
        {
            "model": row["method"],
            "split": row["split"],
            "threshold": f"{row['threshold']:.3f}",
            f"{row['threshold_metric']} with it": f"{100 * row['threshold_score']:.1f}",
            "without": f"{100 * row['likeliest_score']:.1f}",
            "on validation": f"{100 * row['threshold_validation_score']:.1f}",
        }
        for row in rows
        if "threshold" in row
    ]


def title_of(rows: list[dict]) -> str:
    """Return what the numbers of the first table are."""
    first, *_ = rows
    splits = {row["split"]: f"{row['num_texts']:,} {row['unit']} of {row['split']}" for row in rows}
    title = " and ".join(splits.values()) + "; scores in percent"
    if any("wall_ms_1" in row for row in rows):
        unit = first["unit"].removesuffix("s")
        title += f"; ms a {unit}, each model in turns with the dense one\n{device_name()}"
    return title


def print_rows(rows: list[dict], *, details: bool) -> None:
    """Print all tables of an evaluation."""
    print_table(score_rows(rows), title=title_of(rows))
    if found := threshold_rows(rows):
        print_table(found, title="decision thresholds that are best on validation: the second class from there on")
    for row in shown_models(rows, details=details):
        cells, caption = class_rows(row)
        print_table(cells, title=f"{row['method']} on {row['split']}, by class: {caption}")
    if details:
        if timed := time_rows(rows):
            print_table(timed, title=DETAILS)
        print_table(token_rows(rows), title="tokens that each layer ran on, means; calibration error in percent")


def check_saving(workdir: pathlib.Path, model: str | None, metric: str | None) -> None:
    """Raise ValueError where a threshold is to be saved and none is chosen, or there is no such model."""
    if model and not metric:
        raise ValueError(f"--save_threshold={model} has no threshold to save; add --choose_threshold=f1")
    if model:
        check_finished(workdir, model, finished_phases(workdir))


def main():
    """Evaluates, prints and writes."""
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    check_saving(workdir, _SAVE.value, _CHOOSE.value)
    rows = evaluate_workdir(
        workdir,
        tell=print_note,
        with_times=_TIMES.value,
        splits=_SPLITS.value,
        with_classes=True,
        threshold_metric=_CHOOSE.value or "",
        with_operands=_TIMES.value,
    )
    print_rows(rows, details=_DETAILS.value)
    record = results_record(rows, command=command_line(["python", *sys.argv]))
    write_json(workdir / "evaluation.json", record, checksum=True)
    if _SAVE.value:
        threshold = next(row["threshold"] for row in rows if row["method"] == _SAVE.value)
        print_note(f"threshold {threshold:.3f} saved in {save_threshold(workdir, _SAVE.value, threshold)}")
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
