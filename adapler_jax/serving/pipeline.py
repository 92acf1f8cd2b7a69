"""Run windows of rows through a predictor: a thread prepares one while the model runs another."""

import concurrent.futures
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from adapler_jax.io.heartbeat import Heartbeat, is_terminal
from adapler_jax.serving.prediction_files import Columns, Write
from adapler_jax.serving.predictors import Predictor
from adapler_jax.serving.streams import WINDOW_ROWS, Window

Advance = Callable[[int, float | None], None]  # (rows done, fraction of the input)
MoreColumns = Callable[[Window], Mapping[str, list]]  # columns next to the predictions' own


def predict_windows(
    predictor: Predictor,
    windows: Iterable[Window],
    write: Write,
    *,
    advance: Advance = lambda num_rows, fraction: None,
    more: MoreColumns = lambda window: {},
) -> int:
    """Predict and write windows; two or three windows are in memory at a time.

    Args:
      predictor: of the model.
      windows: of rows.
      write: receives the columns of each window.
      advance: receives the number of rows done and their fraction of the input.
      more: other columns of a window.

    Returns:
      The number of rows.
    """
    count = 0
    for window, encoded in encode_ahead(predictor, windows):
        predicted = predictor.predict(encoded)
        columns: Columns = predicted.columns | dict(more(window))
        write(columns)
        if predicted.highlighted:
            print(predicted.highlighted + "\n", flush=True)
        count += len(window.texts)
        advance(count, window.fraction)
    return count


def encode_ahead(
    predictor: Predictor, windows: Iterable[Window]
) -> Iterator[tuple[Window, Sequence[Any]]]:
    """Yield every window with its prepared rows; a thread prepares the next one meanwhile.

    The calling thread reads the windows, so Ctrl-C interrupts a pipe without input. An error in a
    window is raised after the window before it.
    """
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="adapler-tokens") as pool:
        ahead = (
            (item, pool.submit(predictor.encode, item.texts) if isinstance(item, Window) else None)
            for item in error_as_last(windows)
        )
        for pair, _ in itertools.pairwise(itertools.chain(ahead, [None])):
            assert pair is not None
            item, future = pair
            if isinstance(item, Exception):
                raise item
            assert future is not None
            yield item, future.result()


def error_as_last(windows: Iterable[Window]) -> Iterator[Window | Exception]:
    """Yield the windows, then the error of reading them if there is one."""
    try:
        yield from windows
    except (ValueError, OSError) as error:
        yield error


def has_more(first: Sequence[Window]) -> bool:
    """Return whether the input continues after its first window."""
    return any(
        len(window.texts) == WINDOW_ROWS if window.fraction is None else window.fraction < 1.0
        for window in first
    )


@contextlib.contextmanager
def progress_bar(is_shown: bool) -> Iterator[Advance]:
    """Yield a function that takes the rows done and their fraction; show a bar on a terminal.

    Elsewhere a line a minute has both.
    """
    text = "predict: the first rows"
    progress = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        refresh_per_second=1,
        # With redirection, rows on stdout would be printed on stderr.
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not (is_shown and is_terminal()),
    )
    with progress, Heartbeat(lambda: text, has_bar=True):
        bar = progress.add_task("predict", total=None)

        def advance(num_rows: int, fraction: float | None) -> None:
            nonlocal text
            share = "" if fraction is None else f", {100 * fraction:.0f}% of the input"
            text = f"predict: {num_rows:,} rows{share}"
            total = None if fraction is None else 1.0
            done = fraction or 0.0
            progress.update(bar, total=total, completed=done, description=f"{num_rows} rows")

        yield advance
