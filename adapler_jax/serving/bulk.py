"""Predict for every row of a file, and write the rows to another."""

import contextlib
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from adapler_jax.data.sources.formats import Options
from adapler_jax.inference.long_texts import check_long_texts
from adapler_jax.inference.texts import check_batch_size
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.serving.choice_columns import CHOICES
from adapler_jax.serving.copied_columns import NONE, CopiedColumns, as_is, as_json, as_text
from adapler_jax.serving.highlight import has_colour, highlight_style
from adapler_jax.serving.pipeline import MoreColumns, has_more, predict_windows, progress_bar
from adapler_jax.serving.prediction_files import (
    Target,
    Write,
    check_output,
    open_writer,
    text_writer,
)
from adapler_jax.serving.prediction_inputs import (
    ANSWERS,
    CLASSES,
    ENTITIES,
    LABELS,
    OPTIONS,
    SCORES,
    STANDARD,
    VECTORS,
    input_kind,
    open_input,
    parquet_schema,
    use_of,
    usual_of,
)
from adapler_jax.serving.predictors import ModelSettings, Shown, load_predictor
from adapler_jax.serving.streams import TEXT_OR_WORDS, Window, read_windows
from adapler_jax.weights.folders import describe_folder

# The job of a model that needs more than text lines, and its columns.
NEEDED = {
    ANSWERS: ("answers questions", "question and context"),
    OPTIONS: ("answers questions", "question, article and options"),
    SCORES: ("scores pairs", "query and document"),
}

Log = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class PredictRequest:
    """A model, an input, an output, and how to predict."""

    model: Any  # directory of a saved model, for classes, scores, questions or multiple choice
    source: str = STANDARD  # a file, or "-" for standard input
    output: str = STANDARD  # a file, or "-" for TSV on standard output
    kind: str | None = None  # of the input, one of KINDS; None: by its ending, or text lines
    # The text column of a table, two for pairs, or as `pick_choice_columns` takes them. Empty: the
    # columns of the model's task; `text` or `sentence`; for questions `question` and `context`.
    columns: Sequence[str] = ()
    options: Options = dataclasses.field(
        default_factory=Options
    )  # encoding and delimiter of the input, if it does not say them
    copy: str | Sequence[str] = NONE  # "all", "none" or names of columns of the input
    with_kept: bool = False  # write the last layer's words and, for classes, tokens of each layer
    explain: bool = False  # print texts with highlighted words; no rows on standard output then
    overwrite: bool = False  # replace an existing output
    escape_formulas: bool = False  # put an apostrophe before formulas in cells of CSV and TSV
    settings: ModelSettings = dataclasses.field(default_factory=ModelSettings)

    @property
    def input_name(self) -> str:
        """Return the name of the input in messages."""
        return "standard input" if self.source == STANDARD else self.source


def predict_file(request: PredictRequest, *, log: Log = lambda line: None) -> int:
    """Write a row for every row of the input, in its order.

    An output file appears once it is complete.

    Args:
      request: model, input and output.
      log: receives notes.

    Returns:
      The number of rows.

    Raises:
      ValueError: the input, the model or an option is not as expected.
      OSError: a file cannot be read or written.
    """
    check_batch_size(request.settings.batch_size)
    use = use_of(request.model)
    kind = input_kind(request.source, request.kind, request.columns, use=use)
    target = _find_target(request)
    check_use(request, use, kind)
    check_target(request, target)
    with open_input(request.source, log) as file:
        num_rows = _predict_rows(request, file, use=use, kind=kind, target=target, log=log)
    if num_rows == 0:
        log(f"{request.input_name} has no rows")
    elif target is not None:
        log(f"{num_rows} {'row' if num_rows == 1 else 'rows'} in {request.output}")
    return num_rows


def _predict_rows(
    request: PredictRequest,
    file: BinaryIO,
    *,
    use: str,
    kind: str,
    target: Target | None,
    log: Log,
) -> int:
    """Read an open input, predict and write; return the number of rows."""
    writes_rows = target is not None or not request.explain
    copy_log: Log = log if writes_rows else lambda note: None
    copied = CopiedColumns(request.copy, request.input_name, copy_log)
    schema = parquet_schema(file, request.input_name) if kind == "parquet" else None
    windows = read_windows(
        file,
        kind,
        request.input_name,
        columns=request.columns,
        usual=usual_of(request.model, use),
        form={OPTIONS: CHOICES, ENTITIES: TEXT_OR_WORDS}.get(use),
        keep=copied.keep,
        options=request.options,
        log=note_commas(target, log),
    )
    # The first window is read before the model is loaded: loading takes seconds.
    first = list(itertools.islice(windows, 1))
    shown = Shown(request.with_kept, request.explain, request.explain and has_colour(sys.stdout))
    predictor = load_predictor(request.model, use, request.settings, shown)
    own = predictor.column_names
    names = (*own, *copied.settle(first, own))
    if request.explain:
        log(f"words that the last layer ran on are highlighted {highlight_style(sys.stdout)}")
    output = _open_target(request, target, names, types=copied.types(schema))
    with output as write, progress_bar(_shows_bar(request, target, first)) as advance:
        all_windows = itertools.chain(first, windows)
        more = converter(copied, kind, target)
        return predict_windows(predictor, all_windows, write, advance=advance, more=more)


