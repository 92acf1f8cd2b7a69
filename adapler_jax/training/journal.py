"""What a run writes down while it trains: JSON lines, TensorBoard events, a progress bar."""

import contextlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from adapler_jax.weights.replace import replace_text


def make_progress() -> Progress:
    """A bar on stderr: label, steps, expected remaining time, numbers."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
        # Notebooks say of themselves that they are terminals; there a bar would be printed anew every second.
        console=Console(stderr=True, force_jupyter=False, force_terminal=sys.stderr.isatty()),
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
        (directory / "events").mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        _drop_lines_after(self._path, start_step)
        # The plain writer: SummaryWriter's thread answers a full disk with tracebacks.
        self._events = EventsWriter(
            str(directory / "events" / "events"), filename_suffix=f".{os.getpid()}.{start_step}"
        )
        self._write_event(start_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._progress = make_progress()
        self._bar = self._progress.add_task(label, total=num_steps, completed=start_step, numbers="")

    def __enter__(self):
        self._file = self._path.open("a")
        self._progress.start()
        return self

    def __exit__(self, kind, *_):
        self._progress.stop()
        if kind is None:
            self._events.flush()
        for file in (self._file, self._events):
            with contextlib.suppress(OSError):  # a full disk was told where it was met
                file.close()

    def write(self, step: int, group: str, numbers: dict[str, float]) -> None:
        """Adds a line {"step", "group", **numbers}; lists go to the lines only."""
        self._file.write(json.dumps({"step": step, "group": group, **numbers}) + "\n")
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, float):
                scalar = Summary.Value(tag=f"{group}/{name}", simple_value=value)
                self._write_event(step, summary=Summary(value=[scalar]))

    def _write_event(self, step: int, **content) -> None:
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))

    def tell(self, line: str) -> None:
        """Prints a line above the progress bar."""
        self._progress.console.print(line, highlight=False, markup=False)

    def advance(self, step: int, numbers: dict[str, float]) -> None:
        """Moves the progress bar to a step and shows the numbers beside it; puts on disk what was written."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self._progress.update(self._bar, completed=step, numbers=text)
        self._events.flush()


def read_journal(directory: pathlib.Path) -> list[dict]:
    """The records of `metrics.jsonl`, oldest first, up to a torn line; empty where there is none."""
    path = directory / "metrics.jsonl"
    entries = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # a kill, or a run that is writing it
            break
        if isinstance(entry, dict) and isinstance(entry.get("step"), int) and "group" in entry:
            entries.append(entry)
    return entries


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Removes what a killed run wrote after its last checkpoint; those steps are done again. A torn line goes too."""
    if path.exists():
        kept = [entry for entry in read_journal(path.parent) if entry["step"] <= step]
        replace_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
