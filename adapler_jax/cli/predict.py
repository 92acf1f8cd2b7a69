"""Classify a file, score its pairs, find its entities, return vectors, or answer questions.

    adapler predict --model=DIR [--input=FILE] [--output=FILE]

DIR is a saved model, or a folder that transformers wrote of a fine-tuned classifier, reranker or
tagger, which runs all tokens.

Each input row gives one output row, in order: the label, the probability of every class, and
whether the text is longer than the model's input. --kept adds the words that the last layer keeps
and the number of tokens in every layer. The columns of an input table follow. Input is text lines
(.txt, or standard input), a table (.csv, .tsv, .parquet) or JSON lines (.jsonl). Output is TSV with
a header line on standard output, or a .csv, .tsv, .jsonl or .parquet file, which appears once it is
complete. Files may be larger than memory.

A reranker takes tables and JSON lines with the columns query and document, or text and text_pair,
and gives the score of each row. A model of numbers of single texts takes text lines too; one of
several numbers gives a column for each. A model of vectors takes single texts and gives the column
embedding, a list of numbers in .jsonl and .parquet files.

A model that gives tags to tokens takes single texts, or lists of words in the column words or
tokens of JSON lines and Parquet. It gives the column entities: a list of objects in JSON, with
entity_group, score, word, start and end. A list of words has one tag a word.

A question-answering model takes tables and JSON lines with the columns question and context. It
gives the answer (empty if there is none), its characters in the context, its score and its
probability. A multiple-choice model takes question, article and options. It gives the chosen
option, its number from 0, its probability and the probabilities of all options.
"""

from absl import flags

