"""Predictions for every row of a file, window by window: one is tokenized while the model runs on another."""

import concurrent.futures
import contextlib
import functools
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax.numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from adapler_jax.data.sources.formats import Options
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.loading import check_batch_size, padded_batch_size
from adapler_jax.inference.long_texts import TRUNCATE, check_long_texts
from adapler_jax.inference.multiple_choice import MultipleChoice
from adapler_jax.inference.question_answerer import QAPrediction, QuestionAnswerer
from adapler_jax.io.atomic_files import replacing_file
from adapler_jax.serving.choice_columns import CHOICES
from adapler_jax.serving.copied_columns import NONE, CopiedColumns, as_is, as_json, as_text
from adapler_jax.serving.marked_text import (
    has_colour,
    mark_all,
    mark_choices,
    mark_of,
    mark_readings,
)
from adapler_jax.serving.prediction_files import (
    Write,
    answer_column_names,
    check_output,
    choice_column_names,
    column_names,
    columns_of_choices,
    columns_of_predictions,
    columns_of_probs,
    columns_of_readings,
    open_writer,
    text_writer,
)
from adapler_jax.serving.prediction_inputs import (
    ANSWERS,
    CLASSES,
    OPTIONS,
    STANDARD,
    input_kind,
    open_input,
    parquet_schema,
    use_of,
    usual_of,
)
from adapler_jax.serving.streams import WINDOW_ROWS, Window, read_windows

NEEDED = {ANSWERS: "question and context", OPTIONS: "question, article and options"}
Advance = Callable[[int, float | None], None]
More = Callable[[Window], dict[str, list]]  # columns next to the predictions' own


def predict_file(
    model,
    *,
    source: str = STANDARD,
    output: str = STANDARD,
    kind: str | None = None,
    columns: Sequence[str] = (),
    with_kept: bool = False,
    explain: bool = False,
    overwrite: bool = False,
    batch_size: int = 32,
    dtype=jnp.float32,
    driver: str = AUTO,
    always_answers: bool = False,
    copy: str | Sequence[str] = NONE,
    threshold: float | None = None,
    escape_formulas: bool = False,
    options: Options = Options(),
    long_texts: str = TRUNCATE,
    log: Callable[[str], None] = lambda line: None,
) -> int:
    """Write a row for every row of the input, in its order, and return their number.

    Args:
      model: a saved model directory, of classes, of answers in texts or of options.
      source: a file, or "-" for standard input.
      output: a file, which appears once it is complete, or "-" for TSV on standard output.
      kind: of the input, one of KINDS; None: by its ending, text lines for standard input.
      columns: the text column of a table, or the two of pairs. None: the columns of the model's
        task; of single texts also `text` or `sentence`, of questions `question` and `context`,
        of options as in `pick_choice_columns`.
      with_kept: also write the last layer's words and, of classes, the tokens of every layer.
      explain: print texts with the kept words marked, in place of rows where output is "-".
      overwrite: whether an existing output may be replaced.
      batch_size, dtype, driver, threshold: as in `Classifier`.
      always_answers: as in `QuestionAnswerer`.
      copy: "all", "none" or names of columns of the input, which follow the predictions';
        text lines are the column `text`.
      escape_formulas: put an apostrophe before cells of CSV and TSV that a spreadsheet takes for
        formulas.
      options: encoding and delimiter of the input, where it does not say them itself.
      long_texts: of classes, as in `Classifier.predict`.
      tell: gets notes.

    Raises:
      ValueError, OSError: the input, the model or the output is not as expected.
    """
    check_batch_size(batch_size)
    use = use_of(model)
    kind, where = (
        input_kind(source, kind, columns, use=use),
        "standard input" if source == STANDARD else source,
    )
    target = (
        None if output == STANDARD else check_output(output, overwrite=overwrite, source=source)
    )
    check_use(
        model, use, kind, always_answers=always_answers, threshold=threshold, long_texts=long_texts
    )
    check_target(target, explain=explain, escape_formulas=escape_formulas)
    writes_rows = target is not None or not explain
    copied = CopiedColumns(copy, where, log if writes_rows else lambda note: None)
    with open_input(source, log) as file:
        schema = parquet_schema(file, where) if kind == "parquet" else None
        reading = {"form": CHOICES if use == OPTIONS else None, "usual": usual_of(model, use)}
        reading |= {"options": options, "log": comma_teller(target, log)}
        windows = read_windows(file, kind, where, columns=columns, keep=copied.keep, **reading)
        first = list(
            itertools.islice(windows, 1)
        )  # so that mistakes in it are told before the model is loaded
        settings = {"with_kept": with_kept, "explain": explain, "batch_size": batch_size}
        settings |= {
            "threshold": threshold,
            "always_answers": always_answers,
            "long_texts": long_texts,
        }
        own, run = load_use(model, use, **settings, dtype=dtype, driver=driver)
        names = (*own, *copied.settle(first, own))
        if explain:
            log(f"words that the last layer ran on are marked {mark_of(sys.stdout)}")
        form = {"explain": explain, "types": copied.types(schema), "escape": escape_formulas}
        run = functools.partial(run, more=copier(copied, kind, target))
        num_rows = write_windows(run, first, windows, target=target, names=names, **form)
    if num_rows == 0:
        log(f"{where} has no rows")
    elif target is not None:
        log(f"{num_rows} {'row' if num_rows == 1 else 'rows'} in {output}")
    return num_rows