def note_commas(target: Target | None, log: Log) -> Log:
    """Return a log that adds, to a note on semicolons in the input, that the output has commas."""

    def take(note: str) -> None:
        log(f"{note}; the output has commas" if "separated by a semicolon" in note else note)

    return take if target is not None and target.kind == "csv" else log


def _shows_bar(request: PredictRequest, target: Target | None, first: list[Window]) -> bool:
    """Return whether to show a progress bar, which would break lines printed on a terminal."""
    prints = (target is None or request.explain) and sys.stdout.isatty()
    return has_more(first) and not prints


def check_use(request: PredictRequest, use: str, kind: str) -> None:
    """Raise ValueError if the input or an option does not fit the model."""
    model, settings = request.model, request.settings
    if settings.always_answers and use != ANSWERS:
        raise ValueError(f"{model} answers no questions; leave out --always_answers")
    if settings.threshold is not None and use not in (CLASSES, LABELS):
        raise ValueError(f"{model} has no classes to decide between; leave out --threshold")
    has_speed = (settings.budget, settings.speedup, settings.certified) != (None, None, False)
    if has_speed and use not in (CLASSES, SCORES):
        raise ValueError(f"{model} takes no budgets; leave out --budget, --speedup and --certified")
    if check_long_texts(settings.long_texts, None) and use != CLASSES:
        raise ValueError(f"{model} reads no windows of texts; leave out --long_texts")
    if settings.aggregation is not None and use != ENTITIES:
        raise ValueError(f"{model} gives no tags to tokens; leave out --aggregation")
    if use in (SCORES, VECTORS, ENTITIES) and (request.with_kept or request.explain):
        raise ValueError(f"{model} gives {use} without words; leave out --kept and --explain")
    needs_table = describe_folder(model).is_for_pairs if use == SCORES else use in NEEDED
    if needs_table and kind == "txt":
        job, columns = NEEDED[use]
        raise ValueError(
            f"{model} {job}, which text lines do not have; give a table with the columns "
            f"{columns}; for standard input name its kind with --format"
        )


def _find_target(request: PredictRequest) -> Target | None:
    """Return the checked output file; None for standard output."""
    if request.output == STANDARD:
        return None
    return check_output(request.output, overwrite=request.overwrite, source=request.source)


def check_target(request: PredictRequest, target: Target | None) -> None:
    """Raise ValueError if nothing can take the rows or texts, or an option does not fit."""
    if sys.stdout is None and (target is None or request.explain):
        raise ValueError("standard output is closed; give --output=FILE, without --explain")
    has_formulas = target is None or target.kind in ("csv", "tsv")
    if target is not None and request.escape_formulas and not has_formulas:
        raise ValueError(
            f"{target.path} has no formulas: --escape_formulas is for CSV and TSV; leave it out"
        )


def converter(copied: CopiedColumns, kind: str, target: Target | None) -> MoreColumns:
    """Return a function from a window to its copied columns, in types of the output.

    Args:
      copied: the columns of the input.
      kind: of the input.
      target: of the output; None for standard output.
    """
    output = target.kind if target else "tsv"
    convert: Callable[[Any], Any] = as_text
    if output == "jsonl":
        convert = as_json
    elif output == kind == "parquet":
        convert = as_is
    return lambda window: copied.columns(window, convert)


@contextlib.contextmanager
def _open_target(
    request: PredictRequest, target: Target | None, names: Sequence[str], *, types: dict
) -> Iterator[Write]:
    """Yield a function that takes rows, for a file or for standard output.

    A file appears once it is complete. With `explain`, standard output gets texts and no rows.
    """
    escape = request.escape_formulas
    if target is not None:
        with (
            replacing_file(target.path) as partial,
            open_writer(partial, target.kind, names, types=types, escape=escape) as write,
        ):
            yield write
    elif request.explain:
        yield lambda columns: None
    else:
        # Control characters do not reach standard output.
        write = text_writer(sys.stdout, "tsv", names, clean=True, escape=escape)

        def write_through(columns):
            write(columns)
            sys.stdout.flush()

        yield write_through
        sys.stdout.flush()  # the header, if there were no rows