from adapler_jax.cli.console import run_command
from adapler_jax.data.sources.formats import Options
from adapler_jax.inference.engine import AUTO, DRIVER_NAMES
from adapler_jax.inference.entities import AGGREGATIONS
from adapler_jax.inference.long_texts import LONG_TEXT_MODES, TRUNCATE
from adapler_jax.io.terminal import print_note
from adapler_jax.serving.bulk import PredictRequest, predict_file
from adapler_jax.serving.copied_columns import ALL, NONE, parse_copy
from adapler_jax.serving.prediction_inputs import STANDARD, input_kind
from adapler_jax.serving.predictors import ModelSettings
from adapler_jax.serving.streams import KINDS
from adapler_jax.types import COMPUTE_DTYPES
from adapler_jax.weights.hub import resolve_model

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model", None, "directory or hub name of the model", required=True, flag_values=FLAGS
)
_INPUT = flags.DEFINE_string(
    "input", STANDARD, "file of texts; - is standard input", flag_values=FLAGS
)
_OUTPUT = flags.DEFINE_string(
    "output",
    STANDARD,
    ".csv, .tsv, .jsonl or .parquet file; - is standard output, as TSV",
    flag_values=FLAGS,
)
_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    KINDS,
    "format of the input; default: by its ending, txt for standard input",
    flag_values=FLAGS,
)
_ENCODING = flags.DEFINE_string(
    "encoding",
    "",
    "encoding of the input, as latin-1; default: its byte order mark, or UTF-8",
    flag_values=FLAGS,
)
_DELIMITER = flags.DEFINE_string(
    "delimiter",
    "",
    "between columns of the input, as ';' or tab; default: it is found",
    flag_values=FLAGS,
)
_COLUMN = flags.DEFINE_list(
    "column",
    [],
    "text column of a table, two with a comma between them for pairs; default: the columns of the "
    "model's task. Single texts may be in text or sentence, questions in question,context, options "
    "in question, article or context, and options or option_a,option_b ...",
    flag_values=FLAGS,
)
_KEPT = flags.DEFINE_bool(
    "kept",
    False,
    "add the words that the last layer keeps and, for classes, the tokens of every layer",
    flag_values=FLAGS,
)
_EXPLAIN = flags.DEFINE_bool(
    "explain",
    False,
    "print texts with the kept words highlighted; rows go to --output only",
    flag_values=FLAGS,
)
_OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "replace an existing output file", flag_values=FLAGS
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 32, "texts that run at a time", lower_bound=1, flag_values=FLAGS
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    [*COMPUTE_DTYPES, AUTO],
    "operands of the encoder's products; auto: bfloat16 where it is faster on this device and "
    "`adapler evaluate` found that predictions agree",
    flag_values=FLAGS,
)
_DRIVER = flags.DEFINE_enum(
    "driver", AUTO, DRIVER_NAMES, "how tokens are dropped", flag_values=FLAGS
)
_ALWAYS = flags.DEFINE_bool(
    "always_answers",
    False,
    "for questions: answer even if the model prefers no answer",
    flag_values=FLAGS,
)
_COPY = flags.DEFINE_list(
    "copy_columns",
    None,
    "columns of the input to copy: all, none or names; default: all columns of a table, none of "
    "text lines, whose column is text",
    flag_values=FLAGS,
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    None,
    "probability from which the second of two classes is the label, or from which a text has each "
    "of several labels; default: the model's, or 1/2",
    flag_values=FLAGS,
)
_ESCAPE = flags.DEFINE_bool(
    "escape_formulas",
    False,
    "for CSV and TSV: an apostrophe before cells that a spreadsheet takes for formulas",
    flag_values=FLAGS,
)
_LONG = flags.DEFINE_enum(
    "long_texts",
    TRUNCATE,
    LONG_TEXT_MODES,
    "texts longer than the model's input: truncate them, or run windows and take the mean of their "
    "probabilities, or the most confident window",
    flag_values=FLAGS,
)
_AGGREGATION = flags.DEFINE_enum(
    "aggregation",
    None,
    AGGREGATIONS,
    "how tokens become entities, as aggregation_strategy in transformers; default: simple for "
    "texts, one tag a word for lists of words",
    flag_values=FLAGS,
)
_BUDGET = flags.DEFINE_float(
    "budget",
    None,
    "share of the tokens to keep, for a model that `adapler calibrate` calibrated",
    flag_values=FLAGS,
)
_SPEEDUP = flags.DEFINE_float(
    "speedup", None, "FLOPs speedup, in place of --budget", flag_values=FLAGS
)
_CERTIFIED = flags.DEFINE_bool(
    "certified",
    False,
    "take the budget that `adapler calibrate --max_disagreement` certified; uncertain texts run "
    "again, and the column is_escalated names them",
    flag_values=FLAGS,
)


def main() -> None:
    """Predict for every row of the input, and write the rows."""
    kind = input_kind(_INPUT.value, _FORMAT.value)
    copy = parse_copy(_COPY.value or [NONE if kind == "txt" else ALL])
    request = PredictRequest(
        resolve_model(_MODEL.value),
        source=_INPUT.value,
        output=_OUTPUT.value,
        kind=kind,
        columns=_COLUMN.value,
        options=Options(_ENCODING.value, _DELIMITER.value, "--{}"),
        copy=copy,
        with_kept=_KEPT.value,
        explain=_EXPLAIN.value,
        overwrite=_OVERWRITE.value,
        escape_formulas=_ESCAPE.value,
        settings=ModelSettings(
            batch_size=_BATCH_SIZE.value,
            dtype=_DTYPE.value,
            driver=_DRIVER.value,
            threshold=_THRESHOLD.value,
            always_answers=_ALWAYS.value,
            long_texts=_LONG.value,
            budget=_BUDGET.value,
            speedup=_SPEEDUP.value,
            certified=_CERTIFIED.value,
            aggregation=_AGGREGATION.value,
        ),
    )
    predict_file(request, log=print_note)


def run(*, resumes: bool) -> None:
    """Parse the command line and predict."""
    run_command(main, resumes=resumes, values=FLAGS, usage=__doc__)
