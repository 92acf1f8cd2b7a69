"""What a run writes down while it trains: JSON lines, TensorBoard events, a progress bar."""

import json
import pathlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from adapler_jax.training.workdir import replace_text


def make_progress() -> Progress:
    """A bar on stderr: label, steps, expected remaining time, numbers."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
        console=Console(stderr=True),
        refresh_per_second=1,
    )


def track(items: Sequence, label: str) -> Iterator:
    """The items, one after the other, with a progress bar."""
    with make_progress() as progress:
        bar = progress.add_task(label, total=len(items), numbers="")
        for item in items:
            yield item
            progress.advance(bar)


class Journal:
    """Metrics of one phase, in `metrics.jsonl` and in TensorBoard's event format. Use as a context manager."""

    def __init__(self, directory: pathlib.Path, *, start_step: int, num_steps: int, label: str):
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        _drop_lines_after(self._path, start_step)
        self._events = SummaryWriter(str(directory / "events"), purge_step=start_step + 1)
        self._progress = make_progress()
        self._bar = self._progress.add_task(label, total=num_steps, completed=start_step, numbers="")

    def __enter__(self):
        self._file = self._path.open("a")
        self._progress.start()
        return self

    def __exit__(self, *_):
        self._progress.stop()
        self._file.close()
        self._events.close()

    def write(self, step: int, group: str, numbers: dict[str, float]) -> None:
        """Adds a line {"step", "group", **numbers}; lists go to the lines only."""
        self._file.write(json.dumps({"step": step, "group": group, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, float):
                self._events.add_scalar(f"{group}/{name}", value, step)

    def tell(self, line: str) -> None:
        """Prints a line above the progress bar."""
        self._progress.console.print(line, highlight=False, markup=False)

    def advance(self, step: int, numbers: dict[str, float]) -> None:
        """Moves the progress bar to a step and shows the numbers beside it."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self._progress.update(self._bar, completed=step, numbers=text)


def read_journal(directory: pathlib.Path) -> list[dict]:
    """The lines of `metrics.jsonl`, oldest first; empty where there is none."""
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Removes what a killed run wrote after its last checkpoint; those steps are done again. A torn line goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except json.JSONDecodeError:
            break
    replace_text(path, "".join(kept))
