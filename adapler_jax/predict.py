"""Classify a file, or answer its questions: python -m adapler_jax.predict --model=DIR [--input=FILE] [--output=FILE]

One output row for every input row, in the same order: the label, the probability of every class, whether the text was
longer than the model reads and, with --kept, the words that the last layer ran on and the tokens in every layer. Input
is text lines (.txt, or standard input), a table (.csv, .tsv, .parquet) or JSON lines (.jsonl). Rows go to standard
output as TSV with a header line, or to a .csv, .tsv, .jsonl or .parquet file, which appears once it is complete. Files
may be larger than memory. A model that answers questions takes tables and JSON lines with the columns question and
context, and gives the answer, empty for none, its characters in the context, its score and its probability.
"""

from absl import flags

from adapler_jax.data.formats import Options
from adapler_jax.data.streams import KINDS
from adapler_jax.inference.engine import AUTO, DRIVER_NAMES
from adapler_jax.report.bulk import STANDARD, predict_file, print_note
from adapler_jax.report.console import run_command, stop_on_sigterm
from adapler_jax.types import COMPUTE_DTYPES

_MODEL = flags.DEFINE_string("model", None, "directory of a saved model")
_INPUT = flags.DEFINE_string("input", STANDARD, "file of texts; - is standard input")
_OUTPUT = flags.DEFINE_string("output", STANDARD, ".csv, .tsv, .jsonl or .parquet file; - is standard output, as TSV")
_FORMAT = flags.DEFINE_enum("format", None, KINDS, "of the input; default: by its ending, txt for standard input")
_ENCODING = flags.DEFINE_string("encoding", "", "of the input, as latin-1; default: its byte order mark, or UTF-8")
_DELIMITER = flags.DEFINE_string("delimiter", "", "between columns of the input, as ';' or tab; default: it is found")
_COLUMN = flags.DEFINE_list(
    "column",
    [],
    "text column of a table, two with a comma between them for pairs; default: those of the model's task, or of single "
    "texts also text or sentence, of questions question,context",
)
_KEPT = flags.DEFINE_bool(
    "kept", False, "add the kept words of the last layer and, of classes, the tokens of every layer"
)
_EXPLAIN = flags.DEFINE_bool("explain", False, "print texts with the kept words marked; rows go to --output only")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace an output file that is there")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "texts that run at a time", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "float32", list(COMPUTE_DTYPES), "operands of the encoder's products")
_DRIVER = flags.DEFINE_enum("driver", AUTO, DRIVER_NAMES, "how tokens are dropped")
_ALWAYS = flags.DEFINE_bool("always_answers", False, "of questions: answer also where the model prefers no answer")
_BUDGET = flags.DEFINE_string("budget", None, "reserved for a later release")
flags.mark_flag_as_required("model")


def main():
    """Classifies and writes."""
    if _BUDGET.value is not None:
        raise ValueError("--budget is reserved for a later release; leave it out")
    with stop_on_sigterm():
        predict_file(
            _MODEL.value, source=_INPUT.value, output=_OUTPUT.value, kind=_FORMAT.value, columns=_COLUMN.value,
            with_kept=_KEPT.value, explain=_EXPLAIN.value, overwrite=_OVERWRITE.value, batch_size=_BATCH_SIZE.value,
            options=Options(_ENCODING.value, _DELIMITER.value),
            dtype=COMPUTE_DTYPES[_DTYPE.value], driver=_DRIVER.value,
            always_answers=_ALWAYS.value, tell=print_note,
        )  # fmt: skip


if __name__ == "__main__":
    run_command(main, resumes=False)