def comma_teller(
    target: tuple[pathlib.Path, str] | None, log: Callable[[str], None]
) -> Callable[[str], None]:
    """Return what takes notes on the input; one on its semicolons says that a CSV output has commas."""

    def take(note: str) -> None:
        log(f"{note}; the output has commas" if "separated by a semicolon" in note else note)

    return take if target is not None and target[1] == "csv" else log


def write_windows(
    run: Callable,
    first: list[Window],
    rest: Iterator[Window],
    *,
    target: tuple[pathlib.Path, str] | None,
    names: Sequence[str],
    explain: bool,
    **form,
) -> int:
    """Run windows into the output, and return the number of rows.

    Args:
      run: as `load_use` gives it.
      first: the first window, or none.
      rest: those after it.
      target: file and kind; None for standard output.
      names: of all columns.
      explain: whether texts are printed.
      form: keywords of `open_target`.
    """
    prints = (target is None or explain) and sys.stdout.isatty()
    shows_bar = is_long(first) and not prints  # a bar among the lines of a terminal would tear them
    output = open_target(target, names, explain=explain, **form)
    with output as write, progress_bar(shows_bar) as advance:
        return run(itertools.chain(first, rest), write, advance=advance)


def check_use(
    model, use: str, kind: str, *, always_answers: bool, threshold: float | None, long_texts: str
) -> None:
    """Raise ValueError where the input or an option does not go with the model."""
    if always_answers and use != ANSWERS:
        raise ValueError(f"{model} answers no questions; leave out --always_answers")
    if threshold is not None and use != CLASSES:
        raise ValueError(f"{model} has no classes to decide between; leave out --threshold")
    if check_long_texts(long_texts, None) and use != CLASSES:
        raise ValueError(f"{model} has no classes for texts; leave out --long_texts")
    if use in NEEDED and kind == "txt":
        raise ValueError(
            f"{model} answers questions, which text lines have not; give a table with the columns {NEEDED[use]}, of "
            "standard input name its kind with --format"
        )


def check_target(
    target: tuple[pathlib.Path, str] | None, *, explain: bool, escape_formulas: bool
) -> None:
    """Raise ValueError where the rows or the texts have nowhere to go, or are in no form that has
    formulas."""
    if sys.stdout is None and (target is None or explain):
        raise ValueError("standard output is closed; give --output=FILE, without --explain")
    if escape_formulas and target is not None and target[1] not in ("csv", "tsv"):
        raise ValueError(
            f"{target[0]} has no formulas: --escape_formulas is for CSV and TSV; leave it out"
        )


