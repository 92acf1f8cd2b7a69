"""Evaluate a finished run.

    adapler evaluate --workdir=W

Prints score, speedup and milliseconds of every model of the run next to its dense model, the scores
of single classes, and three test texts with the words highlighted that the fastest model keeps.
Writes W/evaluation.json, and the scores of each model into its card and its scores.json.

--details shows how operations become seconds, and every class. --baselines adds the dense model on
shortened texts: without English stop words and punctuation, and, at the speedup of each pruned
model, without random tokens or cut to the first ones. It adds the methods without training at these
speedups too. --budgets adds calibrated models at other budgets.
--choose_threshold=f1 finds the decision threshold of two classes on validation.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from adapler_jax.cli.console import run_command, typed_command
from adapler_jax.evaluation.score_card import write_scores
from adapler_jax.evaluation.score_tables import print_rows
from adapler_jax.io.provenance import command_line
from adapler_jax.io.records import results_record, write_json
from adapler_jax.io.terminal import print_note
from adapler_jax.metrics.classification import THRESHOLD_METRICS
from adapler_jax.serving.highlight import print_answers, print_predictions
from adapler_jax.serving.run_examples import (
    example_answers,
    example_texts,
    is_class_run,
    is_qa_run,
)
from adapler_jax.training.baselines import BASELINES
from adapler_jax.training.evaluation import compare_operands, evaluate_run
from adapler_jax.training.finished import check_saving, load_fastest, save_threshold
from adapler_jax.training.loaded_run import FinishedRun, load_finished_run

FLAGS = flags.FlagValues()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "directory of the run", required=True, flag_values=FLAGS
)
_TIMES = flags.DEFINE_bool("times", True, "measure seconds too", flag_values=FLAGS)
_SPLITS = flags.DEFINE_list(
    "splits",
    [],
    "splits to score; seconds are of the first; default: the test splits",
    flag_values=FLAGS,
)
_NUM_TEXTS = flags.DEFINE_integer(
    "texts",
    3,
    "test texts to show with the kept words highlighted",
    lower_bound=0,
    flag_values=FLAGS,
)
_DETAILS = flags.DEFINE_bool(
    "details",
    False,
    "show executed FLOPs, efficiency, tokens of each layer, and all classes",
    flag_values=FLAGS,
)
_BASELINES = flags.DEFINE_bool(
    "baselines",
    False,
    "add the dense model on texts without stop words, without random tokens, and cut",
    flag_values=FLAGS,
)
_BUDGETS = flags.DEFINE_list(
    "budgets",
    [],
    "shares of tokens to keep, as 0.3,0.5: a row for each, of models that `adapler calibrate` "
    "calibrated",
    flag_values=FLAGS,
)
_CHOOSE = flags.DEFINE_enum(
    "choose_threshold",
    None,
    THRESHOLD_METRICS,
    "for two classes: find the decision threshold that is best for this metric on validation",
    flag_values=FLAGS,
)
_SAVE = flags.DEFINE_string(
    "save_threshold",
    None,
    "model, as adapt-2x, that the chosen threshold is saved in",
    flag_values=FLAGS,
)


def main() -> None:
    """Evaluate the models of a run, print their scores and write them."""
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    check_saving(workdir, _SAVE.value, _CHOOSE.value)
    finished = load_finished_run(workdir, log=print_note, splits=_SPLITS.value)
    rows = evaluate_run(
        finished,
        log=print_note,
        splits=_SPLITS.value,
        with_times=_TIMES.value,
        with_classes=True,
        baselines=BASELINES if _BASELINES.value else (),
        threshold_metric=_CHOOSE.value or "",
        budgets=parse_budgets(_BUDGETS.value),
    )
    if _TIMES.value:
        compare_operands(finished, log=print_note)
    print_rows(rows, details=_DETAILS.value)
    record = results_record(rows, command=command_line(typed_command()))
    write_json(workdir / "evaluation.json", record, checksum=True)
    write_cards(finished, record)
    if _SAVE.value:
        threshold = next(row["threshold"] for row in rows if row["method"] == _SAVE.value)
        path = save_threshold(workdir, _SAVE.value, threshold)
        print_note(f"threshold {threshold:.3f} saved in {path}")
    show_examples(workdir)


def write_cards(finished: FinishedRun, record: dict) -> None:
    """Write the scores into the cards of the models, but for one with a threshold to be saved.

    Scores of validation are left out where the run has test texts.
    """
    models = {name: saved for name, saved in finished.models.items() if name != _SAVE.value}
    splits = finished.task.eval_splits
    rows = [row for row in record["rows"] if row["split"] in splits]
    write_scores(models, record | {"rows": rows}, log=print_note)
    if _SAVE.value:
        print_note(f"the card of {_SAVE.value} gets its scores by the next `adapler evaluate`")


def parse_budgets(texts: Sequence[str]) -> list[float]:
    """Return the budgets of the command line.

    Raises:
      ValueError: one is no number in (0, 1].
    """
    try:
        budgets = [float(text) for text in texts]
    except ValueError:
        budgets = [0.0]
    if not all(0.0 < budget <= 1.0 for budget in budgets):
        raise ValueError(f"--budgets={','.join(texts)}; expected numbers above 0, at most 1")
    return budgets


def show_examples(workdir: pathlib.Path) -> None:
    """Print which words of some test texts the fastest model keeps.

    Multiple choice and numbers have no examples.
    """
    if is_class_run(workdir):
        texts, labels = example_texts(workdir, num_texts=_NUM_TEXTS.value)
        name, classifier = load_fastest(workdir)
        print_predictions(classifier.predict(texts), labels, model=name)
    elif is_qa_run(workdir) and (
        example := example_answers(workdir, num_questions=_NUM_TEXTS.value)
    ):
        name, pairs = example
        print_answers(pairs, model=name)


def run(*, resumes: bool) -> None:
    """Parse the command line and evaluate."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
