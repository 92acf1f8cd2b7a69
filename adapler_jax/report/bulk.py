"""Predictions for every row of a file, window by window: one is tokenized while the model runs on another."""

import concurrent.futures
import contextlib
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import jax.numpy as jnp
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from adapler_jax.data.formats import Options
from adapler_jax.data.streams import KINDS, WINDOW_ROWS, Window, kind_of, read_windows, usual_columns
from adapler_jax.heads import CLASSIFICATION, SPAN
from adapler_jax.inference.classifier import Classifier
from adapler_jax.inference.engine import AUTO
from adapler_jax.inference.exported import check_classifies
from adapler_jax.inference.loaded import check_batch_size, rows_for
from adapler_jax.inference.reader import Reader
from adapler_jax.report.marked_text import has_colour, mark_all, mark_of, mark_readings
from adapler_jax.report.prediction_files import (
    Write,
    answer_column_names,
    check_output,
    column_names,
    columns_of_predictions,
    columns_of_probs,
    columns_of_readings,
    open_writer,
    text_writer,
)
from adapler_jax.weights.replace import replacing_file
from adapler_jax.weights.save import head_name_of, load_model, task_of

STANDARD = "-"  # input or output
QUESTION_COLUMNS = ("question", "context")
Advance = Callable[[int, float | None], None]


def predict_file(
    model, *, source: str = STANDARD, output: str = STANDARD, kind: str | None = None, columns: Sequence[str] = (),
    options: Options = Options(),
    with_kept: bool = False, explain: bool = False, overwrite: bool = False, batch_size: int = 32, dtype=jnp.float32,
    driver: str = AUTO, always_answers: bool = False, tell: Callable[[str], None] = lambda line: None,
) -> int:  # fmt: skip
    """Writes a row for every row of the input, in its order, and returns their number.

    Args: model: a saved model directory, of classes or of answers in texts. source: a file, or "-" for standard input.
    output: a file, which appears once it is complete, or "-" for TSV on standard output. kind: of the input, one of
    KINDS; None: by its ending, text lines for standard input. columns: the text column of a table, or the two of pairs;
    none for those of the model's task, or of single texts also `text` or `sentence`, of questions `question` and
    `context`. options: encoding and delimiter of the input, where it does not say them itself. with_kept: writes the
    last layer's words too, and of classes the tokens of every layer. explain: prints
    texts with the kept words marked, in place of rows where output is "-". overwrite: whether an output that is there
    may be replaced. batch_size, dtype, driver: as in `Classifier`. always_answers: as in `Reader`. tell: gets notes.

    Raises ValueError or OSError where the input, the model or the output is not as expected.
    """
    check_batch_size(batch_size)
    kind, where = input_kind(source, kind, columns), "standard input" if source == STANDARD else source
    target = None if output == STANDARD else check_output(output, overwrite=overwrite, source=source)
    if sys.stdout is None and (target is None or explain):
        raise ValueError("standard output is closed; give --output=FILE, without --explain")
    head = head_name_of(model)
    reads = head == SPAN.name
    if not reads and head != CLASSIFICATION.name:
        check_classifies(load_model(model))
    if always_answers and not reads:
        raise ValueError(f"{model} answers no questions; leave out --always_answers")
    if reads and kind == "txt":
        raise ValueError(
            f"{model} answers questions, which text lines have not; give a table with the columns question and "
            "context, of standard input name its kind with --format"
        )
    usual = [QUESTION_COLUMNS] if reads else usual_columns(task_of(model))
    with open_input(source, tell) as file:
        windows = read_windows(file, kind, where, columns=columns, usual=usual, options=options, tell=tell)
        first = list(itertools.islice(windows, 1))  # so that mistakes in it are told before the model is loaded
        if reads:
            user = Reader.load(model, dtype=dtype, driver=driver, always_answers=always_answers)
        else:
            user = Classifier.load(model, dtype=dtype, driver=driver)
        if explain:
            tell(f"words that the last layer ran on are marked {mark_of(sys.stdout)}")
        prints = (target is None or explain) and sys.stdout.isatty()
        shows_bar = is_long(first) and not prints  # a bar among the lines of a terminal would tear them
        windows = itertools.chain(first, windows)
        run_options = {"explain": explain, "batch_size": batch_size}
        if reads:
            names, run = answer_column_names(with_words=with_kept), answer_windows
        else:
            names, run = column_names(user.class_names, with_words=with_kept), predict_windows
            run_options["with_words"] = with_kept
        with open_target(target, names, explain=explain) as write, progress_bar(shows_bar) as advance:
            num_rows = run(user, windows, write, advance=advance, **run_options)
    if num_rows == 0:
        tell(f"{where} has no rows")
    elif target is not None:
        tell(f"{num_rows} {'row' if num_rows == 1 else 'rows'} in {output}")
    return num_rows


def print_note(line: str) -> None:
    """Prints on standard error, where that is open; `print` by itself would take standard output instead."""
    if sys.stderr is not None:
        print(line, file=sys.stderr)