def load_use(
    model,
    use: str,
    *,
    with_kept: bool,
    explain: bool,
    batch_size: int,
    threshold: float | None,
    always_answers: bool,
    long_texts: str,
    **engine,
) -> tuple[tuple[str, ...], Callable]:
    """Return a model's columns, and what predicts windows: (windows, write, *, more, advance) ->
    number of rows."""
    at_once = {"batch_size": batch_size}
    if use == ANSWERS:
        reader = QuestionAnswerer.load(model, always_answers=always_answers, **engine)
        answer = functools.partial(reader.answer_all, **at_once)
        parts = {"answer": answer, "columns_of": columns_of_readings, "mark": mark_answers}
        names = answer_column_names(with_words=with_kept)
        return names, functools.partial(answer_windows, explain=explain, **parts)
    if use == OPTIONS:
        answer = functools.partial(MultipleChoice.load(model, **engine).choose_all, **at_once)
        parts = {"answer": answer, "columns_of": columns_of_choices, "mark": mark_choices}
        names = choice_column_names(with_words=with_kept)
        return names, functools.partial(answer_windows, explain=explain, **parts)
    classifier = Classifier.load(model, threshold=threshold, **engine)
    if long_texts != TRUNCATE:
        answer = functools.partial(classifier.predict, long_texts=long_texts, **at_once)
        columns_of = functools.partial(columns_of_predictions, classifier.class_names)
        parts = {"answer": answer, "columns_of": columns_of, "mark": mark_all}
        run = functools.partial(answer_windows, explain=explain, **parts)
    else:
        options = {"with_words": with_kept, "explain": explain, **at_once}
        run = functools.partial(predict_windows, classifier, **options)
    return column_names(classifier.class_names, with_words=with_kept), run


def copier(copied: CopiedColumns, kind: str, target: tuple[pathlib.Path, str] | None) -> More:
    """Return what gives a window's copied columns as the output holds them."""
    output = target[1] if target else "tsv"
    convert = {"jsonl": as_json, "parquet": as_is if kind == "parquet" else as_text}.get(
        output, as_text
    )
    return lambda window: copied.columns(window, convert)


@contextlib.contextmanager
def open_target(
    target: tuple[pathlib.Path, str] | None,
    names: Sequence[str],
    *,
    explain: bool,
    types: dict | None = None,
    escape: bool = False,
) -> Iterator[Write]:
    """Yield what takes the rows: a file that appears once it is complete, or standard output
    unless texts go there.

    types, escape: as in `open_writer`. Control characters do not reach standard output.
    """
    if target is not None:
        path, kind = target
        with (
            replacing_file(path) as partial,
            open_writer(partial, kind, names, types=types, escape=escape) as write,
        ):
            yield write
    elif explain:
        yield lambda columns: None
    else:
        write = text_writer(sys.stdout, "tsv", names, clean=True, escape=escape)

        def write_through(columns):
            write(columns)
            sys.stdout.flush()

        yield write_through
        sys.stdout.flush()  # the header, where there were no rows


def is_long(first: Sequence[Window]) -> bool:
    """Whether the input goes on behind its first window."""
    return any(
        len(window.texts) == WINDOW_ROWS if window.share is None else window.share < 1.0
        for window in first
    )


@contextlib.contextmanager
def progress_bar(is_shown: bool) -> Iterator[Advance]:
    """Yields a function that takes the number of rows done and their share of the input; a bar where stderr is a
    terminal."""
    columns = [
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    ]
    # Without redirection: rows on stdout would be printed on stderr.
    progress = Progress(
        *columns,
        console=Console(stderr=True),
        refresh_per_second=1,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not (is_shown and sys.stderr is not None and sys.stderr.isatty()),
    )
    with progress:
        bar = progress.add_task("predict", total=None)

        def advance(num_rows, share):
            total = None if share is None else 1.0
            progress.update(
                bar, total=total, completed=share or 0.0, description=f"{num_rows} rows"
            )

        yield advance


