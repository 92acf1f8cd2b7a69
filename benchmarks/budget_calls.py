"""Measure what a budget costs a call: compiled programs, and time over a model without budgets.

    python -m benchmarks.budget_calls --model=DIR --data=FILE \
        --json=benchmarks/results/budget_calls.json

DIR is a calibrated model. Its copy without `calibration.json` has the same weights and thresholds
and takes no budget. Both predict the same texts in turns, and `calibrated_over_plain` is the median
over the rounds of the ratio of their seconds. `compiled` counts the programs that calls with many
budgets compile after a warm-up. The machine should run nothing else.
"""

import pathlib
import statistics
import tempfile
import time

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.inference.classifier import Classifier
from adapler_jax.io.atomic_directories import copy_entries
from adapler_jax.io.records import print_table
from adapler_jax.io.terminal import print_note
from adapler_jax.serving.texts import read_texts
from adapler_jax.weights.config import CALIBRATION_FILE, FULL_FOLDER
from benchmarks.compilations import compilations
from benchmarks.records import Record

BATCH_SIZES = (1, 32)


def without_calibration(model: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Copy a model into a folder, but for its calibration."""
    copy_entries(model, folder, skip=(CALIBRATION_FILE, FULL_FOLDER))
    return folder


def seconds(classifier: Classifier, texts: list, batch_size: int) -> float:
    """Return the seconds of the predictions, in calls of one batch."""
    start = time.perf_counter()
    for first in range(0, len(texts), batch_size):
        classifier.predict_probs(texts[first : first + batch_size], batch_size=batch_size)
    return time.perf_counter() - start


def measure(
    calibrated: Classifier, plain: Classifier, texts: list, *, batch_size: int, rounds: int
) -> dict:
    """Return the row of a batch size."""
    for classifier in (calibrated, plain):
        classifier.warm_up(batch_size)
    lowest = calibrated.calibration.budgets[0]
    spread = [lowest + (1.0 - lowest) * row / len(texts) for row in range(len(texts))]
    with compilations() as compiled:
        calibrated.predict_probs(texts, batch_size=batch_size, budget=spread)
    turns = [(calibrated, plain) if number % 2 else (plain, calibrated) for number in range(rounds)]
    ratios = []
    for turn in turns:
        found = {id(classifier): seconds(classifier, texts, batch_size) for classifier in turn}
        ratios.append(found[id(calibrated)] / found[id(plain)])
    return {
        "what": "call",
        "batch_size": batch_size,
        "num_texts": len(texts),
        "rounds": rounds,
        "compiled": len(compiled),
        "calibrated_over_plain": statistics.median(ratios),
    }


def main(options):
    """Measure both batch sizes, write the record and print it."""
    texts = read_texts(options.model, options.data, columns=options.column, log=print_note).texts
    texts = texts[: options.num_texts]
    record = Record(options.json, {"data": options.data}, module="benchmarks.budget_calls")
    model, calibrated = pathlib.Path(options.model), Classifier.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        plain = Classifier.load(without_calibration(model, pathlib.Path(folder)))
        for batch_size in BATCH_SIZES:
            row = measure(calibrated, plain, texts, batch_size=batch_size, rounds=options.rounds)
            record.add([row])
    print_table(record.rows)


if __name__ == "__main__":
    flags.DEFINE_string("model", None, "directory of a calibrated model")
    flags.DEFINE_string("data", None, "file of texts")
    flags.DEFINE_list("column", [], "text column of a table, two with a comma for pairs")
    flags.DEFINE_integer("num_texts", 512, "of the file", lower_bound=1)
    flags.DEFINE_integer("rounds", 11, "of both models in turns", lower_bound=1)
    flags.DEFINE_string("json", None, "file of the rows")
    flags.mark_flags_as_required(["model", "data", "json"])
    run_command(lambda: main(flags.FLAGS))
