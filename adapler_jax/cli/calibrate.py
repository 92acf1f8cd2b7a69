"""Calibrate a saved classifier or reranker for any speed, with text of its task, without labels.

    adapler calibrate --model=DIR --data=FILE

Writes calibration.json into the model's folder and prints what each budget, the share of tokens to
keep, was measured to cost on the half of the texts that did not calibrate it. Afterwards
`adapler predict --budget=0.4` and Classifier.predict(texts, budget=0.4) take any budget. The data
are text lines (.txt), a table (.csv, .tsv, .parquet) or JSON lines (.jsonl).

--max_disagreement=0.02 also certifies the fastest budget at which at most 2% of answers differ from
the full model's, with 95% confidence, for different texts like the data. No training of the model
may have seen them. `adapler predict --certified` takes the budget. Texts whose two likeliest
classes are close there run again, on what --escalate_to says. With labelled data, --label=COLUMN
--max_drop=1.0 certifies that at most 1% of answers are wrong where the full model is right: the
accuracy drops by no more than 1 point.

A reranker is calibrated with pairs, --column=query,document: the documents that it ranks for each
query, in a row each. A fifth of the queries calibrates, the others measure the order of documents.
Its --max_disagreement=0.05 certifies the fastest budget at which, for at least 95% of queries, the
first 10 documents share at least 9 with the full model's; --min_shared sets another number.

The full model is the one of --reference, or the one that an earlier certificate keeps in DIR/full.
Without both it is this model with all tokens.

--latency_ms=20 --batch_size=1 measures every budget on this device, and names the largest one whose
calls take at most 20 ms.
"""

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.cli.promise import define_latency, define_promise
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.evaluation.calibration_card import measured_columns
from adapler_jax.inference.calibration import MODES, THRESHOLDS, Calibration
from adapler_jax.io.terminal import print_note
from adapler_jax.serving.texts import read_texts
from adapler_jax.types import COMPUTE_DTYPES

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "directory of a saved model", required=True, flag_values=FLAGS
)
_DATA = flags.DEFINE_string(
    "data", None, "file of texts; - is standard input", required=True, flag_values=FLAGS
)
_COLUMN = flags.DEFINE_list(
    "column", [], "text column of a table, two with a comma for pairs", flag_values=FLAGS
)
_MODE = flags.DEFINE_enum(
    "mode",
    THRESHOLDS,
    MODES,
    "fixed: how many tokens a text keeps depends on its length alone",
    flag_values=FLAGS,
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "directory of the full model, a saved model of this library as OUT/full of `adapler compress`, "
    "of the same tokenizer, head, classes and length",
    flag_values=FLAGS,
)
_LABEL = flags.DEFINE_string(
    "label", "", "column of labels of a table, for scores and --max_drop", flag_values=FLAGS
)
_PROMISE = define_promise(FLAGS)
_LATENCY = define_latency(FLAGS)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", COMPUTE_DTYPES, "operands of the encoder's products", flag_values=FLAGS
)


def main() -> None:
    """Calibrate, and print a line for each budget."""
    data = read_texts(
        _MODEL.value,
        _DATA.value,
        columns=_COLUMN.value,
        label_column=_LABEL.value,
        log=print_note,
    )
    found = calibrate_model(
        _MODEL.value,
        data.texts,
        labels=data.labels,
        dtype=_DTYPE.value,
        mode=_MODE.value,
        promise=_PROMISE(),
        latency=_LATENCY(),
        reference=_REFERENCE.value,
        log=print_note,
    )
    print_budgets(found)


def print_budgets(found: Calibration) -> None:
    """Print what each budget was measured to do."""
    columns = measured_columns(found)
    titles = ["budget", "tokens kept", "FLOPs speedup", *columns.values()]
    titles += [] if found.timing is None else [f"ms @{found.timing['batch_size']}"]
    print("  ".join(titles))
    for row in found.rows:
        cells = [
            f"{row['budget']:.2f}",
            f"{100 * row['kept_share']:.1f}%",
            f"{row['flops_speedup']:.2f}x",
            *(f"{100 * row[name]:.1f}%" for name in columns),
        ]
        cells += [] if found.timing is None else [f"{row['milliseconds']:.2f}"]
        print("  ".join(cell.rjust(len(title)) for cell, title in zip(cells, titles)))


def run(*, resumes: bool) -> None:
    """Parse the command line and calibrate."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
