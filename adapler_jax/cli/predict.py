"""Classify a file, or answer its questions: python -m adapler_jax.cli.predict --model=DIR [--input=FILE] [--output=FILE]

One output row for every input row, in the same order: the label, the probability of every class, whether the text was
longer than the model reads and, with --kept, the words that the last layer ran on and the tokens in every layer. The
columns of an input table follow. Input is text lines (.txt, or standard input), a table (.csv, .tsv, .parquet) or JSON
lines (.jsonl). Rows go to standard output as TSV with a header line, or to a .csv, .tsv, .jsonl or .parquet file, which
appears once it is complete. Files may be larger than memory.

A model that answers questions takes tables and JSON lines with the columns question and context, and gives the answer,
empty for none, its characters in the context, its score and its probability. A model that chooses among options takes
question, article and options, and gives the chosen option, its number from 0, its probability and those of all.
"""

from adapler_jax.io import process

if __name__ == "__main__":
    process.begin(resumes=False)  # before imports that take seconds

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.sources.formats import Options
from adapler_jax.inference.engine import AUTO, DRIVER_NAMES
from adapler_jax.inference.long_texts import LONG_TEXT_MODES, TRUNCATE
from adapler_jax.io.terminal import print_note
from adapler_jax.serving.bulk import predict_file
from adapler_jax.serving.copied_columns import ALL, NONE, parse_copy
from adapler_jax.serving.prediction_inputs import STANDARD, input_kind
from adapler_jax.serving.streams import KINDS
from adapler_jax.types import COMPUTE_DTYPES

_MODEL = flags.DEFINE_string("model", None, "directory of a saved model")
_INPUT = flags.DEFINE_string("input", STANDARD, "file of texts; - is standard input")
_OUTPUT = flags.DEFINE_string(
    "output", STANDARD, ".csv, .tsv, .jsonl or .parquet file; - is standard output, as TSV"
)
_FORMAT = flags.DEFINE_enum(
    "format", None, KINDS, "of the input; default: by its ending, txt for standard input"
)
_ENCODING = flags.DEFINE_string(
    "encoding", "", "of the input, as latin-1; default: its byte order mark, or UTF-8"
)
_DELIMITER = flags.DEFINE_string(
    "delimiter", "", "between columns of the input, as ';' or tab; default: it is found"
)
_COLUMN = flags.DEFINE_list(
    "column",
    [],
    "text column of a table, two with a comma between them for pairs; default: those of the model's task, or of single "
    "texts also text or sentence, of questions question,context, of options question, article or context, and options "
    "or option_a,option_b ...",
)
_KEPT = flags.DEFINE_bool(
    "kept", False, "add the kept words of the last layer and, of classes, the tokens of every layer"
)
_EXPLAIN = flags.DEFINE_bool(
    "explain", False, "print texts with the kept words marked; rows go to --output only"
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace an output file that is there")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "texts that run at a time", lower_bound=1)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    [*COMPUTE_DTYPES, AUTO],
    "operands of the encoder's products; auto: bfloat16 where it is faster here and evaluate.py found that answers "
    "agree",
)
_DRIVER = flags.DEFINE_enum("driver", AUTO, DRIVER_NAMES, "how tokens are dropped")
_ALWAYS = flags.DEFINE_bool(
    "always_answers", False, "of questions: answer also where the model prefers no answer"
)
_COPY = flags.DEFINE_list(
    "copy_columns",
    None,
    "columns of the input to copy: all, none or names; default: all of a table, none of text lines, whose column is "
    "text",
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "of two classes: probability from which the second is the label; default: the model's, or 1/2",
)
_ESCAPE = flags.DEFINE_bool(
    "escape_formulas",
    False,
    "of CSV and TSV: an apostrophe before cells that a spreadsheet takes for formulas",
)
_LONG = flags.DEFINE_enum(
    "long_texts",
    TRUNCATE,
    LONG_TEXT_MODES,
    "of texts longer than the model reads: cut them, or read windows and take the mean, or the surest window",
)
flags.mark_flag_as_required("model")


def main():
    """Classifies and writes."""
    kind = input_kind(_INPUT.value, _FORMAT.value)
    copy = parse_copy(_COPY.value or [NONE if kind == "txt" else ALL])
    predict_file(
        _MODEL.value,
        source=_INPUT.value,
        output=_OUTPUT.value,
        kind=kind,
        columns=_COLUMN.value,
        with_kept=_KEPT.value,
        explain=_EXPLAIN.value,
        overwrite=_OVERWRITE.value,
        batch_size=_BATCH_SIZE.value,
        dtype=_DTYPE.value,
        driver=_DRIVER.value,
        always_answers=_ALWAYS.value,
        copy=copy,
        threshold=_THRESHOLD.value,
        escape_formulas=_ESCAPE.value,
        options=Options(_ENCODING.value, _DELIMITER.value, "--{}"),
        long_texts=_LONG.value,
        log=print_note,
    )


if __name__ == "__main__":
    run_command(main, resumes=False)
