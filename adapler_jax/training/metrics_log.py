"""Write a run's metrics while it trains: JSON lines, TensorBoard events, a progress bar."""

import contextlib
import json
import os
import pathlib
import sys
import time
import warnings
import zlib
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from adapler_jax.io import process
from adapler_jax.io.atomic_files import replace_text
from adapler_jax.io.heartbeat import Heartbeat, watch

CHECK = "crc"  # field of a line: the CRC-32 of its other fields


def make_progress() -> Progress:
    """Return a bar on stderr: label, steps, expected remaining time, numbers."""
    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
        # Notebooks claim to be terminals; there a bar would be printed again every second.
        console=Console(stderr=True, force_jupyter=False, force_terminal=sys.stderr.isatty()),
        refresh_per_second=1,
    )


def track(items: Sequence, label: str) -> Iterator:
    """Yield the items, with a progress bar, or with lines where there is no terminal."""
    with make_progress() as progress:
        bar = progress.add_task(label, total=len(items), numbers="compiling ...")
        if not progress.console.is_terminal:
            progress.console.print(f"{label}: compiling ...", highlight=False, markup=False)
        for item in watch(items, label, total=len(items), has_bar=True):
            process.check()
            yield item
            progress.update(bar, advance=1, numbers="")


class MetricsLog:
    """Metrics of one phase, in `metrics.jsonl` and in TensorBoard's event format.

    Use it as a context manager.
    """

    def __init__(self, directory: pathlib.Path, *, start_step: int, num_steps: int, label: str):
        """Open the files of a phase's directory; lines after start_step are removed."""
        (directory / "events").mkdir(parents=True, exist_ok=True)
        self._path = directory / "metrics.jsonl"
        _drop_lines_after(self._path, start_step)
        # The plain writer: SummaryWriter's thread answers a full disk with tracebacks.
        self._events = EventsWriter(
            str(directory / "events" / "events"), filename_suffix=f".{os.getpid()}.{start_step}"
        )
        self._write_event(start_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._progress = make_progress()
        self._bar = self._progress.add_task(
            label, total=num_steps, completed=start_step, numbers=""
        )
        self._numbers = self._activity = ""
        self._heartbeat = Heartbeat(self._describe, log=self.log, has_bar=True)

    def __enter__(self):
        """Open the lines for writing and show the progress bar."""
        self._file = self._path.open("a")
        self._progress.start()
        self._heartbeat.__enter__()
        return self

    def __exit__(self, kind, *_):
        """Close the files and the progress bar."""
        self._heartbeat.__exit__()
        self._progress.stop()
        if kind is None:
            self._events.flush()
        for file in (self._file, self._events):
            with contextlib.suppress(OSError):  # a full disk was reported by the write
                file.close()

    def write(self, step: int, group: str, numbers: dict[str, float]) -> None:
        """Add a line {"step", "group", **numbers}; TensorBoard gets no lists."""
        self._file.write(_line({"step": step, "group": group, **numbers}))
        self._file.flush()
        for name, value in numbers.items():
            if isinstance(value, float):
                scalar = Summary.Value(tag=f"{group}/{name}", simple_value=value)
                self._write_event(step, summary=Summary(value=[scalar]))

    def _write_event(self, step: int, **content) -> None:
        """Add the numbers of a step to TensorBoard's events."""
        self._events.write_event(Event(step=step, wall_time=time.time(), **content))

    def log(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._progress.console.print(line, highlight=False, markup=False)
        self._heartbeat.touch()

    def note(self, activity: str) -> None:
        """Name a slow activity in the lines that replace the bar; an empty text clears it."""
        self._activity = activity

    def _describe(self) -> str:
        """Return the line of a phase without a terminal: step, numbers and activity."""
        task = self._progress.tasks[0]
        words = (f"step {task.completed:.0f} of {task.total:.0f}", self._numbers, self._activity)
        return f"{task.description}: {', '.join(filter(None, words))}"

    def show(self, text: str) -> None:
        """Show a slow activity next to the progress bar, or print it where there is no terminal.

        An empty text clears it.
        """
        self._progress.update(self._bar, numbers=text)
        if text and not self._progress.console.is_terminal:
            self.log(f"{self._progress.tasks[0].description}: {text}")

    def advance(self, step: int, numbers: dict[str, float]) -> None:
        """Move the progress bar to a step, show its numbers, and flush the files."""
        text = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        self._progress.update(self._bar, completed=step, numbers=text)
        self._numbers = text
        self._events.flush()


def read_metrics_log(directory: pathlib.Path) -> list[dict]:
    """Return the records of `metrics.jsonl`, oldest first; an empty list without the file.

    An incomplete last line is skipped: a kill leaves one, or the run is writing it. Damaged lines
    are skipped with a warning.
    """
    path = directory / "metrics.jsonl"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    lines = text.split("\n")
    found = [_parse(line) for line in lines[:-1]]
    if any(entry and CHECK in entry for entry in found):
        found = [entry if entry and _fits(entry) else None for entry in found]
    if num_damaged := found.count(None):
        warnings.warn(
            f"{path}: {num_damaged} of {len(found)} lines are damaged and left out; only their "
            "numbers are lost",
            stacklevel=2,
        )
    return [
        {name: value for name, value in entry.items() if name != CHECK} for entry in found if entry
    ]


def _line(entry: dict) -> str:
    """Return a record as a line of JSON with its checksum."""
    return json.dumps({**entry, CHECK: _checksum(entry)}) + "\n"


def _checksum(entry: dict) -> int:
    """Return the CRC-32 of a record."""
    return zlib.crc32(json.dumps(entry).encode())


def _parse(line: str) -> dict | None:
    """Return the record of a line, or None where the line has none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    is_record = isinstance(entry, dict) and isinstance(entry.get("step"), int) and "group" in entry
    return entry if is_record else None


def _fits(entry: dict) -> bool:
    """Return whether a record has its checksum."""
    return entry.get(CHECK) == _checksum(
        {name: value for name, value in entry.items() if name != CHECK}
    )


def _drop_lines_after(path: pathlib.Path, step: int) -> None:
    """Remove lines that a killed run wrote after its last checkpoint: the steps repeat."""
    if path.exists():
        kept = [entry for entry in read_metrics_log(path.parent) if entry["step"] <= step]
        replace_text(path, "".join(map(_line, kept)))