def input_kind(source: str, kind: str | None, columns: Sequence[str]) -> str:
    """What the input is read as. Raises ValueError where that is unknown, or does not go with the columns."""
    if kind is None:
        kind = "txt" if source == STANDARD else kind_of(source, KINDS, advice="name it with --format")
    if columns and kind == "txt":
        raise ValueError("text lines have no columns; leave out --column, or name the kind of table with --format")
    if len(columns) > 2:
        raise ValueError(f"--column names {', '.join(columns)}; expected one column of texts, or two of pairs")
    return kind


@contextlib.contextmanager
def open_input(source: str, tell: Callable[[str], None]) -> Iterator[BinaryIO]:
    """Yields a file or standard input as bytes. Raises ValueError where that is closed."""
    if source == STANDARD:
        if sys.stdin is None:
            raise ValueError("standard input is closed; give --input=FILE")
        if sys.stdin.isatty():
            tell("reading from the terminal; Ctrl-D on a line of its own ends the input")
        yield sys.stdin.buffer
    else:
        with pathlib.Path(source).expanduser().open("rb") as file:
            yield file


@contextlib.contextmanager
def open_target(target: tuple[pathlib.Path, str] | None, names: Sequence[str], *, explain: bool) -> Iterator[Write]:
    """Yields what takes the rows: a file that appears once it is complete, or standard output unless texts go there."""
    if target is not None:
        path, kind = target
        with replacing_file(path) as partial, open_writer(partial, kind, names) as write:
            yield write
    elif explain:
        yield lambda columns: None
    else:
        write = text_writer(sys.stdout, "tsv", names)

        def write_through(columns):
            write(columns)
            sys.stdout.flush()

        yield write_through
        sys.stdout.flush()  # the header, where there were no rows


def is_long(first: Sequence[Window]) -> bool:
    """Whether the input goes on behind its first window."""
    return any(len(window.texts) == WINDOW_ROWS if window.share is None else window.share < 1.0 for window in first)


@contextlib.contextmanager
def progress_bar(is_shown: bool) -> Iterator[Advance]:
    """Yields a function that takes the number of rows done and their share of the input; a bar where stderr is a
    terminal."""
    columns = [TextColumn("[bold]{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    # Without redirection: rows on stdout would be printed on stderr.
    progress = Progress(
        *columns, console=Console(stderr=True), refresh_per_second=1, redirect_stdout=False, redirect_stderr=False,
        disable=not (is_shown and sys.stderr is not None and sys.stderr.isatty()),
    )  # fmt: skip
    with progress:
        bar = progress.add_task("predict", total=None)

        def advance(num_rows, share):
            total = None if share is None else 1.0
            progress.update(bar, total=total, completed=share or 0.0, description=f"{num_rows} rows")

        yield advance


def predict_windows(
    classifier: Classifier, windows: Iterable[Window], write: Write, *, with_words: bool = False, explain: bool = False,
    batch_size: int = 32, advance: Advance = lambda num_rows, share: None,
) -> int:  # fmt: skip
    """Classifies and writes windows; returns the number of rows. Two or three windows at a time are in memory.

    Args: with_words: whether `write` gets the columns of words too. explain: prints texts with the kept words marked.
    """
    with_words, count, num_rows = with_words or explain, 0, 1
    for window, encoded in encode_ahead(classifier, windows, with_words=with_words):
        num_rows = max(num_rows, rows_for(len(encoded), batch_size))  # the last, shorter window compiles nothing new
        if with_words:
            predictions = classifier.answer(encoded, num_rows=num_rows)
            write(columns_of_predictions(classifier.class_names, predictions))
        else:
            probs_NC = classifier.score(encoded, num_rows=num_rows)
            write(columns_of_probs(classifier.class_names, probs_NC, [tokens.is_cut for tokens in encoded]))
        if explain:
            print(mark_all(predictions, colour=has_colour(sys.stdout)) + "\n", flush=True)
        count += len(encoded)
        advance(count, window.share)
    return count


def answer_windows(
    reader: Reader, windows: Iterable[Window], write: Write, *, explain: bool = False, batch_size: int = 32,
    advance: Advance = lambda num_rows, share: None,
) -> int:  # fmt: skip
    """Answers and writes windows of (question, context) pairs; returns the number of rows."""
    count = 0
    for window in windows:
        readings = reader.answer_all(window.texts, batch_size=batch_size)
        write(columns_of_readings(readings))
        if explain:
            print(mark_readings([(None, reading) for reading in readings], colour=has_colour(sys.stdout)) + "\n",
                  flush=True)  # fmt: skip
        count += len(readings)
        advance(count, window.share)
    return count


def encode_ahead(classifier: Classifier, windows: Iterable[Window], *, with_words: bool) -> Iterator[tuple]:
    """Yields every window with its tokens; a thread tokenizes the next one meanwhile.

    Windows are read in the calling thread, so that Ctrl-C interrupts a pipe that gives nothing. A mistake in one is
    raised when the window before is done with.
    """
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="adapler-tokens") as pool:

        def submit(window):
            return pool.submit(classifier.encode, window.texts, with_words=with_words)

        ahead = ((item, submit(item) if isinstance(item, Window) else None) for item in error_as_last(windows))
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
