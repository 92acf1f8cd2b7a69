"""Calibrate a saved classifier for any speed, with text of its task and no labels.

    adapler calibrate --model=DIR --data=FILE

Writes calibration.json into the model's folder and prints what each budget, the share of tokens to
keep, was measured to cost on the half of the texts that did not calibrate it. Afterwards
`adapler predict --budget=0.4` and Classifier.predict(texts, budget=0.4) take any budget. The data
are text lines (.txt), a table (.csv, .tsv, .parquet) or JSON lines (.jsonl).

--max_disagreement=0.02 also certifies the fastest budget at which at most 2% of answers differ from
the full model's, with 95% confidence, for texts like the data.
"""

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.evaluation.calibrate import calibrate_model
from adapler_jax.inference.calibration import Calibration
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
_DISAGREEMENT = flags.DEFINE_float(
    "max_disagreement",
    None,
    "certify the fastest budget at which at most this share of answers differs from the full "
    "model's, as 0.02",
    flag_values=FLAGS,
)
_CONFIDENCE = flags.DEFINE_float(
    "confidence", 0.95, "probability that the certified bound holds", flag_values=FLAGS
)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", COMPUTE_DTYPES, "operands of the encoder's products", flag_values=FLAGS
)


def main() -> None:
    """Calibrate, and print a line for each budget."""
    texts = read_texts(_MODEL.value, _DATA.value, columns=_COLUMN.value, log=print_note)
    found = calibrate_model(
        _MODEL.value,
        texts,
        dtype=_DTYPE.value,
        max_disagreement=_DISAGREEMENT.value,
        confidence=_CONFIDENCE.value,
        log=print_note,
    )
    print_budgets(found)


def print_budgets(found: Calibration) -> None:
    """Print what each budget was measured to do."""
    print("budget  tokens kept  FLOPs speedup  agreement with the full model")
    for row in found.rows:
        print(
            f"{row['budget']:6.2f}  {100 * row['kept_share']:10.1f}%  {row['flops_speedup']:12.2f}x"
            f"  {100 * row['agreement']:28.1f}%"
        )


def run(*, resumes: bool) -> None:
    """Parse the command line and calibrate."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