def predict_windows(
    classifier: Classifier,
    windows: Iterable[Window],
    write: Write,
    *,
    with_words: bool = False,
    explain: bool = False,
    batch_size: int = 32,
    advance: Advance = lambda num_rows, share: None,
    more: More = lambda window: {},
) -> int:
    """Classifies and writes windows; returns the number of rows. Two or three windows at a time are in memory.

    Args: with_words: whether `write` gets the columns of words too. explain: prints texts with the kept words marked.
    more: other columns of a window.
    """
    with_words, count, num_rows = with_words or explain, 0, 1
    for window, encoded in encode_ahead(classifier, windows, with_words=with_words):
        num_rows = max(
            num_rows, padded_batch_size(len(encoded), batch_size)
        )  # the last, shorter window compiles nothing new
        if with_words:
            predictions = classifier.predict_encoded(encoded, num_rows=num_rows)
            columns = columns_of_predictions(classifier.class_names, predictions)
        else:
            probs_NC, is_cut = (
                classifier.predict_probs_encoded(encoded, num_rows=num_rows),
                [tokens.is_cut for tokens in encoded],
            )
            columns = columns_of_probs(
                classifier.class_names, probs_NC, is_cut, threshold=classifier.threshold
            )
        write(columns | more(window))
        if explain:
            print(mark_all(predictions, colour=has_colour(sys.stdout)) + "\n", flush=True)
        count += len(encoded)
        advance(count, window.share)
    return count


def answer_windows(
    windows: Iterable[Window],
    write: Write,
    *,
    answer: Callable[[list], list],
    columns_of: Callable[[list], dict],
    mark: Callable[..., str],
    explain: bool = False,
    advance: Advance = lambda num_rows, share: None,
    more: More = lambda window: {},
) -> int:
    """Answer and write windows one after the other, and return the number of rows.

    Args:
      windows: of what `answer` takes.
      write: takes columns.
      answer: what a window holds -> results, one a row.
      columns_of: results -> their columns.
      mark: (results, colour=) -> texts with the kept words marked.
      explain: whether these are printed.
      advance: takes the number of rows done and their share of the input.
      more: other columns of a window.
    """
    count = 0
    for window in windows:
        results = answer(window.texts)
        write(columns_of(results) | more(window))
        if explain:
            print(mark(results, colour=has_colour(sys.stdout)) + "\n", flush=True)
        count += len(results)
        advance(count, window.share)
    return count


def mark_answers(readings: list[QAPrediction], *, colour: bool) -> str:
    """Return the texts of answers with the kept words marked; nothing is known of the right answers."""
    return mark_readings([(None, reading) for reading in readings], colour=colour)


def encode_ahead(
    classifier: Classifier, windows: Iterable[Window], *, with_words: bool
) -> Iterator[tuple]:
    """Yields every window with its tokens; a thread tokenizes the next one meanwhile.

    Windows are read in the calling thread, so that Ctrl-C interrupts a pipe that gives nothing. A mistake in one is
    raised when the window before is done with.
    """
    encode = classifier.encode if with_words else classifier.encode_tokens
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="adapler-tokens") as pool:

        def submit(window):
            return pool.submit(encode, window.texts)

        ahead = (
            (item, submit(item) if isinstance(item, Window) else None)
            for item in error_as_last(windows)
        )
        for (item, future), _ in itertools.pairwise(itertools.chain(ahead, [None])):
            if future is None:
                raise item
            yield item, future.result()


def error_as_last(windows: Iterable[Window]) -> Iterator[Window | Exception]:
    """Yields the windows, and what went wrong in reading them."""
    try:
        yield from windows
    except (ValueError, OSError) as error:
        yield error
